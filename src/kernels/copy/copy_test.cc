#include "kernels/copy/copy.h"

#include <gtest/gtest.h>

#include "kernels/kernel_testing.h"

namespace octavo {
namespace {

// Small integers: exact in every type.
std::vector<float> Integers(const Dims& dims, uint32_t seed) {
  std::vector<float> values = RandomValues(dims, seed, -100, 100);
  for (float& value : values) value = std::nearbyint(value);
  return values;
}

void CheckCopy(DType from_type, Layout from_layout, DType to_type, Layout to_layout, const Dims& dims, int threads) {
  TestOperand from(from_type, dims, from_layout), to(to_type, dims, to_layout);
  from.Set(Integers(dims, 1));
  auto kernel = BindCopy(from.operand, to.operand, threads);
  ASSERT_TRUE(kernel.ok()) << kernel.status().message();
  const void* in[] = {from.data()};
  void* out[] = {to.data()};
  ASSERT_TRUE(kernel->run({in, out, nullptr}).ok());
  // A copy is exact.
  ExpectClose(to.Get(), from.Get(), 0, 0, ToString(dims));
}

TEST(CopyTest, EveryLayoutToEveryLayout) {
  const std::vector<std::pair<DType, DType>> types = {
      {DType::kFloat32, DType::kFloat32}, {DType::kBFloat16, DType::kBFloat16}, {DType::kInt8, DType::kInt8},
      {DType::kInt64, DType::kInt64},     {DType::kFloat32, DType::kBFloat16},  {DType::kBFloat16, DType::kFloat32},
  };
  const std::vector<Dims> shapes = {{},
                                    {1},
                                    {7},
                                    {17, 1},
                                    {3, 257},
                                    {2, 3, 5, 7},
                                    {2, 17, 4, 9},
                                    {1, 3, 20, 31},
                                    {1, 40, 33, 17},
                                    {1, 3, 40, 50},
                                    {2, 257, 7, 3}};
  ForEachIsa([&] {
    for (const auto& [from, to] : types) {
      for (const Layout from_layout : kAllLayouts) {
        for (const Layout to_layout : kAllLayouts) {
          for (const Dims& dims : shapes) CheckCopy(from, from_layout, to, to_layout, dims, 2);
        }
      }
    }
  });
}

TEST(CopyTest, BlocksAreSharedByThreads) {
  for (const int threads : {1, 2, 3, 7}) {
    CheckCopy(DType::kFloat32, Layout::kContiguous, DType::kFloat32, Layout::kChannelsLast, {3, 70, 65, 31}, threads);
    CheckCopy(DType::kFloat32, Layout::kChannelsLast, DType::kFloat32, Layout::kContiguous, {3, 70, 65, 31}, threads);
  }
}

TEST(CopyTest, RoundsToNearestEvenAndKeepsNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> values = {1.00390625f, 1.01171875f, -1.00390625f, 3.4e38f, nan, 1e-40f, 0.1f, -0.0f};
  ForEachIsa([&] {
    for (const Layout layout : {Layout::kContiguous, Layout::kReversed}) {
      TestOperand from(DType::kFloat32, {8, 32}, layout), to(DType::kBFloat16, {8, 32});
      std::vector<float> all;
      for (size_t i = 0; i < 256; ++i) all.push_back(values[i % values.size()]);
      from.Set(all);
      TestOperand expected(DType::kBFloat16, {8, 32});
      expected.Set(all);
      const void* in[] = {from.data()};
      void* out[] = {to.data()};
      auto kernel = BindCopy(from.operand, to.operand, 1);
      ASSERT_TRUE(kernel.ok() && kernel->run({in, out, nullptr}).ok());
      // The tensor's own rounding is the reference: equal bits.
      ExpectClose(to.Get(), expected.Get(), 0, 0, "bfloat16");
    }
  });
}

TEST(CopyTest, OtherConversionsAreUnsupported) {
  const TestOperand from(DType::kInt64, {3}), to(DType::kFloat32, {3});
  EXPECT_EQ(BindCopy(from.operand, to.operand, 1).status().code(), ErrorCode::kUnsupported);
}

TEST(CopyTest, TransposeMovesAxes) {
  ForEachIsa([] {
    TestOperand x(DType::kFloat32, {2, 33, 5, 17}, Layout::kChannelsLast), y(DType::kFloat32, {2, 17, 33, 5});
    x.Set(Integers({2, 33, 5, 17}, 2));
    const Node node = NodeOf("Transpose", {{"perm", std::vector<int64_t>{0, 3, 1, 2}}});
    ASSERT_TRUE(RunKernel(BindFastTranspose, node, 13, 2, {&x}, {&y}).ok());
    const std::vector<float> in = x.Get(), out = y.Get();
    for (size_t n = 0; n < 2; ++n) {
      for (size_t a = 0; a < 33; ++a) {
        for (size_t b = 0; b < 5; ++b) {
          for (size_t c = 0; c < 17; ++c) {
            ASSERT_EQ(out[((n * 17 + c) * 33 + a) * 5 + b], in[((n * 33 + a) * 5 + b) * 17 + c]);
          }
        }
      }
    }
  });
}

TEST(CopyTest, ConcatAndSplitUndoEachOther) {
  ForEachIsa([] {
    for (const Layout layout : {Layout::kContiguous, Layout::kChannelsLast}) {
      TestOperand a(DType::kFloat32, {2, 3, 4, 5}, Layout::kContiguous);
      TestOperand b(DType::kFloat32, {2, 17, 4, 5}, Layout::kChannelsLast);
      TestOperand whole(DType::kFloat32, {2, 20, 4, 5}, layout);
      TestOperand a2(DType::kFloat32, {2, 3, 4, 5}), b2(DType::kFloat32, {2, 17, 4, 5});
      a.Set(Integers({2, 3, 4, 5}, 3));
      b.Set(Integers({2, 17, 4, 5}, 4));
      const Node node = NodeOf("Concat", {{"axis", int64_t{-3}}}), split = NodeOf("Split", {{"axis", int64_t{1}}});
      ASSERT_TRUE(RunKernel(BindFastConcat, node, 13, 2, {&a, &b}, {&whole}).ok());
      ASSERT_TRUE(RunKernel(BindFastSplit, split, 13, 2, {&whole}, {&a2, &b2}).ok());
      const std::vector<float> all = whole.Get(), first = a.Get(), second = b.Get();
      // Copies are exact.
      ExpectClose(a2.Get(), first, 0, 0, "first part");
      ExpectClose(b2.Get(), second, 0, 0, "second part");
      EXPECT_EQ(all[20], first[20]);                // image 0, channel 1
      EXPECT_EQ(all[60], second[0]);                // image 0, channel 3
      EXPECT_EQ(all[400 + 60 + 339], second[679]);  // the last one
    }
  });
}

TEST(CopyTest, SliceFollowsOnnx) {
  TestOperand x(DType::kFloat32, {6, 9}), y(DType::kFloat32, {3, 4});
  x.Set(Integers({6, 9}, 5));
  // Rows 4, 2, 0 (a negative step from beyond the end) and columns 1, 3, 5, 7.
  const Tensor starts = Tensor::FromVector<int64_t>({2}, {-2, 1}), ends = Tensor::FromVector<int64_t>({2}, {-100, 8});
  const Tensor axes = Tensor::FromVector<int64_t>({2}, {0, -1}), steps = Tensor::FromVector<int64_t>({2}, {-2, 2});
  std::vector<TestOperand> bounds(4, TestOperand(DType::kInt64, {2}));
  const Tensor* constants[] = {&starts, &ends, &axes, &steps};
  for (size_t i = 0; i < 4; ++i) bounds[i].operand.constant = constants[i];
  ASSERT_TRUE(
      RunKernel(BindFastSlice, NodeOf("Slice"), 13, 1, {&x, &bounds[0], &bounds[1], &bounds[2], &bounds[3]}, {&y})
          .ok());
  const std::vector<float> in = x.Get(), out = y.Get();
  for (size_t r = 0; r < 3; ++r) {
    for (size_t c = 0; c < 4; ++c) EXPECT_EQ(out[r * 4 + c], in[(4 - 2 * r) * 9 + 1 + 2 * c]);
  }
  bounds[0].operand.constant = nullptr;
  EXPECT_EQ(RunKernel(BindFastSlice, NodeOf("Slice"), 13, 1, {&x, &bounds[0], &bounds[1]}, {&y}).code(),
            ErrorCode::kUnsupported);
}

TEST(CopyTest, ExpandRepeats) {
  ForEachIsa([] {
    TestOperand x(DType::kFloat32, {3, 1}), y(DType::kFloat32, {2, 3, 17}, Layout::kChannelsLast);
    x.Set({5, 6, 7});
    ASSERT_TRUE(RunKernel(BindFastExpand, NodeOf("Expand"), 13, 1, {&x}, {&y}).ok());
    const std::vector<float> out = y.Get();
    for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], 5 + static_cast<float>(i / 17 % 3));
  });
}

}  // namespace
}  // namespace octavo
