#include "quantize/scale_flow.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "graph/op_table.h"
#include "kernels/kernel.h"
#include "passes/rewriter.h"

namespace octavo {
namespace {

// Sums travel through view ops as floats, which are exact up to here; a graph of more has its views pinned.
constexpr int kMaxExactId = 1 << 24;
// Views of more elements are pinned rather than expanded: attention's are below.
constexpr int64_t kMaxViewElements = int64_t{1} << 24;

// Offset of `index` (over any dims that `dims` broadcasts to, aligned at the right) in row-major `dims`.
size_t OffsetIn(const Dims& dims, const Dims& index) {
  const size_t lead = index.size() - dims.size();
  int64_t offset = 0;
  for (size_t d = 0; d < dims.size(); ++d) offset = offset * dims[d] + (dims[d] == 1 ? 0 : index[lead + d]);
  return static_cast<size_t>(offset);
}

// Calls visit(index, position) for every index of `dims` in row-major order.
template <typename Visit>
void ForEachIndex(const Dims& dims, Visit visit) {
  const int64_t count = ElementCount(dims);
  Dims index(dims.size(), 0);
  for (int64_t position = 0; position < count; ++position) {
    visit(index, static_cast<size_t>(position));
    for (size_t d = dims.size(); d-- > 0;) {
      if (++index[d] < dims[d]) break;
      index[d] = 0;
    }
  }
}

Dims Broadcast(const Dims& a, const Dims& b) {
  const Dims& longer = a.size() >= b.size() ? a : b;
  const Dims& shorter = a.size() >= b.size() ? b : a;
  Dims dims = longer;
  for (size_t d = 0; d < shorter.size(); ++d) {
    int64_t& size = dims[longer.size() - shorter.size() + d];
    size = std::max(size, shorter[d]);
  }
  return dims;
}

ScaleLabels Uniform(size_t rank, int id) { return {Dims(rank, 1), {id}}; }

// Drops dimensions along which nothing varies.
ScaleLabels Compressed(ScaleLabels labels) {
  for (size_t d = 0; d < labels.dims.size(); ++d) {
    if (labels.dims[d] == 1) continue;
    Dims kept = labels.dims;
    kept[d] = 1;
    bool varies = false;
    ForEachIndex(labels.dims, [&](const Dims& index, size_t position) {
      Dims first = index;
      first[d] = 0;
      varies |= labels.ids[position] != labels.ids[OffsetIn(labels.dims, first)];
    });
    if (varies) continue;
    ScaleLabels smaller{kept, std::vector<int>(static_cast<size_t>(ElementCount(kept)))};
    ForEachIndex(kept,
                 [&](const Dims& index, size_t at) { smaller.ids[at] = labels.ids[OffsetIn(labels.dims, index)]; });
    labels = std::move(smaller);
  }
  return labels;
}

bool IsFloat(const Graph& graph, ValueId id) { return id != kNoValue && graph.value(id).dtype == DType::kFloat32; }

bool IsZero(const ScaleLabels& labels) {
  return std::all_of(labels.ids.begin(), labels.ids.end(), [](int id) { return id == 0; });
}

// The weights of a contraction with one activation: where its channels lie.
struct WeightLayout {
  int in_axis = 1, out_axis = 1;  // of the activations
  int64_t groups = 1, in_per_group = 1, out_channels = 1;
  bool transposed = false;  // (I, O/g, ...) instead of (O, I/g, ...)
  bool is_product = false;  // MatMul, Gemm: rank 2
};

class FlowSolver {
 public:
  FlowSolver(const Graph& graph, const ScaleFlowOptions& options) : graph_(graph), options_(options) {
    flow_.labels.resize(graph.values.size());
    flow_.migrations = options.migrations;
  }

