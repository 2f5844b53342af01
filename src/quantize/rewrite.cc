// The part of a recipe that changes the float graph:
//   Softmax(x) . v              e = Exp(x - max);  (e . v) / sum e    deferrals
//   x -> consumer               x -> Mul(factors) -> consumer         migrations
//   w -> node              ->   w * factors -> node                   rescales
//   x -> consumer               x + values -> consumer, b - W values  shifts
//   b -> node                   b + values -> node                    biases
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "base/quote.h"
#include "graph/quantization.h"
#include "octavo/quantize.h"
#include "quantize/defer_softmax.h"
#include "quantize/shift_channels.h"

namespace octavo {
namespace {

Status CheckFactors(const Dims& dims, const std::vector<float>& factors, bool takes_signs) {
  OCTAVO_ASSIGN(const int64_t count, CheckedElementCount(dims));
  if (count != static_cast<int64_t>(factors.size())) {
    return InvalidArgument(fmt::format("{} factors for dims {}", factors.size(), ToString(dims)));
  }
  for (const float factor : factors) {
    if (IsUsableScale(factor) || (takes_signs && factor == -1)) continue;
    return InvalidArgument(fmt::format("the factor {} is not positive and normal", factor));
  }
  return {};
}

// The dims that both broadcast to; nothing where they do not.
std::optional<Dims> BroadcastDims(const Dims& a, const Dims& b) {
  Dims dims = a.size() >= b.size() ? a : b;
  const Dims& shorter = a.size() >= b.size() ? b : a;
  for (size_t d = 0; d < shorter.size(); ++d) {
    int64_t& size = dims[dims.size() - shorter.size() + d];
    if (size == 1) size = shorter[d];
    if (shorter[d] != 1 && shorter[d] != size) return std::nullopt;
  }
  return dims;
}

bool BroadcastsTo(const Dims& dims, const Dims& to) {
  const auto both = BroadcastDims(dims, to);
  return both && *both == to;
}

// a op b for two constants that broadcast to `dims`.
template <typename Operation>
Result<Tensor> Combine(const Dims& dims, const Tensor& a, const Dims& b_dims, const std::vector<float>& b,
                       Operation operation) {
  OCTAVO_ASSIGN(Tensor result, Tensor::Create(DType::kFloat32, dims));
  const auto strides = [&](const Dims& of) {
    const Dims dense = ContiguousStrides(of);
    Dims broadcast(dims.size(), 0);
    const size_t lead = dims.size() - of.size();
    for (size_t d = 0; d < of.size(); ++d) broadcast[lead + d] = of[d] == 1 ? 0 : dense[d];
    return broadcast;
  };
  const Dims a_strides = strides(a.dims()), b_strides = strides(b_dims);
  Dims index(dims.size(), 0);
  for (float& out : result.mutable_values<float>()) {
    int64_t at_a = 0, at_b = 0;
    for (size_t d = 0; d < dims.size(); ++d) {
      at_a += index[d] * a_strides[d];
      at_b += index[d] * b_strides[d];
    }
    out = operation(a.values<float>()[static_cast<size_t>(at_a)], b[static_cast<size_t>(at_b)]);
    for (size_t d = dims.size(); d-- > 0;) {
      if (++index[d] < dims[d]) break;
      index[d] = 0;
    }
  }
  return result;
}

class Rewrite {
 public:
  explicit Rewrite(Graph graph) : graph_(std::move(graph)) {
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      if (!graph_.nodes[n].removed) node_of_.emplace(graph_.nodes[n].name, static_cast<NodeId>(n));
    }
  }

