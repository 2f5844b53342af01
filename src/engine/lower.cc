// From a canonical graph to steps.
//
// Every value gets a storage: a buffer, an element type, strides. Convolutions write channels-last; elementwise ops and
// normalizations keep the order they find; Transpose, Reshape, Slice and Split cost nothing where strides can say it.
// Where a kernel wants another order or type, a copy is inserted, once per value and order.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <limits>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "engine/bfloat16_attention.h"
#include "engine/bfloat16_gelu_product.h"
#include "engine/fusion.h"
#include "engine/integer_attention.h"
#include "engine/integer_operands.h"
#include "engine/layout.h"
#include "engine/onednn.h"
#include "engine/plan.h"
#include "engine/transposed_phases.h"
#include "graph/infer_window.h"
#include "graph/op_table.h"
#include "graph/rounding.h"
#include "kernels/copy/copy.h"
#include "kernels/fast_table.h"
#include "kernels/integer/rows_to_bytes.h"
#include "kernels/kernel.h"
#include "kernels/linear_attention/integer_linear_attention.h"
#include "passes/rewriter.h"

namespace octavo {

namespace {

struct Storage {
  int buffer = -1;
  int64_t offset = 0;  // in elements
  DType dtype = DType::kUndefined;
  Dims strides;
  int64_t bytes = 0;  // of the elements alone
};

int64_t BytesOf(const Dims& dims, DType dtype) { return ElementCount(dims) * static_cast<int64_t>(SizeOf(dtype)); }

std::string_view PrecisionName(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "fp32";
    case DType::kBFloat16:
      return "bf16";
    case DType::kFloat16:
      return "fp16";
    default:
      return NameOf(dtype);
  }
}

// oneDNN's form of the windows: one entry per spatial axis.
WindowGeometry GeometryOf(const std::vector<WindowAxis>& axes, bool transposed) {
  WindowGeometry g;
  for (const auto& axis : axes) {
    g.kernel.push_back(axis.kernel);
    g.strides.push_back(axis.stride);
    g.dilations.push_back(axis.dilation);
    g.pads_begin.push_back(axis.pad_begin);
    const int64_t extent = (axis.kernel - 1) * axis.dilation + 1;
    if (transposed) {
      // Of the full output, what the stated size leaves out at the end; negative where output_padding adds to it.
      g.pads_end.push_back((axis.input - 1) * axis.stride + extent - axis.pad_begin - axis.output);
    } else {
      // Just enough for the last window: what ONNX pads beyond it is never read.
      const int64_t last_end = (axis.output - 1) * axis.stride + extent - axis.pad_begin;
      g.pads_end.push_back(std::max<int64_t>(0, last_end - axis.input));
    }
  }
  return g;
}

class Lowering {
 public:
  Lowering(Plan& plan, const CompileOptions& options, PackedWeights& weights)
      : plan_(plan),
        graph_(plan.graph),
        options_(options),
        onednn_(weights, options.tuning),
        storages_(graph_.values.size()) {
    bf16_ = options.precision == Precision::kBFloat16;
    bf16_kernels_ = bf16_ && OneDnnHasBFloat16();
  }

  Status Run() {
    StoreInputsAndConstants();
    output_count_ = graph_.outputs.size() - options_.watched;
    for (size_t i = 0; i < output_count_; ++i) output_index_.emplace(graph_.outputs[i], static_cast<int>(i));
    for (size_t i = output_count_; i < graph_.outputs.size(); ++i) {
      const ValueId value = graph_.outputs[i];
      watched_.emplace(value, i - output_count_);
      if (graph_.IsInput(value) || graph_.value(value).is_constant()) EmitWatch(value);
    }
    const auto groups = FuseEpilogues(graph_);
    std::unordered_map<NodeId, const FusionGroup*> ends;
    std::vector<bool> grouped(graph_.nodes.size(), false);
    for (const auto& group : groups) {
      ends[group.last] = &group;
      grouped[static_cast<size_t>(group.anchor)] = true;
      for (const auto& op : group.post_ops) grouped[static_cast<size_t>(op.node)] = true;
      grouped[static_cast<size_t>(group.last)] = true;
    }
    MarkBiasNodes(groups, grouped);
    uses_ = graph_.Uses();
    if (OneDnnHasBFloat16()) FindNarrowValues();
    FindIntegerAttention(groups);
    for (NodeId id = 0; id < static_cast<NodeId>(graph_.nodes.size()); ++id) {
      const Node& node = graph_.node(id);
      if (node.removed) continue;
      if (inside_attention_.count(id) != 0 || absorbed_.count(id) != 0) continue;
      if (IsDone(node)) {
        if (IsQuantize(node)) EmitWatch(node.output(0));
        continue;
      }
      if (auto found = attention_.find(id); found != attention_.end()) {
        Status integer = LowerIntegerAttention(found->second);
        if (integer.ok()) {
          EmitWatch(node.output(0));
          continue;
        }
        if (integer.code() != ErrorCode::kUnsupported) return integer.WithPrefix(graph_.Describe(node) + ": ");
        // By themselves, now that the last of their operands has been made.
        for (const NodeId inside : found->second.inside) {
          OCTAVO_RETURN_IF_ERROR(
              LowerMember(inside, ends, grouped).WithPrefix(graph_.Describe(graph_.node(inside)) + ": "));
        }
      }
      const Status status = LowerMember(id, ends, grouped);
      if (!status.ok()) return status.WithPrefix(graph_.Describe(node) + ": ");
      // A value made inside a group has no reader outside it, so it is not watched.
      for (ValueId output : node.outputs) {
        if (output != kNoValue && !storages_[static_cast<size_t>(output)].empty()) EmitWatch(output);
      }
    }
    return StoreOutputs();
  }

 private:
  const Dims& DimsOf(ValueId value) const { return graph_.value(value).dims; }

  // ---- buffers and storages ----

  int NewBuffer(Buffer::Kind kind, int64_t bytes) {
    Buffer buffer;
    buffer.kind = kind;
    buffer.bytes = bytes;
    plan_.buffers.push_back(buffer);
    return static_cast<int>(plan_.buffers.size()) - 1;
  }

  int ConstantBuffer(const Tensor& tensor) {
    const int buffer = NewBuffer(Buffer::Kind::kConstant, static_cast<int64_t>(tensor.bytes()));
    plan_.buffers[static_cast<size_t>(buffer)].data = tensor.data();
    return buffer;
  }

  void StoreInputsAndConstants() {
    for (size_t i = 0; i < graph_.inputs.size(); ++i) {
      const Value& value = graph_.value(graph_.inputs[i]);
      const int buffer =
          NewBuffer(Buffer::Kind::kInput, ElementCount(value.dims) * static_cast<int64_t>(SizeOf(value.dtype)));
      plan_.buffers[static_cast<size_t>(buffer)].external = static_cast<int>(i);
      storages_[static_cast<size_t>(graph_.inputs[i])] = {
          {buffer, 0, value.dtype, ContiguousStrides(value.dims), BytesOf(value.dims, value.dtype)}};
    }
    for (size_t v = 0; v < graph_.values.size(); ++v) {
      const Value& value = graph_.values[v];
      if (!value.is_constant()) continue;
      storages_[v] = {{ConstantBuffer(value.constant), 0, value.dtype, ContiguousStrides(value.dims),
                       BytesOf(value.dims, value.dtype)}};
    }
  }

  // A fresh place for `value`: the caller's memory when it is a graph output that nobody has claimed and the wanted
  // form is the caller's (row-major, its own type), the arena otherwise.
  Storage& Define(ValueId value, DType dtype, Dims strides) {
    const Value& v = graph_.value(value);
    int buffer = -1;
    if (auto output = output_index_.find(value);
        output != output_index_.end() && dtype == v.dtype && SameStrides(v.dims, strides, ContiguousStrides(v.dims))) {
      buffer = NewBuffer(Buffer::Kind::kOutput, 0);
      plan_.buffers[static_cast<size_t>(buffer)].external = output->second;
    } else {
      buffer = NewBuffer(Buffer::Kind::kArena, Extent(v.dims, strides) * static_cast<int64_t>(SizeOf(dtype)));
    }
    storages_[static_cast<size_t>(value)].push_back({buffer, 0, dtype, std::move(strides), BytesOf(v.dims, dtype)});
    return storages_[static_cast<size_t>(value)].back();
  }

  const Storage& Primary(ValueId value) const { return storages_[static_cast<size_t>(value)].front(); }

  // `value` with this type and these strides, by a copy when it does not lie so yet.
  Result<Storage> Ensure(ValueId value, DType dtype, const Dims& strides) {
    const Value& v = graph_.value(value);
    auto& forms = storages_[static_cast<size_t>(value)];
    for (const auto& form : forms) {
      if (form.dtype == dtype && SameStrides(v.dims, form.strides, strides)) return form;
    }
    const Storage from = forms.front();
    Storage to{-1, 0, dtype, strides, BytesOf(v.dims, dtype)};
    OCTAVO_ASSIGN(BoundKernel copy, BindCopy(OperandOf(value, from), OperandOf(value, to), options_.threads));
    if (v.is_constant()) {
      OCTAVO_ASSIGN(to.buffer, CopyConstant(v, to, copy));
    } else {
      to.buffer = NewBuffer(Buffer::Kind::kArena, Extent(v.dims, strides) * static_cast<int64_t>(SizeOf(dtype)));
      Step step;
      step.info.node = v.name;
      step.info.op = from.dtype == dtype ? "Reorder" : "Convert";
      step.info.kernel = fmt::format("copy {}", FastKernelIsa());
      step.info.precision = PrecisionName(dtype);
      step.info.output_dims = v.dims;
      step.kernel = std::move(copy);
      AddStep(std::move(step), {SlotOf(from)}, {SlotOf(to)});
    }
    forms.push_back(to);
    return to;
  }

  // Lays a constant out anew while compiling.
  Result<int> CopyConstant(const Value& value, const Storage& to, const BoundKernel& copy) {
    OCTAVO_ASSIGN(Tensor tensor, Tensor::Create(to.dtype, {Extent(value.dims, to.strides)}));
    OCTAVO_ASSIGN(Tensor scratch, Tensor::Create(DType::kUInt8, {static_cast<int64_t>(copy.scratch_bytes) + 64}));
    const void* in = value.constant.data();
    void* out = tensor.mutable_data();
    OCTAVO_RETURN_IF_ERROR(copy.run({&in, &out, scratch.mutable_data()}));
    plan_.owned_constants.push_back(tensor);
    return ConstantBuffer(tensor);
  }

