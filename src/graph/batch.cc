#include "octavo/batch.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "base/quote.h"
#include "graph/op_table.h"
#include "graph/shape_inference.h"

namespace octavo {
namespace {

constexpr int kNotBatched = -1;

// Product of the dimensions outside `axis`.
int64_t Outside(const Dims& dims, int axis) {
  int64_t product = 1;
  for (int d = 0; d < axis; ++d) product *= dims[static_cast<size_t>(d)];
  return product;
}

// Walks a graph that is bound to one sample and makes every shape that of `batch`.
class Batcher {
 public:
  Batcher(Graph& graph, int64_t batch) : graph_(graph), batch_(batch), axes_(graph.values.size(), kNotBatched) {}

  Status Run() {
    for (const ValueId id : graph_.inputs) {
      graph_.value(id).dims[0] *= batch_;
      axes_[static_cast<size_t>(id)] = 0;
    }
    // Making a constant may move the nodes' values, not the nodes.
    for (Node& node : graph_.nodes) {
      if (!node.removed) OCTAVO_RETURN_IF_ERROR(Widen(node).WithPrefix(graph_.Describe(node) + ": "));
    }
    for (const ValueId id : graph_.outputs) {
      if (AxisOf(id) == 0) continue;
      const Value& value = graph_.value(id);
      return Unsupported("output " + Quote(value.name) + " is " + ToString(value.dims) + " for a batch of " +
                         std::to_string(batch_) + ": the samples do not lie along its first dimension");
    }
    return {};
  }

 private:
  int AxisOf(ValueId id) const {
    return id == kNoValue || static_cast<size_t>(id) >= axes_.size() ? kNotBatched : axes_[static_cast<size_t>(id)];
  }

  Status Widen(Node& node) {
    const bool batched =
        std::any_of(node.inputs.begin(), node.inputs.end(), [this](ValueId id) { return AxisOf(id) != kNotBatched; });
    if (!batched) return {};
    OCTAVO_RETURN_IF_ERROR(WidenShape(node));
    std::vector<InferInput> inputs;
    for (const ValueId id : node.inputs) {
      InferInput& input = inputs.emplace_back();
      if (id == kNoValue) continue;
      const Value& value = graph_.value(id);
      input = {true, value.dtype, value.dims, value.is_constant() ? &value.constant : nullptr};
    }
    OCTAVO_ASSIGN(const std::vector<InferOutput> outputs, InferNode(node, graph_.opset(), inputs));
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      Value& value = graph_.value(node.outputs[i]);
      OCTAVO_ASSIGN(const int axis, GrownAxis(value.dims, outputs[i].dims));
      axes_[static_cast<size_t>(node.outputs[i])] = axis;
      value.dims = outputs[i].dims;
    }
    return {};
  }

  Result<int> GrownAxis(const Dims& one, const Dims& many) const {
    std::optional<int> axis;
    bool fits = one.size() == many.size();
    for (size_t d = 0; fits && d < one.size(); ++d) {
      if (one[d] == many[d]) continue;
      fits = !axis && many[d] == one[d] * batch_;
      axis = static_cast<int>(d);
    }
    if (fits && axis) return *axis;
    return Unsupported("its result is " + ToString(one) + " for one sample and " + ToString(many) + " for " +
                       std::to_string(batch_) + ": the number of samples is fixed here, or they are mixed");
  }

  Status WidenShape(Node& node) {
    if (!node.domain.empty()) return {};
    if (node.op == "Reshape") return WidenReshape(node);
    if (node.op == "Expand") return WidenLast(node, 1);
    if (node.op == "Resize" && node.has_input(3)) return WidenLast(node, 3);
    if (node.op == "Concat") return RepeatConstants(node);
    return {};
  }