  Result<ScaleFlow> Run() {
    for (const ValueId input : graph_.inputs) Set(input, Uniform(Rank(input), 0));
    for (NodeId id = 0; id < static_cast<NodeId>(graph_.nodes.size()); ++id) {
      if (graph_.node(id).removed) continue;
      OCTAVO_RETURN_IF_ERROR(Visit(id));
      for (const ValueId output : graph_.node(id).outputs) AddMigration(output);
    }
    for (const ValueId output : graph_.outputs) Pin(output);
    return std::move(flow_);
  }

 private:
  size_t Rank(ValueId id) const { return graph_.value(id).dims.size(); }
  const Dims& DimsOf(ValueId id) const { return graph_.value(id).dims; }
  bool IsConstant(ValueId id) const { return id != kNoValue && graph_.value(id).is_constant(); }
  ScaleLabels& At(ValueId id) { return flow_.labels[static_cast<size_t>(id)]; }
  void Set(ValueId id, ScaleLabels labels) {
    if (IsFloat(graph_, id)) At(id) = std::move(labels);
  }

  void AddMigration(ValueId tensor) {
    for (MigrationPoint& point : flow_.migrations) {
      if (point.tensor != tensor) continue;
      point.labels = FreshAlong(tensor, static_cast<size_t>(point.channel_axis));
    }
  }

  ScaleLabels FreshAlong(ValueId value, size_t axis) {
    ScaleLabels labels{Dims(Rank(value), 1), {}};
    labels.dims[axis] = DimsOf(value)[axis];
    for (int64_t c = 0; c < labels.dims[axis]; ++c) labels.ids.push_back(flow_.algebra.Fresh());
    return labels;
  }

  ScaleLabels Read(NodeId node, ValueId value) { return flow_.LabelsFor(value, node); }

  void PinLabels(const ScaleLabels& labels) {
    for (const int id : labels.ids) flow_.algebra.Equate(id, 0);
  }
  void Pin(ValueId value) {
    if (IsFloat(graph_, value) && !IsConstant(value)) PinLabels(At(value));
  }
  void PinAll(const Node& node) {
    for (const ValueId input : node.inputs) Pin(input);
    SetAll(node, 0);
  }
  void SetAll(const Node& node, int id) {
    for (const ValueId output : node.outputs) {
      if (output != kNoValue) Set(output, Uniform(Rank(output), id));
    }
  }

  // Equal along every axis that `keep` does not name.
  ScaleLabels Merged(const ScaleLabels& labels, const std::vector<bool>& keep) {
    Dims dims = labels.dims;
    for (size_t d = 0; d < dims.size(); ++d) dims[d] = keep[d] ? dims[d] : 1;
    if (dims == labels.dims) return labels;
    ScaleLabels merged{dims, std::vector<int>(static_cast<size_t>(ElementCount(dims)), -1)};
    ForEachIndex(labels.dims, [&](const Dims& index, size_t position) {
      int& id = merged.ids[OffsetIn(dims, index)];
      if (id < 0) id = labels.ids[position];
      flow_.algebra.Equate(id, labels.ids[position]);
    });
    return merged;
  }
  ScaleLabels MergedExcept(const ScaleLabels& labels, size_t axis) {
    std::vector<bool> keep(labels.dims.size(), false);
    if (axis < keep.size()) keep[axis] = true;
    return Merged(labels, keep);
  }

  ScaleLabels Combine(const ScaleLabels& a, const ScaleLabels& b, int times) {
    ScaleLabels sum{Broadcast(a.dims, b.dims), {}};
    ForEachIndex(sum.dims, [&](const Dims& index, size_t) {
      sum.ids.push_back(flow_.algebra.Add(a.ids[OffsetIn(a.dims, index)], b.ids[OffsetIn(b.dims, index)], times));
    });
    return sum;
  }