  Operand OperandOf(ValueId value, const Storage& storage) const {
    const Value& v = graph_.value(value);
    return {true, storage.dtype, v.dims, storage.strides,
            v.is_constant() && storage.dtype == v.dtype ? &v.constant : nullptr};
  }

  static Slot SlotOf(const Storage& storage) {
    return {storage.buffer, storage.offset * static_cast<int64_t>(SizeOf(storage.dtype)), storage.bytes};
  }

  void AddStep(Step step, std::vector<Slot> inputs, std::vector<Slot> outputs) {
    const int index = static_cast<int>(plan_.steps.size());
    auto touch = [&](const Slot& slot) {
      if (slot.buffer < 0) return;
      Buffer& buffer = plan_.buffers[static_cast<size_t>(slot.buffer)];
      if (buffer.first_step < 0) buffer.first_step = index;
      buffer.last_step = index;
    };
    for (const auto& slot : inputs) {
      touch(slot);
      step.info.bytes_read += slot.bytes;
    }
    for (const auto& slot : outputs) {
      touch(slot);
      step.info.bytes_written += slot.bytes;
    }
    step.inputs = std::move(inputs);
    step.outputs = std::move(outputs);
    plan_.steps.push_back(std::move(step));
  }

  // Hands the value over as it was made, before its memory is used again.
  void EmitWatch(ValueId value) {
    const auto [first, last] = watched_.equal_range(value);
    for (auto it = first; it != last; ++it) {
      const Value& v = graph_.value(value);
      const Storage& storage = Primary(value);
      Step step;
      step.info.node = v.name;
      step.info.op = "Watch";
      step.info.kernel = "watch";
      step.info.precision = PrecisionName(storage.dtype);
      step.info.output_dims = v.dims;
      step.kernel.run =
          [watch = options_.watch, index = it->second,
           view = TensorView{storage.dtype, v.dims, storage.strides, nullptr}](const KernelArgs& args) mutable {
            view.data = args.inputs[0];
            (*watch)(index, view);
            return Status();
          };
      AddStep(std::move(step), {SlotOf(storage)}, {});
    }
    watched_.erase(first, last);
  }

  // Float32 values of which only bfloat16 roundings are read, also through nodes that merely move elements: whoever
  // makes them may write them rounded.
  void FindNarrowValues() {
    narrow_.assign(graph_.values.size(), false);
    for (size_t i = graph_.nodes.size(); i-- > 0;) {
      const Node& node = graph_.nodes[i];
      if (node.removed) continue;
      for (const ValueId output : node.outputs) {
        if (output != kNoValue) narrow_[static_cast<size_t>(output)] = IsReadNarrow(output);
      }
    }
  }

  bool IsReadNarrow(ValueId value) const {
    const std::vector<NodeId>& readers = uses_[static_cast<size_t>(value)];
    if (readers.empty() || graph_.IsOutput(value) || graph_.value(value).dtype != DType::kFloat32) return false;
    return std::all_of(readers.begin(), readers.end(), [this, value](NodeId id) {
      const Node& reader = graph_.node(id);
      if (RoundedTo(reader) == DType::kBFloat16) return true;
      constexpr std::array<std::string_view, 10> kMoves = {"Concat", "Expand", "Flatten", "Identity",  "Reshape",
                                                           "Slice",  "Split",  "Squeeze", "Transpose", "Unsqueeze"};
      if (!reader.domain.empty() || std::find(kMoves.begin(), kMoves.end(), reader.op) == kMoves.end()) return false;
      return std::all_of(reader.outputs.begin(), reader.outputs.end(),
                         [this](ValueId out) { return out != kNoValue && IsNarrow(out); });
    });
  }

  bool IsNarrow(ValueId value) const { return !narrow_.empty() && narrow_[static_cast<size_t>(value)]; }

  // The type that activations have in memory when a kernel can choose.
  DType ActivationType(ValueId value) const {
    const DType dtype = graph_.value(value).dtype;
    if (IsNarrow(value)) return DType::kBFloat16;
    return bf16_ && dtype == DType::kFloat32 && output_index_.count(value) == 0 ? DType::kBFloat16 : dtype;
  }

  // ---- contractions ----

  // What the multiplicands of a contraction were rounded to: those that are computed by an octavo.RoundTo, constants
  // because they hold nothing else. kFloat32 where they were not.
  DType OperandType(const Node& anchor) {
    const auto [known, is_new] = operand_types_.emplace(&anchor, DType::kFloat32);
    if (!is_new) return known->second;
    DType type = DType::kFloat32;
    for (size_t i : {0u, 1u}) {
      const NodeId producer = graph_.value(anchor.input(i)).producer;
      const DType rounded = producer == kNoNode ? DType::kUndefined : RoundedTo(graph_.node(producer));
      if (rounded != DType::kUndefined) type = rounded;
    }
    if (type == DType::kFloat32) return type;
    for (size_t i : {0u, 1u}) {
      const Value& operand = graph_.value(anchor.input(i));
      const bool rounded = operand.producer != kNoNode && RoundedTo(graph_.node(operand.producer)) == type;
      if (!rounded && !(operand.is_constant() && IsExactIn(type, operand.constant))) return DType::kFloat32;
    }
    return known->second = type;
  }

  // What a contraction computes on.
  DType ProductType(const Node& anchor) {
    if (bf16_) return bf16_kernels_ ? DType::kBFloat16 : DType::kFloat32;
    return OperandType(anchor) == DType::kBFloat16 && OneDnnHasBFloat16() ? DType::kBFloat16 : DType::kFloat32;
  }

  // What it is said to compute on: rounded operands may be multiplied in float32.
  DType StatedType(const Node& anchor) { return bf16_ ? ProductType(anchor) : OperandType(anchor); }

  Status LowerGroup(const FusionGroup& group) {
    const Node& anchor = graph_.node(group.anchor);
    if (anchor.outputs.size() == 1 && ElementCount(DimsOf(group.output)) > 0) {
      Status integer = LowerIntegerGroup(group);
      if (integer.ok() || integer.code() != ErrorCode::kUnsupported) return integer;
      float_reasons_[group.anchor] = integer.message();
      OCTAVO_RETURN_IF_ERROR(RequireReals(anchor));
      if (!group.rounds()) {
        for (const auto& op : group.post_ops) OCTAVO_RETURN_IF_ERROR(RequireReals(graph_.node(op.node)));
        Status status =
            anchor.op == "Conv" || anchor.op == "ConvTranspose" ? LowerConvolution(group) : LowerProduct(group);
        if (status.ok() || status.code() != ErrorCode::kUnsupported) return status;
      }
    }
    // No fused kernel: member by member.
    OCTAVO_RETURN_IF_ERROR(LowerAnchorAlone(group));
    if (group.bias != kNoValue) OCTAVO_RETURN_IF_ERROR(LowerNode(graph_.node(bias_nodes_.at(group.anchor))));
    for (const auto& op : group.post_ops) OCTAVO_RETURN_IF_ERROR(LowerNode(graph_.node(op.node)));
    return {};
  }

  Status LowerAnchorAlone(const FusionGroup& group) {
    const Node& anchor = graph_.node(group.anchor);
    if (group.post_ops.empty() && group.bias == kNoValue) return LowerNode(anchor);
    FusionGroup alone;
    alone.anchor = alone.last = group.anchor;
    alone.output = anchor.output(0);
    return LowerGroup(alone);
  }

  // The Add that a group took as its bias is not among its post-ops: remember which node it was.
  void MarkBiasNodes(const std::vector<FusionGroup>& groups, std::vector<bool>& grouped) {
    const auto uses = graph_.Uses();
    for (const auto& group : groups) {
      if (group.bias == kNoValue) continue;
      const NodeId add = uses[static_cast<size_t>(graph_.node(group.anchor).output(0))][0];
      bias_nodes_[group.anchor] = add;
      grouped[static_cast<size_t>(add)] = true;
    }
  }

  struct FloatEpilogue {
    std::vector<PostOpSpec> specs;
    std::vector<Slot> operands;
    std::string names;
  };

  // Operands like the output, in its layout; per-channel constants by value.
  Result<FloatEpilogue> PrepareEpilogue(const FusionGroup& group, const Dims& strides) {
    const bool narrow = ProductType(graph_.node(group.anchor)) == DType::kBFloat16;
    FloatEpilogue epilogue;
    if (group.bias != kNoValue) epilogue.names += "+Bias";
    for (const auto& op : group.post_ops) {
      PostOpSpec spec{};
      const Node& node = graph_.node(op.node);
      epilogue.names += "+" + node.op;
      if (op.kind == PostOpKind::kUnary) {
        spec.kind = PostOpSpec::Kind::kUnary;
        spec.unary = &node;
        spec.graph = &graph_;
      } else {
        spec.kind = op.kind == PostOpKind::kAdd ? PostOpSpec::Kind::kAdd : PostOpSpec::Kind::kMul;
        const Value& value = graph_.value(op.operand);
        const bool full = value.dims == DimsOf(group.output);
        if (!full) {
          spec.per_channel = &value.constant;
        } else {
          const DType dtype = narrow ? Primary(op.operand).dtype : DType::kFloat32;
          OCTAVO_ASSIGN(const Storage operand, Ensure(op.operand, dtype, strides));
          spec.operand_dtype = operand.dtype;
          epilogue.operands.push_back(SlotOf(operand));
        }
      }
      epilogue.specs.push_back(spec);
    }
    return epilogue;
  }

  // Weights as the precision has them: rounded to bfloat16 even where the product itself runs in float32.
  Result<Tensor> Weights(const Tensor& weights) const {
    if (weights.dtype() != DType::kFloat32) return Unsupported("weights are not float32");
    if (!bf16_ || bf16_kernels_) return weights;
    OCTAVO_ASSIGN(Tensor rounded, weights.Clone());
    for (float& w : rounded.mutable_values<float>()) w = BFloat16ToFloat(FloatToBFloat16(w));
    return rounded;
  }

  // What a contraction writes: bfloat16 when it computes on it and its readers want it so.
  DType ContractionOutputType(const FusionGroup& group) {
    const bool narrow = ProductType(graph_.node(group.anchor)) == DType::kBFloat16;
    return narrow ? ActivationType(group.output) : DType::kFloat32;
  }

