// Recipe -> Q/DQ:
//   x ----------------> Conv          x -> QuantizeLinear -> DequantizeLinear -> Conv
//   w (float) --------/          ->   w (int8) -----------> DequantizeLinear --/
// One Q and one DQ per entry of the recipe, shared by its consumers; other readers of x keep reading x. A float node of
// 16 bits:
//   x ----------------> Conv          x -> Cast(bfloat16) -> Cast(float32) -> Conv
//   w (float32) --------/          ->   w (bfloat16) ------> Cast(float32) --/
// One pair per tensor and type, shared by the nodes that want it. A quantized result has one pair for all its readers,
// which other entries of the tensor share. For a strongly typed target half_islands.h has what
// float16 becomes.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <tuple>

#include "base/quote.h"
#include "graph/op_table.h"
#include "graph/quantization.h"
#include "graph/rounding.h"
#include "octavo/quantize.h"
#include "octavo/targets.h"
#include "octavo/version.h"
#include "quantize/biases_apart.h"
#include "quantize/half_islands.h"
#include "quantize/opset.h"
#include "quantize/recipe_hash.h"
#include "quantize/scales.h"

namespace octavo {
namespace {

class RecipeApplier {
 public:
  RecipeApplier(Graph graph, const Recipe& recipe) : graph_(std::move(graph)), recipe_(recipe) {}

  Result<Graph> Run() {
    OCTAVO_RETURN_IF_ERROR(RaiseOpset(graph_));
    original_count_ = graph_.nodes.size();
    uses_ = graph_.Uses();
    for (size_t n = 0; n < original_count_; ++n) node_of_.emplace(graph_.nodes[n].name, static_cast<NodeId>(n));
    for (const bool results : {true, false}) {
      for (const ActivationRecipe& entry : recipe_.activations) {
        if (entry.result_of.empty() == results) continue;
        const Status status = ApplyActivation(entry);
        if (!status.ok()) return status.WithPrefix("recipe, tensor " + Quote(entry.tensor) + ": ");
      }
    }
    for (const WeightRecipe& entry : recipe_.weights) {
      const Status status = ApplyWeight(entry);
      if (!status.ok()) return status.WithPrefix("recipe, weight of node " + Quote(entry.node) + ": ");
    }
    const auto target = FindTarget(recipe_.target);
    makes_islands_ = target.ok() && (*target)->half_islands;
    if (target.ok() && (*target)->biases_apart) OCTAVO_RETURN_IF_ERROR(MoveBiasesApart(graph_));
    for (const FloatRecipe& entry : recipe_.float_nodes) {
      const Status status = ApplyFloat(entry);
      if (!status.ok()) return status.WithPrefix("recipe, float node " + Quote(entry.node) + ": ");
    }
    const Status made = MakeHalfIslands(graph_, half_nodes_);
    if (!made.ok()) return made.WithPrefix("recipe, float16: ");
    PlaceNewNodes();
    OCTAVO_RETURN_IF_ERROR(graph_.Sort());
    graph_.CompactValues();  // float weights that nobody reads any more go
    WriteMetadata();
    OCTAVO_RETURN_IF_ERROR(Verify(graph_));
    return std::move(graph_);
  }

 private:
  Result<NodeId> FindNode(const std::string& name) const {
    const auto found = node_of_.find(name);
    if (found == node_of_.end()) return NotFound("the model has no node " + Quote(name));
    return found->second;
  }

  Status ApplyActivation(const ActivationRecipe& entry) {
    const ValueId tensor = graph_.Find(entry.tensor);
    if (tensor == kNoValue) return NotFound("the model has no such tensor");
    const Value& value = graph_.value(tensor);
    if (value.dtype != DType::kFloat32) return InvalidArgument("it is not float32");
    if (value.is_constant()) return InvalidArgument("it is constant: constants belong under \"weights\"");
    OCTAVO_RETURN_IF_ERROR(CheckActivation(entry));
    OCTAVO_ASSIGN(const std::vector<NodeId> consumers, ConsumersOf(entry, tensor));
    if (!entry.result_of.empty()) return ApplyResult(entry, tensor, consumers);
    const auto result = results_.find(tensor);
    if (result != results_.end()) OCTAVO_RETURN_IF_ERROR(CheckEqual(entry, *result->second));
    const ValueId dequantized = result != results_.end() ? kNoValue : AddPair(entry, tensor);
    for (const NodeId consumer : consumers) {
      if (!claimed_.emplace(tensor, consumer).second) {
        return InvalidArgument("node " + Quote(graph_.node(consumer).name) + " reads it quantized twice");
      }
      if (dequantized != kNoValue) Redirect(consumer, tensor, dequantized);
    }
    return {};
  }

