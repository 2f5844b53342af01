#include "quantize/ada_round.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <string>

#include "base/parallel.h"
#include "base/rounding.h"
#include "engine/onednn.h"
#include "octavo/session.h"
#include "passes/rewrites.h"
#include "quantize/round_weights.h"
#include "quantize/weight_noise.h"
#include "quantize/window_rows.h"

namespace octavo {
namespace {

// Rows that a layer learns from, over all samples: so many per input, within bounds.
constexpr int64_t kRowsPerInput = 4, kLeastRows = 8192, kMostRows = 16384;
// Wider layers keep rounding to nearest: H of 6144 inputs takes 1 GB with its copies.
constexpr int64_t kMostInputs = 6144;
// How far a layer follows its samples: the ridge, times the diagonal of H, pulls towards the weights as they are; the
// share of d is how much of what earlier layers lost the layer makes up for. Each layer takes the best. Convolutions
// with thousands of positions a picture want little ridge, 257 tokens a picture that look alike want much.
struct Fit {
  double ridge = 0, pull = 0;
};
constexpr Fit kFits[] = {{0.01, 1}, {0.1, 1}, {1, 1}, {0.01, 0}, {0.1, 0}, {1, 0}};
constexpr Fit kUncompared{0.1, 1};
constexpr Fit kNearest{std::numeric_limits<double>::infinity(), 0};
// Every so many samples compare these, before all samples teach the layer.
constexpr size_t kCompareEvery = 4;
// Where the bias takes the mean, H is a covariance: a share of the squared mean stays in it, for other data's mean.
constexpr double kMeanShare = 1e-3;
constexpr int64_t kGramTile = 64;

struct Layer {
  std::string node;
  size_t weight = 0;  // its entry in the recipe
  int level = 0;      // contractions to be rounded on the longest way to it
  int64_t outputs = 0, inputs = 0, groups = 1;
  bool by_columns = false;  // weights are (inputs, outputs)
  bool takes_bias = false;

  int64_t outputs_per_group() const { return outputs / groups; }
};

// Moments of one group of a layer, and the rounding problem they make.
class GroupMoments {
 public:
  // `weights`: (outputs, inputs).
  GroupMoments(std::vector<float> weights, int64_t outputs, int64_t inputs)
      : outputs_(outputs), inputs_(inputs), weights_(std::move(weights)) {
    gram_.resize(static_cast<size_t>(inputs * inputs));
    pull_.resize(static_cast<size_t>(outputs * inputs));
    mean_.resize(static_cast<size_t>(inputs));
    missing_.resize(static_cast<size_t>(outputs));
  }

  int64_t rows() const { return rows_; }
  const std::vector<float>& weights() const { return weights_; }

  // `wanted`: the operand in float, overwritten; `seen`: as it arrives. Both (count, inputs).
  void Add(std::vector<float>& wanted, const std::vector<float>& seen, int64_t count, int threads) {
    for (size_t i = 0; i < seen.size(); ++i) wanted[i] -= seen[i];
    std::vector<float> missing(static_cast<size_t>(count * outputs_));
    MultiplyFloats({.m = count,
                    .k = inputs_,
                    .n = outputs_,
                    .a = wanted.data(),
                    .a_leading = inputs_,
                    .b = weights_.data(),
                    .b_leading = inputs_,
                    .b_transposed = true,
                    .c = missing.data(),
                    .c_leading = outputs_});
    AddProduct(seen, inputs_, seen, count, gram_, threads);
    AddProduct(missing, outputs_, seen, count, pull_, threads);
    AddSums(seen, mean_);
    AddSums(missing, missing_);
    rows_ += count;
  }

  // The other's rows, too.
  void Merge(const GroupMoments& other) {
    const auto add = [](std::vector<double>& sums, const std::vector<double>& more) {
      for (size_t i = 0; i < sums.size(); ++i) sums[i] += more[i];
    };
    add(gram_, other.gram_);
    add(pull_, other.pull_);
    add(mean_, other.mean_);
    add(missing_, other.missing_);
    rows_ += other.rows_;
  }