  Result<Tensor> BiasOf(const Node& anchor, const FusionGroup& group, int64_t channels) const {
    ValueId bias = group.bias;
    if (bias == kNoValue && anchor.op != "MatMul" && anchor.has_input(2)) bias = anchor.input(2);
    if (bias == kNoValue) return Tensor();
    const Value& value = graph_.value(bias);
    // A Gemm's C may also be a column, of as many elements.
    const bool column = bias != group.bias && !value.dims.empty() && value.dims.back() != channels;
    if (!value.is_constant() || value.dtype != DType::kFloat32 || ElementCount(value.dims) != channels || column) {
      return Unsupported("its bias is not a constant per channel");
    }
    return value.constant;
  }

  Status LowerConvolution(const FusionGroup& group) {
    const Node& node = graph_.node(group.anchor);
    const Value& weights = graph_.value(node.input(1));
    const Dims& src_dims = DimsOf(node.input(0));
    const Dims& dst_dims = DimsOf(group.output);
    if (!weights.is_constant() || graph_.value(node.input(0)).dtype != DType::kFloat32)
      return Unsupported("not constant float32 weights");
    if (src_dims.size() < 3 || src_dims.size() > 5) return Unsupported("rank");

    ConvolutionSpec spec;
    spec.src_dims = src_dims;
    spec.dst_dims = dst_dims;
    spec.groups = node.Int("group", 1);
    spec.transposed = node.op == "ConvTranspose";
    OCTAVO_ASSIGN(const std::vector<WindowAxis> axes,
                  (spec.transposed ? ResolveConvTranspose : ResolveConv)(node, src_dims, weights.dims));
    if (spec.transposed && spec.groups == 1) {
      Status status = LowerTransposedByPhases(group, axes);
      if (status.ok() || status.code() != ErrorCode::kUnsupported) return status;
    }
    spec.geometry = GeometryOf(axes, spec.transposed);
    OCTAVO_ASSIGN(spec.weights, Weights(weights.constant));
    OCTAVO_ASSIGN(spec.bias, BiasOf(node, group, dst_dims[1]));
    spec.src_dtype = spec.weights_dtype = ProductType(node);
    spec.dst_dtype = ContractionOutputType(group);

    const Dims dst_strides = ChannelsLastStrides(dst_dims);
    OCTAVO_ASSIGN(const Storage src, Ensure(node.input(0), spec.src_dtype, ChannelsLastStrides(src_dims)));
    OCTAVO_ASSIGN(FloatEpilogue epilogue, PrepareEpilogue(group, dst_strides));
    spec.post_ops = epilogue.specs;
    OCTAVO_ASSIGN(OneDnnKernel built, BuildConvolution(spec));
    EmitContraction(group, std::move(built), {SlotOf(src)}, epilogue,
                    Define(group.output, spec.dst_dtype, dst_strides));
    return {};
  }

  // One plain convolution per phase, each copied to its places in the output: oneDNN's transposed convolution was
  // measured at 30 GMAC/s channels-last where plain ones reach 200.
  Status LowerTransposedByPhases(const FusionGroup& group, const std::vector<WindowAxis>& axes) {
    const Node& node = graph_.node(group.anchor);
    const Dims& dst_dims = DimsOf(group.output);
    for (const auto& op : group.post_ops) {
      if (op.kind != PostOpKind::kUnary && DimsOf(op.operand) == dst_dims) return Unsupported("a whole operand");
    }
    OCTAVO_ASSIGN(const Tensor rounded, Weights(graph_.value(node.input(1)).constant));
    OCTAVO_ASSIGN(std::vector<TransposedPhase> phases, SplitTransposed(axes, rounded));
    if (phases.empty()) return Unsupported("no phases");

    ConvolutionSpec spec;
    spec.src_dims = DimsOf(node.input(0));
    OCTAVO_ASSIGN(spec.bias, BiasOf(node, group, dst_dims[1]));
    spec.src_dtype = spec.weights_dtype = ProductType(node);
    spec.dst_dtype = ContractionOutputType(group);
    const Dims dst_strides = ChannelsLastStrides(dst_dims);
    OCTAVO_ASSIGN(const Storage src, Ensure(node.input(0), spec.src_dtype, ChannelsLastStrides(spec.src_dims)));
    OCTAVO_ASSIGN(const FloatEpilogue epilogue, PrepareEpilogue(group, dst_strides));
    spec.post_ops = epilogue.specs;

    std::vector<std::pair<OneDnnKernel, BoundKernel>> built;
    std::vector<Storage> parts, places;
    for (auto& phase : phases) {
      spec.weights = std::move(phase.weights);
      spec.geometry = GeometryOf(phase.axes, false);
      spec.dst_dims = {dst_dims[0], dst_dims[1]};
      Storage place{-1, 0, spec.dst_dtype, dst_strides, 0};
      for (size_t d = 0; d < phase.axes.size(); ++d) {
        spec.dst_dims.push_back(phase.axes[d].output);
        place.offset += phase.first[d] * dst_strides[d + 2];
        place.strides[d + 2] *= axes[d].stride;
      }
      const Dims part_strides = ChannelsLastStrides(spec.dst_dims);
      const Operand from{true, spec.dst_dtype, spec.dst_dims, part_strides, nullptr};
      const Operand to{true, spec.dst_dtype, spec.dst_dims, place.strides, nullptr};
      OCTAVO_ASSIGN(OneDnnKernel convolution, onednn_.Convolution(spec));
      OCTAVO_ASSIGN(BoundKernel copy, BindCopy(from, to, options_.threads));
      built.emplace_back(std::move(convolution), std::move(copy));
      place.bytes = BytesOf(spec.dst_dims, spec.dst_dtype);
      parts.push_back({NewBuffer(Buffer::Kind::kArena, place.bytes), 0, spec.dst_dtype, part_strides, place.bytes});
      places.push_back(std::move(place));
    }
    const int target = Define(group.output, spec.dst_dtype, dst_strides).buffer;
    const int64_t macs = CountMacs(graph_, node) / static_cast<int64_t>(phases.size());
    for (size_t i = 0; i < built.size(); ++i) {
      Step step;
      step.info = DescribeStep(node, std::move(built[i].first.implementation), StatedType(node));
      step.info.op += epilogue.names;
      step.info.macs = macs;
      step.info.bytes_read = WeightBytes(node, spec.weights_dtype) / static_cast<int64_t>(phases.size());
      step.kernel = std::move(built[i].first.kernel);
      AddStep(std::move(step), {SlotOf(src)}, {SlotOf(parts[i])});
      Step copy;
      copy.info = DescribeStep(node, fmt::format("copy {}", FastKernelIsa()), spec.dst_dtype);
      copy.info.op = "Interleave";
      copy.info.macs = 0;
      copy.kernel = std::move(built[i].second);
      places[i].buffer = target;
      AddStep(std::move(copy), {SlotOf(parts[i])}, {SlotOf(places[i])});
    }
    return {};
  }

  void EmitContraction(const FusionGroup& group, OneDnnKernel built, std::vector<Slot> inputs,
                       const FloatEpilogue& epilogue, const Storage& dst) {
    const Node& anchor = graph_.node(group.anchor);
    Step step;
    step.info.node = anchor.name;
    step.info.op = anchor.op + epilogue.names;
    step.info.kernel = std::move(built.implementation);
    step.info.precision = PrecisionName(StatedType(anchor));
    step.info.output_dims = DimsOf(group.output);
    step.info.macs = CountMacs(graph_, anchor);
    step.info.bytes_read = WeightBytes(anchor, ProductType(anchor));
    step.kernel = std::move(built.kernel);
    inputs.insert(inputs.end(), epilogue.operands.begin(), epilogue.operands.end());
    AddStep(std::move(step), std::move(inputs), {SlotOf(dst)});
  }

  Status LowerProduct(const FusionGroup& group) {
    const Node& node = graph_.node(group.anchor);
    const Value &a = graph_.value(node.input(0)), &b = graph_.value(node.input(1));
    if (a.dtype != DType::kFloat32) return Unsupported("not float32");
    if (node.op == "Gemm") {
      if (!IsPlainGemm(node) || !b.is_constant()) return Unsupported("general Gemm");
      return LowerLinear(group, node.Int("transB", 0) != 0);
    }
    if (b.is_constant() && b.dims.size() == 2) return LowerLinear(group, false);
    return LowerMatMul(group);
  }

  Result<OneDnnKernel> BuildLinear(const LinearSpec& spec) {
    if (IsBFloat16GeluProduct(spec)) {
      auto built = BindBFloat16GeluProduct(onednn_, spec, options_.threads);
      if (built.ok() || built.status().code() != ErrorCode::kUnsupported) return built;
    }
    return onednn_.Linear(spec);
  }

  // A 1 x 1 convolution of dense channels-last pixels is a product of as many rows, where that is faster.
  Result<OneDnnKernel> BuildConvolution(const ConvolutionSpec& spec) {
    const auto all = [](const std::vector<int64_t>& values, int64_t wanted) {
      return std::all_of(values.begin(), values.end(), [&](int64_t v) { return v == wanted; });
    };
    const WindowGeometry& g = spec.geometry;
    if (!spec.transposed && spec.groups == 1 && all(g.kernel, 1) && all(g.strides, 1) && all(g.pads_begin, 0) &&
        all(g.pads_end, 0)) {
      LinearSpec linear;
      linear.k = spec.src_dims[1];
      linear.n = spec.dst_dims[1];
      linear.m = ElementCount(spec.dst_dims) / std::max<int64_t>(1, linear.n);
      linear.src_dtype = spec.src_dtype;
      linear.dst_dtype = spec.dst_dtype;
      linear.weights_dtype = spec.weights_dtype;
      linear.weights = spec.weights;
      linear.weights_transposed = true;
      linear.bias = spec.bias;
      linear.post_ops = spec.post_ops;
      if (linear.m > 0 && IsBFloat16GeluProduct(linear)) return BuildLinear(linear);
    }
    return onednn_.Convolution(spec);
  }

  Status LowerLinear(const FusionGroup& group, bool weights_transposed) {
    const Node& node = graph_.node(group.anchor);
    const Dims& a_dims = DimsOf(node.input(0));
    const Value& weights = graph_.value(node.input(1));
    LinearSpec spec;
    spec.k = a_dims.back();
    spec.m = spec.k == 0 ? 0 : ElementCount(a_dims) / spec.k;
    spec.n = weights.dims[weights_transposed ? 0 : 1];
    if (spec.m * spec.k * spec.n == 0) return Unsupported("an empty product");
    spec.weights_transposed = weights_transposed;
    OCTAVO_ASSIGN(spec.weights, Weights(weights.constant));
    OCTAVO_ASSIGN(spec.bias, BiasOf(node, group, spec.n));
    spec.src_dtype = spec.weights_dtype = ProductType(node);
    spec.dst_dtype = ContractionOutputType(group);

    const Dims dst_strides = ContiguousStrides(DimsOf(group.output));
    OCTAVO_ASSIGN(const Storage src, Ensure(node.input(0), spec.src_dtype, ContiguousStrides(a_dims)));
    OCTAVO_ASSIGN(FloatEpilogue epilogue, PrepareEpilogue(group, dst_strides));
    spec.post_ops = epilogue.specs;
    OCTAVO_ASSIGN(OneDnnKernel built, BuildLinear(spec));
    EmitContraction(group, std::move(built), {SlotOf(src)}, epilogue,
                    Define(group.output, spec.dst_dtype, dst_strides));
    return {};
  }

