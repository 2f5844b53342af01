#include "kernels/layer_norm/layer_norm.h"

#include <gtest/gtest.h>

#include "kernels/kernel_testing.h"

namespace octavo {
namespace {

struct Case {
  Dims dims;
  int64_t axis;
  Layout from, to;
};

std::vector<Case> Cases() {
  return {
      {{5, 1}, -1, Layout::kContiguous, Layout::kContiguous},
      {{3, 7}, -1, Layout::kContiguous, Layout::kContiguous},
      {{2, 9, 257}, 2, Layout::kContiguous, Layout::kContiguous},
      {{2, 9, 384}, -1, Layout::kSliced, Layout::kContiguous},
      {{2, 9, 64}, -1, Layout::kSliced, Layout::kChannelsLast},
      {{2, 17, 5, 7}, 1, Layout::kChannelsLast, Layout::kChannelsLast},
      {{2, 33, 13, 17}, 1, Layout::kChannelsLast, Layout::kContiguous},
      {{1, 256, 9, 9}, 1, Layout::kChannelsLast, Layout::kContiguous},
      {{40, 65, 3}, 0, Layout::kReversed, Layout::kReversed},
  };
}

TEST(LayerNormTest, MatchesTheGenericKernel) {
  ForEachIsa([] {
    for (const Case& c : Cases()) {
      const int64_t rank = static_cast<int64_t>(c.dims.size());
      const int64_t size = c.dims[static_cast<size_t>(c.axis < 0 ? c.axis + rank : c.axis)];
      const Node node = NodeOf("LayerNorm", {{"axis", c.axis}, {"epsilon", 1e-6f}}, "octavo");
      for (const DType in : {DType::kFloat32, DType::kBFloat16}) {
        for (const DType out : {DType::kFloat32, DType::kBFloat16}) {
          // A mean of twice the deviation.
          TestOperand x = RandomTensor(in, c.dims, c.from, 1, -1, 8), y(out, c.dims, c.to);
          TestOperand scale = RandomTensor(DType::kFloat32, {size}, Layout::kContiguous, 2);
          TestOperand bias = RandomTensor(DType::kBFloat16, {size}, Layout::kContiguous, 3);
          for (const auto& inputs : {std::vector{&x, &scale, &bias}, {&x, &scale}, {&x}}) {
            const Status status = RunKernel(BindFastLayerNorm, node, 1, 2, inputs, {&y});
            ASSERT_TRUE(status.ok()) << status.message();
            const std::vector<float> expected = RunGeneric(node, 1, inputs, c.dims);
            // Values up to 8 with a float mean (64 roundings of 6e-8 at most in a lane's sum), divided by a deviation
            // of 2.6 and scaled by up to 4; rounding to bfloat16 on top.
            const double relative = out == DType::kBFloat16 ? kBFloat16Rounding : 1e-6;
            ExpectClose(y.Get(), expected, relative, 2e-5, ToString(c.dims));
            if (out == DType::kFloat32 && size > 1) {
              EXPECT_GE(SqnrDb(y.Get(), expected), 120);
            }
          }
        }
      }
    }
  });
}

TEST(LayerNormTest, KeepsItsPrecisionBesideALargeMean) {
  ForEachIsa([] {
    TestOperand x = RandomTensor(DType::kFloat32, {4, 768}, Layout::kContiguous, 4, 999, 1001);
    TestOperand y(DType::kFloat32, {4, 768});
    const Node node = NodeOf("LayerNorm", {{"axis", int64_t{-1}}}, "octavo");
    ASSERT_TRUE(RunKernel(BindFastLayerNorm, node, 1, 1, {&x}, {&y}).ok());
    // Distances from the rounded mean are exact, and the second pass finds what that mean lacks.
    EXPECT_GE(SqnrDb(y.Get(), RunGeneric(node, 1, {&x}, {4, 768})), 120);
  });
}

TEST(LayerNormTest, AnAxisWithoutNeighboursIsUnsupported) {
  TestOperand x = RandomTensor(DType::kFloat32, {2, 8, 3, 3}, Layout::kContiguous, 5), y = x;
  const Node node = NodeOf("LayerNorm", {{"axis", int64_t{1}}}, "octavo");
  EXPECT_EQ(RunKernel(BindFastLayerNorm, node, 1, 1, {&x}, {&y}).code(), ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace octavo