  Status Visit(NodeId id) {
    const Node& node = graph_.node(id);
    const OpTraits* traits = FindOp(node.domain, node.op);
    if (traits == nullptr || !node.domain.empty() || !IsFloat(graph_, node.output(0))) {
      PinAll(node);
      return {};
    }
    if (node.op == "MatMul" && !IsConstant(node.input(0)) && !IsConstant(node.input(1))) {
      Product(id);
    } else if (traits->quantizable_inputs != 0) {
      Contraction(id);
    } else if (node.op == "Add" || node.op == "Sub") {
      Addition(id);
    } else if (node.op == "Mul" || node.op == "Div") {
      Multiplication(id);
    } else if (IsHomogeneous(node)) {
      Set(node.output(0), Read(id, node.input(0)));
    } else if (IsPooling(node)) {
      Pool(id);
    } else if (node.op == "ReduceMean" || node.op == "ReduceSum") {
      Reduce(id);
    } else if (traits->op_class == OpClass::kView) {
      return View(id);
    } else {
      PinAll(node);
    }
    return {};
  }

  bool IsHomogeneous(const Node& node) const {
    if (node.op == "Cast") return IsFloat(graph_, node.input(0));
    if (node.op == "Neg" || node.op == "Identity") return true;
    if (options_.signs) return false;
    if (node.op == "Clip") {
      return node.has_input(1) && !node.has_input(2) && IsConstant(node.input(1)) &&
             IsUniform(graph_.value(node.input(1)), 0);
    }
    return node.op == "Relu" || node.op == "LeakyRelu" || node.op == "Abs";
  }

  // Ops that mix along space alone.
  bool IsPooling(const Node& node) const {
    const bool pools = node.op == "MaxPool" || node.op == "AveragePool" || node.op == "GlobalAveragePool" ||
                       node.op == "GlobalMaxPool" || node.op == "Resize";
    if (!pools || Rank(node.input(0)) < 3) return false;
    if (options_.signs && node.op != "AveragePool" && node.op != "GlobalAveragePool") return false;
    // Puts numbers of its own where it looks outside.
    if (node.String("coordinate_transformation_mode", "") == "tf_crop_and_resize") return false;
    const Dims& in = DimsOf(node.input(0));
    const Dims& out = DimsOf(node.output(0));
    return out.size() == in.size() && out[0] == in[0] && out[1] == in[1] && node.outputs.size() == 1;
  }
  void Pool(NodeId id) {
    const Node& node = graph_.node(id);
    Set(node.output(0), MergedExcept(Read(id, node.input(0)), 1));
  }

  void Reduce(NodeId id) {
    const Node& node = graph_.node(id);
    const auto axes = ReduceAxes(graph_, node);
    if (!axes) return PinAll(node);
    std::vector<bool> keep(Rank(node.input(0)), true);
    for (const int64_t axis : *axes) {
      const int64_t wrapped = WrapAxis(axis, static_cast<int64_t>(keep.size()));
      if (wrapped < 0) return PinAll(node);
      keep[static_cast<size_t>(wrapped)] = false;
    }
    if (axes->empty()) keep.assign(keep.size(), false);
    ScaleLabels merged = Merged(Read(id, node.input(0)), keep);
    if (node.Int("keepdims", 1) == 0) {
      Dims dims;
      for (size_t d = 0; d < keep.size(); ++d) {
        if (keep[d]) dims.push_back(merged.dims[d]);
      }
      merged.dims = dims;
    }
    if (merged.dims.size() != Rank(node.output(0))) return PinAll(node);
    Set(node.output(0), std::move(merged));
  }

