#include "graph/shape_inference.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "base/quote.h"
#include "graph/op_table.h"
#include "graph/quantization.h"
#include "kernels/kernel.h"

namespace octavo {
namespace {

// What a symbolic dimension ("batch_size") was first bound to, and by which input.
struct Binding {
  int64_t size;
  const std::string* input;
};

class ShapeBinder {
 public:
  ShapeBinder(Graph& graph, int64_t fold_limit_bytes)
      : graph_(graph), opset_(graph.opset()), fold_limit_bytes_(fold_limit_bytes) {}

  Status BindInputs(const std::map<std::string, Dims>& input_dims) {
    size_t used = 0;
    for (const ValueId id : graph_.inputs) {
      Value& input = graph_.value(id);
      const auto given = input_dims.find(input.name);
      used += given != input_dims.end() ? 1 : 0;
      OCTAVO_RETURN_IF_ERROR(BindInput(input, given != input_dims.end() ? &given->second : nullptr));
    }
    if (used == input_dims.size()) return {};
    for (const auto& [name, dims] : input_dims) {
      const ValueId id = graph_.Find(name);
      if (id == kNoValue || !graph_.IsInput(id)) return NotFound("the model has no input " + Quote(name));
    }
    return {};
  }

  Status BindNodes() {
    bool folded = false;
    for (Node& node : graph_.nodes) {
      if (node.removed) continue;
      auto status = BindNode(node);
      if (!status.ok()) {
        if (status.code() == ErrorCode::kUnsupported) FindNeededInputs(node);
        return status.WithPrefix(graph_.Describe(node) + ": ");
      }
      folded |= node.removed;
    }
    for (Value& value : graph_.values) value.dim_params.clear();
    return folded ? graph_.Sort() : Status();
  }

  // After BindNodes has failed for want of values: the graph inputs that they are computed from.
  const std::set<std::string>& needed_inputs() const { return needed_inputs_; }

 private:
  void FindNeededInputs(const Node& node) {
    const OpTraits* traits = FindOp(node.domain, node.op);
    if (traits == nullptr) return;
    constexpr size_t kLastBit = 31;
    std::vector<ValueId> wanted;
    std::vector<bool> seen(graph_.values.size());
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if ((traits->value_inputs >> std::min(i, kLastBit) & 1) != 0) wanted.push_back(node.inputs[i]);
    }
    while (!wanted.empty()) {
      const ValueId id = wanted.back();
      wanted.pop_back();
      if (id == kNoValue || graph_.value(id).is_constant() || seen[static_cast<size_t>(id)]) continue;
      seen[static_cast<size_t>(id)] = true;
      const Value& value = graph_.value(id);
      if (value.producer == kNoNode) {
        needed_inputs_.insert(value.name);
      } else {
        const std::vector<ValueId>& behind = graph_.node(value.producer).inputs;
        wanted.insert(wanted.end(), behind.begin(), behind.end());
      }
    }
  }

  Status BindInput(Value& input, const Dims* given) {
    if (input.dtype == DType::kUndefined) return InvalidArgument("input " + Quote(input.name) + " has no element type");
    if (given == nullptr) {
      if (!input.has_static_shape()) {
        return InvalidArgument("input " + Quote(input.name) + " has no fixed shape (" +
                               (input.shape_known ? ToString(input.dims) : "of unknown rank") +
                               "): give its dimensions");
      }
      given = &input.dims;
    }
    const auto count = CheckedElementCount(*given);
    if (!count.ok()) return count.status().WithPrefix("input " + Quote(input.name) + ": ");
    OCTAVO_RETURN_IF_ERROR(CheckDeclared(input, *given));
    OCTAVO_RETURN_IF_ERROR(BindSymbols(input, *given));
    if (given != &input.dims) input.dims = *given;
    input.shape_known = true;
    return {};
  }

