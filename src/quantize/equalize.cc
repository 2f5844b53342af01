#include "quantize/equalize.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "passes/rewriter.h"
#include "quantize/channel_moments.h"
#include "quantize/placement.h"
#include "quantize/scale_flow.h"

namespace octavo {
namespace {

// Maxima are p-norms, so that every channel that is nearly the largest counts and the noise has a slope everywhere.
constexpr int kRangeNorm = 16, kWeightNorm = 8;
// 2^12 is beyond any outlier seen (reach 24 times e^(3 * 0.7) is 2^7.6) and far from where products would overflow.
constexpr double kMaxOctaves = 12;
constexpr int kSteps = 250;

bool IsDepthwise(const Graph& graph, const Node& node) {
  return node.Is("Conv") && node.Int("group", 1) > 1 && graph.value(node.input(1)).dims[1] == 1;
}

// A contraction's weights by output channel and channel of its group's operand, windows folded.
struct FoldedWeights {
  int64_t outputs = 0, inputs_per_group = 0, groups = 1, window = 1;
  std::vector<float> largest, square;  // [outputs][inputs_per_group]: max |w|, sum of w^2

  int64_t outputs_per_group() const { return outputs / groups; }
  // The operand's first channel that output `o` reads.
  int64_t FirstInput(int64_t o) const { return o / outputs_per_group() * inputs_per_group; }
};

FoldedWeights Fold(const Graph& graph, const Node& node) {
  const Tensor& tensor = graph.value(node.input(1)).constant;
  const Dims& dims = tensor.dims();
  FoldedWeights folded;
  folded.groups = node.Int("group", 1);
  const bool transposed =
      node.Is("ConvTranspose") || node.Is("MatMul") || (node.Is("Gemm") && node.Int("transB", 0) == 0);
  for (size_t d = 2; d < dims.size(); ++d) folded.window *= dims[d];
  folded.outputs = transposed ? dims[1] * folded.groups : dims[0];
  folded.inputs_per_group = transposed ? dims[0] / folded.groups : dims[1];
  const auto size = static_cast<size_t>(folded.outputs * folded.inputs_per_group);
  folded.largest.assign(size, 0);
  folded.square.assign(size, 0);
  const std::span<const float> values = tensor.values<float>();
  const int64_t out_per_group = folded.outputs_per_group();
  for (int64_t row = 0; row < dims[0]; ++row) {
    for (int64_t column = 0; column < dims[1]; ++column) {
      const int64_t output = transposed ? row / folded.inputs_per_group * out_per_group + column : row;
      const int64_t input = transposed ? row % folded.inputs_per_group : column;
      const auto at = static_cast<size_t>(output * folded.inputs_per_group + input);
      for (int64_t k = 0; k < folded.window; ++k) {
        const float w = values[static_cast<size_t>((row * dims[1] + column) * folded.window + k)];
        folded.largest[at] = std::max(folded.largest[at], std::abs(w));
        folded.square[at] += w * w;
      }
    }
  }
  return folded;
}

// One quantized tensor: scales of its channels, and the contractions that read it.
struct Operand {
  std::vector<ScaleSum> scales;          // by channel, over free variables
  std::vector<double> low, high, power;  // max(-x), max(x), mean x^2 by channel, before scaling
  struct Reader {
    FoldedWeights weights;
    std::vector<double> column;  // by channel: mean over outputs of sum w^2 / output power
    std::vector<float> shares;   // (max |w| / the row's largest)^p
    std::vector<double> row;     // by output: the row's largest^2 / output power
  };
  std::vector<Reader> readers;
};

// The noise that INT8 adds to contractions' results, relative to their power and averaged over output channels:
//   activations   D^2 / 12 / 255^2  *  sum_c w_c^2 / s_c^2          D: the range of s_c x_c over all channels
//   weights       M_o^2 / 12 / 127^2  *  window * sum_c s_c^2 x_c^2   M_o: the largest |w_oc| / s_c
// as a function of log2 s.
class NoiseModel {
 public:
  explicit NoiseModel(std::vector<Operand> operands) : operands_(std::move(operands)) {}

