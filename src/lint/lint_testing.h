// Small Q/DQ graphs for the tests of rules. Nothing is bound or folded: rules see what a file holds.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "octavo/lint.h"
#include "passes/pass_test_graph.h"

namespace octavo {

class LintTestGraph : public TestGraph {
 public:
  using TestGraph::TestGraph;

  ValueId Integers(DType dtype, Dims dims, int value) {
    const auto count = static_cast<size_t>(ElementCount(dims));
    switch (dtype) {
      case DType::kUInt8:
        return graph().AddConstant("z",
                                   Tensor::FromVector(dims, std::vector<uint8_t>(count, static_cast<uint8_t>(value))));
      case DType::kInt16:
        return graph().AddConstant("z",
                                   Tensor::FromVector(dims, std::vector<int16_t>(count, static_cast<int16_t>(value))));
      case DType::kInt32:
        return graph().AddConstant("z", Tensor::FromVector(dims, std::vector<int32_t>(count, value)));
      default:
        return graph().AddConstant("z",
                                   Tensor::FromVector(dims, std::vector<int8_t>(count, static_cast<int8_t>(value))));
    }
  }
  ValueId Quantize(ValueId x, float scale = 0.5f, int zero_point = 0, DType dtype = DType::kInt8) {
    return Op("QuantizeLinear", {x, Scalar(scale), Integers(dtype, {}, zero_point)});
  }
  ValueId Dequantize(ValueId q, float scale = 0.5f, int zero_point = 0, DType dtype = DType::kInt8) {
    return Op("DequantizeLinear", {q, Scalar(scale), Integers(dtype, {}, zero_point)});
  }
  ValueId Pair(ValueId x, float scale = 0.5f, int zero_point = 0, DType dtype = DType::kInt8) {
    const ValueId s = Scalar(scale), z = Integers(dtype, {}, zero_point);
    return Op("DequantizeLinear", {Op("QuantizeLinear", {x, s, z}), s, z});
  }
  // A DQ of int8 constants with `scales` scales along `axis`; 0: one scale.
  ValueId Weights(Dims dims, int64_t axis = 0, int64_t scales = -1, Attributes attributes = {}) {
    if (scales < 0) scales = dims[static_cast<size_t>(axis)];
    const Dims of_scale = scales == 0 ? Dims{} : Dims{scales};
    if (scales != 0 && attributes.empty()) attributes["axis"] = axis;
    if (attributes.count("none") > 0) attributes.clear();
    return Op("DequantizeLinear",
              {Integers(DType::kInt8, dims, 3), Filled(of_scale, 0.01f), Integers(DType::kInt8, of_scale, 0)},
              std::move(attributes));
  }
  ValueId Image(const std::string& name = "x") { return Input(name, {1, 16, 8, 8}); }
  // A 1x1 convolution of 16 channels with quantized weights.
  ValueId Conv(ValueId x) { return Op("Conv", {x, Weights({16, 16, 1, 1})}); }
  Graph Done(std::vector<ValueId> outputs) {
    graph().outputs = std::move(outputs);
    return graph();
  }
};

inline std::vector<std::string> RulesOf(const Graph& graph, const LintOptions& options) {
  const auto findings = Lint(graph, options);
  EXPECT_TRUE(findings.ok()) << findings.status().message();
  std::vector<std::string> rules;
  for (const LintFinding& finding : findings.ok() ? *findings : std::vector<LintFinding>()) {
    EXPECT_FALSE(finding.why.empty() || finding.mend.empty()) << finding.rule;
    rules.push_back(finding.rule);
  }
  return rules;
}

// A model that one rule alone finds, and one just beside it in which nothing is found.
struct LintCase {
  std::string rule;
  std::function<void(LintTestGraph&)> bad, near;
  std::function<void(LintOptions&)> options{};
  std::string target = "tensorrt";
  int64_t opset = 17, near_opset = 0;  // 0: as opset
  size_t findings = 1;
};

inline void ExpectCase(const LintCase& c) {
  SCOPED_TRACE(c.rule + " for " + c.target);
  LintOptions options;
  options.target = c.target;
  if (c.options) c.options(options);
  LintTestGraph bad(c.opset), near(c.near_opset != 0 ? c.near_opset : c.opset);
  c.bad(bad);
  c.near(near);
  EXPECT_EQ(RulesOf(bad.graph(), options), std::vector<std::string>(c.findings, c.rule));
  EXPECT_EQ(RulesOf(near.graph(), options), std::vector<std::string>());
  options.disabled = {c.rule};
  EXPECT_EQ(RulesOf(bad.graph(), options), std::vector<std::string>());
}

}  // namespace octavo