  Status ApplyResult(const ActivationRecipe& entry, ValueId tensor, const std::vector<NodeId>& readers) {
    OCTAVO_RETURN_IF_ERROR(FindNode(entry.result_of).status());
    if (!results_.emplace(tensor, &entry).second) return InvalidArgument("it is a quantized result twice");
    const ValueId dequantized = AddPair(entry, tensor);
    dequantized_results_.insert(dequantized);
    for (const NodeId reader : readers) Redirect(reader, tensor, dequantized);
    return {};
  }

  static Status CheckEqual(const ActivationRecipe& entry, const ActivationRecipe& result) {
    const bool equal =
        entry.dtype == result.dtype && entry.scale == result.scale && entry.zero_point == result.zero_point;
    return equal ? Status() : InvalidArgument("it has one scale as a result, another one as an operand");
  }

  static Status CheckActivation(const ActivationRecipe& entry) {
    if (entry.dtype != DType::kInt8 && entry.dtype != DType::kUInt8)
      return InvalidArgument("dtype must be int8 or uint8");
    if (!IsUsableScale(entry.scale)) {
      return InvalidArgument(fmt::format("the scale {} is not a positive normal number", entry.scale));
    }
    const int low = LowestByte(entry.dtype);
    if (entry.zero_point >= low && entry.zero_point <= low + 255) return {};
    return InvalidArgument(fmt::format("the zero point {} lies outside of {}", entry.zero_point, NameOf(entry.dtype)));
  }

  Result<std::vector<NodeId>> ConsumersOf(const ActivationRecipe& entry, ValueId tensor) const {
    std::vector<NodeId> consumers;
    const auto add = [&](NodeId id) {
      if (std::find(consumers.begin(), consumers.end(), id) == consumers.end()) consumers.push_back(id);
    };
    const std::vector<NodeId>& readers = uses_[static_cast<size_t>(tensor)];
    if (entry.consumers.empty()) std::for_each(readers.begin(), readers.end(), add);
    for (const std::string& name : entry.consumers) {
      OCTAVO_ASSIGN(const NodeId id, FindNode(name));
      if (std::find(readers.begin(), readers.end(), id) == readers.end()) {
        return InvalidArgument("node " + Quote(name) + " does not read it");
      }
      add(id);
    }
    if (consumers.empty()) return InvalidArgument("no node reads it");
    return consumers;
  }

  ValueId AddScale(const std::string& name, std::vector<float> scales, bool per_tensor) {
    if (per_tensor) return graph_.AddConstant(name + "/scale", Tensor::Scalar<float>(scales[0]));
    const auto count = static_cast<int64_t>(scales.size());
    return graph_.AddConstant(name + "/scale", Tensor::FromVector<float>({count}, scales));
  }

  ValueId AddPair(const ActivationRecipe& entry, ValueId tensor) {
    const Dims dims = graph_.value(tensor).dims;
    const std::string& name = entry.tensor;
    const ValueId scale = AddScale(name, {entry.scale}, true);
    const Tensor zero = entry.dtype == DType::kInt8 ? Tensor::Scalar<int8_t>(static_cast<int8_t>(entry.zero_point))
                                                    : Tensor::Scalar<uint8_t>(static_cast<uint8_t>(entry.zero_point));
    const ValueId zero_point = graph_.AddConstant(name + "/zero_point", zero);
    const ValueId quantized = graph_.AddValue(name + "/quantized", entry.dtype, dims);
    const ValueId dequantized = graph_.AddValue(name + "/dequantized", DType::kFloat32, dims);
    graph_.AddNode(FreshName(name + "/QuantizeLinear"), "", "QuantizeLinear", {tensor, scale, zero_point}, {quantized});
    graph_.AddNode(FreshName(name + "/DequantizeLinear"), "", "DequantizeLinear", {quantized, scale, zero_point},
                   {dequantized});
    return dequantized;
  }

  std::string FreshName(const std::string& wanted) {
    std::string name = wanted;
    for (int i = 2; node_of_.count(name) > 0 || !new_names_.insert(name).second; ++i)
      name = fmt::format("{}_{}", wanted, i);
    return name;
  }

  // A contraction reads its multiplicands quantized; a bias stays float even if it is the same tensor.
  void Redirect(NodeId id, ValueId from, ValueId to) {
    Node& node = graph_.node(id);
    const OpTraits* traits = FindOp(node.domain, node.op);
    const uint32_t operands = traits != nullptr ? traits->quantizable_inputs : 0;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const bool is_operand = operands == 0 || (i < 32 && (operands >> i & 1) != 0);
      if (node.inputs[i] == from && is_operand) node.inputs[i] = to;
    }
  }

