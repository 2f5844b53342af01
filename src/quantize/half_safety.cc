// Overflow inside of ReLU linear attention, O = Q (K^T V) / (Q sum K + e), is rescaled away:
//   k -> Relu               k -> Mul(2^-a) -> Relu        K^T V and sum K shrink by 2^a,
//   q -> Relu          ->   q -> Mul(2^-b) -> Relu        the products with Q by 2^(a+b), above and below the line
//   Add(e)                  Add(2^-(a+b) e)
// Everything is multiplied by a power of two: float32 computes the same bits.
#include "octavo/half_safety.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <unordered_map>

#include "base/quote.h"
#include "engine/canonical.h"
#include "graph/op_table.h"
#include "graph/quantization.h"
#include "passes/linear_attention.h"

namespace octavo {
namespace {

constexpr double kSmallestHalf = 0x1p-24;
constexpr double kSmallestNormalHalf = 0x1p-14;

double LargestOf(const TensorStats& stats) {
  return std::max(std::abs(static_cast<double>(stats.min)), std::abs(static_cast<double>(stats.max)));
}

// The smallest magnitude of a tensor of one sign; 0 where it holds both.
double SmallestOf(const TensorStats& stats) {
  if (stats.min > 0) return stats.min;
  return stats.max < 0 ? -static_cast<double>(stats.max) : 0.0;
}

// Halvings until `magnitude` is at most `limit`.
int OctavesBeyond(double magnitude, double limit) {
  return magnitude <= limit ? 0 : static_cast<int>(std::ceil(std::log2(magnitude / limit)));
}

class HalfAnalysis {
 public:
  HalfAnalysis(const Graph& graph, const Stats& stats, const HalfSafetyOptions& options)
      : graph_(graph),
        stats_(stats),
        options_(options),
        uses_(graph.Uses()),
        canonical_(graph),
        limit_(options.overflow_share * kLargestFloat16) {}

  Result<HalfSafety> Run() {
    OCTAVO_RETURN_IF_ERROR(RunPassesFor(Precision::kFloat16, canonical_, {}).status());
    canonical_uses_ = canonical_.Uses();
    for (size_t n = 0; n < graph_.nodes.size(); ++n) node_of_.emplace(graph_.nodes[n].name, static_cast<NodeId>(n));
    OCTAVO_ASSIGN(const std::vector<std::string> tensors, HalfTensors(graph_));
    for (const std::string& name : tensors) {
      const auto found = stats_.tensors.find(name);
      if (found == stats_.tensors.end()) {
        return NotFound("there are no statistics of " + Quote(name) + ": calibrate on all of HalfTensors");
      }
      of_value_[graph_.Find(name)] = &found->second;
    }
    for (const Value& value : graph_.values) CheckWeight(value);
    for (const LinearAttentionMatch& match : FindLinearAttention(graph_)) CheckLinearAttention(match);
    for (const std::string& name : tensors) CheckTensor(graph_.Find(name));
    Finish();
    return std::move(result_);
  }

 private:
  const TensorStats* StatsOf(ValueId value) const {
    const auto found = of_value_.find(value);
    return found == of_value_.end() ? nullptr : found->second;
  }
  const std::string& NameOfValue(ValueId value) const { return graph_.value(value).name; }
  const std::string& NameOfNode(NodeId node) const { return graph_.node(node).name; }

  // ---- findings ----

  struct Risk {
    HalfRisk risk;
    double magnitude, headroom;
  };

  HalfFinding Describe(ValueId value, const Risk& risk, std::string pattern) const {
    HalfFinding finding;
    finding.risk = risk.risk;
    finding.tensor = NameOfValue(value);
    const NodeId producer = graph_.value(value).producer;
    const auto& readers = uses_[static_cast<size_t>(value)];
    const NodeId node = producer != kNoNode || readers.empty() ? producer : readers.front();
    if (node != kNoNode) finding.node = NameOfNode(node);
    finding.pattern = std::move(pattern);
    finding.magnitude = risk.magnitude;
    finding.headroom = risk.headroom;
    return finding;
  }

  void AddRescaled(ValueId value, const Risk& risk, std::string pattern, int octaves) {
    HalfFinding finding = Describe(value, risk, std::move(pattern));
    finding.remedy = HalfRemedy::kRescale;
    finding.octaves = octaves;
    result_.findings.push_back(std::move(finding));
  }

