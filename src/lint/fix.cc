// The mends that leave what a model computes as it is: exact in integers, and to the bit in the floats between.
#include <algorithm>
#include <set>

#include "graph/quantization.h"
#include "lint/mends.h"
#include "lint/rule.h"
#include "passes/rewriter.h"
#include "quantize/opset.h"

namespace octavo {
namespace {

// Nodes of Q and DQ that `wanted` picks, found before anything is edited.
template <typename Fn>
std::vector<NodeId> Pick(const std::vector<NodeId>& nodes, Fn wanted) {
  std::vector<NodeId> picked;
  std::copy_if(nodes.begin(), nodes.end(), std::back_inserter(picked), wanted);
  return picked;
}

std::vector<NodeId> AllNodes(const QuantizedGraph& quantized) {
  std::vector<NodeId> nodes = quantized.quantizes();
  nodes.insert(nodes.end(), quantized.dequantizes().begin(), quantized.dequantizes().end());
  return nodes;
}

int RaiseToPerChannel(Graph& graph, const QuantizedGraph&) { return RaiseOpset(graph).ok() ? 1 : 0; }

int SetChannelAxis(Graph& graph, const QuantizedGraph& quantized) {
  int mended = 0;
  for (const NodeId id : quantized.dequantizes()) {
    const auto wrong = WrongAxisOf(quantized, id);
    if (!wrong || !wrong->unambiguous) continue;
    graph.node(id).attributes["axis"] = wrong->expected;
    const NodeId quantize = quantized.ProducerId(graph.node(id).input(0));
    if (quantize != kNoNode && IsQuantize(graph.node(quantize)))
      graph.node(quantize).attributes["axis"] = wrong->expected;
    ++mended;
  }
  return mended;
}

int WriteDefaultAxis(Graph& graph, const QuantizedGraph& quantized) {
  int mended = 0;
  for (const NodeId id : AllNodes(quantized)) {
    const WrittenParameters& parameters = quantized.Parameters(id);
    if (!parameters.per_channel() || parameters.axis_written) continue;
    graph.node(id).attributes["axis"] = int64_t{1};
    ++mended;
  }
  return mended;
}

// As DequantizeLinear computes it: the integer as float32, times the scale.
int MakeBiasesFloat(Graph& graph, const QuantizedGraph& quantized) {
  const auto biases = Pick(quantized.dequantizes(), [&](NodeId id) { return IsFoldableBias(quantized, id); });
  Rewriter rewriter(graph);
  for (const NodeId id : biases) {
    const Tensor integers = graph.value(graph.node(id).input(0)).constant;
    const std::vector<float>& scales = quantized.Parameters(id).scales;
    std::vector<float> values;
    for (const int32_t q : integers.values<int32_t>()) {
      values.push_back(static_cast<float>(q) * scales[scales.size() == 1 ? 0 : values.size()]);
    }
    // Models as they are read need not state types and shapes.
    Value& bias = graph.value(graph.node(id).output(0));
    bias.dtype = DType::kFloat32;
    bias.shape_known = true;
    bias.dims = integers.dims();
    bias.dim_params.clear();
    rewriter.BecomeConstant(graph.node(id).output(0), Tensor::FromVector<float>(integers.dims(), values));
  }
  return static_cast<int>(biases.size());
}

Tensor ShiftToInt8(const Tensor& integers, int32_t shift) {
  std::vector<int8_t> values;
  values.reserve(static_cast<size_t>(integers.size()));
  const auto add = [&](auto span) {
    for (const int32_t q : span) values.push_back(static_cast<int8_t>(q - shift));
  };
  integers.dtype() == DType::kInt8 ? add(integers.values<int8_t>()) : add(integers.values<uint8_t>());
  return Tensor::FromVector<int8_t>(integers.dims(), values);
}

// All nodes around one tensor of integers move together.
int ShiftZeroPoints(Graph& graph, const QuantizedGraph& quantized, bool of_unsigned) {
  struct Shift {
    NodeId node;
    ValueId integers;
    int32_t amount;
  };
  std::vector<Shift> shifts;
  for (const NodeId id : AllNodes(quantized)) {
    const WrittenParameters& parameters = quantized.Parameters(id);
    const auto amount = ShiftOf(quantized, id);
    if (!amount || (parameters.dtype == DType::kUInt8) != of_unsigned) continue;
    if (!of_unsigned && *amount == 0) continue;
    const Node& node = graph.node(id);
    shifts.push_back({id, IsQuantize(node) ? node.output(0) : node.input(0), *amount});
  }
  std::set<ValueId> moved;
  for (const Shift& shift : shifts) {
    Value& integers = graph.value(shift.integers);
    if (moved.insert(shift.integers).second) {
      if (integers.is_constant()) integers.constant = ShiftToInt8(integers.constant, shift.amount);
      integers.dtype = DType::kInt8;
    }
    const ValueId before = graph.node(shift.node).input(2);
    const Dims dims = graph.value(before).dims;
    const auto count = static_cast<size_t>(graph.value(before).constant.size());
    const ValueId zero = graph.AddConstant(graph.value(before).name + "_int8",
                                           Tensor::FromVector<int8_t>(dims, std::vector<int8_t>(count, 0)));
    graph.node(shift.node).inputs[2] = zero;
    graph.node(shift.node).attributes.erase("output_dtype");
  }
  return static_cast<int>(moved.size());
}

int ShiftUnsigned(Graph& graph, const QuantizedGraph& quantized) { return ShiftZeroPoints(graph, quantized, true); }
int ShiftSigned(Graph& graph, const QuantizedGraph& quantized) { return ShiftZeroPoints(graph, quantized, false); }

// DQ(q) -> Q -> ... reads q: |q| of 8 or 16 bits survives a multiplication and a division by the same scale, whose
// errors are below 2^-23 each.
int RemoveRedundant(Graph& graph, const QuantizedGraph& quantized) {
  const auto redundant = Pick(quantized.quantizes(), [&](NodeId id) { return IsRedundantQuantize(quantized, id); });
  Rewriter rewriter(graph);
  int mended = 0;
  for (const NodeId id : redundant) {
    const NodeId dequantize = graph.value(graph.node(id).input(0)).producer;
    if (!rewriter.Bypass(id, graph.node(dequantize).input(0))) continue;
    rewriter.RemoveIfDead(dequantize);
    ++mended;
  }
  return mended;
}

int RemoveDead(Graph& graph, const QuantizedGraph& quantized) {
  const auto dead = Pick(AllNodes(quantized), [&](NodeId id) {
    const ValueId made = graph.node(id).output(0);
    return quantized.readers(made).empty() && !quantized.IsOutput(made);
  });
  Rewriter rewriter(graph);
  for (const NodeId id : dead) rewriter.RemoveIfDead(id);
  return static_cast<int>(dead.size());
}

struct Mend {
  std::string_view rule;
  int (*apply)(Graph& graph, const QuantizedGraph& quantized);  // returns how many it mended
};
// Each sees what those before it have left.
constexpr Mend kMends[] = {
    {"per-channel-opset", RaiseToPerChannel}, {"weight-axis", SetChannelAxis}, {"unwritten-axis", WriteDefaultAxis},
    {"int32-bias", MakeBiasesFloat},          {"uint8", ShiftUnsigned},        {"zero-point", ShiftSigned},
    {"redundant-pair", RemoveRedundant},      {"dead-qdq", RemoveDead},
};

// A Q or DQ that a mend frees may be one for the next round; chains are short.
constexpr int kMaxRounds = 8;

Result<int> ApplyMends(Graph& graph, const LintOptions& options, const Target& target,
                       const std::vector<LintFinding>& findings) {
  int mended = 0;
  for (const Mend& mend : kMends) {
    const bool found = std::any_of(findings.begin(), findings.end(),
                                   [&](const LintFinding& finding) { return finding.rule == mend.rule; });
    if (!found) continue;
    // The view keeps references to what it was made of.
    const Graph before = graph;
    mended += mend.apply(graph, QuantizedGraph(before, target, options.input_dims));
    OCTAVO_RETURN_IF_ERROR(graph.Sort());
    graph.CompactValues();
    OCTAVO_RETURN_IF_ERROR(Verify(graph).WithPrefix(std::string(mend.rule) + ": "));
  }
  return mended;
}

}  // namespace

Result<std::vector<LintFinding>> FixLint(Graph& graph, const LintOptions& options) {
  OCTAVO_RETURN_IF_ERROR(CheckLintOptions(graph, options));
  OCTAVO_ASSIGN(const Target* target, FindTarget(options.target));
  Graph fixed = graph;
  std::vector<LintFinding> mended;
  for (int round = 0; round < kMaxRounds; ++round) {
    OCTAVO_ASSIGN(std::vector<LintFinding> findings, Lint(fixed, options));
    std::erase_if(findings, [](const LintFinding& finding) { return !finding.fixable; });
    OCTAVO_ASSIGN(const int count, ApplyMends(fixed, options, *target, findings));
    if (count == 0) break;
    std::move(findings.begin(), findings.end(), std::back_inserter(mended));
  }
  graph = std::move(fixed);
  return mended;
}

}  // namespace octavo
