// Conv(Pad(x, constant 0 on spatial axes), W)   ->  Conv(x, W) with larger pads
// AveragePool(Pad(x, constant 0), k)            ->  AveragePool(x, k) {count_include_pad: 1}, where it counted them
// before
#include <algorithm>

#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// Zero padding of each spatial axis, as Conv writes it: all begins, then all ends.
std::optional<std::vector<int64_t>> SpatialZeroPads(const Graph& graph, const Node& pad) {
  if (pad.String("mode", "constant") != "constant") return std::nullopt;
  const int64_t rank = static_cast<int64_t>(graph.value(pad.input(0)).dims.size());
  const bool attribute = pad.Has("pads");  // before opset 11
  if (attribute ? pad.Float("value", 0.0f) != 0.0f
                : pad.has_input(2) && UniformValue(graph.value(pad.input(2))) != 0.0) {
    return std::nullopt;
  }
  const auto amounts = attribute ? std::optional(pad.Ints("pads")) : ConstantInts(graph, pad.input(1));
  std::vector<int64_t> axes(static_cast<size_t>(rank));
  for (int64_t i = 0; i < rank; ++i) axes[static_cast<size_t>(i)] = i;
  if (pad.has_input(3)) {
    const auto given = ConstantInts(graph, pad.input(3));
    if (!given) return std::nullopt;
    axes = *given;
  }
  if (rank < 3 || !amounts || amounts->size() != 2 * axes.size()) return std::nullopt;
  std::vector<int64_t> pads(static_cast<size_t>(2 * (rank - 2)), 0);
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t axis = WrapAxis(axes[i], rank);
    const int64_t begin = (*amounts)[i], end = (*amounts)[i + axes.size()];
    if (axis < 0 || begin < 0 || end < 0) return std::nullopt;
    if (axis < 2 && (begin != 0 || end != 0)) return std::nullopt;
    if (axis < 2) continue;
    pads[static_cast<size_t>(axis - 2)] += begin;
    pads[static_cast<size_t>(axis - 2 + rank - 2)] += end;
  }
  return pads;
}

// The node's own pads; nothing when they follow from the input's size.
std::optional<std::vector<int64_t>> OwnPads(const Node& node, size_t count) {
  const std::string auto_pad = node.String("auto_pad", "NOTSET");
  if (auto_pad == "VALID") return std::vector<int64_t>(count, 0);
  if (auto_pad != "NOTSET" && !auto_pad.empty()) return std::nullopt;
  std::vector<int64_t> pads = node.Ints("pads", std::vector<int64_t>(count, 0));
  return pads.size() == count ? std::optional(pads) : std::nullopt;
}

// A pool divides by the window's size in all of our cases, if it includes pads or has none of its own; its pads have to
// stay below the kernel's size.
bool PoolTakes(const Node& pool, const std::vector<int64_t>& own, const std::vector<int64_t>& total) {
  const bool own_pads = std::any_of(own.begin(), own.end(), [](int64_t pad) { return pad != 0; });
  if (pool.Int("ceil_mode", 0) != 0 || (own_pads && pool.Int("count_include_pad", 0) == 0)) return false;
  const std::vector<int64_t> kernel = pool.Ints("kernel_shape");
  if (kernel.size() * 2 != total.size()) return false;
  for (size_t i = 0; i < total.size(); ++i) {
    if (total[i] >= kernel[i % kernel.size()]) return false;
  }
  return true;
}

bool Fold(Rewriter& rewriter, NodeId id) {
  const Node& node = rewriter.graph().node(id);
  const bool pool = node.Is("AveragePool");
  if (!node.Is("Conv") && !pool) return false;
  const Node* pad = rewriter.Producer(node.input(0), "Pad");
  if (pad == nullptr || rewriter.OnlyReader(node.input(0)) == kNoNode) return false;
  const auto added = SpatialZeroPads(rewriter.graph(), *pad);
  if (!added) return false;
  const auto own = OwnPads(node, added->size());
  if (!own) return false;
  std::vector<int64_t> total = *own;
  for (size_t i = 0; i < total.size(); ++i) total[i] += (*added)[i];
  if (pool && !PoolTakes(node, *own, total)) return false;
  std::vector<ValueId> inputs = node.inputs;
  inputs[0] = pad->input(0);
  std::map<std::string, Attribute> attributes = node.attributes;
  attributes.erase("auto_pad");
  attributes["pads"] = total;
  if (pool) attributes["count_include_pad"] = int64_t{1};
  const std::string op = node.op;
  rewriter.Become(id, "", op, inputs, std::move(attributes));
  return true;
}

}  // namespace

int FoldPadIntoConv(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    if (!graph.node(id).removed && Fold(rewriter, id)) ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