  // To means, and around them where a bias takes what they are.
  void Finish(bool takes_bias, double mean_share) {
    for (auto* sums : {&gram_, &pull_, &mean_, &missing_}) {
      for (double& sum : *sums) sum /= static_cast<double>(rows_);
    }
    if (!takes_bias) return;
    for (int64_t i = 0; i < inputs_; ++i) {
      double* row = gram_.data() + i * inputs_;
      for (int64_t j = 0; j < inputs_; ++j) row[j] -= mean_[Index(i)] * mean_[Index(j)];
      row[i] = std::max(row[i], 0.0) + mean_share * mean_[Index(i)] * mean_[Index(i)];
    }
    for (int64_t o = 0; o < outputs_; ++o) {
      for (int64_t i = 0; i < inputs_; ++i) pull_[Index(o * inputs_ + i)] -= missing_[Index(o)] * mean_[Index(i)];
    }
  }

  bool IsFinite() const {
    double sum = 0;
    for (int64_t i = 0; i < inputs_; ++i) sum += gram_[Index(i * inputs_ + i)];
    for (const double value : pull_) sum += std::abs(value);
    return std::isfinite(sum);
  }

  Rounding Round(std::span<const float> scales, const Fit& fit, int threads) const {
    std::vector<double> pull = pull_;
    for (double& value : pull) value *= fit.pull;
    return RoundJointly({.outputs = outputs_,
                         .inputs = inputs_,
                         .weights = weights_,
                         .scales = scales,
                         .gram = gram_,
                         .pull = pull,
                         .ridge = fit.ridge,
                         .threads = threads});
  }

  // E[w x] - E[u x^], u being these integers times their scale.
  float MissingMean(int64_t o, float scale, std::span<const int8_t> offsets) const {
    double missing = missing_[Index(o)];
    for (int64_t i = 0; i < inputs_; ++i) missing -= Change(o, i, scale, offsets) * mean_[Index(i)];
    return static_cast<float>(missing);
  }

  // E[(w x - u x^ - bias)^2], summed over outputs, less what does not depend on u; of finished moments.
  double Noise(std::span<const float> scales, std::span<const int8_t> offsets, std::span<const float> bias,
               int threads) const {
    const std::vector<float> gram(gram_.begin(), gram_.end());
    std::vector<double> noise(Index(outputs_));
    ParallelFor(threads, CeilDivide(outputs_, kGramTile), 1, [&](int64_t first, int64_t last) {
      for (int64_t tile = first; tile < last; ++tile) AddNoise(tile, scales, offsets, bias, gram, noise);
    });
    return std::accumulate(noise.begin(), noise.end(), 0.0);
  }

 private:
  static size_t Index(int64_t i) { return static_cast<size_t>(i); }

  // u - w
  double Change(int64_t o, int64_t i, float scale, std::span<const int8_t> offsets) const {
    const float w = weights_[Index(o * inputs_ + i)];
    const float nearest = std::clamp(std::nearbyint(w / scale), -127.0f, 127.0f);
    return double{scale} * (nearest + static_cast<float>(offsets[Index(o * inputs_ + i)])) - w;
  }

  void AddNoise(int64_t tile, std::span<const float> scales, std::span<const int8_t> offsets,
                std::span<const float> bias, const std::vector<float>& gram, std::vector<double>& noise) const {
    const int64_t begin = tile * kGramTile, height = std::min(kGramTile, outputs_ - begin);
    std::vector<float> change(Index(height * inputs_)), product(change.size());
    for (int64_t i = 0; i < height * inputs_; ++i) {
      const int64_t o = begin + i / inputs_;
      change[Index(i)] = static_cast<float>(Change(o, i % inputs_, scales[Index(o)], offsets));
    }
    MultiplyFloats({.m = height,
                    .k = inputs_,
                    .n = inputs_,
                    .a = change.data(),
                    .a_leading = inputs_,
                    .b = gram.data(),
                    .b_leading = inputs_,
                    .c = product.data(),
                    .c_leading = inputs_});
    for (int64_t r = 0; r < height; ++r) {
      const int64_t o = begin + r;
      double left = missing_[Index(o)] - (bias.empty() ? 0 : bias[Index(o)]);
      double& sum = noise[Index(o)];
      for (int64_t i = 0; i < inputs_; ++i) {
        const double e = change[Index(r * inputs_ + i)];
        sum += e * (product[Index(r * inputs_ + i)] - 2 * pull_[Index(o * inputs_ + i)]);
        left -= e * mean_[Index(i)];
      }
      if (!bias.empty()) sum += left * left;
    }
  }