  // oneDNN reads a matrix whose rows or whose columns are contiguous.
  static bool IsMatrixReadable(const Dims& dims, const Dims& strides) {
    const size_t r = dims.size();
    const bool batch_ok = std::none_of(strides.begin(), strides.end(), [](int64_t s) { return s <= 0; });
    return batch_ok && ((strides[r - 1] == 1 && strides[r - 2] >= dims[r - 1]) ||
                        (strides[r - 2] == 1 && strides[r - 1] >= dims[r - 2]));
  }

  Status LowerMatMul(const FusionGroup& group) {
    const Node& node = graph_.node(group.anchor);
    const Dims& dst_dims = DimsOf(group.output);
    MatMulSpec spec;
    spec.dst_dims = dst_dims;
    spec.src_dtype = ProductType(node);
    spec.dst_dtype = ContractionOutputType(group);
    std::array<Storage, 2> operands;
    for (size_t i : {0u, 1u}) {
      const ValueId value = node.input(i);
      Dims dims = DimsOf(value);
      if (graph_.value(value).dtype != DType::kFloat32) return Unsupported("not float32");
      const Storage& primary = Primary(value);
      const Dims wanted = IsMatrixReadable(dims, primary.strides) ? primary.strides : ContiguousStrides(dims);
      OCTAVO_ASSIGN(operands[i], Ensure(value, spec.src_dtype, wanted));
      Dims strides = operands[i].strides;
      while (dims.size() < dst_dims.size()) {
        strides.insert(strides.begin(), dims[0] * std::max<int64_t>(1, strides[0]));
        dims.insert(dims.begin(), 1);
      }
      (i == 0 ? spec.a_dims : spec.b_dims) = dims;
      (i == 0 ? spec.a_strides : spec.b_strides) = strides;
    }
    const Dims dst_strides = ContiguousStrides(dst_dims);
    OCTAVO_ASSIGN(FloatEpilogue epilogue, PrepareEpilogue(group, dst_strides));
    if (group.bias != kNoValue) return Unsupported("bias");
    spec.post_ops = epilogue.specs;
    OCTAVO_ASSIGN(OneDnnKernel built, onednn_.MatMul(spec));
    EmitContraction(group, std::move(built), {SlotOf(operands[0]), SlotOf(operands[1])}, epilogue,
                    Define(group.output, spec.dst_dtype, dst_strides));
    return {};
  }

  // ---- integers ----

  // A QuantizeLinear that a contraction has already written, and a DequantizeLinear that nobody has asked for yet.
  bool IsDone(const Node& node) const {
    if (IsQuantize(node)) return !storages_[static_cast<size_t>(node.output(0))].empty();
    return IsDequantize(node) && WhyReal(node).empty();
  }

  // Why a DequantizeLinear is computed in its turn, whoever reads it; empty where its readers decide. A computed scale
  // may itself be such a value, so it cannot wait for a reader.
  std::string WhyReal(const Node& dequantize) const {
    for (size_t i = 1; i < dequantize.inputs.size(); ++i) {
      if (dequantize.has_input(i) && !graph_.value(dequantize.input(i)).is_constant())
        return fmt::format("its {} is computed, not constant", i == 1 ? "scale" : "zero point");
    }
    const ValueId output = dequantize.output(0);
    return output_index_.count(output) != 0 || watched_.count(output) != 0 ? "its real values are an output" : "";
  }

  void NoteUnfused(const Node& node, std::string reason) {
    plan_.info.unfused.push_back({node.name, node.op, std::move(reason)});
  }

  // Makes the real values behind DequantizeLinear nodes that `reader` reads.
  Status RequireReals(const Node& reader) {
    for (const ValueId input : reader.inputs) OCTAVO_RETURN_IF_ERROR(RequireReal(input, reader));
    return {};
  }

  Status RequireReal(ValueId input, const Node& reader) {
    if (input == kNoValue || !storages_[static_cast<size_t>(input)].empty()) return {};
    const NodeId producer = graph_.value(input).producer;
    if (producer == kNoNode || !IsDequantize(graph_.node(producer))) return {};
    const Node& dequantize = graph_.node(producer);
    const auto reason = float_reasons_.find(static_cast<NodeId>(&reader - graph_.nodes.data()));
    NoteUnfused(dequantize, fmt::format("{} computes in float{}", graph_.Describe(reader),
                                        reason == float_reasons_.end() ? "" : ": " + reason->second));
    return MakeReal(dequantize);
  }

  Status MakeReal(const Node& dequantize) {
    const ValueId output = dequantize.output(0);
    bool constant = true;
    std::vector<Tensor> inputs;
    for (const ValueId input : dequantize.inputs) {
      constant &= input == kNoValue || graph_.value(input).is_constant();
      inputs.push_back(input == kNoValue ? Tensor() : graph_.value(input).constant);
    }
    if (!constant) return LowerKernel(dequantize).WithPrefix(graph_.Describe(dequantize) + ": ");
    auto real = EvaluateNode(dequantize, graph_.opset(), inputs);
    if (!real.ok()) return real.status().WithPrefix(graph_.Describe(dequantize) + ": ");
    Value& value = graph_.value(output);
    value.constant = std::move((*real)[0]);
    storages_[static_cast<size_t>(output)] = {{ConstantBuffer(value.constant), 0, value.dtype,
                                               ContiguousStrides(value.dims), BytesOf(value.dims, value.dtype)}};
    return {};
  }

  // The QuantizeLinear nodes that a contraction can write on the way: constant scales per tensor or per channel, 8
  // bits.
  struct QuantizedOutput {
    ValueId value = kNoValue;
    EpilogueOutput output;
  };
  std::vector<QuantizedOutput> QuantizedReaders(ValueId value, size_t channel_axis) const {
    std::vector<QuantizedOutput> found;
    for (const NodeId reader : uses_[static_cast<size_t>(value)]) {
      const Node& node = graph_.node(reader);
      if (!IsQuantize(node) || node.input(0) != value) continue;
      const Result<QuantizeParams> params = QuantizeParamsOf(graph_, node);
      if (!params.ok() || SizeOf(params->dtype) != 1 || found.size() + 1 >= Epilogue::kMaxOutputs) continue;
      EpilogueOutput output{params->dtype, params->scales[0], params->zero_points[0]};
      if (!params->per_tensor()) {
        if (static_cast<size_t>(params->axis) != channel_axis) continue;
        output.channels = ChannelQuantizer::Create(params->scales, params->zero_points);
      }
      found.push_back({node.output(0), std::move(output)});
    }
    return found;
  }

  // What an integer contraction writes: its value as float where anything needs that, and its 8-bit forms.
  struct IntegerOutputs {
    std::vector<ValueId> values;
    std::vector<EpilogueOutput> outputs;
    std::string names;
  };
  IntegerOutputs OutputsOf(const FusionGroup& group) const {
    IntegerOutputs result;
    const size_t axis = ChannelAxis(graph_.node(group.anchor), DimsOf(group.output).size());
    const auto quantized = QuantizedReaders(group.output, axis);
    size_t readers = uses_[static_cast<size_t>(group.output)].size();
    if (graph_.IsOutput(group.output) || readers > quantized.size()) {
      result.values.push_back(group.output);
      result.outputs.push_back({ActivationType(group.output)});
    }
    for (const auto& q : quantized) {
      result.values.push_back(q.value);
      result.outputs.push_back(q.output);
      result.names += "+Quantize";
    }
    return result;
  }

  struct IntegerEpilogue {
    Epilogue epilogue;
    std::vector<Slot> operands;
    std::string names;
  };

  // The bias and the fused functions. Operands are read as integers where they lie so.
  Result<IntegerEpilogue> MakeIntegerEpilogue(const FusionGroup& group, const Tensor& bias,
                                              const std::vector<float>& multiplier, const Dims& strides,
                                              const IntegerOutputs& outputs) {
    IntegerEpilogue result;
    Epilogue& epilogue = result.epilogue;
    epilogue.multiplier = multiplier;
    epilogue.bias.assign(multiplier.size(), 0.0f);
    if (bias.defined()) {
      const auto values = bias.values<float>();
      epilogue.bias.assign(values.begin(), values.end());
      result.names += "+Bias";
    }
    for (const auto& op : group.post_ops) {
      const Node& node = graph_.node(op.node);
      result.names += op.kind == PostOpKind::kRound ? "+Round" : "+" + node.op;
      EpilogueStage stage;
      if (op.kind == PostOpKind::kRound) {
        OCTAVO_ASSIGN(const QuantizeParams params, QuantizeParamsOf(graph_, node));
        stage.kind = EpilogueStage::Kind::kRound;
        stage.rounding = {params.dtype, params.scales[0], params.zero_points[0]};
      } else if (op.kind == PostOpKind::kUnary) {
        OCTAVO_ASSIGN(stage.unary, FindRowFunction(graph_, node));
      } else if (graph_.value(op.operand).dims != DimsOf(group.output)) {
        stage.kind = op.kind == PostOpKind::kAdd ? EpilogueStage::Kind::kAddChannel : EpilogueStage::Kind::kMulChannel;
        const auto values = graph_.value(op.operand).constant.values<float>();
        stage.channel.assign(values.begin(), values.end());
      } else {
        stage.kind = op.kind == PostOpKind::kAdd ? EpilogueStage::Kind::kAdd : EpilogueStage::Kind::kMul;
        stage.operand = static_cast<int>(epilogue.operands.size());
        if (stage.operand >= Epilogue::kMaxOperands) return Unsupported("too many operands");
        OCTAVO_RETURN_IF_ERROR(AddIntegerOperand(op.operand, node, strides, result));
      }
      epilogue.stages.push_back(std::move(stage));
    }
    epilogue.outputs = outputs.outputs;
    OCTAVO_RETURN_IF_ERROR(UseRoughFunctions(group, epilogue));
    result.names += outputs.names;
    return result;
  }

