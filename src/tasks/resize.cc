// Pillow's resampling (ImagingResample, 8 bits per channel): one pass per axis, each with weights of 22 fractional bits
// that sum to about one, the result rounded and clipped to 8 bits between the passes.
#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "octavo/image.h"
#include "tasks/plane_resize.h"

namespace octavo {
namespace {

constexpr int kFractionBits = 32 - 8 - 2;

double Triangle(double x) {
  x = std::fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double Cubic(double x) {
  constexpr double kA = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * kA;
  return 0.0;
}

struct Kernel {
  double (*weight)(double);
  double support;  // where it becomes zero, in source pixels at scale 1
};

// The source pixels that make one destination pixel: [first, first + count), weights at taps.weights[index * width].
struct Taps {
  struct Range {
    int first, count;
  };
  std::vector<Range> ranges;
  std::vector<int> weights;
  int width = 0;  // weights kept per destination pixel
};

int ToFixed(double weight) {
  const double scaled = weight * (1 << kFractionBits);
  return static_cast<int>(weight < 0 ? scaled - 0.5 : scaled + 0.5);
}

Taps MakeTaps(int in_size, int out_size, const Kernel& kernel) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double filter_scale = std::max(scale, 1.0);
  const double support = kernel.support * filter_scale;
  const double inverse = 1.0 / filter_scale;
  Taps taps;
  taps.width = static_cast<int>(std::ceil(support)) * 2 + 1;
  taps.ranges.resize(static_cast<size_t>(out_size));
  taps.weights.resize(static_cast<size_t>(out_size) * static_cast<size_t>(taps.width));
  std::vector<double> weights(static_cast<size_t>(taps.width));
  for (int i = 0; i < out_size; ++i) {
    const double center = (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int count = std::min(static_cast<int>(center + support + 0.5), in_size) - first;
    double sum = 0;
    for (int k = 0; k < count; ++k) {
      weights[static_cast<size_t>(k)] = kernel.weight((k + first - center + 0.5) * inverse);
      sum += weights[static_cast<size_t>(k)];
    }
    int* fixed = taps.weights.data() + static_cast<size_t>(i) * static_cast<size_t>(taps.width);
    for (int k = 0; k < count; ++k) {
      const double weight = weights[static_cast<size_t>(k)];
      fixed[k] = ToFixed(sum != 0 ? weight / sum : weight);
    }
    taps.ranges[static_cast<size_t>(i)] = {first, count};
  }
  return taps;
}

uint8_t FromFixed(int sum) { return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255)); }

template <int kChannels>
void ResampleRow(const uint8_t* in, const Taps& taps, uint8_t* out) {
  for (size_t x = 0; x < taps.ranges.size(); ++x) {
    const int* weights = taps.weights.data() + x * static_cast<size_t>(taps.width);
    const uint8_t* from = in + taps.ranges[x].first * kChannels;
    int sums[kChannels];
    std::fill(sums, sums + kChannels, 1 << (kFractionBits - 1));
    for (int k = 0; k < taps.ranges[x].count; ++k) {
      for (int c = 0; c < kChannels; ++c) sums[c] += from[k * kChannels + c] * weights[k];
    }
    for (int c = 0; c < kChannels; ++c) *out++ = FromFixed(sums[c]);
  }
}

Image ResampleHorizontally(const Image& image, int width, const Kernel& kernel) {
  const Taps taps = MakeTaps(image.width, width, kernel);
  Image out = MakeImage(width, image.height, image.channels);
  const auto row = image.channels == 1 ? &ResampleRow<1> : (image.channels == 3 ? &ResampleRow<3> : &ResampleRow<4>);
  for (int y = 0; y < image.height; ++y) row(image.At(0, y), taps, out.At(0, y));
  return out;
}

Image ResampleVertically(const Image& image, int height, const Kernel& kernel) {
  const Taps taps = MakeTaps(image.height, height, kernel);
  Image out = MakeImage(image.width, height, image.channels);
  const size_t row_bytes = image.Offset(0, 1);
  std::vector<int> sums(row_bytes);
  for (int y = 0; y < height; ++y) {
    const Taps::Range range = taps.ranges[static_cast<size_t>(y)];
    const int* weights = taps.weights.data() + static_cast<size_t>(y) * static_cast<size_t>(taps.width);
    std::fill(sums.begin(), sums.end(), 1 << (kFractionBits - 1));
    for (int k = 0; k < range.count; ++k) {
      const uint8_t* from = image.At(0, range.first + k);
      const int weight = weights[k];
      for (size_t i = 0; i < row_bytes; ++i) sums[i] += from[i] * weight;
    }
    std::transform(sums.begin(), sums.end(), out.At(0, y), FromFixed);
  }
  return out;
}

// Since version 13 Pillow runs the vertical pass first where the height shrinks by much more than the width; the order
// shows in the rounding between the passes.
bool IsVerticalFirst(const Image& image, int width, int height) {
  return image.height > height && image.height - height > 2 * (image.width - width);
}

Image Resample(const Image& image, int width, int height, const Kernel& kernel) {
  if (width == image.width && height == image.height) return image;
  if (width == image.width) return ResampleVertically(image, height, kernel);
  if (height == image.height) return ResampleHorizontally(image, width, kernel);
  if (IsVerticalFirst(image, width, height)) {
    return ResampleHorizontally(ResampleVertically(image, height, kernel), width, kernel);
  }
  return ResampleVertically(ResampleHorizontally(image, width, kernel), height, kernel);
}

// Pillow steps through the source by adding, so its rounding errors add up; they are part of its result.
std::vector<int> NearestPositions(int in_size, int out_size) {
  const double step = static_cast<double>(in_size) / out_size;
  std::vector<int> positions(static_cast<size_t>(out_size));
  double at = step * 0.5;
  for (int& position : positions) {
    position = std::min(static_cast<int>(at), in_size - 1);
    at += step;
  }
  return positions;
}

Image ResizeNearest(const Image& image, int width, int height) {
  const std::vector<int> columns = NearestPositions(image.width, width);
  const std::vector<int> rows = NearestPositions(image.height, height);
  Image out = MakeImage(width, height, image.channels);
  uint8_t* to = out.pixels.data();
  for (const int row : rows) {
    for (const int column : columns) to = std::copy_n(image.At(column, row), image.channels, to);
  }
  return out;
}

Image ResizePlain(const Image& image, int width, int height) {
  Image out = MakeImage(width, height, image.channels);
  const auto channels = static_cast<size_t>(image.channels);
  std::vector<float> plane(image.pixels.size() / channels);
  for (size_t c = 0; c < channels; ++c) {
    for (size_t i = 0; i < plane.size(); ++i) plane[i] = image.pixels[i * channels + c];
    const PlaneView view{plane.data(), image.height, image.width, image.width};
    ForEachResizedRow(view, height, width, [&](int y, std::span<const float> row) {
      uint8_t* to = out.At(0, y) + c;
      for (const float value : row) {
        *to = static_cast<uint8_t>(value + 0.5f);
        to += channels;
      }
    });
  }
  return out;
}

}  // namespace

