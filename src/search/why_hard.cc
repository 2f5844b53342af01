#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/quote.h"
#include "graph/quantization.h"
#include "octavo/sensitivity.h"
#include "search/layers.h"

namespace octavo {
namespace {

// A channel is an outlier when its range is this many times the median one's: it then costs the others three bits.
constexpr double kOutlierRatio = 8;
constexpr double kSaturatedShare = 1e-3;
// Fewer than 7 bits are left for a tensor whose RMS is below this many steps.
constexpr double kFewSteps = 4;
constexpr double kHalfLargest = 65504, kHalfMargin = 4;

struct Outlier {
  size_t channel = 0;
  double ratio = 1;
};

Outlier LargestChannel(const TensorStats& stats) {
  std::vector<double> ranges;
  for (size_t c = 0; c < stats.channel_min.size(); ++c) {
    ranges.push_back(std::max(std::abs(double{stats.channel_min[c]}), std::abs(double{stats.channel_max[c]})));
  }
  if (ranges.size() < 2) return {};
  const auto largest = std::max_element(ranges.begin(), ranges.end());
  const auto channel = static_cast<size_t>(largest - ranges.begin());
  const double top = *largest;
  std::nth_element(ranges.begin(), ranges.begin() + static_cast<std::ptrdiff_t>(ranges.size() / 2), ranges.end());
  const double median = ranges[ranges.size() / 2];
  return {channel, median > 0 ? top / median : 1};
}

// Share of the values that were seen outside of what 8 bits can say.
double SaturatedShare(const TensorStats& stats, const ActivationRecipe& entry) {
  const int lowest = LowestByte(entry.dtype);
  const double low = (lowest - entry.zero_point - 0.5) * double{entry.scale};
  const double high = (lowest + 255 - entry.zero_point + 0.5) * double{entry.scale};
  const double width = std::ldexp(1.0, stats.histogram.exponent);
  uint64_t outside = 0, all = 0;
  for (size_t i = 0; i < stats.histogram.counts.size(); ++i) {
    const double center = (static_cast<double>(i) - Histogram::kHalfBins + 0.5) * width;
    all += stats.histogram.counts[i];
    if (center < low || center > high) outside += stats.histogram.counts[i];
  }
  return all == 0 ? 0 : static_cast<double>(outside) / static_cast<double>(all);
}

bool IsDivisor(const Graph& graph, const Node& node, const std::string& tensor) {
  return node.Is("Div") && node.input(1) != kNoValue && graph.value(node.input(1)).name == tensor;
}

void Append(std::string& text, const std::string& more) { text += (text.empty() ? "" : "; ") + more; }

std::string OfOperand(const Graph& graph, const TensorStats& stats, const ActivationRecipe& entry, const Node& node) {
  std::string why;
  const Outlier outlier = LargestChannel(stats);
  if (outlier.ratio >= kOutlierRatio) {
    Append(why, fmt::format("channel {} ranges {:.0f}x the median one", outlier.channel, outlier.ratio));
  }
  const double steps = std::sqrt(stats.mean_square) / double{entry.scale};
  if (steps < kFewSteps) Append(why, fmt::format("its RMS is {:.1f} steps", steps));
  const double saturated = SaturatedShare(stats, entry);
  if (saturated >= kSaturatedShare) Append(why, fmt::format("{:.2f} % saturated", 100 * saturated));
  if (IsDivisor(graph, node, entry.tensor)) {
    Append(why, fmt::format("a divisor: what is below {:.2g} becomes 0", entry.scale / 2));
  }
  const double most = std::max(std::abs(double{stats.min}), std::abs(double{stats.max}));
  if (most * kHalfMargin >= kHalfLargest)
    Append(why, fmt::format("up to {:.3g}: {} FP16's limit", most, most >= kHalfLargest ? "beyond" : "near"));
  return why;
}

}  // namespace

std::string WhyHard(const Graph& rewritten, const Stats& stats, const Recipe& recipe, const std::string& name) {
  const auto node = std::find_if(rewritten.nodes.begin(), rewritten.nodes.end(),
                                 [&](const Node& n) { return !n.removed && n.name == name; });
  if (node == rewritten.nodes.end()) return {};
  std::string why;
  for (const ActivationRecipe& entry : recipe.activations) {
    if (!entry.result_of.empty()) continue;  // an operand has an entry of its own
    const bool reads = std::any_of(node->inputs.begin(), node->inputs.end(), [&](ValueId input) {
      return input != kNoValue && rewritten.value(input).name == entry.tensor;
    });
    const bool consumes = entry.consumers.empty() ||
                          std::find(entry.consumers.begin(), entry.consumers.end(), name) != entry.consumers.end();
    const auto found = stats.tensors.find(entry.tensor);
    if (!reads || !consumes || found == stats.tensors.end()) continue;
    const std::string of = OfOperand(rewritten, found->second, entry, *node);
    if (!of.empty()) Append(why, of);
  }
  return why;
}

}  // namespace octavo
