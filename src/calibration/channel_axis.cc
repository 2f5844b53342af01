#include "calibration/channel_axis.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

namespace octavo {
namespace {

enum class Convention { kNone, kSecond, kLast };

Convention ConventionOf(const Node& node) {
  constexpr std::array<std::string_view, 11> kSecond = {
      "Conv",        "ConvTranspose", "BatchNormalization", "InstanceNormalization", "GroupNormalization",
      "MaxPool",     "AveragePool",   "GlobalAveragePool",  "GlobalMaxPool",         "Resize",
      "DepthToSpace"};
  constexpr std::array<std::string_view, 3> kLast = {"MatMul", "Gemm", "LayerNormalization"};
  if (std::find(kSecond.begin(), kSecond.end(), node.op) != kSecond.end()) return Convention::kSecond;
  if (std::find(kLast.begin(), kLast.end(), node.op) != kLast.end()) return Convention::kLast;
  return Convention::kNone;
}

int AxisOf(const Graph& graph, ValueId id, const std::vector<NodeId>& readers) {
  const Value& value = graph.value(id);
  const int rank = static_cast<int>(value.dims.size());
  if (rank == 0) return 0;
  Convention convention = Convention::kNone;
  for (const NodeId reader : readers) {
    convention = ConventionOf(graph.node(reader));
    if (convention != Convention::kNone) break;
  }
  if (convention == Convention::kNone && value.producer != kNoNode)
    convention = ConventionOf(graph.node(value.producer));
  const bool second = convention == Convention::kNone ? rank >= 4 : convention == Convention::kSecond;
  return second && rank > 1 ? 1 : rank - 1;
}

}  // namespace

std::vector<int> ChannelAxes(const Graph& graph, const std::vector<ValueId>& values) {
  const auto uses = graph.Uses();
  std::vector<int> axes;
  axes.reserve(values.size());
  for (const ValueId id : values) axes.push_back(AxisOf(graph, id, uses[static_cast<size_t>(id)]));
  return axes;
}

}  // namespace octavo