  static Status CheckDeclared(const Value& input, const Dims& given) {
    if (!input.shape_known) return {};
    bool fits = given.size() == input.dims.size();
    for (size_t d = 0; fits && d < given.size(); ++d) fits = input.dims[d] < 0 || input.dims[d] == given[d];
    if (fits) return {};
    return InvalidArgument("input " + Quote(input.name) + " takes " + ToString(input.dims) + ", not " +
                           ToString(given));
  }

  Status BindSymbols(const Value& input, const Dims& given) {
    for (size_t d = 0; d < std::min(given.size(), input.dim_params.size()); ++d) {
      if (input.dim_params[d].empty()) continue;
      const auto [bound, is_new] = symbols_.try_emplace(input.dim_params[d], Binding{given[d], &input.name});
      if (is_new || bound->second.size == given[d]) continue;
      return InvalidArgument("dimension " + Quote(bound->first) + " is " + std::to_string(bound->second.size) +
                             " for input " + Quote(*bound->second.input) + " but " + std::to_string(given[d]) +
                             " for input " + Quote(input.name));
    }
    return {};
  }

  Status BindNode(Node& node) {
    OCTAVO_RETURN_IF_ERROR(CollectInputs(node));
    OCTAVO_ASSIGN(const std::vector<InferOutput> outputs, InferNode(node, opset_, inputs_));
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      Value& value = graph_.value(node.outputs[i]);
      if (value.dtype != DType::kUndefined && value.dtype != outputs[i].dtype && graph_.IsOutput(node.outputs[i])) {
        return InvalidArgument("it makes the graph output " + Quote(value.name) + " as " +
                               std::string(NameOf(outputs[i].dtype)) + ", which is declared as " +
                               std::string(NameOf(value.dtype)));
      }
      value.dtype = outputs[i].dtype;
      value.dims = outputs[i].dims;
      value.shape_known = true;
    }
    // Nobody can read what it makes.
    node.removed = std::all_of(node.outputs.begin(), node.outputs.end(), [](ValueId id) { return id == kNoValue; });
    return node.removed ? Status() : Fold(node);
  }

  Status CollectInputs(const Node& node) {
    inputs_.clear();
    all_constant_ = true;
    for (const ValueId id : node.inputs) {
      InferInput& input = inputs_.emplace_back();
      if (id == kNoValue) continue;
      const Value& value = graph_.value(id);
      if (!value.has_static_shape() || value.dtype == DType::kUndefined) {
        return InternalError("its input " + Quote(value.name) + " has no shape yet");
      }
      input.present = true;
      input.dtype = value.dtype;
      input.dims = value.dims;
      input.constant = value.is_constant() ? &value.constant : nullptr;
      all_constant_ &= value.is_constant();
    }
    return {};
  }

