#include "kernels/resize/resize.h"

#include <gtest/gtest.h>

#include "kernels/kernel_testing.h"

namespace octavo {
namespace {

using Attributes = std::map<std::string, Attribute>;

Attributes ModeOf(const char* mode, const char* coordinates, Attributes more = {}) {
  more["mode"] = std::string(mode);
  more["coordinate_transformation_mode"] = std::string(coordinates);
  return more;
}

// x, an absent roi and scales, and the constant sizes.
Result<BoundKernel> Bind(BindFn bind, const Node& node, const Operand& x, const Tensor& sizes, const Operand& y) {
  Operand size_operand;
  size_operand.present = true;
  size_operand.dtype = DType::kInt64;
  size_operand.dims = {4};
  size_operand.strides = {1};
  size_operand.constant = &sizes;
  const std::vector<Operand> inputs = {x, Operand(), Operand(), size_operand}, outputs = {y};
  return bind({node, 13, inputs, outputs, 2});
}

void RunBound(BindFn bind, const Node& node, TestOperand& x, const Tensor& sizes, TestOperand& y) {
  auto kernel = Bind(bind, node, x.operand, sizes, y.operand);
  ASSERT_TRUE(kernel.ok()) << kernel.status().message();
  std::vector<uint8_t> scratch(kernel->scratch_bytes + 64);
  const size_t shift = (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
  const void* in[] = {x.data(), nullptr, nullptr, sizes.data()};
  void* out[] = {y.data()};
  ASSERT_TRUE(kernel->run({in, out, scratch.data() + shift}).ok());
}

TEST(ResizeTest, MatchesTheGenericKernel) {
  const std::vector<Attributes> modes = {
      ModeOf("nearest", "asymmetric", {{"nearest_mode", std::string("floor")}}),
      ModeOf("nearest", "half_pixel"),
      ModeOf("linear", "half_pixel"),
      ModeOf("linear", "align_corners"),
      ModeOf("cubic", "half_pixel", {{"cubic_coeff_a", -0.5f}}),
      ModeOf("cubic", "pytorch_half_pixel", {{"exclude_outside", int64_t{1}}}),
  };
  const std::vector<std::pair<Dims, Dims>> shapes = {{{1, 1, 1, 1}, {1, 1, 3, 2}},
                                                     {{2, 7, 5, 4}, {2, 7, 10, 8}},
                                                     {{1, 17, 9, 9}, {1, 17, 5, 21}},
                                                     {{1, 64, 16, 16}, {1, 64, 64, 64}},
                                                     {{1, 33, 20, 7}, {1, 33, 20, 3}}};
  ForEachIsa([&] {
    for (const Attributes& mode : modes) {
      const Node node = NodeOf("Resize", mode);
      for (const auto& [from, to] : shapes) {
        const Tensor sizes = Tensor::FromVector<int64_t>({4}, to);
        for (const DType in : {DType::kFloat32, DType::kBFloat16}) {
          for (const DType out : {DType::kFloat32, DType::kBFloat16}) {
            TestOperand x = RandomTensor(in, from, Layout::kChannelsLast, 1), y(out, to, Layout::kChannelsLast);
            TestOperand plain(DType::kFloat32, from), expected(DType::kFloat32, to);
            plain.Set(x.Get());
            RunBound(BindFastResize, node, x, sizes, y);
            RunBound(FindGenericKernel("", "Resize"), node, plain, sizes, expected);
            // Cubic weights add up to 1.6 at most per axis: 8 products below 4 * 1.6 * 1.6, each rounded to 6e-8;
            // bfloat16 results are rounded to 8 bits.
            ExpectClose(y.Get(), expected.Get(), out == DType::kBFloat16 ? kBFloat16Rounding : 0, 5e-6,
                        ToString(from) + ToString(to));
          }
        }
      }
    }
  });
}

TEST(ResizeTest, OtherLayoutsAreUnsupported) {
  const TestOperand x(DType::kFloat32, {1, 4, 3, 3}), y(DType::kFloat32, {1, 4, 6, 6});
  const Tensor sizes = Tensor::FromVector<int64_t>({4}, {1, 4, 6, 6});
  const Node node = NodeOf("Resize");
  EXPECT_EQ(Bind(BindFastResize, node, x.operand, sizes, y.operand).status().code(), ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace octavo
