#include "engine/transposed_phases.h"

#include <gtest/gtest.h>

namespace octavo {
namespace {

WindowAxis Axis(int64_t kernel, int64_t stride, int64_t pad, int64_t input, int64_t output_padding) {
  WindowAxis axis;
  axis.kernel = kernel;
  axis.stride = stride;
  axis.pad_begin = axis.pad_end = pad;
  axis.input = input;
  axis.output = (input - 1) * stride + kernel - 2 * pad + output_padding;
  return axis;
}

// One channel, one axis: x[i] = i + 1 with weights 1, 10, 100, ... makes every product visible. Sums stay below 2^24,
// so float32 is exact.
TEST(TransposedPhases, EveryPhaseIsAPlainConvolution) {
  int splits = 0;
  for (int64_t stride = 2; stride <= 3; ++stride) {
    for (int64_t kernel = 1; kernel <= 5; ++kernel) {
      for (int64_t pad = 0; pad < kernel; ++pad) {
        for (int64_t extra = 0; extra < stride; ++extra) {
          const WindowAxis axis = Axis(kernel, stride, pad, 4, extra);
          if (axis.output <= 0) continue;
          std::vector<float> w(static_cast<size_t>(kernel));
          for (int64_t k = 0; k < kernel; ++k)
            w[static_cast<size_t>(k)] = static_cast<float>(k == 0 ? 1 : w[static_cast<size_t>(k - 1)] * 10);
          std::vector<float> expected(static_cast<size_t>(axis.output), 0);
          for (int64_t i = 0; i < 4; ++i) {
            for (int64_t k = 0; k < kernel; ++k) {
              const int64_t o = i * stride + k - pad;
              if (o >= 0 && o < axis.output)
                expected[static_cast<size_t>(o)] += static_cast<float>(i + 1) * w[static_cast<size_t>(k)];
            }
          }
          auto phases = SplitTransposed({axis}, Tensor::FromVector<float>({1, 1, kernel}, w));
          ASSERT_TRUE(phases.ok());
          if (phases->empty()) continue;
          ++splits;
          std::vector<float> actual(static_cast<size_t>(axis.output), -1);
          for (const auto& phase : *phases) {
            const WindowAxis& plain = phase.axes[0];
            for (int64_t m = 0; m < plain.output; ++m) {
              float sum = 0;
              for (int64_t u = 0; u < plain.kernel; ++u) {
                const int64_t i = m - plain.pad_begin + u;
                if (i >= 0 && i < 4)
                  sum += static_cast<float>(i + 1) * phase.weights.values<float>()[static_cast<size_t>(u)];
              }
              actual[static_cast<size_t>(m * stride + phase.first[0])] = sum;
            }
          }
          EXPECT_EQ(actual, expected) << "kernel " << kernel << " stride " << stride << " pad " << pad << " extra "
                                      << extra;
        }
      }
    }
  }
  EXPECT_GT(splits, 15);
}

TEST(TransposedPhases, StrideOneStaysWhole) {
  auto phases = SplitTransposed({Axis(3, 1, 1, 4, 0)}, *Tensor::Zeros(DType::kFloat32, {1, 1, 3}));
  ASSERT_TRUE(phases.ok());
  EXPECT_TRUE(phases->empty());
}

}  // namespace
}  // namespace octavo
