// Q/DQ graph -> float graph, scales, precision of each layer:
//   x -> Q -> DQ -> Conv(DQ(w))   becomes   x -> Conv(w)   with  x: scale  and  Conv:int8
//   x -> Cast(fp16) -> Conv(w16) -> Cast(fp32)   becomes   x -> Conv(w)   with  Conv:fp16
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/quote.h"
#include "graph/op_table.h"
#include "graph/quantization.h"
#include "graph/shape_inference.h"
#include "octavo/inspect.h"
#include "octavo/tensorrt.h"
#include "targets/layer_precisions.h"

namespace octavo {
namespace {

// Linux refuses a longer argument (MAX_ARG_STRLEN).
constexpr size_t kLongestArgument = 128 << 10;

bool IsHalf(DType type) { return type == DType::kFloat16 || type == DType::kBFloat16; }

class ImplicitMaker {
 public:
  ImplicitMaker(Graph graph, const TensorRtVersion& version) : graph_(std::move(graph)), version_(version) {}

  Result<ImplicitModel> Run() {
    OCTAVO_RETURN_IF_ERROR(CheckInterface());
    OCTAVO_RETURN_IF_ERROR(ReadParams());
    uses_ = graph_.Uses();
    FindLayers();
    for (NodeId id = 0; id < Count(); ++id) {
      if (graph_.node(id).removed) continue;
      const Status status = RemoveQuantization(id);
      if (!status.ok()) return status.WithPrefix(graph_.Describe(graph_.node(id)) + ": ");
    }
    OCTAVO_RETURN_IF_ERROR(CheckNoIntegersLeft());
    WidenHalves();
    ChooseScales();
    OCTAVO_RETURN_IF_ERROR(graph_.Sort());
    graph_.CompactValues();
    uses_ = graph_.Uses();
    RenameLayers();
    OCTAVO_RETURN_IF_ERROR(WriteLists());
    OCTAVO_RETURN_IF_ERROR(Verify(graph_));
    for (auto entry = graph_.metadata.begin(); entry != graph_.metadata.end();) {
      entry = entry->first.starts_with("octavo.") ? graph_.metadata.erase(entry) : std::next(entry);
    }
    result_.model = std::move(graph_);
    return std::move(result_);
  }

 private:
  NodeId Count() const { return static_cast<NodeId>(graph_.nodes.size()); }

  template <typename... Args>
  void Lose(fmt::format_string<Args...> format, Args&&... args) {
    result_.lost.push_back(fmt::format(format, std::forward<Args>(args)...));
  }

  Status CheckInterface() const {
    for (const auto* list : {&graph_.inputs, &graph_.outputs}) {
      for (const ValueId id : *list) {
        const DType type = graph_.value(id).dtype;
        if (!IsHalf(type) && type != DType::kInt8 && type != DType::kUInt8) continue;
        return Unsupported(
            fmt::format("{} is {}: inputs and outputs have to be float32", Quote(graph_.value(id).name), NameOf(type)));
      }
    }
    const bool quantized = std::any_of(graph_.nodes.begin(), graph_.nodes.end(), [](const Node& node) {
      return !node.removed && (IsQuantize(node) || IsDequantize(node));
    });
    return quantized ? Status() : InvalidArgument("the model has no Q/DQ: there is nothing to make implicit");
  }

  // While integers still have their types.
  Status ReadParams() {
    for (NodeId id = 0; id < Count(); ++id) {
      const Node& node = graph_.node(id);
      if (node.removed || (!IsQuantize(node) && !IsDequantize(node))) continue;
      auto params = QuantizeParamsOf(graph_, node);
      if (!params.ok()) return params.status().WithPrefix(graph_.Describe(node) + ": ");
      params_.emplace(id, *std::move(params));
    }
    return {};
  }

  // ---- what each node computes in ----

  enum class Kind : uint8_t { kFree, kInt8, kHalf, kBrain, kFloat };

  bool IsDequantized(ValueId id) const {
    const NodeId producer = id == kNoValue ? kNoNode : graph_.value(id).producer;
    return producer != kNoNode && IsDequantize(graph_.node(producer));
  }
  // kFloat16 or kBFloat16 where a Cast from that type makes the value.
  DType RoundedType(ValueId id) const {
    const NodeId producer = id == kNoValue ? kNoNode : graph_.value(id).producer;
    if (producer == kNoNode || !graph_.node(producer).Is("Cast")) return DType::kUndefined;
    const DType type = graph_.value(graph_.node(producer).input(0)).dtype;
    return IsHalf(type) ? type : DType::kUndefined;
  }