  // sums (width, inputs) += left' right; in float over one sample, in double over samples.
  void AddProduct(const std::vector<float>& left, int64_t width, const std::vector<float>& right, int64_t count,
                  std::vector<double>& sums, int threads) const {
    ParallelFor(threads, CeilDivide(width, kGramTile), 1, [&](int64_t first, int64_t last) {
      std::vector<float> product(static_cast<size_t>(kGramTile * inputs_));
      for (int64_t tile = first; tile < last; ++tile) {
        const int64_t begin = tile * kGramTile, height = std::min(kGramTile, width - begin);
        MultiplyFloats({.m = height,
                        .k = count,
                        .n = inputs_,
                        .a = left.data() + begin,
                        .a_leading = width,
                        .a_transposed = true,
                        .b = right.data(),
                        .b_leading = inputs_,
                        .c = product.data(),
                        .c_leading = inputs_});
        for (int64_t i = 0; i < height * inputs_; ++i) sums[Index(begin * inputs_ + i)] += product[Index(i)];
      }
    });
  }

  static void AddSums(const std::vector<float>& rows, std::vector<double>& sums) {
    for (size_t i = 0; i < rows.size(); ++i) sums[i % sums.size()] += rows[i];
  }

  int64_t outputs_, inputs_, rows_ = 0;
  std::vector<float> weights_;
  std::vector<double> gram_, pull_;  // sums of x^ x^', of w (x - x^) x^'
  std::vector<double> mean_;         // sums of x^
  std::vector<double> missing_;      // sums of w (x - x^)
};

// Weights in one order, (output, input), and back.
size_t ElementOf(const Layer& layer, int64_t output, int64_t input) {
  return static_cast<size_t>(layer.by_columns ? input * layer.outputs + output : output * layer.inputs + input);
}

std::vector<GroupMoments> MakeMoments(const Layer& layer, std::span<const float> weights) {
  std::vector<GroupMoments> groups;
  for (int64_t group = 0; group < layer.groups; ++group) {
    std::vector<float> rows;
    for (int64_t o = group * layer.outputs_per_group(); o < (group + 1) * layer.outputs_per_group(); ++o) {
      for (int64_t i = 0; i < layer.inputs; ++i) rows.push_back(weights[ElementOf(layer, o, i)]);
    }
    groups.emplace_back(std::move(rows), layer.outputs_per_group(), layer.inputs);
  }
  return groups;
}

// A graph cut off behind the first operands of some nodes.
class OperandSession {
 public:
  static Result<OperandSession> Create(Graph graph, const std::vector<Layer>& layers, int threads) {
    OperandSession operands;
    std::map<std::string_view, const Node*> nodes;
    for (const Node& node : graph.nodes) nodes[node.name] = &node;
    graph.outputs.clear();
    for (const Layer& layer : layers) {
      const ValueId operand = nodes.at(layer.node)->input(0);
      operands.names_.push_back(graph.value(operand).name);
      const auto begin = graph.outputs.begin(), end = graph.outputs.end();
      if (!graph.IsInput(operand) && std::find(begin, end, operand) == end) graph.outputs.push_back(operand);
    }
    if (graph.outputs.empty()) return operands;
    RemoveDeadCode(graph);
    OCTAVO_RETURN_IF_ERROR(graph.Sort());
    graph.CompactValues();
    SessionOptions options;
    options.threads = threads;
    OCTAVO_ASSIGN(Session session, Session::Create(std::move(graph), options));
    operands.session_.push_back(std::move(session));
    return operands;
  }

  // In the order of the layers.
  Result<std::vector<Tensor>> Run(const std::map<std::string, Tensor>& inputs) {
    std::map<std::string, Tensor> made = inputs;
    if (!session_.empty()) {
      OCTAVO_ASSIGN(const std::vector<Tensor> outputs, session_[0].Run(inputs));
      for (size_t i = 0; i < outputs.size(); ++i) made[session_[0].output_names()[i]] = outputs[i];
    }
    std::vector<Tensor> operands;
    for (const std::string& name : names_) operands.push_back(made.at(name));
    return operands;
  }

 private:
  std::vector<std::string> names_;
  std::vector<Session> session_;  // none where every operand is an input of the graph
};

struct LayerMoments {
  std::vector<GroupMoments> teach, compare;  // by group
};

class LayerRounder {
 public:
  LayerRounder(const Graph& prepared, const LayerRoundingOptions& options, Recipe& recipe)
      : prepared_(prepared), options_(options), recipe_(recipe) {
    threads_ = options.threads > 0 ? options.threads : omp_get_num_procs();
  }

