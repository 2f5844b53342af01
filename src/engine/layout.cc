#include "engine/layout.h"

#include <algorithm>
#include <numeric>

namespace octavo {

Dims StridesInOrder(const Dims& dims, const std::vector<int>& order) {
  Dims strides(dims.size());
  int64_t step = 1;
  for (size_t i = order.size(); i-- > 0;) {
    const auto d = static_cast<size_t>(order[i]);
    strides[d] = step;
    step *= std::max<int64_t>(1, dims[d]);
  }
  return strides;
}

Dims ChannelsLastStrides(const Dims& dims) {
  std::vector<int> order(dims.size());
  std::iota(order.begin(), order.end(), 0);
  if (dims.size() >= 3) std::rotate(order.begin() + 1, order.begin() + 2, order.end());
  return StridesInOrder(dims, order);
}

Dims DenseLike(const Dims& dims, const Dims& strides) {
  std::vector<int> order(dims.size());
  std::iota(order.begin(), order.end(), 0);
  const bool broadcast = std::any_of(order.begin(), order.end(), [&](int d) {
    return strides[static_cast<size_t>(d)] == 0 && dims[static_cast<size_t>(d)] > 1;
  });
  if (!broadcast) {
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      // A dimension of size 1 has no say: it stays where the logical order has it only among equals.
      return strides[static_cast<size_t>(a)] > strides[static_cast<size_t>(b)];
    });
  }
  return StridesInOrder(dims, order);
}

bool SameStrides(const Dims& dims, const Dims& a, const Dims& b) {
  for (size_t d = 0; d < dims.size(); ++d) {
    if (dims[d] != 1 && a[d] != b[d]) return false;
  }
  return true;
}

int64_t Extent(const Dims& dims, const Dims& strides) {
  int64_t last = 0;
  for (size_t d = 0; d < dims.size(); ++d) {
    if (dims[d] == 0) return 0;
    last += (dims[d] - 1) * strides[d];
  }
  return last + 1;
}

std::optional<Dims> ReshapeStrides(const Dims& dims, const Dims& strides, const Dims& new_dims) {
  if (ElementCount(dims) == 0) return ContiguousStrides(new_dims);
  Dims old_dims, old_strides;
  for (size_t d = 0; d < dims.size(); ++d) {
    if (dims[d] == 1) continue;
    old_dims.push_back(dims[d]);
    old_strides.push_back(strides[d]);
  }
  Dims result(new_dims.size(), 1);
  size_t o = 0, n = 0;
  while (o < old_dims.size() && n < new_dims.size()) {
    // The smallest groups of old and new dimensions with equal element counts.
    size_t o_end = o + 1, n_end = n + 1;
    int64_t o_count = old_dims[o], n_count = new_dims[n];
    while (o_count != n_count) {
      if (o_count < n_count) {
        if (o_end >= old_dims.size()) return std::nullopt;
        o_count *= old_dims[o_end++];
      } else {
        if (n_end >= new_dims.size()) return std::nullopt;
        n_count *= new_dims[n_end++];
      }
    }
    for (size_t i = o; i + 1 < o_end; ++i) {
      if (old_strides[i] != old_strides[i + 1] * old_dims[i + 1]) return std::nullopt;
    }
    int64_t step = old_strides[o_end - 1];
    for (size_t i = n_end; i-- > n;) {
      result[i] = step;
      step *= new_dims[i];
    }
    o = o_end;
    n = n_end;
  }
  return result;
}