  static bool Layout(const Graph& graph, const Node& node, WeightLayout& layout) {
    const Dims& weights = graph.value(node.input(1)).dims;
    const auto rank = static_cast<int>(graph.value(node.input(0)).dims.size());
    if (node.op == "Conv" || node.op == "ConvTranspose") {
      if (weights.size() < 3) return false;
      layout.groups = node.Int("group", 1);
      layout.transposed = node.op == "ConvTranspose";
      layout.in_per_group = layout.transposed ? weights[0] / layout.groups : weights[1];
      layout.out_channels = layout.transposed ? weights[1] * layout.groups : weights[0];
      return true;
    }
    if (weights.size() != 2 || rank < 2 || (node.op != "MatMul" && node.op != "Gemm")) return false;
    if (node.Int("transA", 0) != 0) return false;
    layout.is_product = true;
    layout.in_axis = rank - 1;
    layout.out_axis = static_cast<int>(graph.value(node.output(0)).dims.size()) - 1;
    layout.transposed = node.Int("transB", 0) == 0;  // (I, O)
    layout.in_per_group = weights[layout.transposed ? 0 : 1];
    layout.out_channels = weights[layout.transposed ? 1 : 0];
    return true;
  }

  // Labels of a contraction's channels over its weights.
  static ScaleLabels OverWeights(const std::vector<int>& ids, const WeightLayout& layout, size_t rank, bool is_input) {
    const int64_t out_per_group = layout.out_channels / layout.groups;
    const int64_t rows = layout.transposed ? layout.in_per_group * layout.groups : layout.out_channels;
    const int64_t columns = layout.transposed ? out_per_group : layout.in_per_group;
    ScaleLabels labels{Dims(rank, 1), {}};
    labels.dims[0] = rows;
    labels.dims[1] = columns;
    const int64_t rows_per_group = rows / layout.groups;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < columns; ++column) {
        const bool by_row = is_input == layout.transposed;
        const int64_t channel = by_row ? row : row / rows_per_group * columns + column;
        labels.ids.push_back(ids[static_cast<size_t>(channel)]);
      }
    }
    return Compressed(std::move(labels));
  }

  void Contraction(NodeId id) {
    const Node& node = graph_.node(id);
    WeightLayout layout;
    const bool known = IsConstant(node.input(1)) && !IsConstant(node.input(0)) && IsFloat(graph_, node.input(1)) &&
                       (!node.has_input(2) || IsConstant(node.input(2))) && Layout(graph_, node, layout);
    if (!known) return PinAll(node);
    const ScaleLabels in = MergedExcept(Read(id, node.input(0)), static_cast<size_t>(layout.in_axis));
    const bool is_free = options_.contractions && (!node.has_input(2) || BiasIsPlain(node, layout));
    const ValueId output = node.output(0);
    const ScaleLabels out =
        is_free ? FreshAlong(output, static_cast<size_t>(layout.out_axis)) : Uniform(Rank(output), 0);
    Set(output, out);
    const size_t rank = Rank(node.input(1));
    ConstantRescale weights{id, 1, {}};
    const auto in_ids = ChannelIds(in, layout.in_axis, layout.in_per_group * layout.groups);
    const auto out_ids = ChannelIds(out, layout.out_axis, layout.out_channels);
    weights.terms.push_back({OverWeights(out_ids, layout, rank, false), 1});
    weights.terms.push_back({OverWeights(in_ids, layout, rank, true), -1});
    flow_.rescales.push_back(std::move(weights));
    if (!node.has_input(2) || !is_free) return;
    flow_.rescales.push_back({id, 2, {{{{layout.out_channels}, out_ids}, 1}}});
  }

  bool BiasIsPlain(const Node& node, const WeightLayout& layout) const {
    const Dims& dims = DimsOf(node.input(2));
    return !dims.empty() && dims.back() == layout.out_channels && ElementCount(dims) == layout.out_channels;
  }