  Kind KindOf(const Node& node) {
    const OpTraits* traits = FindOp(node.domain, node.op);
    for (const ValueId id : node.outputs) {
      if (id != kNoValue && graph_.value(id).dtype == DType::kFloat16) return Kind::kHalf;
      if (id != kNoValue && graph_.value(id).dtype == DType::kBFloat16) return Kind::kBrain;
    }
    if (traits == nullptr || node.output(0) == kNoValue || graph_.value(node.output(0)).dtype != DType::kFloat32) {
      return Kind::kFree;
    }
    if (traits->quantizable_inputs == 0) return JoinsQuantized(node, *traits) ? Kind::kFree : Kind::kFloat;
    size_t operands = 0, quantized = 0, rounded = 0;
    for (size_t i = 0; i < node.inputs.size() && i < 32; ++i) {
      if ((traits->quantizable_inputs >> i & 1) == 0) continue;
      ++operands;
      quantized += IsDequantized(node.inputs[i]) ? 1 : 0;
      rounded += RoundedType(node.inputs[i]) == DType::kFloat16 ? 1 : 0;
    }
    if (quantized == operands) return Kind::kInt8;
    if (quantized > 0) {
      Lose("{} multiplies quantized by float operands: it is given as fp32", graph_.Describe(node));
    }
    return rounded == operands ? Kind::kHalf : Kind::kFloat;
  }

  // Nodes that the builder may fuse with INT8 neighbours or run on bytes: they get no precision of their own.
  bool JoinsQuantized(const Node& node, const OpTraits& traits) const {
    if (traits.op_class == OpClass::kView && !node.Is("Concat")) return true;
    size_t activations = 0, quantized = 0;
    for (const ValueId id : node.inputs) {
      if (id == kNoValue || graph_.value(id).is_constant() || graph_.value(id).dtype != DType::kFloat32) continue;
      ++activations;
      quantized += IsDequantized(id) ? 1 : 0;
    }
    if (activations == 0 || quantized == activations || (node.Is("Add") && quantized > 0)) return true;
    return (node.Is("Relu") || node.Is("Clip") || node.Is("Add")) && BehindInt8(node);
  }

  bool BehindInt8(const Node& node) const {
    return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) {
      const NodeId producer = id == kNoValue ? kNoNode : graph_.value(id).producer;
      return producer != kNoNode && kind_[static_cast<size_t>(producer)] == Kind::kInt8;
    });
  }

  void FindLayers() {
    kind_.assign(graph_.nodes.size(), Kind::kFree);
    for (NodeId id = 0; id < Count(); ++id) {
      const Node& node = graph_.node(id);
      const bool counts = !node.removed && !IsQuantize(node) && !IsDequantize(node) && !node.Is("Cast");
      if (counts) kind_[static_cast<size_t>(id)] = KindOf(node);
    }
    for (NodeId id = 0; id < Count(); ++id) kind_of_[graph_.node(id).name] = kind_[static_cast<size_t>(id)];
    // Tensors that someone reads as they are, beside quantized readers.
    for (size_t v = 0; v < graph_.values.size(); ++v) {
      const auto id = static_cast<ValueId>(v);
      bool as_floats = graph_.IsOutput(id);
      for (const NodeId reader : uses_[v]) as_floats |= !IsQuantize(graph_.node(reader));
      if (as_floats) read_as_floats_.insert(graph_.values[v].name);
    }
  }

  // ---- Q and DQ ----

  Status RemoveQuantization(NodeId id) {
    if (IsQuantize(graph_.node(id))) return RemoveQuantize(id);
    if (IsDequantize(graph_.node(id))) return RemoveDequantize(id);
    // What stands between Q and DQ works on floats now.
    for (const ValueId output : graph_.node(id).outputs) {
      if (output != kNoValue && integers_.count(graph_.node(id).input(0)) > 0) {
        integers_.insert(output);
        graph_.value(output).dtype = DType::kFloat32;
      }
    }
    return {};
  }

