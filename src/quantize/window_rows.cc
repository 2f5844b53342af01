#include "quantize/window_rows.h"

#include <algorithm>

namespace octavo {

Result<WindowRows> WindowRows::OfConv(const Node& node, const Dims& x, const Dims& w) {
  WindowRows rows;
  OCTAVO_ASSIGN(rows.axes_, ResolveConv(node, x, w));
  rows.groups_ = node.Int("group", 1);
  rows.channels_ = w[1];
  for (const WindowAxis& axis : rows.axes_) {
    rows.window_ *= axis.kernel;
    rows.plane_ *= axis.input;
    rows.places_ *= axis.output;
  }
  rows.image_ = x[1] * rows.plane_;
  rows.positions_ = x[0] * rows.places_;
  return rows;
}

WindowRows WindowRows::OfProduct(const Dims& x) {
  WindowRows rows;
  rows.channels_ = rows.image_ = x.back();
  rows.positions_ = x.back() == 0 ? 0 : ElementCount(x) / x.back();
  return rows;
}

void WindowRows::Gather(std::span<const float> operand, int64_t group, std::span<const int64_t> positions,
                        float* out) const {
  for (const int64_t position : positions) {
    const float* image = operand.data() + position / places_ * image_;
    GatherOne(image, group, position % places_, out);
    out += inputs();
  }
}

void WindowRows::GatherOne(const float* image, int64_t group, int64_t place, float* out) const {
  const float* first = image + group * channels_ * plane_;
  for (int64_t k = 0; k < window_; ++k) {
    int64_t offset = 0, stride = 1, rest = k, at = place;
    bool inside = true;
    for (size_t d = axes_.size(); d-- > 0;) {
      const WindowAxis& axis = axes_[d];
      const int64_t i = at % axis.output * axis.stride - axis.pad_begin + rest % axis.kernel * axis.dilation;
      inside = inside && i >= 0 && i < axis.input;
      offset += i * stride;
      stride *= axis.input;
      rest /= axis.kernel;
      at /= axis.output;
    }
    for (int64_t c = 0; c < channels_; ++c) out[c * window_ + k] = inside ? first[c * plane_ + offset] : 0.0f;
  }
}

std::vector<int64_t> SpreadPositions(int64_t total, int64_t count, uint64_t seed) {
  std::vector<int64_t> positions;
  if (total <= count) {
    for (int64_t i = 0; i < total; ++i) positions.push_back(i);
    return positions;
  }
  uint64_t state = seed;
  for (int64_t part = 0; part < count; ++part) {
    const int64_t begin = total * part / count, end = total * (part + 1) / count;
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;  // Knuth's MMIX
    positions.push_back(begin + static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(end - begin)));
  }
  return positions;
}

}  // namespace octavo