  Status ApplyWeight(const WeightRecipe& entry) {
    OCTAVO_ASSIGN(const NodeId id, FindNode(entry.node));
    const ValueId weight = entry.input < 0 ? kNoValue : graph_.node(id).input(static_cast<size_t>(entry.input));
    if (weight == kNoValue) return InvalidArgument(fmt::format("it has no input {}", entry.input));
    const Value& value = graph_.value(weight);
    if (!value.is_constant() || value.dtype != DType::kFloat32) {
      return InvalidArgument(fmt::format("input {} is no float32 constant, or listed twice", entry.input));
    }
    if (entry.axis < -1 || entry.axis >= value.constant.rank()) {
      return InvalidArgument(fmt::format("axis {} of a constant of rank {}", entry.axis, value.constant.rank()));
    }
    for (const float scale : entry.scales) {
      if (!IsUsableScale(scale))
        return InvalidArgument(fmt::format("the scale {} is not a positive normal number", scale));
    }
    const auto allowed = [](int8_t offset) { return std::abs(int{offset}) <= kMaxRoundingOffset; };
    if (!std::all_of(entry.offsets.begin(), entry.offsets.end(), allowed)) {
      return InvalidArgument(fmt::format("an offset lies outside of -{0} to {0}", kMaxRoundingOffset));
    }
    // Nodes that share a constant, its scales and its offsets share the int8 copy.
    const auto key = std::make_tuple(weight, entry.axis, entry.scales, entry.offsets);
    auto shared = weights_.find(key);
    if (shared == weights_.end()) {
      OCTAVO_ASSIGN(const ValueId dequantized, AddWeight(weight, entry));
      shared = weights_.emplace(key, dequantized).first;
    }
    graph_.node(id).inputs[static_cast<size_t>(entry.input)] = shared->second;
    return {};
  }

  Result<ValueId> AddWeight(ValueId weight, const WeightRecipe& entry) {
    const Tensor constant = graph_.value(weight).constant;
    const std::string name = graph_.value(weight).name;
    OCTAVO_ASSIGN(Tensor quantized, QuantizeWeights(constant, entry.axis, entry.scales, entry.offsets));
    const bool per_tensor = entry.axis < 0;
    const ValueId scale = AddScale(name, entry.scales, per_tensor);
    const auto channels = static_cast<int64_t>(entry.scales.size());
    OCTAVO_ASSIGN(Tensor zeros, Tensor::Zeros(DType::kInt8, per_tensor ? Dims{} : Dims{channels}));
    const ValueId zero_point = graph_.AddConstant(name + "/zero_point", std::move(zeros));
    const ValueId integers = graph_.AddConstant(name + "/quantized", std::move(quantized));
    const ValueId dequantized = graph_.AddValue(name + "/dequantized", DType::kFloat32, constant.dims());
    std::map<std::string, Attribute> attributes;
    if (!per_tensor) attributes["axis"] = int64_t{entry.axis};
    graph_.AddNode(FreshName(name + "/DequantizeLinear"), "", "DequantizeLinear", {integers, scale, zero_point},
                   {dequantized}, std::move(attributes));
    return dequantized;
  }

  Status ApplyFloat(const FloatRecipe& entry) {
    if (entry.precision == DType::kFloat32) return {};
    if (entry.precision != DType::kBFloat16 && entry.precision != DType::kFloat16) {
      return InvalidArgument(fmt::format("its precision is {}, not bf16 or fp16", NameOf(entry.precision)));
    }
    OCTAVO_ASSIGN(const NodeId id, FindNode(entry.node));
    if (!narrowed_.insert(id).second) return InvalidArgument("it is listed twice");
    if (makes_islands_ && entry.precision == DType::kFloat16) {
      OCTAVO_RETURN_IF_ERROR(CheckNotQuantized(id));
      half_nodes_.insert(id);
      return {};
    }
    const OpTraits* traits = FindOp(graph_.node(id).domain, graph_.node(id).op);
    const uint32_t operands = traits != nullptr ? traits->quantizable_inputs : 0;
    if (operands == 0) {
      return InvalidArgument(graph_.node(id).op + " multiplies no matrices: only contractions run in 16 bits");
    }
    for (size_t i = 0; i < graph_.node(id).inputs.size() && i < 32; ++i) {
      if ((operands >> i & 1) == 0) continue;
      OCTAVO_ASSIGN(graph_.node(id).inputs[i], RoundedOperand(graph_.node(id).inputs[i], entry.precision));
    }
    return {};
  }

  Status CheckNotQuantized(NodeId id) const {
    for (const ValueId input : graph_.node(id).inputs) {
      const NodeId producer = input == kNoValue ? kNoNode : graph_.value(input).producer;
      if (producer == kNoNode || static_cast<size_t>(producer) < original_count_) continue;
      if (dequantized_results_.count(input) != 0) continue;  // every reader has those, whatever it computes in
      return InvalidArgument("it reads " + Quote(graph_.value(input).name) + ", quantized: leave one of the two out");
    }
    return {};
  }