  // Adds the noise's slope to `slope`, by variable.
  double Evaluate(const std::vector<double>& octaves, std::vector<double>& slope) const {
    double noise = 0;
    for (const Operand& operand : operands_) {
      const size_t channels = operand.scales.size();
      std::vector<double> e(channels), slope_of(channels, 0.0);
      for (size_t c = 0; c < channels; ++c) e[c] = OctavesOf(operand.scales[c], octaves);
      noise += EvaluateOperand(operand, e, slope_of);
      for (size_t c = 0; c < channels; ++c) {
        for (const auto& [variable, times] : operand.scales[c]) {
          slope[static_cast<size_t>(variable)] += times * slope_of[c];
        }
      }
    }
    return noise;
  }

 private:
  // The p-norm of value * 2^e, and each channel's share of its p-th power.
  static double SoftMax(const std::vector<double>& values, const std::vector<double>& e, std::vector<double>& shares) {
    double largest = 0;
    for (size_t c = 0; c < e.size(); ++c) largest = std::max(largest, values[c] * std::exp2(e[c]));
    shares.assign(e.size(), 0);
    if (largest <= 0) return 0;
    double sum = 0;
    for (size_t c = 0; c < e.size(); ++c) {
      shares[c] = std::pow(values[c] * std::exp2(e[c]) / largest, kRangeNorm);
      sum += shares[c];
    }
    for (double& share : shares) share /= sum;
    return largest * std::pow(sum, 1.0 / kRangeNorm);
  }

  static double EvaluateOperand(const Operand& operand, const std::vector<double>& e, std::vector<double>& slope) {
    const size_t channels = e.size();
    std::vector<double> high_shares, low_shares;
    const double high = SoftMax(operand.high, e, high_shares), low = SoftMax(operand.low, e, low_shares);
    const double range = high + low;
    if (range <= 0) return 0;
    double total = 0;
    for (const Operand::Reader& reader : operand.readers) {
      double sum = 0;
      for (size_t c = 0; c < channels; ++c) sum += reader.column[c] * std::exp2(-2 * e[c]);
      const double step = range * range / (12.0 * 255 * 255);
      const double activations = step * sum;
      std::vector<double> by_weights(channels, 0.0);
      const double weights = EvaluateWeights(operand, reader, e, by_weights);
      total += std::log(activations + weights + kFloor);
      const double outer = std::log(2.0) / (activations + weights + kFloor);
      for (size_t c = 0; c < channels; ++c) {
        const double range_slope = 2 * activations * (high * high_shares[c] + low * low_shares[c]) / range;
        const double column_slope = 2 * step * reader.column[c] * std::exp2(-2 * e[c]);
        slope[c] += outer * (range_slope - column_slope + by_weights[c]);
      }
    }
    return total;
  }

  static double EvaluateWeights(const Operand& operand, const Operand::Reader& reader, const std::vector<double>& e,
                                std::vector<double>& slope) {
    const FoldedWeights& w = reader.weights;
    std::vector<double> shrink(e.size()), energy(e.size());
    for (size_t c = 0; c < e.size(); ++c) {
      shrink[c] = std::exp2(-kWeightNorm * e[c]);
      energy[c] = static_cast<double>(w.window) * operand.power[c] * std::exp2(2 * e[c]);
    }
    double total = 0;
    const double factor = 1.0 / (12.0 * 127 * 127 * static_cast<double>(w.outputs));
    const auto per_group = static_cast<size_t>(w.inputs_per_group);
    for (int64_t group = 0; group < w.groups; ++group) {
      const auto first = static_cast<size_t>(group) * per_group;
      double sum = 0, rows = 0;
      for (size_t i = 0; i < per_group; ++i) sum += energy[first + i];
      for (int64_t k = 0; k < w.outputs_per_group(); ++k) {
        const auto o = static_cast<size_t>(group * w.outputs_per_group() + k);
        const float* shares = &reader.shares[o * per_group];
        double norm = 0;
        for (size_t i = 0; i < per_group; ++i) norm += shares[i] * shrink[first + i];
        if (norm <= 0) continue;
        const double square = reader.row[o] * std::pow(norm, 2.0 / kWeightNorm);
        rows += square;
        const double outer = 2 * factor * square * sum / norm;
        for (size_t i = 0; i < per_group; ++i) slope[first + i] -= outer * shares[i] * shrink[first + i];
      }
      total += factor * rows * sum;
      for (size_t i = 0; i < per_group; ++i) slope[first + i] += 2 * factor * rows * energy[first + i];
    }
    return total;
  }