  Status RemoveQuantize(NodeId id) {
    const QuantizeParams& params = params_.at(id);
    const ValueId from = graph_.node(id).input(0), to = graph_.node(id).output(0);
    if (to == kNoValue) return {};
    AddScale(from, params, 0);
    if (graph_.value(from).dtype != DType::kFloat32) return Unsupported("it quantizes other floats than float32");
    integers_.insert(from);
    graph_.RemoveNode(id);
    graph_.ReplaceUses(to, from);
    return {};
  }

  Status RemoveDequantize(NodeId id) {
    const QuantizeParams& params = params_.at(id);
    const ValueId from = graph_.node(id).input(0), to = graph_.node(id).output(0);
    if (to == kNoValue) return {};
    if (graph_.value(from).is_constant()) return Dequantize(id, params);
    if (integers_.count(from) == 0) return Unsupported("it reads integers that no QuantizeLinear makes");
    AddScale(from, params, CountReaders(to));
    Bypass(id, from);
    return {};
  }

  // Readers of the node's output read `from`; a graph output keeps its name.
  void Bypass(NodeId id, ValueId from) {
    const ValueId to = graph_.node(id).output(0);
    if (graph_.IsOutput(to)) {
      Node& node = graph_.node(id);
      node.op = "Identity";
      node.inputs = {from};
      node.attributes.clear();
      return;
    }
    graph_.RemoveNode(id);
    graph_.ReplaceUses(to, from);
  }

  // Without Concats, whose operands TensorRT gives the scale of their result by itself.
  size_t CountReaders(ValueId id) const {
    const std::vector<NodeId>& readers = uses_[static_cast<size_t>(id)];
    return static_cast<size_t>(std::count_if(readers.begin(), readers.end(),
                                             [&](NodeId reader) { return !graph_.node(reader).Is("Concat"); }));
  }

  // Symmetric scale that covers the range of the given one.
  void AddScale(ValueId tensor, const QuantizeParams& params, size_t readers) {
    const std::string& name = graph_.value(tensor).name;
    if (!params.per_tensor()) {
      if (lost_axes_.insert(name).second) Lose("tensor {} has scales per channel: the largest is given", Quote(name));
    }
    float scale = 0;
    bool shifted = false;
    for (size_t c = 0; c < params.scales.size(); ++c) {
      const int low = LowestByte(params.dtype), zero = params.zero_points[c];
      // int8 with zero point 0 is TensorRT's own: 127 scales up, whatever -128 reaches.
      const bool same = params.dtype == DType::kInt8 && zero == 0;
      const int reach = same ? 127 : std::max(zero - low, low + 255 - zero);
      shifted |= !same;
      scale = std::max(scale, same ? params.scales[c] : params.scales[c] * static_cast<float>(reach) / 127);
    }
    if (shifted && lost_zeros_.insert(name).second) {
      Lose("tensor {} is {} with zero point {}: a scale with zero point 0 covers its range", Quote(name),
           NameOf(params.dtype), params.zero_points.front());
    }
    scales_[name][scale] += readers;
  }

  Status Dequantize(NodeId id, const QuantizeParams& params) {
    const Tensor integers = graph_.value(graph_.node(id).input(0)).constant;
    OCTAVO_ASSIGN(const std::vector<float> values, ToFloats(integers));
    OCTAVO_ASSIGN(Tensor floats, Tensor::Create(DType::kFloat32, integers.dims()));
    const auto out = floats.mutable_values<float>();
    const size_t channels = params.scales.size();
    size_t inner = 1;
    for (size_t d = static_cast<size_t>(params.axis) + 1; channels > 1 && d < integers.dims().size(); ++d) {
      inner *= static_cast<size_t>(integers.dims()[d]);
    }
    std::vector<float> largest(channels);
    for (size_t i = 0; i < values.size(); ++i) {
      const size_t c = channels > 1 ? i / inner % channels : 0;
      const float q = values[i] - static_cast<float>(params.zero_points[c]);
      largest[c] = std::max(largest[c], std::abs(q));
      out[i] = q * params.scales[c];
    }
    if (integers.dtype() != DType::kInt32) ReportWeights(id, params, largest);
    const ValueId to = graph_.node(id).output(0);
    const ValueId weights = graph_.AddConstant(graph_.value(to).name + "/float32", std::move(floats));
    Bypass(id, weights);
    return {};
  }