  void AddKept(ValueId value, const Risk& risk, std::string pattern, const std::vector<NodeId>& nodes) {
    HalfFinding finding = Describe(value, risk, std::move(pattern));
    for (const NodeId node : nodes) {
      finding.float32_nodes.push_back(NameOfNode(node));
      KeepFloat(node, fmt::format("{} of {}", NameOf(risk.risk), Quote(finding.tensor)));
    }
    result_.findings.push_back(std::move(finding));
  }

  void KeepFloat(NodeId node, std::string reason) {
    if (kept_.insert(node).second) result_.recipe.float_nodes.push_back({NameOfNode(node), std::move(reason)});
  }

  Risk Overflow(double largest) const { return {HalfRisk::kOverflow, largest, kLargestFloat16 / largest}; }
  Risk SmallDivisor(double smallest) const { return {HalfRisk::kSmallDivisor, smallest, smallest / kSmallestHalf}; }
  bool IsSmallDivisor(double smallest) const {
    return smallest > 0 && smallest < options_.divisor_factor * kSmallestHalf;
  }

  // What makes and reads the value; and what patterns like GroupNorm, which read it as a whole, are named after.
  std::vector<NodeId> NodesAround(ValueId value) const {
    std::vector<NodeId> nodes = NodesAround(graph_, uses_, value);
    for (const NodeId node : NodesAround(canonical_, canonical_uses_, canonical_.Find(NameOfValue(value)))) {
      const auto found = node_of_.find(canonical_.node(node).name);
      if (found != node_of_.end()) nodes.push_back(found->second);
    }
    std::sort(nodes.begin(), nodes.end());
    nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
    return nodes;
  }

  // What makes the value, what reads it, and what reads the same numbers under another shape.
  static std::vector<NodeId> NodesAround(const Graph& graph, const std::vector<std::vector<NodeId>>& uses,
                                         ValueId value) {
    std::vector<NodeId> nodes;
    if (value == kNoValue) return nodes;
    if (graph.value(value).producer != kNoNode) nodes.push_back(graph.value(value).producer);
    std::vector<ValueId> pending = {value};
    while (!pending.empty()) {
      const ValueId next = pending.back();
      pending.pop_back();
      for (const NodeId reader : uses[static_cast<size_t>(next)]) {
        if (std::find(nodes.begin(), nodes.end(), reader) != nodes.end()) continue;
        nodes.push_back(reader);
        if (!SelectsElements(graph.node(reader))) continue;
        for (const ValueId output : graph.node(reader).outputs) {
          if (output != kNoValue) pending.push_back(output);
        }
      }
    }
    return nodes;
  }

  // ---- weights ----

  void CheckWeight(const Value& value) {
    if (!value.is_constant() || value.dtype != DType::kFloat32) return;
    float largest = 0;
    for (const float w : value.constant.values<float>()) {
      if (std::isfinite(w)) largest = std::max(largest, std::abs(w));
    }
    if (largest <= kLargestFloat16) return;
    const auto id = static_cast<ValueId>(&value - graph_.values.data());
    std::vector<NodeId> readers;
    for (const NodeId reader : uses_[static_cast<size_t>(id)]) {
      // A bound that becomes infinite bounds nothing, as before.
      if (!graph_.node(reader).Is("Clip")) readers.push_back(reader);
    }
    if (readers.empty()) return;
    AddKept(id, {HalfRisk::kWeightOverflow, largest, kLargestFloat16 / largest}, "", readers);
  }

  // ---- linear attention ----

  // The nodes from Relu(q), Relu(k) and the row of ones to the quotient.
  std::vector<NodeId> NodesOf(const LinearAttentionMatch& match) const {
    std::set<NodeId> nodes = {match.quotient};
    const auto add = [&](NodeId node) {
      if (node != kNoNode) nodes.insert(node);
    };
    for (const ValueId input : graph_.node(match.quotient).inputs) {
      // The Slice of the numerator; the divisor's Add and its Slice.
      const NodeId maker = graph_.value(input).producer;
      add(maker);
      for (const ValueId above : graph_.node(maker).inputs) add(graph_.value(above).producer);
    }
    for (const NodeId product : match.products) add(product);
    for (const auto& operand : {match.query, match.key, match.values}) add(operand.reader);
    add(graph_.value(match.query.value).producer);
    add(graph_.value(match.key.value).producer);
    return {nodes.begin(), nodes.end()};
  }