namespace {

std::optional<std::vector<View>> SliceView(const Graph& graph, const Node& node, const Dims& dims,
                                           const Dims& strides) {
  for (size_t i = 1; i < node.inputs.size(); ++i) {
    if (node.has_input(i) && !graph.value(node.input(i)).is_constant()) return std::nullopt;
  }
  auto read = [&](size_t input, const char* attribute) -> std::optional<std::vector<int64_t>> {
    if (node.has_input(input)) {
      auto values = ToInt64s(graph.value(node.input(input)).constant);
      if (!values.ok()) return std::nullopt;
      return *std::move(values);
    }
    if (node.Has(attribute)) return node.Ints(attribute);
    return std::nullopt;
  };
  const auto starts = read(1, "starts");
  if (!starts) return std::nullopt;
  std::vector<int64_t> axes(starts->size());
  std::iota(axes.begin(), axes.end(), 0);
  if (auto given = read(3, "axes")) axes = *given;
  std::vector<int64_t> steps(starts->size(), 1);
  if (auto given = read(4, "steps")) steps = *given;
  if (axes.size() != starts->size() || steps.size() != starts->size()) return std::nullopt;

  View view{0, strides};
  const auto rank = static_cast<int64_t>(dims.size());
  for (size_t i = 0; i < axes.size(); ++i) {
    if (steps[i] <= 0) return std::nullopt;  // walking backwards: the kernel does that
    const auto axis = static_cast<size_t>(axes[i] < 0 ? axes[i] + rank : axes[i]);
    if (axis >= dims.size()) return std::nullopt;
    int64_t start = (*starts)[i];
    if (start < 0) start += dims[axis];
    start = std::clamp<int64_t>(start, 0, dims[axis]);
    view.offset += start * strides[axis];
    view.strides[axis] *= steps[i];
  }
  return std::vector<View>{std::move(view)};
}

std::optional<std::vector<View>> SplitViews(const Graph& graph, const Node& node, const Dims& dims,
                                            const Dims& strides) {
  int64_t axis = node.Int("axis", 0);
  if (axis < 0) axis += static_cast<int64_t>(dims.size());
  std::vector<View> views;
  int64_t at = 0;
  for (ValueId output : node.outputs) {
    if (output == kNoValue) return std::nullopt;
    views.push_back({at * strides[static_cast<size_t>(axis)], strides});
    at += graph.value(output).dims[static_cast<size_t>(axis)];
  }
  return views;
}

std::optional<std::vector<View>> ExpandView(const Dims& dims, const Dims& strides, const Dims& out_dims) {
  View view{0, Dims(out_dims.size(), 0)};
  const size_t lead = out_dims.size() - dims.size();
  for (size_t d = 0; d < dims.size(); ++d) {
    if (dims[d] == out_dims[lead + d]) view.strides[lead + d] = strides[d];
  }
  return std::vector<View>{std::move(view)};
}

std::optional<std::vector<View>> TransposeView(const Node& node, const Dims& strides) {
  std::vector<int64_t> perm = node.Ints("perm");
  if (perm.empty()) {
    for (size_t d = strides.size(); d-- > 0;) perm.push_back(static_cast<int64_t>(d));
  }
  View view{0, Dims(strides.size())};
  for (size_t d = 0; d < perm.size(); ++d) view.strides[d] = strides[static_cast<size_t>(perm[d])];
  return std::vector<View>{std::move(view)};
}

}  // namespace

std::optional<std::vector<View>> ViewsOf(const Graph& graph, const Node& node, const Dims& strides) {
  if (!node.domain.empty() || !node.has_input(0) || node.output(0) == kNoValue) return std::nullopt;
  const Dims& dims = graph.value(node.input(0)).dims;
  const Dims& out_dims = graph.value(node.output(0)).dims;
  if (node.op == "Identity" || (node.op == "Dropout" && node.output(1) == kNoValue)) {
    return std::vector<View>{{0, strides}};
  }
  if (node.op == "Reshape" || node.op == "Flatten" || node.op == "Squeeze" || node.op == "Unsqueeze") {
    auto reshaped = ReshapeStrides(dims, strides, out_dims);
    if (!reshaped) return std::nullopt;
    return std::vector<View>{{0, *std::move(reshaped)}};
  }
  if (node.op == "Transpose") return TransposeView(node, strides);
  if (node.op == "Expand") return ExpandView(dims, strides, out_dims);
  if (node.op == "Split") return SplitViews(graph, node, dims, strides);
  if (node.op == "Slice") return SliceView(graph, node, dims, strides);
  return std::nullopt;
}

}  // namespace octavo