  // A of (..., i, k) times B of (..., k, j): the sum over k needs one scale along k.
  void Product(NodeId id) {
    const Node& node = graph_.node(id);
    ScaleLabels a = Read(id, node.input(0)), b = Read(id, node.input(1));
    const size_t rank = Rank(node.output(0));
    if (Rank(node.input(0)) < 2 || Rank(node.input(1)) < 2) return PinAll(node);
    a.dims.insert(a.dims.begin(), rank - a.dims.size(), 1);
    b.dims.insert(b.dims.begin(), rank - b.dims.size(), 1);
    ScaleLabels out{Broadcast({a.dims.begin(), a.dims.end() - 2}, {b.dims.begin(), b.dims.end() - 2}), {}};
    out.dims.push_back(a.dims[rank - 2]);
    out.dims.push_back(b.dims[rank - 1]);
    const int64_t inner = std::max(a.dims[rank - 1], b.dims[rank - 2]);
    ForEachIndex(out.dims, [&](const Dims& index, size_t) {
      Dims at_a = index, at_b = index;
      int first = 0;
      for (int64_t k = 0; k < inner; ++k) {
        at_a[rank - 1] = at_b[rank - 2] = k;
        const int sum = flow_.algebra.Add(a.ids[OffsetIn(a.dims, at_a)], b.ids[OffsetIn(b.dims, at_b)]);
        if (k == 0) first = sum;
        flow_.algebra.Equate(first, sum);
      }
      out.ids.push_back(first);
    });
    Set(node.output(0), Compressed(std::move(out)));
  }

  void Addition(NodeId id) {
    const Node& node = graph_.node(id);
    const ValueId a = node.input(0), b = node.input(1);
    if (IsConstant(a) || IsConstant(b)) return AddConstant(id, IsConstant(a) ? 0 : 1);
    const ScaleLabels left = Read(id, a), right = Read(id, b);
    ScaleLabels out{Broadcast(left.dims, right.dims), {}};
    // Where an operand is broadcast, its one element has one scale.
    ForEachIndex(out.dims, [&](const Dims& index, size_t) {
      const int id_left = left.ids[OffsetIn(left.dims, index)];
      flow_.algebra.Equate(id_left, right.ids[OffsetIn(right.dims, index)]);
      out.ids.push_back(id_left);
    });
    Set(node.output(0), Compressed(std::move(out)));
  }

  // x + c: c takes x's scales, and must be able to differ where they do.
  void AddConstant(NodeId id, int constant) {
    const Node& node = graph_.node(id);
    const ValueId x = node.input(constant == 0 ? 1 : 0), c = node.input(static_cast<size_t>(constant));
    const ScaleLabels labels = Read(id, x);
    // One number for all (an epsilon) stays one number: patterns are recognized by it.
    if (ElementCount(DimsOf(c)) <= 1 || Rank(c) > Rank(x) || !IsFloat(graph_, c)) {
      PinLabels(labels);
      Set(node.output(0), Uniform(Rank(node.output(0)), 0));
      return;
    }
    std::vector<bool> keep(labels.dims.size(), false);
    const size_t lead = keep.size() - Rank(c);
    for (size_t d = 0; d < Rank(c); ++d) keep[lead + d] = DimsOf(c)[d] > 1;
    const ScaleLabels merged = Merged(labels, keep);
    ScaleLabels over = merged;
    over.dims.erase(over.dims.begin(), over.dims.begin() + static_cast<std::ptrdiff_t>(lead));
    flow_.rescales.push_back({id, constant, {{std::move(over), 1}}});
    Set(node.output(0), merged);
  }