  // Below -120 dB nothing is worth moving.
  static constexpr double kFloor = 1e-12;
  std::vector<Operand> operands_;
};

// Adam, from 1 for every scale; 0.3 octaves a step at first, none at the end.
std::vector<double> Minimize(const NoiseModel& model, size_t variables) {
  std::vector<double> octaves(variables, 0.0), first(variables, 0.0), second(variables, 0.0);
  double first_left = 1, second_left = 1;
  for (int step = 0; step < kSteps; ++step) {
    std::vector<double> slope(variables, 0.0);
    model.Evaluate(octaves, slope);
    first_left *= 0.9;
    second_left *= 0.99;
    const double rate = 0.3 * 0.5 * (1 + std::cos(std::acos(-1.0) * step / kSteps));
    for (size_t v = 0; v < variables; ++v) {
      first[v] += 0.1 * (slope[v] - first[v]);
      second[v] += 0.01 * (slope[v] * slope[v] - second[v]);
      const double size = std::sqrt(second[v] / (1 - second_left));
      if (size < 1e-12) continue;
      octaves[v] -= rate * first[v] / (1 - first_left) / size;
      octaves[v] = std::clamp(octaves[v], -kMaxOctaves, kMaxOctaves);
    }
  }
  return octaves;
}

int OutputAxis(const Graph& graph, const Node& node) {
  const bool is_window = node.Is("Conv") || node.Is("ConvTranspose");
  return is_window ? 1 : static_cast<int>(graph.value(node.output(0)).dims.size()) - 1;
}
int InputAxis(const Graph& graph, const Node& node) {
  const bool is_window = node.Is("Conv") || node.Is("ConvTranspose");
  return is_window ? 1 : static_cast<int>(graph.value(node.input(0)).dims.size()) - 1;
}

class Equalizer {
 public:
  Equalizer(const Graph& graph, const Dataset& data, const Policy& policy, const EqualizeOptions& options)
      : graph_(graph), data_(data), policy_(policy), options_(options) {}

  Result<Equalization> Run() {
    OCTAVO_ASSIGN(placement_, Place(graph_, policy_));
    ScaleFlowOptions flow_options;
    flow_options.contractions = options_.kind == EqualizeKind::kStreams;
    flow_options.multipliers = options_.kind == EqualizeKind::kNorms;
    if (Migrates()) flow_options.migrations = MigrationPoints();
    OCTAVO_ASSIGN(flow_, SolveScaleFlow(graph_, flow_options));
    OCTAVO_RETURN_IF_ERROR(Measure());
    std::vector<Operand> operands = MakeOperands();
    if (operands.empty()) return Equalization{};
    octaves_ = Minimize(NoiseModel(std::move(operands)), static_cast<size_t>(flow_.algebra.variables()));
    if (options_.whole_octaves) {
      for (double& octave : octaves_) octave = std::round(octave);
    }
    Equalization result;
    result.rewrites = MakeScaleRewrites(graph_, flow_, octaves_);
    for (const double octave : octaves_) result.channels += octave != 0 ? 1 : 0;
    return result;
  }

 private:
  bool Migrates() const {
    return options_.kind == EqualizeKind::kDepthwise || options_.kind == EqualizeKind::kActivation;
  }

  // Contractions with weights among an edge's consumers that read it as their one operand.
  std::vector<NodeId> Readers(const Placement::Edge& edge) const {
    std::vector<NodeId> readers;
    for (const NodeId id : edge.consumers) {
      const Node& node = graph_.node(id);
      const bool reads =
          node.input(0) == edge.tensor && node.inputs.size() >= 2 && graph_.value(node.input(1)).is_constant();
      const bool known = node.Is("Conv") || node.Is("ConvTranspose") ||
                         ((node.Is("MatMul") || (node.Is("Gemm") && node.Int("transA", 0) == 0)) &&
                          graph_.value(node.input(1)).dims.size() == 2);
      if (reads && known && graph_.value(node.input(0)).dims.size() >= 2) readers.push_back(id);
    }
    return readers;
  }

  std::vector<MigrationPoint> MigrationPoints() const {
    std::vector<MigrationPoint> points;
    for (const Placement::Edge& edge : placement_.edges) {
      if (graph_.IsInput(edge.tensor)) continue;  // pictures have no outlier channels
      MigrationPoint point{edge.tensor, {}, 1, {}};
      for (const NodeId id : Readers(edge)) {
        const bool is_depthwise = IsDepthwise(graph_, graph_.node(id));
        if (is_depthwise != (options_.kind == EqualizeKind::kDepthwise)) continue;
        point.channel_axis = InputAxis(graph_, graph_.node(id));
        point.consumers.push_back(id);
      }
      if (!point.consumers.empty()) points.push_back(std::move(point));
    }
    return points;
  }