  // A function whose error is a small part of a step of everything that is written may be a rough one.
  Status UseRoughFunctions(const FusionGroup& group, Epilogue& epilogue) const {
    float step = std::numeric_limits<float>::infinity();
    for (const EpilogueOutput& output : epilogue.outputs) {
      if (SizeOf(output.dtype) != 1) return {};
      if (output.channels.empty()) step = std::min(step, output.scale);
      for (const float scale : output.channels.scales) step = std::min(step, scale);
    }
    float factor = 1;
    for (size_t i = epilogue.stages.size(); i-- > 0;) {
      EpilogueStage& stage = epilogue.stages[i];
      if (stage.kind == EpilogueStage::Kind::kMulChannel) {
        float largest = 0;
        for (const float f : stage.channel) largest = std::max(largest, std::abs(f));
        factor *= largest;
      } else if (stage.kind == EpilogueStage::Kind::kUnary) {
        if (!(kRoughError * factor <= step * kRoughShare)) return {};
        OCTAVO_ASSIGN(stage.unary, FindRoughRowFunction(graph_, graph_.node(group.post_ops[i].node)));
        return {};  // what comes before passes through a function
      } else if (stage.kind != EpilogueStage::Kind::kAdd && stage.kind != EpilogueStage::Kind::kAddChannel) {
        return {};
      }
    }
    return {};
  }

  Status AddIntegerOperand(ValueId value, const Node& reader, const Dims& strides, IntegerEpilogue& result) {
    const NodeId producer = graph_.value(value).producer;
    if (storages_[static_cast<size_t>(value)].empty() && producer != kNoNode && IsDequantize(graph_.node(producer))) {
      const Node& dequantize = graph_.node(producer);
      const Result<QuantizeParams> params = QuantizeParamsOf(graph_, dequantize);
      if (params.ok() && params->per_tensor() && SizeOf(params->dtype) == 1) {
        OCTAVO_ASSIGN(const Storage storage, Ensure(dequantize.input(0), params->dtype, strides));
        result.operands.push_back(SlotOf(storage));
        result.epilogue.operands.push_back({params->dtype, params->scales[0], params->zero_points[0]});
        return {};
      }
    }
    OCTAVO_RETURN_IF_ERROR(RequireReal(value, reader));  // its other input is what the group makes
    OCTAVO_ASSIGN(const Storage storage, Ensure(value, Primary(value).dtype, strides));
    result.operands.push_back(SlotOf(storage));
    result.epilogue.operands.push_back({storage.dtype, 1, 0});
    return {};
  }

  Status LowerIntegerGroup(const FusionGroup& group) {
    const Node& node = graph_.node(group.anchor);
    if (ElementCount(DimsOf(node.input(0))) == 0) return Unsupported("its sums are empty");
    OCTAVO_ASSIGN(const IntegerOperands operands, ReadIntegerOperands(graph_, node));
    if (operands.other != kNoValue) return LowerIntegerProduct(group, operands);
    std::vector<float> multiplier;
    for (const float scale : operands.weight_scales) multiplier.push_back(scale * operands.src_params.scales[0]);
    OCTAVO_ASSIGN(const Tensor bias, BiasOf(node, group, static_cast<int64_t>(multiplier.size())));
    const Dims& src_dims = DimsOf(node.input(0));
    const bool convolution = node.op == "Conv" || node.op == "ConvTranspose";
    if (convolution && (src_dims.size() < 3 || src_dims.size() > 4)) {
      return Unsupported("integer convolutions have 1 or 2 spatial axes");
    }
    const Dims& dst_dims = DimsOf(group.output);
    const Dims dst_strides = convolution ? ChannelsLastStrides(dst_dims) : ContiguousStrides(dst_dims);
    const Dims src_strides = convolution ? ChannelsLastStrides(src_dims) : ContiguousStrides(src_dims);
    const IntegerOutputs outputs = OutputsOf(group);
    OCTAVO_ASSIGN(IntegerEpilogue epilogue, MakeIntegerEpilogue(group, bias, multiplier, dst_strides, outputs));
    OCTAVO_ASSIGN(const Storage src, Ensure(operands.src, DType::kUInt8, src_strides));

    IntegerContractionSpec spec;
    spec.src_zero_point = operands.src_params.zero_points[0];
    spec.threads = options_.threads;
    spec.epilogue = epilogue.epilogue;
    spec.weights = operands.weights;
    std::vector<IntegerKernel> kernels;
    if (node.op == "ConvTranspose") {
      OCTAVO_ASSIGN(kernels, BuildIntegerPhases(node, spec, src_dims, dst_dims));
    } else {
      if (convolution) {
        spec.src_dims = src_dims;
        spec.dst_dims = dst_dims;
        spec.groups = node.Int("group", 1);
        OCTAVO_ASSIGN(spec.axes, ResolveConv(node, src_dims, operands.weights.dims));
      } else {
        const int64_t k = operands.weights.dims[1], n = operands.weights.dims[0];
        const int64_t m = ElementCount(dst_dims) / n;
        spec.src_dims = {1, k, m};
        spec.dst_dims = {1, n, m};
        spec.weights.dims = {n, k, 1};
        spec.axes.resize(1);
        spec.axes[0].input = spec.axes[0].output = m;
      }
      spec.operands.assign(epilogue.operands.size(), DensePlacement(spec.dst_dims));
      spec.outputs.assign(outputs.values.size(), DensePlacement(spec.dst_dims));
      OCTAVO_ASSIGN(IntegerKernel kernel, BuildIntegerContraction(std::move(spec), onednn_));
      kernels.push_back(std::move(kernel));
    }
    std::vector<Slot> inputs{SlotOf(src)};
    EmitInteger(group, std::move(kernels), std::move(inputs), epilogue, outputs, dst_strides);
    return {};
  }

  // A transposed convolution as plain ones that each write every stride-th pixel.
  Result<std::vector<IntegerKernel>> BuildIntegerPhases(const Node& node, const IntegerContractionSpec& common,
                                                        const Dims& src_dims, const Dims& dst_dims) {
    OCTAVO_ASSIGN(const std::vector<WindowAxis> axes, ResolveConvTranspose(node, src_dims, common.weights.dims));
    OCTAVO_ASSIGN(Tensor weights, Tensor::Create(DType::kFloat32, common.weights.dims));
    std::copy(common.weights.values.begin(), common.weights.values.end(), weights.mutable_values<float>().begin());
    OCTAVO_ASSIGN(std::vector<TransposedPhase> phases, SplitTransposed(axes, weights));
    if (phases.empty()) return Unsupported("this transposed convolution does not split into plain ones");
    const PixelPlacement dense = DensePlacement(dst_dims);
    std::vector<IntegerKernel> kernels;
    for (auto& phase : phases) {
      IntegerContractionSpec spec = common;
      spec.src_dims = src_dims;
      spec.dst_dims = {dst_dims[0], dst_dims[1]};
      for (const auto& axis : phase.axes) spec.dst_dims.push_back(axis.output);
      PixelPlacement place = dense;
      place.column *= axes.back().stride;
      place.offset = phase.first.back() * dense.column;
      if (axes.size() == 2) {
        place.row *= axes[0].stride;
        place.offset += phase.first[0] * dense.row;
      }
      spec.axes = phase.axes;
      spec.weights.dims = phase.weights.dims();
      spec.weights.values.clear();
      for (const float w : phase.weights.values<float>()) spec.weights.values.push_back(static_cast<int16_t>(w));
      spec.operands.assign(spec.epilogue.operands.size(), place);
      spec.outputs.assign(spec.epilogue.outputs.size(), place);
      OCTAVO_ASSIGN(IntegerKernel kernel, BuildIntegerContraction(std::move(spec), onednn_));
      kernels.push_back(std::move(kernel));
    }
    return kernels;
  }

  Status LowerIntegerProduct(const FusionGroup& group, const IntegerOperands& operands) {
    const Node& node = graph_.node(group.anchor);
    const Dims& dst_dims = DimsOf(group.output);
    if (group.bias != kNoValue || DimsOf(node.output(0)) != dst_dims) return Unsupported("a biased product");
    if (DimsOf(node.input(0)).size() < 2 || DimsOf(node.input(1)).size() < 2) return Unsupported("a vector");
    const Dims dst_strides = ContiguousStrides(dst_dims);
    const float scale = operands.src_params.scales[0] * operands.other_params.scales[0];
    const std::vector<float> multiplier(static_cast<size_t>(dst_dims.back()), scale);
    const IntegerOutputs outputs = OutputsOf(group);
    OCTAVO_ASSIGN(IntegerEpilogue epilogue, MakeIntegerEpilogue(group, Tensor(), multiplier, dst_strides, outputs));
    IntegerProductSpec spec;
    OCTAVO_RETURN_IF_ERROR(RequireStored(operands.src));
    OCTAVO_RETURN_IF_ERROR(RequireStored(operands.other));
    const Storage a = Primary(operands.src), b = Primary(operands.other);
    spec.a_dims = DimsOf(operands.src);
    spec.b_dims = DimsOf(operands.other);
    spec.a_strides = a.strides;
    spec.b_strides = b.strides;
    spec.dst_dims = dst_dims;
    spec.a_zero_point = operands.src_params.zero_points[0];
    spec.b_zero_point = operands.other_params.zero_points[0];
    spec.epilogue = epilogue.epilogue;
    spec.threads = options_.threads;
    OCTAVO_ASSIGN(IntegerKernel kernel, BuildIntegerProduct(std::move(spec), onednn_));
    std::vector<IntegerKernel> kernels;
    kernels.push_back(std::move(kernel));
    EmitInteger(group, std::move(kernels), {SlotOf(a), SlotOf(b)}, epilogue, outputs, dst_strides);
    return {};
  }

  Status RequireStored(ValueId value) const {
    return storages_[static_cast<size_t>(value)].empty() ? Unsupported("its integers are not in memory") : Status();
  }