  void Multiplication(NodeId id) {
    const Node& node = graph_.node(id);
    const ValueId a = node.input(0), b = node.input(1);
    const bool divides = node.op == "Div";
    if (!IsConstant(a) && !IsConstant(b)) {
      Set(node.output(0), Compressed(Combine(Read(id, a), Read(id, b), divides ? -1 : 1)));
      return;
    }
    if (divides && IsConstant(a)) return PinAll(node);
    const int constant = IsConstant(a) ? 0 : 1;
    const ValueId x = constant == 0 ? b : a, c = constant == 0 ? a : b;
    const ScaleLabels labels = Read(id, x);
    const ValueId output = node.output(0);
    const int axis = ChannelAxisOf(c, Rank(output));
    if (!options_.multipliers || divides || axis < 0 || Rank(x) != Rank(output) || !IsFloat(graph_, c)) {
      Set(output, labels);
      return;
    }
    // A factor per channel: whatever scales come in, it can make any others.
    const ScaleLabels merged = MergedExcept(labels, static_cast<size_t>(axis));
    const ScaleLabels out = FreshAlong(output, static_cast<size_t>(axis));
    const auto lead = static_cast<std::ptrdiff_t>(Rank(output) - Rank(c));
    ConstantRescale rescale{id, constant, {{out, 1}, {merged, -1}}};
    for (ConstantRescale::Term& term : rescale.terms) {
      term.labels.dims.erase(term.labels.dims.begin(), term.labels.dims.begin() + lead);
    }
    flow_.rescales.push_back(std::move(rescale));
    Set(output, out);
  }

  // The one axis, of `rank`, along which a constant varies; -1 where there is none or more than one.
  int ChannelAxisOf(ValueId constant, size_t rank) const {
    const Dims& dims = DimsOf(constant);
    if (dims.size() > rank) return -1;
    int axis = -1;
    for (size_t d = 0; d < dims.size(); ++d) {
      if (dims[d] == 1) continue;
      if (axis >= 0) return -1;
      axis = static_cast<int>(rank - dims.size() + d);
    }
    return axis;
  }

  // Moves the sums as the op moves elements, by its own kernel. Constants among the data have scale 1.
  Status View(NodeId id) {
    const Node& node = graph_.node(id);
    std::vector<Tensor> inputs;
    bool fits = node.Float("value", 0) == 0;  // old Pads would write it among the sums
    bool all_zero = true;
    for (const ValueId input : node.inputs) {
      const bool is_activation = IsFloat(graph_, input) && !IsConstant(input);
      if (is_activation) {
        const ScaleLabels labels = Read(id, input);
        all_zero &= IsZero(labels);
        fits &= ElementCount(DimsOf(input)) <= kMaxViewElements;
        fits &= std::all_of(labels.ids.begin(), labels.ids.end(), [](int sum) { return sum < kMaxExactId; });
      } else if (input != kNoValue && !IsConstant(input)) {
        fits = false;  // moves by computed indices
      }
    }
    for (const ValueId output : node.outputs) {
      fits &= output == kNoValue || ElementCount(DimsOf(output)) <= kMaxViewElements;
    }
    if (all_zero) {
      SetAll(node, 0);
      return {};
    }
    if (!fits) {
      PinAll(node);
      return {};
    }
    for (const ValueId input : node.inputs) inputs.push_back(AsTensor(id, input));
    OCTAVO_ASSIGN(const std::vector<Tensor> outputs, EvaluateNode(node, graph_.opset(), inputs));
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      ScaleLabels labels{outputs[i].dims(), {}};
      for (const float sum : outputs[i].values<float>()) labels.ids.push_back(static_cast<int>(sum));
      Set(node.outputs[i], Compressed(std::move(labels)));
    }
    return {};
  }

  Tensor AsTensor(NodeId id, ValueId input) {
    if (input == kNoValue) return {};
    if (!IsFloat(graph_, input)) return graph_.value(input).constant;
    const ScaleLabels labels = IsConstant(input) ? Uniform(Rank(input), 0) : Read(id, input);
    std::vector<float> sums;
    sums.reserve(static_cast<size_t>(ElementCount(DimsOf(input))));
    ForEachIndex(DimsOf(input), [&](const Dims& index, size_t) {
      sums.push_back(static_cast<float>(labels.ids[OffsetIn(labels.dims, index)]));
    });
    return Tensor::FromVector<float>(DimsOf(input), sums);
  }

  const Graph& graph_;
  const ScaleFlowOptions& options_;
  ScaleFlow flow_;
};

