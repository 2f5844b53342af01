#include "octavo/costs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_files.h"
#include "octavo/session.h"
#include "quantize/quantize_testing.h"

namespace octavo {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

LayerCosts Example() {
  LayerCosts costs;
  costs.fingerprint = "0123456789abcdef";
  costs.isa = "avx2";
  costs.threads = 3;
  // 0.1 and 1/3 are no finite binary or decimal numbers: their text must still give them back.
  costs.layers["a"] = {{DType::kInt8, 0.1}, {DType::kBFloat16, 1.0 / 3}, {DType::kFloat16, 2}, {DType::kFloat32, 4}};
  costs.layers["b\"\n"] = {{DType::kInt8, 0}, {DType::kFloat32, 8}};
  costs.rest = {{DType::kInt8, 16}, {DType::kFloat32, 32}};
  return costs;
}

std::string Refused(const std::string& text) {
  const auto costs = ParseCosts(text, "c.json");
  EXPECT_FALSE(costs.ok()) << text;
  if (costs.ok()) return "";
  EXPECT_EQ(costs.status().code(), ErrorCode::kBadFile);
  EXPECT_THAT(costs.status().message(), StartsWith("c.json: "));
  return costs.status().message();
}

TEST(Costs, TextGivesThemBack) {
  const LayerCosts costs = Example();
  const auto read = ParseCosts(FormatCosts(costs), "c");
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->fingerprint, costs.fingerprint);
  EXPECT_EQ(read->isa, costs.isa);
  EXPECT_EQ(read->threads, 3);
  EXPECT_EQ(read->layers, costs.layers);
  EXPECT_EQ(read->rest, costs.rest);
  EXPECT_EQ(FormatCosts(*read), FormatCosts(costs));
  const TemporaryFolder folder;
  ASSERT_TRUE(SaveCosts(costs, folder / "c.json").ok());
  EXPECT_EQ(LoadCosts(folder / "c.json")->layers, costs.layers);
  EXPECT_EQ(LoadCosts(folder / "d.json").status().code(), ErrorCode::kNotFound);
}

TEST(Costs, SumsOfLayersAndTheLargerRest) {
  const LayerCosts costs = Example();
  EXPECT_EQ(costs.Of("a", DType::kFloat16), 2);
  EXPECT_EQ(costs.Of("a", DType::kInt16), 0);
  EXPECT_EQ(costs.Of("c", DType::kInt8), 0);
  const auto all = [&](DType precision) { return costs.Total([=](const std::string&) { return precision; }); };
  EXPECT_EQ(all(DType::kInt8), 0.1 + 0 + 16);
  EXPECT_EQ(all(DType::kFloat32), 4 + 8 + 32);
  const double mixed =
      costs.Total([](const std::string& node) { return node == "a" ? DType::kFloat32 : DType::kInt8; });
  EXPECT_EQ(mixed, 4 + 0 + 32);
  EXPECT_EQ(LayerCosts().Total([](const std::string&) { return DType::kInt8; }), 0);
}

TEST(Costs, HostileFiles) {
  const auto layer = [](const std::string& text) { return R"({"octavo_costs": 1, "layers": [)" + text + "]}"; };
  EXPECT_TRUE(ParseCosts(layer(R"({"node": "a", "int8": 0})"), "").ok());
  EXPECT_THAT(Refused(layer(R"({"node": "a"}, {"node": "b", "fp32": -1e-9})")),
              HasSubstr("layers[1]: \"fp32\" must be milliseconds"));
  // Sums over layers have to stay numbers.
  EXPECT_THAT(Refused(layer(R"({"node": "a", "int8": 1e308})")), HasSubstr("must be milliseconds"));
  EXPECT_THAT(Refused(layer(R"({"node": "a", "int8": 1e999})")), HasSubstr("no JSON"));
  EXPECT_THAT(Refused(layer(R"({"node": "a", "int8": "1"})")), HasSubstr("a number"));
  EXPECT_THAT(Refused(layer(R"({"node": "a", "int8": null})")), HasSubstr("a number"));
  EXPECT_THAT(Refused(layer(R"({"int8": 1})")), HasSubstr("\"node\" is missing"));
  EXPECT_THAT(Refused(layer(R"({"node": 1})")), HasSubstr("a text"));
  EXPECT_THAT(Refused(layer(R"({"node": "a", "int4": 1})")), HasSubstr("unknown key 'int4'"));
  EXPECT_THAT(Refused(layer("7")), HasSubstr("layers[0]: is no object"));
  // Which of the two would count, nobody could say.
  EXPECT_THAT(Refused(layer(R"({"node": "a", "int8": 1}, {"node": "a", "int8": 2})")),
              HasSubstr("'a' is listed twice"));
  EXPECT_THAT(Refused(R"({"octavo_costs": 1, "rest": {"node": 1}, "layers": []})"), HasSubstr("rest: unknown key"));
  EXPECT_THAT(Refused(R"({"octavo_costs": 1, "rest": [], "layers": []})"), HasSubstr("rest: is no object"));
  EXPECT_THAT(Refused(R"({"octavo_costs": 1})"), HasSubstr("\"layers\" is missing"));
  EXPECT_THAT(Refused(R"({"octavo_costs": 2, "layers": []})"), HasSubstr("format 2"));
  EXPECT_THAT(Refused(R"({"layers": []})"), HasSubstr("\"octavo_costs\" is missing"));
  EXPECT_THAT(Refused(R"({"octavo_costs": 1, "layers": [], "threads": 1e30})"), HasSubstr("threads"));
  EXPECT_THAT(Refused("[]"), HasSubstr("is no object"));
  EXPECT_THAT(Refused(std::string(100, '[')), HasSubstr("nested"));
  EXPECT_THAT(Refused("{\"\xff\": 1}"), HasSubstr("no JSON"));
}

TEST(Costs, MeasuredForEveryLayerInEachPrecision) {
  const ResidualGraph residual;
  const Graph prepared = PrepareForQuantization(residual.graph).value();
  const Recipe recipe = Decide(prepared, UniformStats(prepared, -2, 2), {}).value();
  MeasureCostsOptions options;
  options.threads = 1;
  options.precisions = {DType::kInt8, DType::kBFloat16, DType::kFloat16, DType::kFloat32};
  options.rounds = 2;
  const std::map<std::string, Tensor> inputs = {{"x", RandomInputs(prepared)[0]}};
  const auto costs = MeasureCosts(prepared, recipe, inputs, options);
  ASSERT_TRUE(costs.ok()) << costs.status().message();
  EXPECT_EQ(costs->fingerprint, ModelFingerprint(prepared));
  EXPECT_EQ(costs->isa, IsaInUse());
  EXPECT_EQ(costs->layers.size(), 3u);  // convolutions
  for (const auto& [node, times] : costs->layers) {
    EXPECT_EQ(times.size(), 4u) << node;
    EXPECT_GT(times.at(DType::kFloat32), 0) << node;
  }
  EXPECT_EQ(costs->rest.size(), 4u);
  EXPECT_EQ(ParseCosts(FormatCosts(*costs), "c")->layers, costs->layers);
  // No round at all says nothing: one is run.
  options.rounds = 0;
  EXPECT_TRUE(MeasureCosts(prepared, recipe, inputs, options).ok());
  EXPECT_THAT(MeasureCosts(prepared, recipe, {}, options).status().message(), HasSubstr("'x' was not given"));
}

}  // namespace
}  // namespace octavo