  Result<Graph> Run(const Recipe& recipe) {
    for (const DeferralRecipe& entry : recipe.deferrals) {
      const Status status = Defer(entry);
      if (!status.ok()) return status.WithPrefix("recipe, deferral at node " + Quote(entry.node) + ": ");
    }
    for (const MigrationRecipe& entry : recipe.migrations) {
      const Status status = Migrate(entry);
      if (!status.ok()) return status.WithPrefix("recipe, migration of " + Quote(entry.tensor) + ": ");
    }
    for (const RescaleRecipe& entry : recipe.rescales) {
      const Status status = Rescale(entry);
      if (!status.ok()) return status.WithPrefix("recipe, rescaling at node " + Quote(entry.node) + ": ");
    }
    for (const ShiftRecipe& entry : recipe.shifts) {
      const Status status = Shift(entry);
      if (!status.ok()) return status.WithPrefix("recipe, shift of " + Quote(entry.tensor) + ": ");
    }
    for (const BiasRecipe& entry : recipe.biases) {
      const Status status = AddToBias(entry);
      if (!status.ok()) return status.WithPrefix("recipe, bias of node " + Quote(entry.node) + ": ");
    }
    OCTAVO_RETURN_IF_ERROR(graph_.Sort());
    graph_.CompactValues();
    OCTAVO_RETURN_IF_ERROR(Verify(graph_));
    return std::move(graph_);
  }

 private:
  Result<NodeId> FindNode(const std::string& name) const {
    const auto found = node_of_.find(name);
    if (found == node_of_.end()) return NotFound("the model has no node " + Quote(name));
    return found->second;
  }

  Status Defer(const DeferralRecipe& entry) {
    OCTAVO_ASSIGN(const NodeId softmax, FindNode(entry.node));
    return DeferSoftmax(graph_, softmax);
  }

  Status Migrate(const MigrationRecipe& entry) {
    const ValueId tensor = graph_.Find(entry.tensor);
    if (tensor == kNoValue) return NotFound("the model has no such tensor");
    const Dims dims = graph_.value(tensor).dims;
    if (graph_.value(tensor).dtype != DType::kFloat32 || graph_.value(tensor).is_constant()) {
      return InvalidArgument("it is no float32 activation");
    }
    OCTAVO_RETURN_IF_ERROR(CheckFactors(entry.dims, entry.factors, false));
    if (!BroadcastsTo(entry.dims, dims)) {
      return InvalidArgument(fmt::format("factors of dims {} for {}", ToString(entry.dims), ToString(dims)));
    }
    std::vector<NodeId> consumers;
    for (const std::string& name : entry.consumers) {
      OCTAVO_ASSIGN(const NodeId id, FindReader(name, tensor));
      consumers.push_back(id);
    }
    return Insert("Mul", tensor, "/migrated", Tensor::FromVector<float>(entry.dims, entry.factors), consumers);
  }

  Result<NodeId> FindReader(const std::string& name, ValueId tensor) const {
    OCTAVO_ASSIGN(const NodeId id, FindNode(name));
    const std::vector<ValueId>& inputs = graph_.node(id).inputs;
    if (std::find(inputs.begin(), inputs.end(), tensor) != inputs.end()) return id;
    return InvalidArgument("node " + Quote(name) + " does not read it");
  }

  // `consumers` read `op` of the tensor and the constant.
  Status Insert(std::string_view op, ValueId tensor, std::string_view suffix, Tensor constant,
                const std::vector<NodeId>& consumers) {
    const std::string name = graph_.value(tensor).name + std::string(suffix);
    const ValueId operand = graph_.AddConstant(name + "/operand", std::move(constant));
    const ValueId result = graph_.AddValue(name, DType::kFloat32, graph_.value(tensor).dims);
    const std::string node = graph_.value(result).name;
    if (node_of_.count(node) > 0) return InvalidArgument("the model has a node " + Quote(node));
    for (const NodeId id : consumers) {
      std::vector<ValueId>& inputs = graph_.node(id).inputs;
      std::replace(inputs.begin(), inputs.end(), tensor, result);
    }
    node_of_.emplace(node, graph_.AddNode(node, "", op, {tensor, operand}, {result}));
    return {};
  }