// 2^(times * labels); empty where all of it is 1.
std::vector<float> Factors(ScaleAlgebra& algebra, const ScaleLabels& labels, int times,
                           const std::vector<double>& octaves) {
  std::vector<float> factors;
  bool moves = false;
  for (const int id : labels.ids) {
    factors.push_back(static_cast<float>(std::exp2(times * OctavesOf(algebra.Resolve(id), octaves))));
    moves |= factors.back() != 1.0f;
  }
  if (!moves) factors.clear();
  return factors;
}

}  // namespace

double OctavesOf(const ScaleSum& sum, const std::vector<double>& octaves) {
  double total = 0;
  for (const auto& [variable, times] : sum) total += times * octaves[static_cast<size_t>(variable)];
  return total;
}

ScaleRewrites MakeScaleRewrites(const Graph& graph, ScaleFlow& flow, const std::vector<double>& octaves) {
  ScaleRewrites rewrites;
  for (const MigrationPoint& point : flow.migrations) {
    std::vector<float> factors = Factors(flow.algebra, point.labels, 1, octaves);
    if (factors.empty()) continue;
    MigrationRecipe& entry = rewrites.migrations.emplace_back();
    entry.tensor = graph.value(point.tensor).name;
    for (const NodeId id : point.consumers) entry.consumers.push_back(graph.node(id).name);
    entry.dims = point.labels.dims;
    entry.factors = std::move(factors);
  }
  for (const ConstantRescale& rescale : flow.rescales) {
    for (const ConstantRescale::Term& term : rescale.terms) {
      std::vector<float> factors = Factors(flow.algebra, term.labels, term.times, octaves);
      if (factors.empty()) continue;
      rewrites.rescales.push_back({graph.node(rescale.node).name, rescale.input, term.labels.dims, std::move(factors)});
    }
  }
  return rewrites;
}

std::vector<RescaleRecipe> MakeSignRewrites(const Graph& graph, ScaleFlow& flow, const std::vector<double>& odd) {
  std::vector<RescaleRecipe> rewrites;
  for (const ConstantRescale& rescale : flow.rescales) {
    for (const ConstantRescale::Term& term : rescale.terms) {
      std::vector<float> factors;
      for (const int id : term.labels.ids) {
        const auto sum = std::llround(OctavesOf(flow.algebra.Resolve(id), odd));
        factors.push_back(sum % 2 == 0 ? 1.0f : -1.0f);
      }
      if (std::count(factors.begin(), factors.end(), -1.0f) == 0) continue;
      rewrites.push_back({graph.node(rescale.node).name, rescale.input, term.labels.dims, std::move(factors)});
    }
  }
  return rewrites;
}

std::vector<int> ChannelIds(const ScaleLabels& labels, int axis, int64_t channels) {
  const bool varies = labels.dims[static_cast<size_t>(axis)] == channels && labels.ids.size() > 1;
  return varies ? labels.ids : std::vector<int>(static_cast<size_t>(channels), labels.ids[0]);
}

ScaleLabels ScaleFlow::LabelsFor(ValueId tensor, NodeId consumer) {
  const ScaleLabels& plain = labels[static_cast<size_t>(tensor)];
  for (const MigrationPoint& point : migrations) {
    if (point.tensor != tensor) continue;
    if (std::find(point.consumers.begin(), point.consumers.end(), consumer) == point.consumers.end()) continue;
    ScaleLabels sum{Broadcast(plain.dims, point.labels.dims), {}};
    ForEachIndex(sum.dims, [&](const Dims& index, size_t) {
      sum.ids.push_back(
          algebra.Add(plain.ids[OffsetIn(plain.dims, index)], point.labels.ids[OffsetIn(point.labels.dims, index)]));
    });
    return sum;
  }
  return plain;
}

Result<ScaleFlow> SolveScaleFlow(const Graph& graph, const ScaleFlowOptions& options) {
  return FlowSolver(graph, options).Run();
}

}  // namespace octavo