  void EmitInteger(const FusionGroup& group, std::vector<IntegerKernel> kernels, std::vector<Slot> inputs,
                   const IntegerEpilogue& epilogue, const IntegerOutputs& outputs, const Dims& strides) {
    const Node& anchor = graph_.node(group.anchor);
    std::vector<Slot> targets;
    for (size_t i = 0; i < outputs.values.size(); ++i) {
      targets.push_back(SlotOf(Define(outputs.values[i], outputs.outputs[i].dtype, strides)));
    }
    inputs.insert(inputs.end(), epilogue.operands.begin(), epilogue.operands.end());
    const int64_t macs = CountMacs(graph_, anchor);
    plan_.info.int8_macs += macs;
    for (auto& built : kernels) {
      Step step;
      step.info.node = anchor.name;
      step.info.op = anchor.op + epilogue.names;
      step.info.kernel = std::move(built.implementation);
      step.info.precision = "int8";
      step.info.output_dims = DimsOf(group.output);
      step.info.macs = macs / static_cast<int64_t>(kernels.size());
      step.info.bytes_read = WeightBytes(anchor, DType::kInt8) / static_cast<int64_t>(kernels.size());
      step.kernel = std::move(built.kernel);
      AddStep(std::move(step), inputs, targets);
    }
  }

  Status LowerMember(NodeId id, const std::unordered_map<NodeId, const FusionGroup*>& ends,
                     const std::vector<bool>& grouped) {
    const Node& node = graph_.node(id);
    if (IsDone(node)) return {};
    if (auto end = ends.find(id); end != ends.end()) return LowerGroup(*end->second);
    return grouped[static_cast<size_t>(id)] ? Status() : LowerNode(node);
  }

  // ---- attention on integers ----

  struct StoredBytes {
    ValueId value = kNoValue;
    ByteOperand operand;
  };
  // The bytes behind an input, with the strides that `lay` makes of their dims and of how they lie.
  template <typename Lay>
  Result<StoredBytes> ReadStoredBytes(const Node& reader, size_t input, size_t least_rank, const char* why_not,
                                      const Lay& lay) const {
    OCTAVO_ASSIGN(const DequantizedBytes bytes, ReadDequantizedBytes(graph_, reader, input));
    OCTAVO_RETURN_IF_ERROR(RequireStored(bytes.value));
    const Dims& dims = DimsOf(bytes.value);
    if (dims.size() < least_rank) return Unsupported(why_not);
    Storage storage = Primary(bytes.value);
    storage.strides = lay(dims, storage.strides);
    return StoredBytes{bytes.value,
                       {OperandOf(bytes.value, storage), bytes.params.scales[0], bytes.params.zero_points[0]}};
  }

  // A step that reads them and writes `output`.
  Status AddAttentionStep(ValueId output, Step step, const std::array<StoredBytes, 3>& operands, DType dtype,
                          const Dims& strides) {
    std::vector<Slot> slots;
    for (const StoredBytes& bytes : operands) {
      const Operand& operand = bytes.operand.operand;
      OCTAVO_ASSIGN(const Storage storage, Ensure(bytes.value, operand.dtype, operand.strides));
      slots.push_back(SlotOf(storage));
    }
    step.info.precision = "int8";
    AddStep(std::move(step), std::move(slots), {SlotOf(Define(output, dtype, strides))});
    return {};
  }

  void FindIntegerAttention(const std::vector<FusionGroup>& groups) {
    std::unordered_map<NodeId, const FusionGroup*> by_anchor;
    for (const auto& group : groups) by_anchor[group.anchor] = &group;
    const auto is_alone = [&](NodeId id) {
      const auto group = by_anchor.find(id);
      return group != by_anchor.end() && group->second->post_ops.empty() && group->second->bias == kNoValue;
    };
    for (DeferredSoftmax& found : FindDeferredSoftmax(graph_, uses_)) {
      const bool watched = std::any_of(found.inside.begin(), found.inside.end(),
                                       [&](NodeId id) { return watched_.count(graph_.node(id).output(0)) != 0; });
      if (watched || !is_alone(found.scores) || !is_alone(found.product)) continue;
      inside_attention_.insert(found.inside.begin(), found.inside.end());
      attention_.emplace(found.quotient, std::move(found));
    }
  }

  Status LowerIntegerAttention(const DeferredSoftmax& found) {
    const Node &scores = graph_.node(found.scores), &product = graph_.node(found.product),
               &quotient = graph_.node(found.quotient);
    const auto channels_inside = [](const Dims& dims, const Dims& strides) {
      if (strides.back() == 1) return strides;
      return dims.size() < 3 ? ContiguousStrides(dims) : TokensOutside(dims, 2);
    };
    const auto keys_or_channels_inside = [](const Dims& dims, const Dims& strides) {
      return strides.back() == 1 || strides[dims.size() - 2] == 1 ? strides : KeysOutside(dims);
    };
    std::array<StoredBytes, 3> operands;
    OCTAVO_ASSIGN(operands[0], ReadStoredBytes(scores, 0, 2, "a vector", channels_inside));
    OCTAVO_ASSIGN(operands[1], ReadStoredBytes(scores, 1, 2, "a vector", keys_or_channels_inside));
    OCTAVO_ASSIGN(operands[2], ReadStoredBytes(product, 1, 2, "a vector", channels_inside));
    const std::optional<Tail> tail = FindTail(quotient, std::nullopt);
    const ValueId output = tail ? tail->output : quotient.output(0);
    const Dims& dims = DimsOf(output);
    const DType dtype = tail ? graph_.value(output).dtype : ActivationType(output);
    const bool is_output = output_index_.count(output) != 0;
    const Dims strides = is_output || dims.size() < 3 ? ContiguousStrides(dims) : TokensOutside(dims, 2);
    OCTAVO_ASSIGN(const QuantizeParams numerators, QuantizeParamsOf(graph_, graph_.node(found.quantize)));
    IntegerAttentionSpec spec;
    spec.q = operands[0].operand;
    spec.k = operands[1].operand;
    spec.v = operands[2].operand;
    spec.numerator_scale = numerators.scales[0];
    spec.numerator_zero_point = numerators.zero_points[0];
    spec.numerator_dtype = numerators.dtype;
    spec.y = {true, dtype, dims, strides, nullptr};
    if (tail) {
      spec.y_scale = tail->quantized.scale;
      spec.y_zero_point = tail->quantized.zero_point;
    }
    spec.threads = options_.threads;
    OCTAVO_ASSIGN(BoundKernel kernel, BindIntegerAttention(onednn_, spec));
    Step step;
    step.info = DescribeStep(quotient, fmt::format("Attention int8 onednn {}", OneDnnIsa()), dtype);
    step.info.op = tail ? "Attention+Quantize" : "Attention";
    step.info.macs = CountMacs(graph_, scores) + CountMacs(graph_, product);
    plan_.info.int8_macs += step.info.macs;
    step.kernel = std::move(kernel);
    return AddAttentionStep(output, std::move(step), operands, dtype, strides);
  }

  // (..., depth, keys) with each key's channels behind each other.
  static Dims KeysOutside(const Dims& dims) {
    Dims strides = ContiguousStrides(dims);
    strides[dims.size() - 2] = 1;
    strides[dims.size() - 1] = dims[dims.size() - 2];
    return strides;
  }

  static bool IsLinearAttention(const Node& node) {
    return node.domain == kOctavoDomain && node.op == "LinearAttention";
  }

  // Linear attention on the integers behind its operands. Its result is a quotient: reals.
  Status LowerIntegerLinearAttention(const Node& node) {
    const Dims& dims = DimsOf(node.output(0));
    std::array<StoredBytes, 3> operands;
    for (size_t i = 0; i < 3; ++i) {
      OCTAVO_ASSIGN(operands[i], ReadStoredBytes(node, i, 3, "it has no heads", NeighbouringChannels));
    }
    const Dims& keys = DimsOf(operands[1].value);
    if (ElementCount(dims) == 0 || ElementCount(keys) == 0) return Unsupported("its sums are empty");
    const DType dtype = ActivationType(node.output(0));
    const Dims strides = TokensOutside(dims, 1);
    OCTAVO_ASSIGN(BoundKernel kernel,
                  BindIntegerLinearAttention(operands[0].operand, operands[1].operand, operands[2].operand,
                                             {true, dtype, dims, strides, nullptr}, node.Float("epsilon", 1e-5f),
                                             options_.threads));
    Step step;
    step.info = DescribeStep(node, fmt::format("LinearAttention int8 {}", FastKernelIsa()), dtype);
    step.kernel = std::move(kernel);
    // Queries meet sums that are wider than 8 bits: only keys times values count.
    plan_.info.int8_macs += ElementCount(dims) / dims.back() * keys[keys.size() - 2] * keys.back();
    return AddAttentionStep(node.output(0), std::move(step), operands, dtype, strides);
  }

  static Dims NeighbouringChannels(const Dims& dims, const Dims& strides) {
    const size_t channels = dims.size() - 2;
    return strides[channels] == 1 || dims[channels] == 1 ? strides : TokensOutside(dims, 1);
  }

  // ---- everything else ----

  Status LowerNode(const Node& node) {
    if (IsLinearAttention(node)) {
      Status integer = LowerIntegerLinearAttention(node);
      if (integer.ok() || integer.code() != ErrorCode::kUnsupported) return integer;
      float_reasons_[static_cast<NodeId>(&node - graph_.nodes.data())] = integer.message();
    }
    OCTAVO_RETURN_IF_ERROR(RequireReals(node));
    if (IsQuantize(node)) NoteUnfused(node, WhyAlone(node));
    if (IsDequantize(node)) NoteUnfused(node, WhyReal(node));
    if (RoundedTo(node) == DType::kBFloat16 && OneDnnHasBFloat16() && ElementCount(DimsOf(node.output(0))) > 0) {
      return LowerRounding(node);
    }
    if (node.has_input(0) && !graph_.value(node.input(0)).is_constant()) {
      if (TryView(node, Primary(node.input(0)))) return {};
      const bool is_inside = output_index_.count(node.output(0)) == 0 && ElementCount(DimsOf(node.output(0))) > 0;
      if (node.Is("Reshape") && is_inside) return LowerReshape(node);
      if (node.domain.empty() && (node.op == "AveragePool" || node.op == "MaxPool" || node.op == "GlobalAveragePool")) {
        Status status = LowerPooling(node);
        if (status.ok() || status.code() != ErrorCode::kUnsupported) return status;
      }
    }
    return LowerKernel(node);
  }

  // The rounded value is a bfloat16 form of the one before, in the order in which its first reader wants it: nothing
  // where that was written so, else one copy.
  Status LowerRounding(const Node& node) {
    OCTAVO_ASSIGN(Storage rounded, Ensure(node.input(0), DType::kBFloat16, OperandStrides(node)));
    storages_[static_cast<size_t>(node.output(0))].push_back(std::move(rounded));
    return {};
  }