  Result<int64_t> Run(const Dataset& data) {
    for (const size_t sample : options_.samples) {
      auto inputs = data.Load(sample);
      if (inputs.ok()) samples_.push_back(*std::move(inputs));  // calibration has reported the others
    }
    if (samples_.empty()) return InvalidArgument("no sample can be loaded");
    OCTAVO_ASSIGN(float_, RewriteWithoutBiases(prepared_, recipe_));
    const std::vector<Layer> layers = FindLayers();
    for (size_t done = 0; done < layers.size();) {
      if (options_.progress) options_.progress(done, layers.size());
      size_t end = done;
      while (end < layers.size() && layers[end].level == layers[done].level) ++end;
      OCTAVO_RETURN_IF_ERROR(RoundLevel(
          {layers.begin() + static_cast<std::ptrdiff_t>(done), layers.begin() + static_cast<std::ptrdiff_t>(end)}));
      done = end;
    }
    if (options_.progress) options_.progress(layers.size(), layers.size());
    return moved_;
  }

 private:
  // By level: layers of one level do not read each other's results.
  std::vector<Layer> FindLayers() const {
    std::map<std::string_view, size_t> weights;
    for (size_t i = 0; i < recipe_.weights.size(); ++i) weights.emplace(recipe_.weights[i].node, i);
    std::vector<int> level(float_.values.size(), 0);
    std::vector<Layer> layers;
    const auto uses = float_.Uses();
    for (const Node& node : float_.nodes) {
      int deepest = 0;
      for (const ValueId input : node.inputs) {
        if (input != kNoValue) deepest = std::max(deepest, level[static_cast<size_t>(input)]);
      }
      const auto weight = weights.find(node.name);
      const bool found = weight != weights.end() && IsRounded(node, recipe_.weights[weight->second]);
      if (found) layers.push_back(MakeLayer(node, weight->second, deepest, uses));
      for (const ValueId output : node.outputs) {
        if (output != kNoValue) level[static_cast<size_t>(output)] = deepest + (found ? 1 : 0);
      }
    }
    std::stable_sort(layers.begin(), layers.end(), [](const Layer& a, const Layer& b) { return a.level < b.level; });
    return layers;
  }

  bool IsRounded(const Node& node, const WeightRecipe& entry) const {
    if (entry.input != 1 || float_.value(node.input(0)).is_constant()) return false;
    const Dims& x = float_.value(node.input(0)).dims;
    const Dims& w = float_.value(node.input(1)).dims;
    if (x.size() < 2 || w.size() < 2) return false;
    const bool gemm = node.Is("Gemm") && node.Int("transA", 0) == 0 && node.Float("alpha", 1) == 1;
    if (node.Is("Conv")) return entry.axis == 0;
    if (!gemm && !node.Is("MatMul")) return false;
    return w.size() == 2 && entry.axis == (node.Int("transB", 0) != 0 ? 0 : 1);
  }

  Layer MakeLayer(const Node& node, size_t weight, int level, const std::vector<std::vector<NodeId>>& uses) const {
    const Dims& w = float_.value(node.input(1)).dims;
    Layer layer;
    layer.node = node.name;
    layer.weight = weight;
    layer.level = level;
    layer.by_columns = !node.Is("Conv") && node.Int("transB", 0) == 0;
    layer.outputs = layer.by_columns ? w[1] : w[0];
    layer.inputs = ElementCount(w) / std::max<int64_t>(1, layer.outputs);
    layer.groups = node.Is("Conv") ? node.Int("group", 1) : 1;
    layer.takes_bias = node.Float("beta", 1) == 1 && TakesBias(float_, uses, node, layer.outputs);
    return layer;
  }

  const Node& NodeOf(const Layer& layer) const {
    return *std::find_if(float_.nodes.begin(), float_.nodes.end(),
                         [&](const Node& node) { return node.name == layer.node; });
  }

  Status RoundLevel(const std::vector<Layer>& layers) {
    std::vector<LayerMoments> moments;
    std::vector<WindowRows> rows;
    for (const Layer& layer : layers) {
      const Node& node = NodeOf(layer);
      const std::vector<GroupMoments> none = MakeMoments(layer, float_.value(node.input(1)).constant.values<float>());
      moments.push_back({none, none});
      OCTAVO_ASSIGN(WindowRows window, RowsOf(node));
      rows.push_back(std::move(window));
    }
    OCTAVO_RETURN_IF_ERROR(Measure(layers, rows, moments));
    for (size_t i = 0; i < layers.size(); ++i) RoundLayer(layers[i], moments[i]);
    return {};
  }

  Result<WindowRows> RowsOf(const Node& node) const {
    const Dims& x = float_.value(node.input(0)).dims;
    if (node.Is("Conv")) return WindowRows::OfConv(node, x, float_.value(node.input(1)).dims);
    return WindowRows::OfProduct(x);
  }