  Result<ValueId> RoundedOperand(ValueId operand, DType dtype) {
    const auto key = std::make_pair(operand, dtype);
    if (const auto shared = rounded_.find(key); shared != rounded_.end()) return shared->second;
    const Value& value = graph_.value(operand);
    const bool is_new = value.producer != kNoNode && static_cast<size_t>(value.producer) >= original_count_;
    if (is_new && dequantized_results_.count(operand) == 0) {
      return InvalidArgument("it reads " + Quote(value.name) + ", quantized: leave one of the two out");
    }
    if (value.dtype != DType::kFloat32) return InvalidArgument("its operand " + Quote(value.name) + " is not float32");
    const Dims dims = value.dims;
    const std::string name = fmt::format("{}/{}", value.name, NameOf(dtype));
    OCTAVO_ASSIGN(const ValueId narrow, AddNarrow(operand, name, dtype));
    const ValueId back = AddCast(narrow, graph_.AddValue(name + "/float32", DType::kFloat32, dims));
    rounded_.emplace(key, back);
    return back;
  }

  Result<ValueId> AddNarrow(ValueId operand, const std::string& name, DType dtype) {
    if (!graph_.value(operand).is_constant()) {
      return AddCast(operand, graph_.AddValue(name, dtype, Dims(graph_.value(operand).dims)));
    }
    OCTAVO_ASSIGN(Tensor narrow, NarrowWeights(graph_.value(operand).constant, dtype));
    return graph_.AddConstant(name, std::move(narrow));
  }

  // To the type of `to`, which it returns.
  ValueId AddCast(ValueId from, ValueId to) {
    const Value& value = graph_.value(to);
    const int64_t number = value.dtype == DType::kFloat32   ? kOnnxFloat
                           : value.dtype == DType::kFloat16 ? kOnnxFloat16
                                                            : kOnnxBFloat16;
    graph_.AddNode(FreshName(value.name + "/Cast"), "", "Cast", {from}, {to}, {{"to", number}});
    return to;
  }

  // New nodes stand right before the first node that needs them, so that no value lives longer than it has to.
  void PlaceNewNodes() {
    std::vector<Node> placed;
    placed.reserve(graph_.nodes.size());
    std::vector<bool> done(graph_.nodes.size());
    const auto place_new = [&](ValueId value, const auto& self) -> void {
      const NodeId id = value == kNoValue ? kNoNode : graph_.value(value).producer;
      if (id == kNoNode || static_cast<size_t>(id) < original_count_ || done[static_cast<size_t>(id)]) return;
      done[static_cast<size_t>(id)] = true;
      for (const ValueId input : graph_.node(id).inputs) self(input, self);  // a DQ's Q, and no further
      placed.push_back(std::move(graph_.node(id)));
    };
    for (size_t n = 0; n < original_count_; ++n) {
      if (graph_.nodes[n].removed) continue;
      for (const ValueId input : graph_.nodes[n].inputs) place_new(input, place_new);
      placed.push_back(std::move(graph_.nodes[n]));
    }
    // What only graph outputs need.
    for (size_t n = original_count_; n < graph_.nodes.size(); ++n) {
      if (!done[n]) placed.push_back(std::move(graph_.nodes[n]));
    }
    graph_.nodes = std::move(placed);
  }

  void WriteMetadata() {
    graph_.metadata["octavo.version"] = kVersion;
    graph_.metadata["octavo.target"] = recipe_.target;
    graph_.metadata["octavo.estimator"] = recipe_.estimator;
    graph_.metadata["octavo.recipe"] = RecipeHash(recipe_);
    if (!recipe_.preset.empty()) graph_.metadata["octavo.preset"] = recipe_.preset;
  }

  Graph graph_;
  const Recipe& recipe_;
  size_t original_count_ = 0;
  std::vector<std::vector<NodeId>> uses_;  // of the graph as given
  std::map<std::string, NodeId, std::less<>> node_of_;
  std::set<std::string> new_names_;
  std::set<std::pair<ValueId, NodeId>> claimed_;  // tensor, reader
  std::map<std::tuple<ValueId, int, std::vector<float>, std::vector<int8_t>>, ValueId> weights_;
  std::map<ValueId, const ActivationRecipe*> results_;  // by tensor
  std::set<ValueId> dequantized_results_;
  bool makes_islands_ = false;
  std::set<NodeId> half_nodes_;                           // float16 from operands to result
  std::set<NodeId> narrowed_;                             // float nodes of 16 bits
  std::map<std::pair<ValueId, DType>, ValueId> rounded_;  // a tensor after its pair of Casts
};

}  // namespace

Result<Graph> ApplyRecipe(const Graph& prepared, const Recipe& recipe) {
  OCTAVO_ASSIGN(Graph rewritten, RewriteByRecipe(prepared, recipe));
  return RecipeApplier(std::move(rewritten), recipe).Run();
}

}  // namespace octavo