  // What is joined to every sample, a class token say, is needed as often as there are samples.
  Status RepeatConstants(Node& node) {
    int axis = kNotBatched;
    for (const ValueId id : node.inputs) axis = std::max(axis, AxisOf(id));
    for (ValueId& id : node.inputs) {
      const Value& value = graph_.value(id);
      if (AxisOf(id) != kNotBatched || !value.is_constant() || value.dims[static_cast<size_t>(axis)] != 1) continue;
      OCTAVO_ASSIGN(Tensor repeated, Repeat(value.constant, axis));
      id = graph_.AddConstant(value.name + "/batch", std::move(repeated));
    }
    return {};
  }

  // `tensor`, of which `axis` is 1, `batch` times along it.
  Result<Tensor> Repeat(const Tensor& tensor, int axis) const {
    Dims dims = tensor.dims();
    dims[static_cast<size_t>(axis)] = batch_;
    OCTAVO_ASSIGN(Tensor repeated, Tensor::Create(tensor.dtype(), dims));
    const auto outside = static_cast<size_t>(Outside(dims, axis));
    if (tensor.bytes() == 0) return repeated;
    const size_t bytes = tensor.bytes() / outside;
    const auto* from = static_cast<const char*>(tensor.data());
    auto* to = static_cast<char*>(repeated.mutable_data());
    for (size_t o = 0; o < outside; ++o, from += bytes) {
      for (int64_t i = 0; i < batch_; ++i, to += bytes) std::memcpy(to, from, bytes);
    }
    return repeated;
  }

  // Elements keep their order, so samples stay apart where as much lies outside them as before.
  Status WidenReshape(Node& node) {
    const int from = AxisOf(node.input(0));
    const Value& output = graph_.value(node.output(0));
    if (from == kNotBatched) return {};
    const int64_t outside = Outside(graph_.value(node.input(0)).dims, from);
    Dims dims = output.dims;
    for (int d = 0; d < static_cast<int>(dims.size()); ++d) {
      if (Outside(dims, d) != outside) continue;
      dims[static_cast<size_t>(d)] *= batch_;
      return SetShape(node, 1, dims);
    }
    return Unsupported("its shape " + ToString(dims) + " puts the samples of a batch out of order");
  }

  // The shape of the result is a constant; samples lie where they lay in the input, counted from the end.
  Status WidenLast(Node& node, size_t shape_input) {
    const int from = AxisOf(node.input(0));
    if (from == kNotBatched) return Unsupported("its shape depends on the batch");
    Dims dims = graph_.value(node.output(0)).dims;
    const size_t behind = graph_.value(node.input(0)).dims.size() - static_cast<size_t>(from);
    dims[dims.size() - behind] *= batch_;
    return SetShape(node, shape_input, dims);
  }

  Status SetShape(Node& node, size_t input, const Dims& dims) {
    if (!graph_.value(node.input(input)).is_constant()) return Unsupported("its shape is computed");
    const auto rank = static_cast<int64_t>(dims.size());
    const ValueId shape =
        graph_.AddConstant(graph_.value(node.input(input)).name + "/batch", Tensor::FromVector<int64_t>({rank}, dims));
    node.inputs[input] = shape;
    node.attributes.erase("allowzero");
    return {};
  }

  Graph& graph_;
  const int64_t batch_;
  std::vector<int> axes_;  // by value: along which dimension the samples lie
};

}  // namespace

Result<Graph> WithBatch(const Graph& graph, const std::map<std::string, Dims>& single, int64_t batch) {
  if (batch < 1) return InvalidArgument("a batch of " + std::to_string(batch));
  for (const auto& [name, dims] : single) {
    if (!dims.empty() && dims[0] == 1) continue;
    return Unsupported("input " + Quote(name) + " is " + ToString(dims) + ": a batch needs a first dimension of 1");
  }
  Graph batched = graph;
  OCTAVO_RETURN_IF_ERROR(BindShapes(batched, single));
  if (batch > 1) {
    const Status status = Batcher(batched, batch).Run();
    if (!status.ok()) {
      return status.WithPrefix(graph.source.empty() ? "batch: " : graph.source + ": batch: ");
    }
  }
  return batched;
}

}  // namespace octavo