  // The constant, or a copy of it that `node` alone reads: others that share it keep theirs.
  Result<ValueId> OwnConstant(NodeId id, int input) {
    const ValueId value = input < 0 ? kNoValue : graph_.node(id).input(static_cast<size_t>(input));
    if (value == kNoValue) return InvalidArgument(fmt::format("it has no input {}", input));
    if (!graph_.value(value).is_constant() || graph_.value(value).dtype != DType::kFloat32) {
      return InvalidArgument(fmt::format("input {} is no float32 constant", input));
    }
    if (!owned_.emplace(std::make_pair(id, input), true).second) return value;
    if (graph_.Uses()[static_cast<size_t>(value)].size() == 1 && !graph_.IsOutput(value)) return value;
    const std::string name = graph_.value(value).name;
    const Tensor constant = graph_.value(value).constant;
    const ValueId copy = graph_.AddConstant(name, constant);
    graph_.node(id).inputs[static_cast<size_t>(input)] = copy;
    return copy;
  }

  void SetConstant(ValueId value, Tensor tensor) {
    graph_.value(value).dims = tensor.dims();
    graph_.value(value).constant = std::move(tensor);
  }

  Status Rescale(const RescaleRecipe& entry) {
    OCTAVO_ASSIGN(const NodeId id, FindNode(entry.node));
    OCTAVO_RETURN_IF_ERROR(CheckFactors(entry.dims, entry.factors, true));
    OCTAVO_ASSIGN(const ValueId value, OwnConstant(id, entry.input));
    const Tensor constant = graph_.value(value).constant;
    const auto dims = BroadcastDims(constant.dims(), entry.dims);
    const Node& node = graph_.node(id);
    // An elementwise constant may grow as far as the result already is; weights keep their shape.
    const bool grows = node.Is("Add") || node.Is("Sub") || node.Is("Mul");
    if (!dims || (*dims != constant.dims() && !(grows && BroadcastsTo(*dims, graph_.value(node.output(0)).dims)))) {
      return InvalidArgument(
          fmt::format("factors of dims {} for a constant of {}", ToString(entry.dims), ToString(constant.dims())));
    }
    OCTAVO_ASSIGN(Tensor scaled,
                  Combine(*dims, constant, entry.dims, entry.factors, [](float a, float b) { return a * b; }));
    SetConstant(value, std::move(scaled));
    return {};
  }

  Status Shift(const ShiftRecipe& entry) {
    const ValueId tensor = graph_.Find(entry.tensor);
    if (tensor == kNoValue) return NotFound("the model has no such tensor");
    OCTAVO_ASSIGN(const std::vector<NodeId> consumers, ShiftConsumers(entry, tensor));
    OCTAVO_ASSIGN(const int axis, ShiftAxis(consumers, tensor));
    OCTAVO_RETURN_IF_ERROR(CheckValues(entry.values, graph_.value(tensor).dims, axis));
    for (const NodeId id : consumers) {
      const std::vector<double> sums = ShiftOfResult(graph_, graph_.node(id), entry.values);
      BiasRecipe bias{graph_.node(id).name, {}};
      for (const double sum : sums) bias.values.push_back(static_cast<float>(-sum));
      if (graph_.node(id).Is("MatMul") && !HasAddedConstant(id)) {
        OCTAVO_RETURN_IF_ERROR(AppendBias(id, bias.values));
      } else {
        OCTAVO_RETURN_IF_ERROR(AddToBias(bias));
      }
    }
    const auto home = ReadByOthers(tensor, consumers) ? std::nullopt : FindShiftHome(graph_, tensor, axis);
    const Dims dims = AlongAxis(graph_.value(tensor).dims, axis);
    if (!home) return Insert("Add", tensor, "/shifted", Tensor::FromVector<float>(dims, entry.values), consumers);
    return AddToConstant(home->node, home->input, DimsAtHome(*home, dims), entry.values);
  }