  struct Divisor {
    ValueId value = kNoValue;  // with its epsilon
    NodeId add = kNoNode;
    int epsilon_input = 1;
  };
  Divisor DivisorOf(const LinearAttentionMatch& match) const {
    Divisor divisor;
    divisor.value = graph_.node(match.quotient).input(1);
    divisor.add = graph_.value(divisor.value).producer;
    divisor.epsilon_input = graph_.value(graph_.node(divisor.add).input(0)).is_constant() ? 0 : 1;
    return divisor;
  }

  void CheckLinearAttention(const LinearAttentionMatch& match) {
    const ValueId product = graph_.node(match.products[0]).output(0), sums = graph_.node(match.products[1]).output(0);
    const Divisor divisor = DivisorOf(match);
    const TensorStats *product_stats = StatsOf(product), *sums_stats = StatsOf(sums),
                      *divisor_stats = StatsOf(divisor.value);
    if (product_stats == nullptr || sums_stats == nullptr || divisor_stats == nullptr) return;
    const double largest_product = std::max(LargestOf(*product_stats), LargestOf(*divisor_stats));
    const int key_octaves = OctavesBeyond(LargestOf(*sums_stats), limit_);
    const int octaves = std::max(key_octaves, OctavesBeyond(largest_product, limit_));
    const bool possible = octaves == 0 || CanRescale(match, *divisor_stats, octaves);
    const std::vector<NodeId> nodes = possible ? std::vector<NodeId>() : NodesOf(match);
    const auto report = [&](ValueId value, const char* what, double largest, int by) {
      covered_.insert(value);
      if (largest <= limit_) return;
      const std::string pattern = std::string("linear attention: ") + what;
      possible ? AddRescaled(value, Overflow(largest), pattern, -by)
               : AddKept(value, Overflow(largest), pattern, nodes);
    };
    report(sums, "K^T V and the sum of K", LargestOf(*sums_stats), key_octaves);
    report(product, "products with Q", LargestOf(*product_stats), octaves);
    report(divisor.value, "divisor", LargestOf(*divisor_stats), octaves);
    if (octaves > 0 && possible) RescaleAttention(match, divisor, key_octaves, octaves);
    if (possible) CheckAttentionDivisor(match, divisor, SmallestOf(*divisor_stats) * std::exp2(-octaves));
  }

  // Not where typical divisors would fall among the denormals, nor where other readers want Relu's operands as they
  // are.
  bool CanRescale(const LinearAttentionMatch& match, const TensorStats& divisor, int octaves) const {
    const auto is_relu = [&](ValueId value) {
      const NodeId producer = graph_.value(value).producer;
      return producer != kNoNode && graph_.node(producer).Is("Relu");
    };
    return match.query.value != match.key.value && is_relu(match.query.value) && is_relu(match.key.value) &&
           std::sqrt(divisor.mean_square) * std::exp2(-octaves) >= kSmallestNormalHalf;
  }

  void RescaleAttention(const LinearAttentionMatch& match, const Divisor& divisor, int key_octaves, int octaves) {
    Migrate(match.key.value, -key_octaves);
    Migrate(match.query.value, key_octaves - octaves);
    result_.recipe.rescales.push_back(
        {NameOfNode(divisor.add), divisor.epsilon_input, {}, {std::exp2(static_cast<float>(-octaves))}});
  }

  // In front of the Relu: relu(2^n x) = 2^n relu(x), and the passes go on to recognize the pattern.
  void Migrate(ValueId rectified, int octaves) {
    if (octaves == 0) return;
    const Node& relu = graph_.node(graph_.value(rectified).producer);
    result_.recipe.migrations.push_back(
        {NameOfValue(relu.input(0)), {relu.name}, {1}, {std::exp2(static_cast<float>(octaves))}});
  }

  // An epsilon that half cannot hold leaves 0 / 0 for tokens whose query is zero. Sum and quotient in float32 are
  // enough: where the sum is lost its numerator is, too.
  void CheckAttentionDivisor(const LinearAttentionMatch& match, const Divisor& divisor, double smallest) {
    if (!IsSmallDivisor(smallest)) return;
    AddKept(divisor.value, SmallDivisor(smallest), "linear attention: divisor", {divisor.add, match.quotient});
  }