  Dims OperandStrides(const Node& rounding) const {
    const ValueId value = rounding.output(0);
    const Dims &dims = DimsOf(value), &strides = Primary(rounding.input(0)).strides;
    const std::vector<NodeId>& readers = uses_[static_cast<size_t>(value)];
    if (readers.empty()) return DenseLike(dims, strides);
    const Node& reader = graph_.node(readers[0]);
    if (reader.Is("Conv") || reader.Is("ConvTranspose")) return ChannelsLastStrides(dims);
    if (reader.Is("Gemm") || (reader.Is("MatMul") && graph_.value(reader.input(1)).is_constant())) {
      return ContiguousStrides(dims);
    }
    // What lies there already is read as it is, and a copy leaves no gaps.
    const Dims dense = Primary(rounding.input(0)).dtype == DType::kBFloat16 ? strides : DenseLike(dims, strides);
    if (reader.Is("MatMul") && dims.size() >= 2) {
      return IsMatrixReadable(dims, dense) ? dense : ContiguousStrides(dims);
    }
    return dense;
  }

  std::string WhyAlone(const Node& quantize) const {
    const Value& value = graph_.value(quantize.input(0));
    if (value.producer == kNoNode) return "it reads a graph input";
    const Node& producer = graph_.node(value.producer);
    const auto reason = float_reasons_.find(value.producer);
    if (IsLinearAttention(producer) && reason == float_reasons_.end()) {
      return fmt::format("{} computes on integers and divides in float", graph_.Describe(producer));
    }
    return fmt::format("{} computes in float{}", graph_.Describe(producer),
                       reason == float_reasons_.end() ? "" : ": " + reason->second);
  }

  // One copy into rows, of which the reshaped value is a view: fast for every type, where no kernel of the op is.
  Status LowerReshape(const Node& node) {
    const ValueId input = node.input(0);
    OCTAVO_ASSIGN(const Storage rows, Ensure(input, Primary(input).dtype, ContiguousStrides(DimsOf(input))));
    return TryView(node, rows) ? Status() : LowerKernel(node);
  }

  // By value: a form of a value may move when those of others are written.
  bool TryView(const Node& node, const Storage base) {
    auto views = ViewsOf(graph_, node, base.strides);
    if (!views) return false;
    for (size_t i = 0; i < views->size(); ++i) {
      const ValueId output = node.output(i);
      if (output == kNoValue) continue;
      Storage view = base;
      view.offset += (*views)[i].offset;
      view.strides = std::move((*views)[i].strides);
      view.bytes = BytesOf(DimsOf(output), view.dtype);
      storages_[static_cast<size_t>(output)].push_back(std::move(view));
    }
    return true;
  }

  Status LowerPooling(const Node& node) {
    const Dims &src_dims = DimsOf(node.input(0)), &dst_dims = DimsOf(node.output(0));
    if (node.outputs.size() > 1 || src_dims.size() < 3 || src_dims.size() > 5 || ElementCount(dst_dims) == 0)
      return Unsupported("pooling");
    if (graph_.value(node.input(0)).dtype != DType::kFloat32) return Unsupported("pooling type");
    PoolingSpec spec;
    std::vector<WindowAxis> axes;
    spec.src_dims = src_dims;
    spec.dst_dims = dst_dims;
    // What lies beyond the padding in ceil mode counts differently in ONNX and oneDNN: the generic kernel does that.
    if (node.Int("ceil_mode", 0) != 0) return Unsupported("ceil mode");
    if (node.op == "GlobalAveragePool") {
      for (size_t d = 2; d < src_dims.size(); ++d) {
        WindowAxis whole;
        whole.kernel = whole.input = src_dims[d];
        whole.output = 1;
        axes.push_back(whole);
      }
    } else {
      OCTAVO_ASSIGN(axes, ResolvePool(node, src_dims));
    }
    spec.geometry = GeometryOf(axes, false);
    if (node.op == "MaxPool") {
      spec.kind = PoolingSpec::Kind::kMax;
    } else {
      spec.kind = node.Int("count_include_pad", 0) != 0 ? PoolingSpec::Kind::kAverageIncludePad
                                                        : PoolingSpec::Kind::kAverageExcludePad;
    }
    spec.dtype = bf16_kernels_ && Primary(node.input(0)).dtype == DType::kBFloat16 ? ActivationType(node.output(0))
                                                                                   : DType::kFloat32;
    OCTAVO_ASSIGN(const Storage src, Ensure(node.input(0), spec.dtype, ChannelsLastStrides(src_dims)));
    OCTAVO_ASSIGN(OneDnnKernel built, onednn_.Pooling(spec));
    Step step;
    step.info = DescribeStep(node, std::move(built.implementation), spec.dtype);
    step.kernel = std::move(built.kernel);
    AddStep(std::move(step), {SlotOf(src)},
            {SlotOf(Define(node.output(0), spec.dtype, ChannelsLastStrides(dst_dims)))});
    return {};
  }

  // Constant weights that the step reads beside its operands, in the type that they are packed in.
  int64_t WeightBytes(const Node& anchor, DType packed) const {
    const ValueId weights = anchor.input(1);
    if (weights == kNoValue) return 0;
    const NodeId producer = graph_.value(weights).producer;
    const bool constant =
        graph_.value(weights).is_constant() || (producer != kNoNode && IsDequantize(graph_.node(producer)) &&
                                                graph_.value(graph_.node(producer).input(0)).is_constant());
    return constant ? BytesOf(DimsOf(weights), packed) : 0;
  }

  StepInfo DescribeStep(const Node& node, std::string kernel, DType dtype) const {
    StepInfo info;
    info.node = node.name;
    info.op = node.op;
    info.kernel = std::move(kernel);
    info.precision = PrecisionName(dtype);
    if (node.output(0) != kNoValue) info.output_dims = DimsOf(node.output(0));
    info.macs = CountMacs(graph_, node);
    return info;
  }

  // Strides for an output when the kernel writes any: what its readers will like best.
  Dims PreferredStrides(const Node& node, ValueId output) const {
    const Dims& dims = DimsOf(output);
    if (output_index_.count(output) != 0) return ContiguousStrides(dims);
    if (IsLinearAttention(node) && dims.size() >= 3) return TokensOutside(dims, 1);
    if (node.domain == kOctavoDomain && node.op == "Attention" && dims.size() >= 4) return TokensOutside(dims, 2);
    const OpTraits* traits = FindOp(node.domain, node.op);
    const bool keeps_order =
        traits != nullptr && (traits->op_class == OpClass::kElementwise || traits->op_class == OpClass::kReduction ||
                              node.op == "Concat" || node.op == "Resize" || node.op == "Pad");
    if (keeps_order) {
      for (ValueId input : node.inputs) {
        if (input == kNoValue || graph_.value(input).is_constant() || DimsOf(input).size() != dims.size()) continue;
        if (traits->op_class == OpClass::kElementwise && DimsOf(input) != dims) continue;
        return DenseLike(dims, Primary(input).strides);
      }
    }
    return ContiguousStrides(dims);
  }

  // Heads gathered inside each token: (B, H, D, N) or (B, H, N, D) lies as (B, N, H, D), so that the Transpose and
  // Reshape that join the heads cost nothing. `token` counts the token axis from the end.
  static Dims TokensOutside(const Dims& dims, size_t token) {
    const size_t rank = dims.size(), n = rank - token, d = token == 1 ? rank - 2 : rank - 1, h = rank - 3;
    std::vector<int> order;
    for (size_t i = 0; i < h; ++i) order.push_back(static_cast<int>(i));
    order.push_back(static_cast<int>(n));
    order.push_back(static_cast<int>(h));
    order.push_back(static_cast<int>(d));
    return StridesInOrder(dims, order);
  }

  // ---- what a kernel quantizes behind its node ----

  // The only reader of a value is a QuantizeLinear to 8 bits with constant scales, or a Mul by constants per channel
  // before one.
  struct Tail {
    QuantizedTail quantized;
    ValueId output = kNoValue;
    NodeId mul = kNoNode;
    std::string names;
  };
  NodeId OnlyReaderOf(ValueId value) const {
    const std::vector<NodeId>& readers = uses_[static_cast<size_t>(value)];
    return readers.size() == 1 && !graph_.IsOutput(value) ? readers[0] : kNoNode;
  }

  // `axis`: of the node's channels, where it has such; no Mul is taken along otherwise.
  std::optional<Tail> FindTail(const Node& node, std::optional<size_t> axis) const {
    if (node.outputs.size() != 1 || options_.precision == Precision::kFloat16) return std::nullopt;
    Tail tail;
    ValueId value = node.output(0);
    NodeId reader = OnlyReaderOf(value);
    if (reader != kNoNode && axis && graph_.node(reader).Is("Mul")) {
      std::optional<std::vector<float>> factor = ChannelFactors(graph_.node(reader), value, *axis);
      if (!factor) return std::nullopt;
      tail.quantized.factor = std::move(*factor);
      tail.mul = reader;
      tail.names = "+Mul";
      value = graph_.node(reader).output(0);
      reader = OnlyReaderOf(value);
    }
    if (reader == kNoNode || !IsQuantize(graph_.node(reader)) || graph_.node(reader).input(0) != value) {
      return std::nullopt;
    }
    const Result<QuantizeParams> params = QuantizeParamsOf(graph_, graph_.node(reader));
    if (!params.ok() || !params->per_tensor() || SizeOf(params->dtype) != 1) return std::nullopt;
    tail.quantized.scale = params->scales[0];
    tail.quantized.zero_point = params->zero_points[0];
    tail.output = graph_.node(reader).output(0);
    tail.names += "+Quantize";
    return tail;
  }

  // What a Mul multiplies `value` by, one number for each entry of `axis`.
  std::optional<std::vector<float>> ChannelFactors(const Node& mul, ValueId value, size_t axis) const {
    if (mul.inputs.size() != 2 || DimsOf(mul.output(0)) != DimsOf(value)) return std::nullopt;
    const ValueId other = mul.input(0) == value ? mul.input(1) : mul.input(0);
    if (other == value || graph_.value(other).dtype != DType::kFloat32) return std::nullopt;
    const Dims& dims = DimsOf(value);
    return ChannelValues(graph_.value(other), static_cast<int64_t>(dims.size()), static_cast<int64_t>(axis),
                         dims[axis]);
  }

  static std::optional<size_t> ChannelAxisOf(const Node& node, const Dims& dims) {
    if (node.op == "LayerNorm") {
      const int64_t axis = WrapAxis(node.Int("axis", -1), static_cast<int64_t>(dims.size()));
      return axis < 0 ? std::nullopt : std::optional<size_t>(static_cast<size_t>(axis));
    }
    return node.op == "GroupNorm" && dims.size() > 1 ? std::optional<size_t>(1) : std::nullopt;
  }