  // TensorRT scales each channel of weights by its largest magnitude / 127, and cannot be told otherwise.
  void ReportWeights(NodeId id, const QuantizeParams& params, const std::vector<float>& largest) {
    const std::vector<NodeId>& readers = uses_[static_cast<size_t>(graph_.node(id).output(0))];
    const std::string reader =
        readers.empty() ? graph_.Describe(graph_.node(id)) : graph_.Describe(graph_.node(readers.front()));
    const auto others = std::count_if(largest.begin(), largest.end(), [](float q) { return q != 127 && q != 0; });
    const bool has_channels = params.per_tensor() && graph_.value(graph_.node(id).input(0)).dims.size() > 1;
    if (has_channels) {
      Lose("weights of {} have one scale: TensorRT takes one per output channel", reader);
    } else if (others > 0) {
      Lose("weights of {}: {} of {} scales are not what TensorRT takes, largest magnitude / 127", reader, others,
           largest.size());
    }
  }

  Status CheckNoIntegersLeft() const {
    for (const Node& node : graph_.nodes) {
      if (node.removed) continue;
      const OpTraits* traits = FindOp(node.domain, node.op);
      const bool computes =
          traits == nullptr || traits->op_class == OpClass::kContraction || node.op.starts_with("QLinear");
      if (!computes) continue;
      for (const ValueId id : node.inputs) {
        const DType type = id == kNoValue ? DType::kUndefined : graph_.value(id).dtype;
        if (type != DType::kInt8 && type != DType::kUInt8) continue;
        return Unsupported(graph_.Describe(node) + " computes on integers: only Q/DQ can be made implicit");
      }
    }
    return {};
  }

  // ---- 16 bits ----

  void WidenHalves() {
    for (NodeId id = 0; id < Count(); ++id) {
      if (graph_.node(id).removed || !graph_.node(id).Is("Cast")) continue;
      const ValueId from = graph_.node(id).input(0), to = graph_.node(id).output(0);
      if (to == kNoValue) continue;
      const DType before = graph_.value(from).dtype, after = graph_.value(to).dtype;
      if (IsHalf(after) && before != DType::kFloat32 && !IsHalf(before)) {
        graph_.node(id).attributes["to"] = int64_t{1};  // integers become float32 at once
      } else if ((IsHalf(after) && !IsHalf(before)) ||
                 (IsHalf(before) && (after == DType::kFloat32 || IsHalf(after)))) {
        Bypass(id, from);
      }
    }
    for (Value& value : graph_.values) {
      if (!IsHalf(value.dtype)) continue;
      value.dtype = DType::kFloat32;
      if (!value.is_constant()) continue;
      const auto floats = ToFloats(value.constant);
      if (floats.ok()) value.constant = Tensor::FromVector<float>(value.constant.dims(), *floats);
    }
  }

  // ---- scales ----

