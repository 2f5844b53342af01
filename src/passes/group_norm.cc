// Reshape(InstanceNormalization(Reshape(x, [N, groups, -1]), s, b), [N, C, ...]) [* scale] [+ bias]
// GroupNormalization(x, scale, bias)
//   ->  octavo.GroupNorm(x, scale, bias) {num_groups, epsilon, activation: "none"}
// Then, as long as nothing else reads what is in between:
//   GroupNorm(x, s, b) * m,  m of shape [N, C, 1, ...]   ->  GroupNorm(x, s * m, b * m)     a diffusion UNet's
//   modulation, GroupNorm(x, s, b) + a,  a of shape [N, C, 1, ...]   ->  GroupNorm(x, s, b + a)         computed on [N,
//   C] octavo.Silu(GroupNorm(x, s, b))                      ->  GroupNorm {activation: "silu"}
#include <algorithm>

#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

struct Normalization {
  ValueId x = kNoValue;
  int64_t groups = 0;
  float epsilon = 1e-5f;
  std::vector<float> scale{}, bias{};  // per channel; empty when they are values already
  ValueId scale_value = kNoValue, bias_value = kNoValue;
};

std::vector<float> Spread(const std::vector<float>& per_group, int64_t channels) {
  const int64_t run = channels / static_cast<int64_t>(per_group.size());
  std::vector<float> per_channel(static_cast<size_t>(channels));
  for (int64_t c = 0; c < channels; ++c) per_channel[static_cast<size_t>(c)] = per_group[static_cast<size_t>(c / run)];
  return per_channel;
}

// The Reshape around an InstanceNormalization, from the outer Reshape.
std::optional<Normalization> MatchInstanceNorm(const Rewriter& rewriter, const Node& outer) {
  if (!outer.Is("Reshape")) return std::nullopt;
  const Node* norm = rewriter.Producer(outer.input(0), "InstanceNormalization");
  if (norm == nullptr || rewriter.OnlyReader(outer.input(0)) == kNoNode) return std::nullopt;
  const Node* inner = rewriter.Producer(norm->input(0), "Reshape");
  if (inner == nullptr || rewriter.OnlyReader(norm->input(0)) == kNoNode) return std::nullopt;
  const Dims& dims = rewriter.dims(outer.output(0));
  const Dims& grouped = rewriter.dims(norm->input(0));
  if (rewriter.dims(inner->input(0)) != dims || dims.size() < 3 || grouped.size() != 3) return std::nullopt;
  const int64_t groups = grouped[1];
  if (grouped[0] != dims[0] || groups <= 0 || dims[1] <= 0 || dims[1] % groups != 0) return std::nullopt;
  const auto scale = ChannelValues(rewriter.value(norm->input(1)), 1, 0, groups);
  const auto bias = ChannelValues(rewriter.value(norm->input(2)), 1, 0, groups);
  if (!scale || !bias) return std::nullopt;
  return Normalization{.x = inner->input(0),
                       .groups = groups,
                       .epsilon = norm->Float("epsilon", 1e-5f),
                       .scale = Spread(*scale, dims[1]),
                       .bias = Spread(*bias, dims[1])};
}

std::optional<Normalization> MatchStandard(const Rewriter& rewriter, const Node& node) {
  if (!node.Is("GroupNormalization")) return std::nullopt;
  const Dims& dims = rewriter.dims(node.input(0));
  const int64_t groups = node.Int("num_groups", 0);
  if (dims.size() < 3 || groups <= 0 || dims[1] <= 0 || dims[1] % groups != 0) return std::nullopt;
  Normalization norm{.x = node.input(0), .groups = groups, .epsilon = node.Float("epsilon", 1e-5f)};
  const Dims per_channel{dims[1]};
  if (rewriter.dims(node.input(1)) == per_channel && rewriter.dims(node.input(2)) == per_channel) {
    norm.scale_value = node.input(1);
    norm.bias_value = node.input(2);
    return norm;
  }
  const auto scale = ChannelValues(rewriter.value(node.input(1)), 1, 0, groups);  // before opset 21: per group
  const auto bias = ChannelValues(rewriter.value(node.input(2)), 1, 0, groups);
  if (!scale || !bias) return std::nullopt;
  norm.scale = Spread(*scale, dims[1]);
  norm.bias = Spread(*bias, dims[1]);
  return norm;
}

// Multiplies scale and bias by the constant of a following Mul, then adds that of a following Add; moves `result` on.
void TakeConstantAffine(const Rewriter& rewriter, Normalization& norm, ValueId& result) {
  for (const std::string_view op : {std::string_view("Mul"), std::string_view("Add")}) {
    const NodeId reader = rewriter.OnlyReader(result);
    if (reader == kNoNode || !rewriter.graph().node(reader).Is(op)) continue;
    const Node& node = rewriter.graph().node(reader);
    const Dims& dims = rewriter.dims(result);
    const ValueId constant = OtherOperand(node, result);
    if (constant == kNoValue || rewriter.dims(node.output(0)) != dims) continue;
    const auto values = ChannelValues(rewriter.value(constant), static_cast<int64_t>(dims.size()), 1, dims[1]);
    if (!values) continue;
    for (size_t c = 0; c < values->size(); ++c) {
      if (op == "Mul") norm.scale[c] *= (*values)[c];
      norm.bias[c] = op == "Mul" ? norm.bias[c] * (*values)[c] : norm.bias[c] + (*values)[c];
    }
    result = node.output(0);
  }
}

