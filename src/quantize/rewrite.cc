// The part of a recipe that changes the float graph:
//   x -> consumer               x -> Mul(factors) -> consumer         migrations
//   w -> node              ->   w * factors -> node                   rescales
//   b -> node                   b + values -> node                    biases
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "base/quote.h"
#include "graph/quantization.h"
#include "octavo/quantize.h"

namespace octavo {
namespace {

Status CheckFactors(const Dims& dims, const std::vector<float>& factors) {
  OCTAVO_ASSIGN(const int64_t count, CheckedElementCount(dims));
  if (count != static_cast<int64_t>(factors.size())) {
    return InvalidArgument(fmt::format("{} factors for dims {}", factors.size(), ToString(dims)));
  }
  for (const float factor : factors) {
    if (!IsUsableScale(factor)) return InvalidArgument(fmt::format("the factor {} is not positive and normal", factor));
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
    for (const MigrationRecipe& entry : recipe.migrations) {
      const Status status = Migrate(entry);
      if (!status.ok()) return status.WithPrefix("recipe, migration of " + Quote(entry.tensor) + ": ");
    }
    for (const RescaleRecipe& entry : recipe.rescales) {
      const Status status = Rescale(entry);
      if (!status.ok()) return status.WithPrefix("recipe, rescaling at node " + Quote(entry.node) + ": ");
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

  Status Migrate(const MigrationRecipe& entry) {
    const ValueId tensor = graph_.Find(entry.tensor);
    if (tensor == kNoValue) return NotFound("the model has no such tensor");
    const Dims dims = graph_.value(tensor).dims;
    if (graph_.value(tensor).dtype != DType::kFloat32 || graph_.value(tensor).is_constant()) {
      return InvalidArgument("it is no float32 activation");
    }
    OCTAVO_RETURN_IF_ERROR(CheckFactors(entry.dims, entry.factors));
    if (!BroadcastsTo(entry.dims, dims)) {
      return InvalidArgument(fmt::format("factors of dims {} for {}", ToString(entry.dims), ToString(dims)));
    }
    const std::string name = entry.tensor + "/migrated";
    const ValueId factors = graph_.AddConstant(name + "/factors", Tensor::FromVector<float>(entry.dims, entry.factors));
    const ValueId migrated = graph_.AddValue(name, DType::kFloat32, dims);
    const std::string mul = graph_.value(migrated).name;
    if (node_of_.count(mul) > 0) return InvalidArgument("the model has a node " + Quote(mul));
    for (const std::string& consumer : entry.consumers) {
      OCTAVO_ASSIGN(const NodeId id, FindNode(consumer));
      std::vector<ValueId>& inputs = graph_.node(id).inputs;
      if (std::find(inputs.begin(), inputs.end(), tensor) == inputs.end()) {
        return InvalidArgument("node " + Quote(consumer) + " does not read it");
      }
      std::replace(inputs.begin(), inputs.end(), tensor, migrated);
    }
    node_of_.emplace(mul, graph_.AddNode(mul, "", "Mul", {tensor, factors}, {migrated}));
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
    OCTAVO_RETURN_IF_ERROR(CheckFactors(entry.dims, entry.factors));
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
    if (node.Is("MatMul")) {
      OCTAVO_RETURN_IF_ERROR(FindAddedConstant(id, input));
    } else if (!node.has_input(2)) {
      const Tensor zeros = Tensor::FromVector<float>({channels}, std::vector<float>(entry.values.size(), 0.0f));
      const ValueId bias = graph_.AddConstant(entry.node + "/bias", zeros);
      graph_.node(id).inputs.resize(3, kNoValue);
      graph_.node(id).inputs[2] = bias;
    }
    OCTAVO_ASSIGN(const ValueId bias, OwnConstant(id, input));
    const Tensor constant = graph_.value(bias).constant;
    const Dims dims = {channels};
    const auto both = BroadcastDims(constant.dims(), dims);
    if (!both || *both != constant.dims()) return InvalidArgument("its bias has other channels");
    OCTAVO_ASSIGN(Tensor sum, Combine(*both, constant, dims, entry.values, [](float a, float b) { return a + b; }));
    SetConstant(bias, std::move(sum));
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
  if (recipe.migrations.empty() && recipe.rescales.empty() && recipe.biases.empty()) return prepared;
  return Rewrite(prepared).Run(recipe);
}

}  // namespace octavo