  void ChooseScales() {
    result_.cache.header = "TRT-" + version_.CacheNumber() + "-EntropyCalibration2";
    for (const auto& [name, candidates] : scales_) {
      // What most readers have; of equals the larger, which saturates less.
      const auto chosen = std::max_element(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) {
        return std::pair(a.second, a.first) < std::pair(b.second, b.first);
      });
      result_.cache.scales[name] = chosen->first;
      for (const auto& [scale, readers] : candidates) {
        if (scale != chosen->first && readers > 0) {
          Lose("tensor {} has two scales: {} is given, {} is lost", Quote(name), chosen->first, scale);
        }
      }
    }
  }

  // ---- lists ----

  void RenameLayers() {
    std::set<std::string> names;
    for (const Node& node : graph_.nodes) names.insert(node.name);
    for (Node& node : graph_.nodes) {
      const std::string why = WhyNotInLayerList(node.name, version_);
      if (why.empty()) continue;
      std::string name = node.name.empty() ? node.op : node.name;
      std::replace_if(
          name.begin(), name.end(), [](char c) { return c == ',' || c == '\'' || c == '*' || c == '\0'; }, '_');
      const std::string wanted = name;
      for (int i = 2; !names.insert(name).second; ++i) name = fmt::format("{}_{}", wanted, i);
      Lose("node {} is now {}: {}", Quote(node.name), Quote(name), why);
      renamed_.emplace(name, node.name);
      node.name = name;
    }
  }

  Status WriteLists() {
    std::vector<LayerTypes> precisions, types;
    for (const Node& node : graph_.nodes) {
      const Kind kind = KindAfter(node);
      CountLayer(node, kind);
      if (kind == Kind::kFree) continue;
      const DType type = TypeOf(kind, node);
      precisions.push_back({node.name, {type}});
      const Value& result = graph_.value(node.output(0));
      const bool has_scale = result_.cache.scales.count(result.name) > 0;
      const bool stays_float = read_as_floats_.count(result.name) > 0;
      // Where INT8 would be chosen for a result that someone reads as floats; and of INT8 layers nothing joins.
      const bool pinned = has_scale ? stays_float : kind == Kind::kInt8 && !LeadsIntoFusion(node);
      if (pinned)
        types.push_back(
            {node.name, std::vector<DType>(node.outputs.size(), type == DType::kInt8 ? DType::kFloat32 : type)});
    }
    OCTAVO_ASSIGN(result_.line.layer_precisions, FormatLayerTypes(precisions));
    OCTAVO_ASSIGN(result_.line.layer_output_types, FormatLayerTypes(types));
    for (const std::string* list : {&result_.line.layer_precisions, &result_.line.layer_output_types}) {
      if (list->size() < kLongestArgument) continue;
      Lose("a list of {} KiB is longer than one argument may be on Linux (128 KiB)", list->size() >> 10);
    }
    result_.line.int8 = true;
    result_.line.precision_constraints = "obey";
    return {};
  }

  // Sorting changed ids, so kinds are found by name.
  Kind KindAfter(const Node& node) const {
    const auto renamed = renamed_.find(node.name);
    const auto found = kind_of_.find(renamed == renamed_.end() ? node.name : renamed->second);
    return found == kind_of_.end() ? Kind::kFree : found->second;
  }

  DType TypeOf(Kind kind, const Node& node) {
    if (kind == Kind::kInt8) return DType::kInt8;
    if (kind == Kind::kHalf) {
      result_.line.fp16 = true;
      return DType::kFloat16;
    }
    if (kind == Kind::kBrain && version_ >= TensorRtVersion{9, 0, 0}) {
      result_.line.bf16 = true;
      return DType::kBFloat16;
    }
    if (kind == Kind::kBrain)
      Lose("{} is bf16, which TensorRT {} has not: fp32 is given", graph_.Describe(node), version_.ToString());
    return DType::kFloat32;
  }

  void CountLayer(const Node& node, Kind kind) {
    const OpTraits* traits = FindOp(node.domain, node.op);
    if (traits == nullptr || traits->quantizable_inputs == 0) return;
    if (kind == Kind::kInt8)
      ++result_.int8_layers;
    else if (kind == Kind::kHalf || kind == Kind::kBrain)
      ++result_.half_layers;
    else
      ++result_.float_layers;
  }

  // Its one reader is taken in: a type in between would keep them apart.
  bool LeadsIntoFusion(const Node& node) const {
    const auto id = node.output(0);
    const auto& readers = uses_[static_cast<size_t>(id)];
    if (readers.size() != 1 || graph_.IsOutput(id)) return false;
    const Node& reader = graph_.node(readers.front());
    return reader.Is("Relu") || reader.Is("Clip") || reader.Is("Add");
  }

  Graph graph_;
  const TensorRtVersion version_;
  std::map<NodeId, QuantizeParams> params_;
  std::vector<std::vector<NodeId>> uses_;
  std::vector<Kind> kind_;  // by node, of the graph as given
  std::map<std::string, Kind> kind_of_;
  std::set<std::string> read_as_floats_;
  std::set<ValueId> integers_;                             // what was quantized, and what views made of it
  std::map<std::string, std::map<float, size_t>> scales_;  // by tensor: scales, and how many read by each
  std::set<std::string> lost_axes_, lost_zeros_;
  std::map<std::string, std::string> renamed_;  // new name -> old name
  ImplicitModel result_;
};

}  // namespace

Result<ImplicitModel> MakeImplicit(Graph quantized, const std::string& version) {
  OCTAVO_ASSIGN(const TensorRtVersion parsed, ParseTensorRtVersion(version));
  if (parsed < kOldestTensorRt || parsed >= kPastNewestImplicitTensorRt) {
    return InvalidArgument("implicit INT8 is written for TensorRT 8.5 to 10, not " + parsed.ToString());
  }
  OCTAVO_ASSIGN(const auto dims, ChooseInputDims(quantized, {}, nullptr));
  OCTAVO_RETURN_IF_ERROR(BindShapes(quantized, dims));
  return ImplicitMaker(std::move(quantized), parsed).Run();
}

}  // namespace octavo