  // Few rows say nothing of how inputs go together.
  bool IsMeasured(const Layer& layer, const WindowRows& rows) const {
    return layer.inputs <= kMostInputs && rows.positions() * static_cast<int64_t>(samples_.size()) >= layer.inputs;
  }

  Status Measure(const std::vector<Layer>& layers, const std::vector<WindowRows>& rows,
                 std::vector<LayerMoments>& moments) {
    Recipe sofar = recipe_;
    sofar.fingerprint.clear();  // checked before: hashing the model at every level would take its time
    OCTAVO_ASSIGN(Graph quantized, ApplyRecipe(prepared_, sofar));
    OCTAVO_ASSIGN(OperandSession seen, OperandSession::Create(std::move(quantized), layers, threads_));
    OCTAVO_ASSIGN(OperandSession wanted, OperandSession::Create(float_, layers, threads_));
    for (size_t s = 0; s < samples_.size(); ++s) {
      OCTAVO_ASSIGN(const std::vector<Tensor> x, wanted.Run(samples_[s]));
      OCTAVO_ASSIGN(const std::vector<Tensor> arrived, seen.Run(samples_[s]));
      for (size_t i = 0; i < layers.size(); ++i) {
        if (!IsMeasured(layers[i], rows[i])) continue;
        const bool compares = s % kCompareEvery == kCompareEvery - 1;
        AddSample(rows[i], x[i], arrived[i], s, compares ? moments[i].compare : moments[i].teach);
      }
    }
    return {};
  }

  void AddSample(const WindowRows& rows, const Tensor& x, const Tensor& arrived, size_t sample,
                 std::vector<GroupMoments>& groups) const {
    const int64_t wanted_rows = std::clamp(kRowsPerInput * rows.inputs(), kLeastRows, kMostRows);
    const std::vector<int64_t> positions =
        SpreadPositions(rows.positions(), CeilDivide(wanted_rows, static_cast<int64_t>(samples_.size())), sample);
    const auto count = static_cast<int64_t>(positions.size());
    const auto add = [&](int64_t group, int threads) {
      std::vector<float> wanted(static_cast<size_t>(count * rows.inputs())), seen(wanted.size());
      rows.Gather(x.values<float>(), group, positions, wanted.data());
      rows.Gather(arrived.values<float>(), group, positions, seen.data());
      groups[static_cast<size_t>(group)].Add(wanted, seen, count, threads);
    };
    ForEachGroup(groups.size(), add);
  }

  // Many groups share the threads out; one has them all.
  template <typename Fn>
  void ForEachGroup(size_t groups, Fn&& fn) const {
    if (groups == 1) {
      fn(int64_t{0}, threads_);
      return;
    }
    ParallelFor(threads_, static_cast<int64_t>(groups), 1, [&](int64_t first, int64_t last) {
      for (int64_t group = first; group < last; ++group) fn(group, 1);
    });
  }

  void RoundLayer(const Layer& layer, LayerMoments& moments) {
    std::vector<GroupMoments>& all = moments.teach;
    if (all.empty() || all[0].rows() == 0) return;
    for (const auto* groups : {&moments.teach, &moments.compare}) {
      if (!std::all_of(groups->begin(), groups->end(), [](const GroupMoments& group) { return group.IsFinite(); }))
        return;
    }
    const Fit fit = moments.compare[0].rows() > 0 ? BestFit(layer, moments) : kUncompared;
    for (size_t group = 0; group < all.size(); ++group) all[group].Merge(moments.compare[group]);
    for (GroupMoments& group : all) group.Finish(layer.takes_bias, kMeanShare);
    std::vector<std::vector<int8_t>> found = RoundGroups(layer, all, fit);
    BiasRecipe bias{layer.node, MissingMeans(layer, all, found)};
    Keep(layer, Together(layer, found), std::move(bias));
  }

  // Of kFits and kNearest, what has the least noise on the samples that compare.
  Fit BestFit(const Layer& layer, const LayerMoments& moments) const {
    std::vector<GroupMoments> teach = moments.teach, compare = moments.compare;
    for (size_t group = 0; group < teach.size(); ++group) {
      teach[group].Finish(layer.takes_bias, kMeanShare);
      compare[group].Finish(layer.takes_bias, 0);
    }
    Fit best = kNearest;
    double least = NoiseOf(layer, teach, compare, best);
    for (const Fit& fit : kFits) {
      const double noise = NoiseOf(layer, teach, compare, fit);
      if (noise < least) {
        least = noise;
        best = fit;
      }
    }
    return best;
  }