ValueId AddVector(Rewriter& rewriter, const std::string& name, const std::vector<float>& values) {
  return rewriter.AddConstant(name, Tensor::FromVector<float>({static_cast<int64_t>(values.size())}, values));
}

bool RewriteNorm(Rewriter& rewriter, NodeId id) {
  const Node& node = rewriter.graph().node(id);
  auto norm = MatchInstanceNorm(rewriter, node);
  if (!norm) norm = MatchStandard(rewriter, node);
  if (!norm || !IsFloat32(rewriter.graph(), norm->x)) return false;
  ValueId result = node.output(0);
  if (norm->scale_value == kNoValue) {
    TakeConstantAffine(rewriter, *norm, result);
    const std::string name = rewriter.value(result).name;
    norm->scale_value = AddVector(rewriter, name + "/scale", norm->scale);
    norm->bias_value = AddVector(rewriter, name + "/bias", norm->bias);
  }
  rewriter.Become(rewriter.ProducerId(result), kOctavoDomain, "GroupNorm",
                  {norm->x, norm->scale_value, norm->bias_value},
                  {{"num_groups", norm->groups}, {"epsilon", norm->epsilon}, {"activation", std::string("none")}});
  return true;
}

// [N or 1, C, 1, ...] -> [N or 1, C]
ValueId AsRows(Rewriter& rewriter, ValueId value) {
  const Dims dims = rewriter.dims(value);
  const Dims rows{dims[0], dims[1]};
  if (dims == rows) return value;
  const std::string name = rewriter.value(value).name;
  const ValueId shape = rewriter.AddConstant(name + "/rows_shape", Int64Constant(rows));
  return rewriter.AddNode(name + "/rows", "", "Reshape", {value, shape}, rewriter.value(value).dtype, rows);
}

ValueId Combine(Rewriter& rewriter, const std::string& name, std::string_view op, ValueId a, ValueId b) {
  const Dims da = rewriter.dims(a), db = rewriter.dims(b);
  Dims dims = da.size() >= db.size() ? da : db;
  if (da.size() == 2 && db.size() == 2) dims[0] = std::max(da[0], db[0]);
  return rewriter.AddNode(name, "", op, {a, b}, DType::kFloat32, dims);
}

// True for shapes [N or 1, C, 1, ...] of a float value next to a GroupNorm of `dims`.
bool IsModulation(const Rewriter& rewriter, ValueId value, const Dims& dims) {
  if (!IsFloat32(rewriter.graph(), value)) return false;
  const Dims& own = rewriter.dims(value);
  if (own.size() != dims.size() || (own[0] != dims[0] && own[0] != 1) || own[1] != dims[1]) return false;
  return std::all_of(own.begin() + 2, own.end(), [](int64_t dim) { return dim == 1; });
}

// Folds the Mul or Add that alone reads the GroupNorm `norm`; returns the node that is the GroupNorm then.
NodeId TakeModulation(Rewriter& rewriter, NodeId norm) {
  const Node group_norm = rewriter.graph().node(norm);
  const ValueId result = group_norm.output(0);
  const NodeId reader = rewriter.OnlyReader(result);
  if (reader == kNoNode || group_norm.String("activation", "none") != "none") return kNoNode;
  const Node& node = rewriter.graph().node(reader);
  const bool product = node.Is("Mul");
  if (!product && !node.Is("Add")) return kNoNode;
  const ValueId other = OtherOperand(node, result);
  const Dims dims = rewriter.dims(result);
  if (other == kNoValue || other == result || !IsModulation(rewriter, other, dims)) return kNoNode;
  if (rewriter.dims(node.output(0)) != dims) return kNoNode;
  const std::string name = rewriter.value(node.output(0)).name;
  const ValueId rows = AsRows(rewriter, other);
  ValueId scale = group_norm.input(1), bias = group_norm.input(2);
  if (product) {
    scale = Combine(rewriter, name + "/scale", "Mul", rows, scale);
    bias = Combine(rewriter, name + "/scaled_bias", "Mul", rows, bias);
  } else {
    bias = Combine(rewriter, name + "/bias", "Add", bias, rows);
  }
  rewriter.Become(reader, kOctavoDomain, "GroupNorm", {group_norm.input(0), scale, bias}, group_norm.attributes);
  return reader;
}

bool FoldSilu(Rewriter& rewriter, NodeId norm) {
  const Node group_norm = rewriter.graph().node(norm);
  const NodeId reader = rewriter.OnlyReader(group_norm.output(0));
  if (reader == kNoNode || !rewriter.graph().node(reader).Is("Silu", kOctavoDomain)) return false;
  if (group_norm.String("activation", "none") != "none") return false;
  if (rewriter.graph().node(reader).Float("alpha", 1.0f) != 1.0f) return false;
  std::map<std::string, Attribute> attributes = group_norm.attributes;
  attributes["activation"] = std::string("silu");
  rewriter.Become(reader, kOctavoDomain, "GroupNorm", group_norm.inputs, std::move(attributes));
  return true;
}

}  // namespace

int RewriteGroupNorm(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  const NodeId count = rewriter.node_count();
  for (NodeId id = 0; id < count; ++id) {
    if (!graph.node(id).removed && RewriteNorm(rewriter, id)) ++rewrites;
  }
  for (NodeId id = 0; id < count; ++id) {
    if (graph.node(id).removed || !graph.node(id).Is("GroupNorm", kOctavoDomain)) continue;
    NodeId norm = id;
    for (NodeId next = TakeModulation(rewriter, norm); next != kNoNode; next = TakeModulation(rewriter, norm)) {
      norm = next;
      ++rewrites;
    }
    if (FoldSilu(rewriter, norm)) ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