  Result<std::vector<NodeId>> ShiftConsumers(const ShiftRecipe& entry, ValueId tensor) const {
    std::vector<NodeId> consumers;
    if (entry.consumers.empty()) consumers = graph_.Uses()[static_cast<size_t>(tensor)];
    for (const std::string& name : entry.consumers) {
      OCTAVO_ASSIGN(const NodeId id, FindReader(name, tensor));
      consumers.push_back(id);
    }
    std::sort(consumers.begin(), consumers.end());
    consumers.erase(std::unique(consumers.begin(), consumers.end()), consumers.end());
    if (consumers.empty()) return InvalidArgument("no node reads it");
    return consumers;
  }

  // The axis along which all of them sum over the tensor's channels.
  Result<int> ShiftAxis(const std::vector<NodeId>& consumers, ValueId tensor) const {
    int common = -1;
    for (const NodeId id : consumers) {
      const Node& node = graph_.node(id);
      const auto axis = ShiftableAxis(graph_, node);
      if (!axis.ok()) return axis.status().WithPrefix(graph_.Describe(node) + ": ");
      if (node.input(0) != tensor || std::count(node.inputs.begin(), node.inputs.end(), tensor) != 1) {
        return InvalidArgument("node " + Quote(node.name) + " does not read it as its one operand");
      }
      if (common >= 0 && *axis != common) return InvalidArgument("its readers sum over different axes");
      common = *axis;
    }
    return common;
  }

  static Status CheckValues(const std::vector<float>& values, const Dims& dims, int axis) {
    if (dims[static_cast<size_t>(axis)] != static_cast<int64_t>(values.size())) {
      return InvalidArgument(fmt::format("{} values for axis {} of {}", values.size(), axis, ToString(dims)));
    }
    for (const float value : values) {
      if (!std::isfinite(value)) return InvalidArgument("a value is NaN or infinite");
    }
    return {};
  }

  bool ReadByOthers(ValueId tensor, const std::vector<NodeId>& consumers) const {
    const std::vector<NodeId> readers = graph_.Uses()[static_cast<size_t>(tensor)];
    return graph_.IsOutput(tensor) || std::any_of(readers.begin(), readers.end(), [&](NodeId id) {
             return std::find(consumers.begin(), consumers.end(), id) == consumers.end();
           });
  }

  // Broadcast along all axes but one, from that one on.
  static Dims AlongAxis(const Dims& dims, int axis) {
    Dims along(dims.size() - static_cast<size_t>(axis), 1);
    along[0] = dims[static_cast<size_t>(axis)];
    return along;
  }

  // A bias is a vector; what an Add holds is broadcast.
  Dims DimsAtHome(const ShiftHome& home, const Dims& dims) const {
    return graph_.node(home.node).Is("Add") ? dims : Dims{dims[0]};
  }

  Status AddToBias(const BiasRecipe& entry) {
    OCTAVO_ASSIGN(NodeId id, FindNode(entry.node));
    const auto channels = static_cast<int64_t>(entry.values.size());
    const Node& node = graph_.node(id);
    const bool is_window = node.Is("Conv") || node.Is("ConvTranspose");
    const Dims out = graph_.value(node.output(0)).dims;
    if (!is_window && !node.Is("MatMul") && !node.Is("Gemm")) return InvalidArgument("it has no bias");
    if (out.size() < 2 || (is_window ? out[1] : out.back()) != channels) {
      return InvalidArgument(fmt::format("{} values for a result of {}", channels, ToString(out)));
    }
    for (const float value : entry.values) {
      if (!std::isfinite(value)) return InvalidArgument("a value is NaN or infinite");
    }
    int input = 2;
    if (node.Is("MatMul")) OCTAVO_RETURN_IF_ERROR(FindAddedConstant(id, input));
    return AddToConstant(id, input, {channels}, entry.values);
  }