  double NoiseOf(const Layer& layer, const std::vector<GroupMoments>& teach, const std::vector<GroupMoments>& compare,
                 const Fit& fit) const {
    const std::vector<std::vector<int8_t>> found = RoundGroups(layer, teach, fit);
    const std::vector<float> bias = MissingMeans(layer, teach, found);
    std::vector<double> noise(compare.size());
    const auto outputs = static_cast<size_t>(layer.outputs_per_group());
    ForEachGroup(compare.size(), [&](int64_t index, int threads) {
      const auto group = static_cast<size_t>(index);
      const auto of_group = std::span(bias).subspan(group * outputs, outputs);
      noise[group] = compare[group].Noise(ScalesOf(layer, index), found[group],
                                          layer.takes_bias ? of_group : std::span<const float>(), threads);
    });
    return std::accumulate(noise.begin(), noise.end(), 0.0);
  }

  std::span<const float> ScalesOf(const Layer& layer, int64_t group) const {
    const auto outputs = static_cast<size_t>(layer.outputs_per_group());
    return std::span(recipe_.weights[layer.weight].scales).subspan(static_cast<size_t>(group) * outputs, outputs);
  }

  // Offsets by group; all 0 for kNearest.
  std::vector<std::vector<int8_t>> RoundGroups(const Layer& layer, const std::vector<GroupMoments>& groups,
                                               const Fit& fit) const {
    const auto count = static_cast<size_t>(layer.outputs_per_group() * layer.inputs);
    std::vector<std::vector<int8_t>> found(groups.size(), std::vector<int8_t>(count));
    if (std::isinf(fit.ridge)) return found;
    ForEachGroup(groups.size(), [&](int64_t group, int threads) {
      const auto at = static_cast<size_t>(group);
      found[at] = groups[at].Round(ScalesOf(layer, group), fit, threads).offsets;
    });
    return found;
  }

  std::vector<float> MissingMeans(const Layer& layer, const std::vector<GroupMoments>& groups,
                                  const std::vector<std::vector<int8_t>>& offsets) const {
    std::vector<float> means;
    const int64_t outputs = layer.outputs_per_group();
    for (int64_t o = 0; o < layer.outputs; ++o) {
      const auto group = static_cast<size_t>(o / outputs);
      const float scale = recipe_.weights[layer.weight].scales[static_cast<size_t>(o)];
      means.push_back(groups[group].MissingMean(o % outputs, scale, offsets[group]));
    }
    return means;
  }

  // In the order of the constant's elements.
  static std::vector<int8_t> Together(const Layer& layer, const std::vector<std::vector<int8_t>>& groups) {
    std::vector<int8_t> offsets(static_cast<size_t>(layer.outputs * layer.inputs));
    const int64_t outputs = layer.outputs_per_group();
    for (int64_t o = 0; o < layer.outputs; ++o) {
      const int8_t* row = groups[static_cast<size_t>(o / outputs)].data() + o % outputs * layer.inputs;
      for (int64_t i = 0; i < layer.inputs; ++i) offsets[ElementOf(layer, o, i)] = row[i];
    }
    return offsets;
  }

  void Keep(const Layer& layer, std::vector<int8_t> offsets, BiasRecipe bias) {
    const auto moved = std::count_if(offsets.begin(), offsets.end(), [](int8_t offset) { return offset != 0; });
    moved_ += moved;
    if (moved > 0) recipe_.weights[layer.weight].offsets = std::move(offsets);
    if (!layer.takes_bias) return;
    const auto same = [&](const BiasRecipe& entry) { return entry.node == layer.node; };
    const auto before = std::find_if(recipe_.biases.begin(), recipe_.biases.end(), same);
    if (before != recipe_.biases.end()) {
      *before = std::move(bias);
    } else {
      recipe_.biases.push_back(std::move(bias));
    }
  }

  const Graph& prepared_;
  const LayerRoundingOptions& options_;
  Recipe& recipe_;
  int threads_ = 1;
  Graph float_;  // rewritten as the recipe says, without its biases
  std::vector<std::map<std::string, Tensor>> samples_;
  int64_t moved_ = 0;
};

}  // namespace

Result<int64_t> RoundLayers(const Graph& prepared, const Dataset& data, const LayerRoundingOptions& options,
                            Recipe& recipe) {
  return LayerRounder(prepared, options, recipe).Run(data);
}

}  // namespace octavo
