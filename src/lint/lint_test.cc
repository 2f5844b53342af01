// Options, errors, files that go with models, and models that this library wrote itself.
#include "octavo/lint.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <limits>
#include <set>

#include "base/file.h"
#include "lint/lint_testing.h"
#include "octavo/onnx.h"
#include "octavo/quantize.h"
#include "quantize/quantize_testing.h"

namespace octavo {
namespace {

using G = LintTestGraph;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::string kRoot = OCTAVO_SOURCE_DIR;

// Image -> Conv -> Relu -> Conv, float; nodes are named.
Graph FloatModel() {
  G g;
  const ValueId a = g.Op("Conv", {g.Image(), g.Random({16, 16, 1, 1})});
  const ValueId b = g.Op("Relu", {a});
  Graph graph = g.Done({g.Op("Conv", {b, g.Random({16, 16, 1, 1})})});
  const char* names[] = {"stem/conv", "stem/relu", "head: 'last' conv"};
  for (size_t n = 0; n < graph.nodes.size(); ++n) graph.nodes[n].name = names[n];
  return graph;
}

std::vector<std::string> Rules(const Graph& graph, LintOptions options) { return RulesOf(graph, options); }

LintOptions WithPrecisions(const std::string& spec, const std::string& version = "8.6") {
  LintOptions options;
  options.layer_precisions = spec;
  options.tensorrt_version = version;
  return options;
}

TEST(Lint, RulesAreWhole) {
  std::set<std::string_view> ids;
  for (const LintRuleInfo& rule : LintRules()) {
    EXPECT_TRUE(ids.insert(rule.id).second) << rule.id;
    EXPECT_FALSE(rule.title.empty() || rule.mend.empty() || rule.source.empty()) << rule.id;
    bool on = false;
    for (const std::string_view target : LintTargets()) on |= rule.SeverityFor(target) != LintSeverity::kOff;
    EXPECT_TRUE(on) << rule.id;
    EXPECT_EQ(rule.SeverityFor("octavo"), LintSeverity::kOff);
    EXPECT_EQ(rule.EffectAt("tensorrt"), rule.effect);
  }
}

// Each rule with its severities and source, as the table that `octavo lint --rules --markdown` prints.
TEST(Lint, DocumentationHasEveryRule) {
  const auto bytes = ReadFile(kRoot + "/docs/lint.md", int64_t{1} << 22);
  ASSERT_TRUE(bytes.ok()) << bytes.status().message();
  const std::string text(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  for (const LintRuleInfo& rule : LintRules()) {
    EXPECT_THAT(text, HasSubstr(fmt::format("`{}`", rule.id)));
    EXPECT_THAT(text, HasSubstr(std::string(rule.source))) << rule.id;
    EXPECT_THAT(text, HasSubstr(std::string(rule.mend))) << rule.id;
  }
}

TEST(Lint, RefusesWhatItDoesNotKnow) {
  const Graph graph = FloatModel();
  const auto error = [&](LintOptions options) {
    const auto findings = Lint(graph, options);
    return findings.ok() ? std::string("no error") : findings.status().message();
  };
  LintOptions options;
  options.target = "octavo";
  EXPECT_THAT(error(options), HasSubstr("tensorrt, onnxruntime, openvino"));
  options = {};
  options.disabled = {"no-such-rule"};
  EXPECT_THAT(error(options), HasSubstr("no-such-rule"));
  options = {};
  options.target = "openvino";
  options.cache.emplace();
  EXPECT_THAT(error(options), HasSubstr("TensorRT's"));
  EXPECT_THAT(error(WithPrecisions("conv")), HasSubstr("layer precisions"));
  EXPECT_THAT(error(WithPrecisions("a:fp16", "x")), HasSubstr("x"));
  options = {};
  Stats stats;
  options.stats = &stats;
  EXPECT_THAT(error(options), HasSubstr("another model"));
  Graph broken = graph;
  broken.nodes[0].inputs[0] = 1000;
  EXPECT_EQ(Lint(broken).status().code(), ErrorCode::kInternal);
}

TEST(Lint, HostileNodesAreNoCrash) {
  for (const char* op : {"QuantizeLinear", "DequantizeLinear", "Conv", "MatMul", "Concat", "Add", "Softmax", "Clip",
                         "LayerNormalization", "Sub", "ReduceMean", "Transpose", "QLinearConv", "Relu", "Split"}) {
    for (size_t inputs = 0; inputs <= 3; ++inputs) {
      for (const bool holes : {false, true}) {
        G g;
        const ValueId x = g.Pair(g.Image());
        std::vector<ValueId> list(inputs, x);
        if (holes && inputs > 0) list[inputs / 2] = kNoValue;
        const ValueId y =
            g.Op(op, list, {{"axis", std::numeric_limits<int64_t>::min()}, {"perm", std::vector<int64_t>{7}}});
        g.graph().AddNode("silent", "", op, {y}, {kNoValue});
        g.graph().AddNode("mute", "", op, {y}, {});
        Graph graph = g.Done({g.Pair(y)});
        for (const std::string_view target : LintTargets()) {
          LintOptions options;
          options.target = target;
          EXPECT_TRUE(Lint(graph, options).ok()) << op;
          Graph fixed = graph;
          EXPECT_TRUE(FixLint(fixed, options).ok()) << op;
        }
      }
    }
  }
}

TEST(Lint, ShapesThatCannotBeInferredAreNamed) {
  const auto model = [](Dims weights) {
    return [=](G& g) { g.Done({g.Op("MatMul", {g.Input("x", {4, 16}), g.Random(weights)})}); };
  };
  ExpectCase({.rule = "unknown-shapes", .bad = model({8, 4}), .near = model({16, 4})});
}

// The rest of the model is looked at, its shapes too where the file states them.
TEST(Lint, UnknownOpsAreNamed) {
  const auto model = [](const std::string& op, const std::string& domain, bool stated) {
    return [=](G& g) {
      const ValueId y = g.Op(op, {g.Image()}, {}, domain);
      if (stated) {
        Value& value = g.graph().value(y);
        value.dtype = DType::kFloat32;
        value.shape_known = true;
        value.dims = {1, 16, 8, 8};
      }
      g.Done({g.Op("Conv", {g.Pair(y), g.Weights({16, 16, 1, 1})})});
    };
  };
  ExpectCase({.rule = "unknown-op", .bad = model("Swirl", "com.example", true), .near = model("Relu", "", false)});
  G g;
  model("Swirl", "com.example", false)(g);
  EXPECT_THAT(Rules(g.graph(), {}), ElementsAre("unknown-op", "unknown-shapes"));
}

// ---- calibration cache ----

LintOptions WithCache(std::map<std::string, float> scales) {
  LintOptions options;
  options.cache.emplace();
  options.cache->scales = std::move(scales);
  return options;
}

TEST(Lint, CalibrationCaches) {
  const Graph graph = FloatModel();
  std::map<std::string, float> all;
  for (const Node& node : graph.nodes) all[graph.value(node.output(0)).name] = 1.0f;
  all["x"] = 1.0f;
  EXPECT_THAT(Rules(graph, WithCache(all)), IsEmpty());
  auto with_unnamed = all;
  with_unnamed["(Unnamed Layer* 3) [Constant]_output"] = 1.0f;
  EXPECT_THAT(Rules(graph, WithCache(with_unnamed)), IsEmpty());
  auto less = all;
  less.erase("x");
  EXPECT_THAT(Rules(graph, WithCache(less)), ElementsAre("cache-missing"));
  auto more = all;
  more["other:0"] = 1.0f;
  EXPECT_THAT(Rules(graph, WithCache(more)), ElementsAre("cache-extra"));
  EXPECT_THAT(Rules(graph, WithCache({{"a", 1.0f}, {"b", 1.0f}, {"x", 1.0f}})), ElementsAre("cache-foreign"));
  EXPECT_THAT(Rules(graph, WithCache({})), ElementsAre("cache-foreign"));
  G quantized;
  quantized.Done({quantized.Pair(quantized.Conv(quantized.Pair(quantized.Image())))});
  EXPECT_THAT(Rules(quantized.graph(), WithCache(all)), ElementsAre("cache-ignored"));
  EXPECT_THAT(Rules(quantized.graph(), {}), IsEmpty());
}

// ---- layer precisions ----

TEST(Lint, LayerPrecisions) {
  const Graph graph = FloatModel();
  EXPECT_THAT(Rules(graph, WithPrecisions("stem/conv:fp16,*:fp32")), IsEmpty());
  EXPECT_THAT(Rules(graph, WithPrecisions("stem/conv:fp16,stem/relu:fp16")), IsEmpty());
  EXPECT_THAT(Rules(graph, WithPrecisions("no/such:fp16")), ElementsAre("override-unmatched"));
  EXPECT_THAT(Rules(graph, WithPrecisions("stem/*:fp16")), ElementsAre("override-unmatched"));
  EXPECT_THAT(Rules(graph, WithPrecisions("stem/*:fp16", "10.0")), IsEmpty());
  EXPECT_THAT(Rules(graph, WithPrecisions("stem/relu:fp32")), ElementsAre("override-fused"));
  EXPECT_THAT(Rules(graph, WithPrecisions("stem/relu:fp32,stem/conv:fp16")), ElementsAre("override-fused"));
  EXPECT_THAT(Rules(graph, WithPrecisions("stem/conv:fp32,stem/conv:fp16")), ElementsAre("override-replaced"));
  EXPECT_THAT(Rules(graph, WithPrecisions("stem/*:fp16,*conv:fp32", "10.0")), testing::Contains("override-replaced"));
  G quantized;
  const ValueId result = quantized.Conv(quantized.Pair(quantized.Image()));
  quantized.Done({quantized.Pair(result)});
  const std::string name = quantized.graph().nodes[static_cast<size_t>(quantized.graph().value(result).producer)].name;
  EXPECT_THAT(Rules(quantized.graph(), WithPrecisions(name + ":fp16")), ElementsAre("override-ignored"));
}

TEST(Lint, WhyALayerPrecisionMatchesNothing) {
  const Graph graph = FloatModel();
  const auto why = [&](const std::string& name) {
    const auto findings = Lint(graph, WithPrecisions(name + ":fp16"));
    EXPECT_TRUE(findings.ok());
    std::string text = findings.ok() && findings->size() == 1 ? (*findings)[0].node : "";
    if (!text.empty()) text.append("|").append((*findings)[0].why);
    return text;
  };
  EXPECT_THAT(why("x"), HasSubstr("x|it is the name of a tensor"));
  EXPECT_THAT(why("stem/conv + stem/relu"), HasSubstr("fused layer"));
  EXPECT_THAT(why("'{ForeignNode[a...b:c]}'"), HasSubstr("fused layer"));
  EXPECT_THAT(why("stem/*"), HasSubstr("9.1"));
  EXPECT_THAT(why("(Unnamed Layer* 3) [Constant]"), HasSubstr("(Unnamed Layer* 3) [Constant]|"));
}

// ---- statistics ----

TEST(Lint, ValuesBeyondHalf) {
  const Graph graph = FloatModel();
  Stats stats;
  const auto set = [&](const std::string& name, float low, float high) {
    TensorStats tensor = MakeTensorStats({1, 16, 8, 8}, 1);
    tensor.min = low;
    tensor.max = high;
    stats.tensors[name] = tensor;
  };
  set("x", -1, 65504);
  LintOptions options;
  options.stats = &stats;
  for (const std::string target : {"tensorrt", "onnxruntime", "openvino"}) {
    options.target = target;
    set("x", -1, 65504);
    EXPECT_THAT(Rules(graph, options), IsEmpty());
    set("x", -65600, 1);
    EXPECT_THAT(Rules(graph, options), ElementsAre("fp16-overflow"));
  }
}

// Where Casts say what is float16, the rest is float32 and holds what it likes; constants and sums that were never seen
// count, too.
TEST(Lint, ValuesBeyondHalfWhereHalfMayBe) {
  Stats stats;
  stats.tensors["x"] = MakeTensorStats({1, 16, 8, 8}, 1);
  LintOptions options;
  options.stats = &stats;
  G plain;
  plain.Done({plain.Op("Mul", {plain.Image(), plain.Scalar(1e5f)})});
  EXPECT_THAT(Rules(plain.graph(), options), ElementsAre("fp16-overflow"));
  G infinite;
  infinite.Done({infinite.Op("Add", {infinite.Image(), infinite.Scalar(-std::numeric_limits<float>::infinity())})});
  EXPECT_THAT(Rules(infinite.graph(), options), IsEmpty());
  G product;
  const ValueId x = product.Image();
  product.Done({product.Op("MatMul", {x, x})});
  EXPECT_THAT(Rules(product.graph(), options), ElementsAre("fp16-overflow"));
  stats.tensors["x"].max = 1e6f;
  for (const bool narrow : {false, true}) {
    G typed;
    const ValueId image = typed.Image(), other = typed.Input("y", {4});
    const ValueId half = typed.Op("Cast", {narrow ? image : other}, {{"to", int64_t{10}}});
    typed.graph().value(half).dtype = DType::kFloat16;
    typed.Done({typed.Op("Relu", {image}), half});
    if (narrow) {
      EXPECT_THAT(Rules(typed.graph(), options), ElementsAre("fp16-overflow"));
    } else {
      EXPECT_THAT(Rules(typed.graph(), options), IsEmpty());
    }
  }
}

// Every rule has a model that it alone finds: in a case (ExpectCase, which has a near miss too), or by its findings.
TEST(Lint, EveryRuleHasAModel) {
  std::string text;
  for (const char* name : {"node", "layer"}) {
    const auto bytes = ReadFile(fmt::format("{}/src/lint/{}_rules_test.cc", kRoot, name), int64_t{1} << 22);
    ASSERT_TRUE(bytes.ok()) << bytes.status().message();
    text.append(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  }
  const auto bytes = ReadFile(kRoot + "/src/lint/lint_test.cc", int64_t{1} << 22);
  ASSERT_TRUE(bytes.ok()) << bytes.status().message();
  text.append(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  for (const LintRuleInfo& rule : LintRules()) {
    const bool has_one = text.find(fmt::format(".rule = \"{}\"", rule.id)) != std::string::npos ||
                         text.find(fmt::format("ElementsAre(\"{}\")", rule.id)) != std::string::npos;
    EXPECT_TRUE(has_one) << rule.id;
  }
}

// ---- models of our own ----

TEST(Lint, OwnModelsHaveNoErrors) {
  const Graph model = LoadOnnx(kRoot + "/models/efficientvit-sam-nano-encoder.onnx").value();
  const Graph prepared = PrepareForQuantization(model).value();
  const Stats stats = UniformStats(prepared, -1.0f, 1.0f);
  for (const std::string target : {"tensorrt", "onnxruntime", "openvino"}) {
    for (const bool attention : {false, true}) {
      Policy policy;
      policy.target = target;
      policy.quantize_attention = attention;
      const auto recipe = Decide(prepared, stats, policy);
      ASSERT_TRUE(recipe.ok()) << recipe.status().message();
      const auto quantized = ApplyRecipe(prepared, *recipe);
      ASSERT_TRUE(quantized.ok()) << quantized.status().message();
      LintOptions options;
      options.target = target;
      const auto findings = Lint(*quantized, options);
      ASSERT_TRUE(findings.ok()) << findings.status().message();
      for (const LintFinding& finding : *findings) {
        EXPECT_LT(finding.severity, LintSeverity::kError) << target << ": " << finding.rule << " " << finding.node;
      }
    }
  }
  // uint8 with zero points is not TensorRT's.
  Policy policy;
  policy.target = "openvino";
  const Graph foreign = ApplyRecipe(prepared, Decide(prepared, stats, policy).value()).value();
  EXPECT_THAT(Rules(foreign, {}), testing::Contains("uint8"));
}

}  // namespace
}  // namespace octavo