  // A node and what is quantized behind it in one step. Unsupported where no kernel does that.
  Status LowerWithTail(const Node& node, BindFn fast) {
    if (!TakesQuantizedTail(fast) || node.output(0) == kNoValue) return Unsupported("no tail");
    const std::optional<Tail> tail = FindTail(node, ChannelAxisOf(node, DimsOf(node.output(0))));
    if (!tail) return Unsupported("no tail");
    const std::string name = fmt::format("{} {}", node.op, FastKernelIsa());
    Status status = LowerChannelMul(node, *tail);
    if (!status.ok() && status.code() == ErrorCode::kUnsupported) status = TryKernel(node, fast, bf16_, name, &*tail);
    if (status.ok() && tail->mul != kNoNode) absorbed_.insert(tail->mul);
    return status;
  }

  // A Mul by constants per channel that is only quantized: rows of channels in one pass.
  Status LowerChannelMul(const Node& node, const Tail& tail) {
    if (!node.Is("Mul") || node.inputs.size() != 2) return Unsupported("no Mul");
    for (const ValueId value : node.inputs) {
      const Dims& dims = DimsOf(value);
      if (graph_.value(value).is_constant() || dims.size() < 2) continue;
      const Storage& x = Primary(value);
      for (const size_t axis : {size_t{1}, dims.size() - 1}) {
        if (x.strides[axis] != 1) continue;
        std::optional<std::vector<float>> factor = ChannelFactors(node, value, axis);
        if (!factor) continue;
        const Dims strides = PreferredStrides(node, node.output(0));
        const DType dtype = graph_.value(tail.output).dtype;
        const EpilogueOutput form{dtype, tail.quantized.scale, tail.quantized.zero_point};
        OCTAVO_ASSIGN(BoundKernel kernel,
                      BindChannelQuantize(OperandOf(value, x), {true, dtype, dims, strides, nullptr}, axis,
                                          std::move(*factor), form, options_.threads));
        Step step;
        step.info = DescribeStep(node, fmt::format("Mul {}", FastKernelIsa()), dtype);
        step.info.op += tail.names;
        step.kernel = std::move(kernel);
        AddStep(std::move(step), {SlotOf(x)}, {SlotOf(Define(tail.output, dtype, strides))});
        return {};
      }
    }
    return Unsupported("no factors per channel");
  }

  Status LowerKernel(const Node& node) {
    bool empty = true;
    for (ValueId output : node.outputs) empty &= output == kNoValue || ElementCount(DimsOf(output)) == 0;
    if (empty) {
      for (ValueId output : node.outputs) {
        if (output != kNoValue) Define(output, graph_.value(output).dtype, ContiguousStrides(DimsOf(output)));
      }
      return {};
    }
    if (bf16_kernels_ && node.domain == kOctavoDomain && node.op == "Attention") {
      const auto bind = [this](const BindContext& context) { return BindBFloat16Attention(onednn_, context); };
      Status status = TryKernel(node, bind, true, fmt::format("Attention onednn {}", OneDnnIsa()));
      if (status.ok() || status.code() != ErrorCode::kUnsupported) return status;
    }
    if (BindFn fast = FindFastKernel(node.domain, node.op)) {
      Status tail = LowerWithTail(node, fast);
      if (tail.ok() || tail.code() != ErrorCode::kUnsupported) return tail;
      const bool narrow = std::any_of(node.outputs.begin(), node.outputs.end(),
                                      [this](ValueId output) { return output != kNoValue && IsNarrow(output); });
      if (bf16_ || narrow) {
        Status status = TryKernel(node, fast, true, fmt::format("{} {}", node.op, FastKernelIsa()));
        if (status.ok() || status.code() != ErrorCode::kUnsupported) return status;
      }
      Status status = TryKernel(node, fast, false, fmt::format("{} {}", node.op, FastKernelIsa()));
      if (status.ok() || status.code() != ErrorCode::kUnsupported) return status;
    }
    BindFn generic = FindGenericKernel(node.domain, node.op);
    if (generic == nullptr) return Unsupported("no kernel computes it");
    return TryKernel(node, generic, false, "generic");
  }

  // Binds `bind` to the node's operands as they lie; `narrow`: bfloat16 activations are read and written as such.
  // `tail`: the kernel writes that in the place of the node's output.
  Status TryKernel(const Node& node, const std::function<Result<BoundKernel>(const BindContext&)>& bind, bool narrow,
                   std::string name, const Tail* tail = nullptr) {
    std::vector<Operand> inputs, outputs;
    std::vector<Storage> sources;
    for (ValueId input : node.inputs) {
      if (input == kNoValue) {
        inputs.emplace_back();
        sources.emplace_back();
        continue;
      }
      const Storage& primary = Primary(input);
      Storage wanted = primary;
      if (!narrow && primary.dtype == DType::kBFloat16 && graph_.value(input).dtype == DType::kFloat32) {
        wanted.dtype = DType::kFloat32;
        wanted.strides = DenseLike(DimsOf(input), primary.strides);
      }
      inputs.push_back(OperandOf(input, wanted));
      sources.push_back(std::move(wanted));
    }
    std::vector<DType> types;
    std::vector<Dims> strides;
    for (ValueId output : node.outputs) {
      if (output == kNoValue) {
        outputs.emplace_back();
        types.push_back(DType::kUndefined);
        strides.emplace_back();
        continue;
      }
      const DType real = narrow ? ActivationType(output) : graph_.value(output).dtype;
      types.push_back(tail != nullptr ? graph_.value(tail->output).dtype : real);
      strides.push_back(PreferredStrides(node, output));
      outputs.push_back({true, types.back(), DimsOf(output), strides.back(), nullptr});
    }
    OCTAVO_ASSIGN(BoundKernel kernel, bind({node, graph_.opset(), inputs, outputs, options_.threads,
                                            tail == nullptr ? nullptr : &tail->quantized}));

    std::vector<Slot> input_slots, output_slots;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.inputs[i] == kNoValue) {
        input_slots.emplace_back();
        continue;
      }
      OCTAVO_ASSIGN(const Storage storage, Ensure(node.inputs[i], sources[i].dtype, sources[i].strides));
      input_slots.push_back(SlotOf(storage));
    }
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) {
        output_slots.emplace_back();
        continue;
      }
      const ValueId output = tail == nullptr ? node.outputs[i] : tail->output;
      output_slots.push_back(SlotOf(Define(output, types[i], std::move(strides[i]))));
    }
    Step step;
    step.info = DescribeStep(node, std::move(name), types.empty() ? DType::kUndefined : types[0]);
    if (tail != nullptr) step.info.op += tail->names;
    step.kernel = std::move(kernel);
    AddStep(std::move(step), std::move(input_slots), std::move(output_slots));
    return {};
  }

  // ---- results ----

  // Graph outputs that no step wrote straight into the caller's memory are copied there at the end.
  Status StoreOutputs() {
    for (size_t i = 0; i < output_count_; ++i) {
      const ValueId value = graph_.outputs[i];
      const Value& v = graph_.value(value);
      plan_.outputs.push_back({v.dtype, v.dims});
      bool done = ElementCount(v.dims) == 0;
      for (const auto& form : storages_[static_cast<size_t>(value)]) {
        const Buffer& buffer = plan_.buffers[static_cast<size_t>(form.buffer)];
        done |= buffer.kind == Buffer::Kind::kOutput && buffer.external == static_cast<int>(i);
      }
      if (done) continue;
      if (storages_[static_cast<size_t>(value)].empty())
        return InternalError(fmt::format("output '{}' was never made", v.name));
      const Storage from = Primary(value);
      Storage to{NewBuffer(Buffer::Kind::kOutput, 0), 0, v.dtype, ContiguousStrides(v.dims), from.bytes};
      plan_.buffers[static_cast<size_t>(to.buffer)].external = static_cast<int>(i);
      OCTAVO_ASSIGN(BoundKernel copy, BindCopy(OperandOf(value, from), OperandOf(value, to), options_.threads));
      Step step;
      step.info.node = v.name;
      step.info.op = "Output";
      step.info.kernel = fmt::format("copy {}", FastKernelIsa());
      step.info.precision = PrecisionName(v.dtype);
      step.info.output_dims = v.dims;
      step.kernel = std::move(copy);
      AddStep(std::move(step), {SlotOf(from)}, {SlotOf(to)});
    }
    return {};
  }

  Plan& plan_;
  Graph& graph_;
  const CompileOptions& options_;
  OneDnnBuilder onednn_;
  bool bf16_ = false, bf16_kernels_ = false;
  std::vector<std::vector<Storage>> storages_;  // per value; the first is how it was made
  size_t output_count_ = 0;                     // of graph_.outputs; what follows is watched
  std::unordered_map<ValueId, int> output_index_;
  std::unordered_multimap<ValueId, size_t> watched_;  // not yet handed over
  std::unordered_map<NodeId, NodeId> bias_nodes_;
  std::vector<std::vector<NodeId>> uses_;
  std::vector<bool> narrow_;  // by value; empty without bfloat16 kernels
  std::unordered_map<const Node*, DType> operand_types_;
  std::unordered_map<NodeId, DeferredSoftmax> attention_;  // by the node that makes its result
  std::unordered_set<NodeId> inside_attention_;
  std::unordered_set<NodeId> absorbed_;                    // nodes that a kernel did behind an earlier one
  std::unordered_map<NodeId, std::string> float_reasons_;  // why an anchor does not compute on integers
};

}  // namespace

Result<std::unique_ptr<Plan>> CompilePlan(Graph graph, const CompileOptions& options, PackedWeights& weights) {
  auto plan = std::make_unique<Plan>();
  plan->graph = std::move(graph);
  OCTAVO_RETURN_IF_ERROR(Lowering(*plan, options, weights).Run());
  plan->arena_bytes = PlaceBuffers(plan->buffers);
  plan->scratch_offset = plan->arena_bytes;
  size_t scratch = 0;
  for (const auto& step : plan->steps) scratch = std::max(scratch, step.kernel.scratch_bytes);
  plan->arena_bytes += static_cast<int64_t>((scratch + 63) / 64 * 64);
  for (auto& step : plan->steps) {
    // The kernels' floats hold halves.
    if (options.precision == Precision::kFloat16 && step.info.precision == "fp32") step.info.precision = "fp16";
    plan->info.steps.push_back(step.info);
  }
  plan->info.arena_bytes = plan->arena_bytes;
  return plan;
}

}  // namespace octavo
