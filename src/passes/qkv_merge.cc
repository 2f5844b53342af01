// MatMul(x, W1) [+ b1],  MatMul(x, W2) [+ b2], ...   ->  Split(MatMul(x, [W1 W2 ...]) [+ [b1 b2 ...]], last axis)
// Gemm(x, W1, b1),  Gemm(x, W2, b2), ...             ->  Split(Gemm(x, [W1 W2 ...], [b1 b2 ...]))
// Weights are constant; all of a group have a bias or none has. One large product keeps the cores busier than several
// small ones (ViT's q, k and v), and the engine's Split only renames memory.
#include <algorithm>
#include <cstring>
#include <tuple>

#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

struct Projection {
  NodeId product = kNoNode;
  ValueId result = kNoValue;   // of the bias Add where there is one
  ValueId weights = kNoValue;  // [inputs, outputs], or [outputs, inputs] when `rows`
  ValueId bias = kNoValue;
  bool rows = false;
  int64_t outputs = 0;
};

std::optional<Projection> MatchGemm(const Rewriter& rewriter, NodeId id) {
  const Node& node = rewriter.graph().node(id);
  if (node.Int("transA", 0) != 0 || node.Float("alpha", 1.0f) != 1.0f) return std::nullopt;
  if (node.has_input(2) && node.Float("beta", 1.0f) != 1.0f) return std::nullopt;
  Projection projection{.product = id, .result = node.output(0), .weights = node.input(1), .bias = node.input(2)};
  projection.rows = node.Int("transB", 0) != 0;
  projection.outputs = rewriter.dims(node.output(0)).back();
  if (projection.bias == kNoValue) return projection;
  const Value& bias = rewriter.value(projection.bias);
  const bool fits = bias.is_constant() && bias.dims == Dims{projection.outputs} && bias.dtype == DType::kFloat32;
  return fits ? std::optional(projection) : std::nullopt;
}

std::optional<Projection> MatchMatMul(const Rewriter& rewriter, NodeId id) {
  const Node& node = rewriter.graph().node(id);
  const Dims& dims = rewriter.dims(node.output(0));
  if (dims.size() < 2) return std::nullopt;
  Projection projection{.product = id, .result = node.output(0), .weights = node.input(1), .outputs = dims.back()};
  const NodeId reader = rewriter.OnlyReader(node.output(0));
  if (reader == kNoNode || !rewriter.graph().node(reader).Is("Add")) return projection;
  const Node& add = rewriter.graph().node(reader);
  const ValueId bias = OtherOperand(add, node.output(0));
  const Value& value = rewriter.value(bias);
  if (!value.is_constant() || value.dims != Dims{dims.back()} || value.dtype != DType::kFloat32) return projection;
  projection.bias = bias;
  projection.result = add.output(0);
  return projection;
}

std::optional<Projection> Match(const Rewriter& rewriter, NodeId id) {
  const Node& node = rewriter.graph().node(id);
  if (node.removed || (!node.Is("MatMul") && !node.Is("Gemm"))) return std::nullopt;
  const Value& weights = rewriter.value(node.input(1));
  if (!weights.is_constant() || weights.dtype != DType::kFloat32 || weights.dims.size() != 2) return std::nullopt;
  if (rewriter.value(node.input(0)).is_constant()) return std::nullopt;
  return node.Is("Gemm") ? MatchGemm(rewriter, id) : MatchMatMul(rewriter, id);
}

Tensor JoinedWeights(const Rewriter& rewriter, const std::vector<Projection>& group, int64_t outputs) {
  const bool rows = group[0].rows;
  const Dims& first = rewriter.dims(group[0].weights);
  const int64_t inputs = rows ? first[1] : first[0];
  Result<Tensor> joined = Tensor::Create(DType::kFloat32, rows ? Dims{outputs, inputs} : Dims{inputs, outputs});
  if (!joined.ok()) return {};
  float* out = joined->mutable_values<float>().data();
  int64_t column = 0;
  for (const Projection& projection : group) {
    const float* in = rewriter.value(projection.weights).constant.values<float>().data();
    const int64_t runs = rows ? 1 : inputs;  // of contiguous weights
    const int64_t run = rows ? projection.outputs * inputs : projection.outputs;
    for (int64_t r = 0; r < runs; ++r) {
      std::memcpy(out + (rows ? column * inputs : r * outputs + column), in + r * run,
                  static_cast<size_t>(run) * sizeof(float));
    }
    column += projection.outputs;
  }
  return *std::move(joined);
}

Tensor JoinedBias(const Rewriter& rewriter, const std::vector<Projection>& group, int64_t outputs) {
  std::vector<float> joined;
  for (const Projection& projection : group) {
    const auto values = rewriter.value(projection.bias).constant.values<float>();
    joined.insert(joined.end(), values.begin(), values.end());
  }
  return Tensor::FromVector<float>({outputs}, joined);
}

void Merge(Rewriter& rewriter, const std::vector<Projection>& group) {
  Graph& graph = rewriter.graph();
  const Node first = graph.node(group[0].product);
  const std::string name = rewriter.value(group[0].result).name;
  int64_t outputs = 0;
  for (const Projection& projection : group) outputs += projection.outputs;
  Dims dims = rewriter.dims(group[0].result);
  const int64_t axis = static_cast<int64_t>(dims.size()) - 1;
  dims.back() = outputs;

  std::vector<ValueId> inputs{first.input(0),
                              rewriter.AddConstant(name + "/merged_weights", JoinedWeights(rewriter, group, outputs))};
  ValueId bias = kNoValue;
  if (group[0].bias != kNoValue)
    bias = rewriter.AddConstant(name + "/merged_bias", JoinedBias(rewriter, group, outputs));
  if (first.Is("Gemm") && bias != kNoValue) inputs.push_back(bias);
  ValueId merged = rewriter.AddNode(name + "/merged", "", first.op, inputs, DType::kFloat32, dims, first.attributes);
  if (first.Is("MatMul") && bias != kNoValue) {
    merged = rewriter.AddNode(name + "/merged_biased", "", "Add", {merged, bias}, DType::kFloat32, dims);
  }
  std::vector<ValueId> results;
  for (const Projection& projection : group) results.push_back(projection.result);
  rewriter.AddSplit(name + "/split", merged, results, axis);
}

}  // namespace

int MergeSiblingMatMuls(Graph& graph) {
  Rewriter rewriter(graph);
  std::map<std::tuple<ValueId, bool, bool, bool>, std::vector<Projection>> groups;
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    if (const auto found = Match(rewriter, id)) {
      const Node& node = graph.node(id);
      groups[{node.input(0), node.Is("Gemm"), found->rows, found->bias != kNoValue}].push_back(*found);
    }
  }
  int rewrites = 0;
  for (const auto& [key, group] : groups) {
    if (group.size() < 2) continue;
    Merge(rewriter, group);
    ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