  Status Measure() {
    std::map<ValueId, int> axes;
    for (const Placement::Edge& edge : placement_.edges) {
      for (const NodeId id : Readers(edge)) {
        axes.emplace(edge.tensor, InputAxis(graph_, graph_.node(id)));
        axes.emplace(graph_.node(id).output(0), OutputAxis(graph_, graph_.node(id)));
      }
    }
    std::vector<ObservedTensor> observed;
    for (const auto& [tensor, axis] : axes) observed.push_back({tensor, axis, {}});
    if (observed.empty()) return {};
    OCTAVO_ASSIGN(moments_, MeasureChannels(graph_, observed, data_, options_.samples, options_.threads));
    return {};
  }

  std::vector<Operand> MakeOperands() {
    std::vector<Operand> operands;
    for (const Placement::Edge& edge : placement_.edges) {
      // Consumers may see different scales: those that a Mul stands in front of, and others.
      std::map<std::vector<int>, std::vector<NodeId>> by_scales;
      for (const NodeId id : Readers(edge)) {
        const int axis = InputAxis(graph_, graph_.node(id));
        const int64_t channels = graph_.value(edge.tensor).dims[static_cast<size_t>(axis)];
        by_scales[ChannelIds(flow_.LabelsFor(edge.tensor, id), axis, channels)].push_back(id);
      }
      for (const auto& [ids, readers] : by_scales) {
        Operand operand = MakeOperand(edge.tensor, ids);
        bool is_free = false;
        for (const ScaleSum& sum : operand.scales) is_free |= !sum.empty();
        if (!is_free) continue;
        for (const NodeId id : readers) operand.readers.push_back(MakeReader(id, operand));
        operands.push_back(std::move(operand));
      }
    }
    return operands;
  }

  Operand MakeOperand(ValueId tensor, const std::vector<int>& ids) {
    const ChannelMoments& moments = moments_.at(tensor);
    Operand operand;
    for (size_t c = 0; c < ids.size(); ++c) {
      operand.scales.push_back(flow_.algebra.Resolve(ids[c]));
      operand.low.push_back(std::max(0.0f, -moments.low[c]));
      operand.high.push_back(std::max(0.0f, moments.high[c]));
    }
    operand.power = moments.mean_square;
    return operand;
  }

  Operand::Reader MakeReader(NodeId id, const Operand& operand) const {
    Operand::Reader reader;
    reader.weights = Fold(graph_, graph_.node(id));
    const FoldedWeights& w = reader.weights;
    const ChannelMoments& result = moments_.at(graph_.node(id).output(0));
    reader.column.assign(operand.scales.size(), 0.0);
    reader.shares.assign(w.largest.size(), 0.0f);
    reader.row.assign(static_cast<size_t>(w.outputs), 0.0);
    for (int64_t o = 0; o < w.outputs; ++o) {
      const double power = result.mean_square[static_cast<size_t>(o)];
      if (power <= 0) continue;
      const auto begin = static_cast<size_t>(o * w.inputs_per_group);
      const auto end = begin + static_cast<size_t>(w.inputs_per_group);
      const float largest = *std::max_element(&w.largest[begin], &w.largest[begin] + (end - begin));
      if (largest <= 0) continue;
      reader.row[static_cast<size_t>(o)] = double{largest} * largest / power;
      for (size_t i = begin; i < end; ++i) {
        reader.shares[i] = std::pow(w.largest[i] / largest, static_cast<float>(kWeightNorm));
        reader.column[static_cast<size_t>(w.FirstInput(o)) + i - begin] +=
            double{w.square[i]} / power / static_cast<double>(w.outputs);
      }
    }
    return reader;
  }

  const Graph& graph_;
  const Dataset& data_;
  const Policy& policy_;
  const EqualizeOptions options_;
  Placement placement_;
  ScaleFlow flow_;
  std::map<ValueId, ChannelMoments> moments_;
  std::vector<double> octaves_;
};

}  // namespace

Result<Equalization> Equalize(const Graph& graph, const Dataset& data, const Policy& policy,
                              const EqualizeOptions& options) {
  return Equalizer(graph, data, policy, options).Run();
}

}  // namespace octavo