  // A third input that is absent counts as zeros.
  Status AddToConstant(NodeId id, int input, const Dims& dims, const std::vector<float>& values) {
    if (input == 2 && !graph_.node(id).has_input(2)) {
      const Tensor zeros = Tensor::FromVector<float>(dims, std::vector<float>(values.size(), 0.0f));
      const ValueId bias = graph_.AddConstant(graph_.node(id).name + "/bias", zeros);
      graph_.node(id).inputs.resize(3, kNoValue);
      graph_.node(id).inputs[2] = bias;
    }
    OCTAVO_ASSIGN(const ValueId bias, OwnConstant(id, input));
    const Tensor constant = graph_.value(bias).constant;
    const auto both = BroadcastDims(constant.dims(), dims);
    if (!both || *both != constant.dims()) return InvalidArgument("its bias has other channels");
    OCTAVO_ASSIGN(Tensor sum, Combine(*both, constant, dims, values, [](float a, float b) { return a + b; }));
    SetConstant(bias, std::move(sum));
    return {};
  }

  // Whether a MatMul's result goes into the Add of a constant per channel and nowhere else.
  bool HasAddedConstant(NodeId id) const {
    int input = 0;
    const ValueId product = graph_.node(id).output(0);
    if (graph_.IsOutput(product) || !FindAddedConstant(id, input).ok()) return false;
    const Value& constant = graph_.value(graph_.node(id).input(static_cast<size_t>(input)));
    const int64_t channels = graph_.value(product).dims.back();
    return constant.is_constant() && constant.dtype == DType::kFloat32 && !constant.dims.empty() &&
           constant.dims.back() == channels;
  }

  // MatMul -> y      becomes      MatMul -> Add(constant) -> y
  Status AppendBias(NodeId id, const std::vector<float>& values) {
    const std::string name = graph_.node(id).name + "/bias";
    if (node_of_.count(name) > 0) return InvalidArgument("the model has a node " + Quote(name));
    const ValueId result = graph_.node(id).output(0);
    const ValueId product =
        graph_.AddValue(graph_.value(result).name + "/product", DType::kFloat32, graph_.value(result).dims);
    graph_.node(id).outputs[0] = product;
    graph_.value(product).producer = id;
    const auto channels = static_cast<int64_t>(values.size());
    const ValueId bias = graph_.AddConstant(name, Tensor::FromVector<float>({channels}, values));
    node_of_.emplace(name, graph_.AddNode(name, "", "Add", {product, bias}, {result}));
    return {};
  }

  // MatMul -> Add(constant): the Add and which of its inputs is the constant.
  Status FindAddedConstant(NodeId& id, int& input) const {
    const ValueId product = graph_.node(id).output(0);
    const std::vector<NodeId> readers = graph_.Uses()[static_cast<size_t>(product)];
    if (readers.size() != 1 || !graph_.node(readers[0]).Is("Add")) return InvalidArgument("it has no bias");
    const Node& add = graph_.node(readers[0]);
    id = readers[0];
    input = add.input(0) == product ? 1 : 0;
    return {};
  }

  Graph graph_;
  std::map<std::string, NodeId, std::less<>> node_of_;
  std::map<std::pair<NodeId, int>, bool> owned_;
};

}  // namespace

Result<Graph> RewriteByRecipe(const Graph& prepared, const Recipe& recipe) {
  if (!recipe.fingerprint.empty() && recipe.fingerprint != ModelFingerprint(prepared)) {
    return InvalidArgument(
        "the recipe is of another model (or of other input sizes); remove its \"fingerprint\" to apply it all the "
        "same");
  }
  if (recipe.rewrites_nothing() && recipe.biases.empty()) return prepared;
  return Rewrite(prepared).Run(recipe);
}

Result<Graph> RewriteWithoutBiases(const Graph& prepared, const Recipe& recipe) {
  Recipe rewrites;
  rewrites.fingerprint = recipe.fingerprint;
  static_cast<ExactRewrites&>(rewrites) = recipe;
  return RewriteByRecipe(prepared, rewrites);
}

}  // namespace octavo