  // ---- everything else ----

  void CheckTensor(ValueId value) {
    const TensorStats& stats = *StatsOf(value);
    if (covered_.count(value) > 0) return;
    const double largest = LargestOf(stats), rms = std::sqrt(stats.mean_square);
    if (largest > limit_) AddKept(value, Overflow(largest), PatternOf(value), NodesAround(value));
    if (rms > 0 && rms < options_.least_rms) {
      AddKept(value, {HalfRisk::kUnderflow, rms, rms / kSmallestHalf}, PatternOf(value), NodesAround(value));
    }
    const double smallest = SmallestOf(stats);
    if (IsDivisor(value) && IsSmallDivisor(smallest)) {
      AddKept(value, SmallDivisor(smallest), "divisor", NodesAround(value));
    }
  }

  bool IsDivisor(ValueId value) const {
    return std::any_of(uses_[static_cast<size_t>(value)].begin(), uses_[static_cast<size_t>(value)].end(),
                       [&](NodeId reader) {
                         const Node& node = graph_.node(reader);
                         return (node.Is("Div") && node.input(1) == value) || node.Is("Reciprocal");
                       });
  }

  std::string PatternOf(ValueId value) const {
    const NodeId producer = graph_.value(value).producer;
    if (producer == kNoNode) return "graph input";
    const Node& node = graph_.node(producer);
    const bool product =
        node.Is("MatMul") && !graph_.value(node.input(0)).is_constant() && !graph_.value(node.input(1)).is_constant();
    if (product) return "product of two activations";
    if (node.Is("Add") && !graph_.value(node.input(0)).is_constant() && !graph_.value(node.input(1)).is_constant())
      return "sum of two activations";
    return node.op;
  }

  void Finish() {
    std::map<std::string, size_t> order;
    for (size_t v = 0; v < graph_.values.size(); ++v) {
      const Value& value = graph_.values[v];
      order[value.name] =
          value.is_constant() || value.producer == kNoNode ? 0 : static_cast<size_t>(value.producer) + 1;
    }
    std::stable_sort(result_.findings.begin(), result_.findings.end(), [&](const HalfFinding& a, const HalfFinding& b) {
      return order.at(a.tensor) < order.at(b.tensor);
    });
    result_.recipe.fingerprint = stats_.fingerprint;
  }

  const Graph& graph_;
  const Stats& stats_;
  const HalfSafetyOptions& options_;
  const std::vector<std::vector<NodeId>> uses_;
  Graph canonical_;  // as it is lowered, before roundings
  std::vector<std::vector<NodeId>> canonical_uses_;
  std::map<std::string, NodeId> node_of_;
  const double limit_;
  std::unordered_map<ValueId, const TensorStats*> of_value_;
  std::set<ValueId> covered_;  // by a pattern
  std::set<NodeId> kept_;
  HalfSafety result_;
};

}  // namespace

std::string_view NameOf(HalfRisk risk) {
  switch (risk) {
    case HalfRisk::kOverflow:
      return "overflow";
    case HalfRisk::kSmallDivisor:
      return "small divisor";
    case HalfRisk::kUnderflow:
      return "underflow";
    case HalfRisk::kWeightOverflow:
      return "weight overflow";
  }
  return "";
}

Result<std::vector<std::string>> HalfTensors(const Graph& prepared) {
  Graph canonical = prepared;
  OCTAVO_ASSIGN([[maybe_unused]] const auto reports, MakeCanonical(canonical, {}, Precision::kFloat16));
  std::vector<std::string> names;
  for (const Node& node : canonical.nodes) {
    if (!node.Is("RoundTo", kOctavoDomain)) continue;
    const ValueId rounded = canonical.IsInput(node.input(0)) ? node.input(0) : node.output(0);
    const std::string& name = canonical.value(rounded).name;
    if (prepared.Find(name) != kNoValue) names.push_back(name);
  }
  return names;
}

Result<HalfSafety> AnalyzeHalfSafety(const Graph& prepared, const Stats& stats, const HalfSafetyOptions& options) {
  OCTAVO_RETURN_IF_ERROR(CheckBelongsTo(stats, ModelFingerprint(prepared)));
  return HalfAnalysis(prepared, stats, options).Run();
}

}  // namespace octavo