  Status Fold(Node& node) {
    if (node.Is("Shape") || node.Is("Size")) return FoldShape(node);
    if (!all_constant_ || node.inputs.empty() || OutputBytes(node) > fold_limit_bytes_) return {};
    if (FindGenericKernel(node.domain, node.op) == nullptr || KeepsWeightsNarrow(node)) return {};
    std::vector<Tensor> values;
    for (const ValueId id : node.inputs) values.push_back(id == kNoValue ? Tensor() : graph_.value(id).constant);
    auto folded = EvaluateNode(node, opset_, values);
    if (!folded.ok()) return folded.status().code() == ErrorCode::kUnsupported ? Status() : folded.status();
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] != kNoValue) OCTAVO_RETURN_IF_ERROR(MakeConstant(node.outputs[i], std::move((*folded)[i])));
    }
    node.removed = true;
    return {};
  }

  bool KeepsWeightsNarrow(const Node& node) {
    if (!IsDequantize(node)) return false;
    if (uses_.empty()) uses_ = graph_.Uses();
    return IsWeightDequantize(graph_, node, uses_);
  }

  // Shape and Size read no values: they are known as soon as their input's shape is.
  Status FoldShape(Node& node) {
    const Dims& dims = inputs_[0].dims;
    const Value& output = graph_.value(node.output(0));
    Tensor value;
    if (node.op == "Size") {
      value = Tensor::Scalar<int64_t>(ElementCount(dims));
    } else {
      const auto rank = static_cast<int64_t>(dims.size());
      const int64_t start = node.Int("start", 0);
      const auto first = dims.begin() + std::clamp<int64_t>(start < 0 ? start + rank : start, 0, rank);
      value = Tensor::FromVector<int64_t>(output.dims, {first, first + std::min(output.dims[0], dims.end() - first)});
    }
    OCTAVO_RETURN_IF_ERROR(MakeConstant(node.output(0), std::move(value)));
    node.removed = true;
    return {};
  }

  int64_t OutputBytes(const Node& node) const {
    // At most 2^40 elements of 8 bytes each; outputs are as many as the file lists.
    int64_t bytes = 0;
    for (const ValueId id : node.outputs) {
      if (id == kNoValue || bytes > fold_limit_bytes_) continue;
      bytes += ElementCount(graph_.value(id).dims) * static_cast<int64_t>(SizeOf(graph_.value(id).dtype));
    }
    return bytes;
  }

  Status MakeConstant(ValueId id, Tensor tensor) {
    Value& value = graph_.value(id);
    if (tensor.dtype() != value.dtype || tensor.dims() != value.dims) {
      return InternalError("folding made " + ToString(tensor.dims()) + " " + std::string(NameOf(tensor.dtype())) +
                           " where inference says " + ToString(value.dims) + " " + std::string(NameOf(value.dtype)));
    }
    value.constant = std::move(tensor);
    value.producer = kNoNode;
    return {};
  }

  Graph& graph_;
  const int64_t opset_;
  const int64_t fold_limit_bytes_;
  std::map<std::string, Binding, std::less<>> symbols_;
  std::vector<InferInput> inputs_;  // of the node at hand
  bool all_constant_ = true;
  std::vector<std::vector<NodeId>> uses_;  // made when first asked for
  std::set<std::string> needed_inputs_;
};

constexpr int64_t kFoldLimitBytes = int64_t{256} << 20;

Status Bind(ShapeBinder& binder, const Graph& graph, const std::map<std::string, Dims>& input_dims) {
  auto status = binder.BindInputs(input_dims);
  if (status.ok()) status = binder.BindNodes();
  return graph.source.empty() ? status : status.WithPrefix(graph.source + ": ");
}

// The inputs named in `by_value`, of declared shapes, as constants with a copy of their values.
Status FixInputs(Graph& graph, const std::map<std::string, Tensor>& inputs, const std::set<std::string>& by_value) {
  for (const std::string& name : by_value) {
    Value& value = graph.value(graph.Find(name));
    OCTAVO_ASSIGN(value.constant, inputs.at(name).Clone());
  }
  std::erase_if(graph.inputs, [&](ValueId id) { return graph.value(id).is_constant(); });
  return {};
}

}  // namespace

Status BindShapes(Graph& graph, const std::map<std::string, Dims>& input_dims, int64_t fold_limit_bytes) {
  ShapeBinder binder(graph, fold_limit_bytes);
  return Bind(binder, graph, input_dims);
}

Status BindShapesByValue(Graph& graph, const std::map<std::string, Tensor>& inputs, std::set<std::string>& by_value) {
  std::map<std::string, Dims> dims;
  for (const auto& [name, tensor] : inputs) dims[name] = tensor.dims();
  while (true) {
    Graph bound = graph;
    ShapeBinder binder(bound, kFoldLimitBytes);
    // All inputs' shapes are checked, those of constants too, before any of them leaves.
    Status status = binder.BindInputs(dims);
    if (status.ok()) status = FixInputs(bound, inputs, by_value);
    if (status.ok()) status = binder.BindNodes();
    if (status.ok()) {
      graph = std::move(bound);
      return {};
    }
    const size_t known = by_value.size();
    by_value.insert(binder.needed_inputs().begin(), binder.needed_inputs().end());
    if (by_value.size() > known) continue;
    return graph.source.empty() ? status : status.WithPrefix(graph.source + ": ");
  }
}

}  // namespace octavo