Result<Image> Resize(const Image& image, int width, int height, Interpolation interpolation) {
  if (image.width <= 0 || image.height <= 0 || (image.channels != 1 && image.channels != 3 && image.channels != 4) ||
      image.pixels.size() != image.Offset(0, image.height)) {
    return InvalidArgument("there is no picture to resize");
  }
  if (width < 1 || height < 1 || width > kMaxImageSide || height > kMaxImageSide ||
      int64_t{width} * height > kMaxImagePixels) {
    return InvalidArgument("a picture cannot be resized to " + std::to_string(width) + "x" + std::to_string(height));
  }
  try {
    switch (interpolation) {
      case Interpolation::kNearest:
        return ResizeNearest(image, width, height);
      case Interpolation::kBilinear:
        return Resample(image, width, height, {&Triangle, 1.0});
      case Interpolation::kBicubic:
        return Resample(image, width, height, {&Cubic, 2.0});
      case Interpolation::kBilinearPlain:
        return ResizePlain(image, width, height);
    }
  } catch (const std::bad_alloc&) {
    return IoError("there is not enough memory to resize a picture to " + std::to_string(width) + "x" +
                   std::to_string(height));
  }
  return InvalidArgument("an unknown interpolation");
}

void ResizePlane(std::span<const float> in, int in_height, int in_width, std::span<float> out, int out_height,
                 int out_width) {
  const PlaneView view{in.data(), in_height, in_width, in_width};
  ForEachResizedRow(view, out_height, out_width, [&](int y, std::span<const float> row) {
    std::copy(row.begin(), row.end(), out.begin() + static_cast<std::ptrdiff_t>(y) * out_width);
  });
}

}  // namespace octavo
