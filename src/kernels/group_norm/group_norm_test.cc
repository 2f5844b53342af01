#include "kernels/group_norm/group_norm.h"

#include <gtest/gtest.h>

#include "kernels/kernel_testing.h"

namespace octavo {
namespace {

TEST(GroupNormTest, MatchesTheGenericKernel) {
  struct Case {
    Dims dims;
    int64_t groups;
  };
  const std::vector<Case> cases = {{{1, 1, 1, 1}, 1},  {{2, 6, 3, 5}, 3},      {{1, 17, 9, 7}, 17},
                                   {{3, 34, 7, 7}, 2}, {{1, 320, 16, 16}, 32}, {{2, 64, 33, 31}, 1},
                                   {{1, 257, 40}, 257}};
  ForEachIsa([&] {
    for (const Case& c : cases) {
      for (const char* activation : {"none", "silu"}) {
        const Node node =
            NodeOf("GroupNorm", {{"num_groups", c.groups}, {"epsilon", 1e-5f}, {"activation", std::string(activation)}},
                   "octavo");
        for (const DType in : {DType::kFloat32, DType::kBFloat16}) {
          for (const DType out : {DType::kFloat32, DType::kBFloat16}) {
            TestOperand x = RandomTensor(in, c.dims, Layout::kChannelsLast, 1, -2, 6);
            TestOperand y(out, c.dims, Layout::kChannelsLast);
            TestOperand scale = RandomTensor(DType::kFloat32, {c.dims[1]}, Layout::kContiguous, 2);
            TestOperand bias = RandomTensor(DType::kFloat32, {c.dims[0], c.dims[1]}, Layout::kContiguous, 3);
            const Status status = RunKernel(BindFastGroupNorm, node, 1, 2, {&x, &scale, &bias}, {&y});
            ASSERT_TRUE(status.ok()) << status.message();
            // The generic kernel wants scale and bias alike: repeat the scale.
            TestOperand scales(DType::kFloat32, bias.operand.dims);
            std::vector<float> repeated;
            for (int64_t n = 0; n < c.dims[0]; ++n) {
              const std::vector<float> one = scale.Get();
              repeated.insert(repeated.end(), one.begin(), one.end());
            }
            scales.Set(repeated);
            const std::vector<float> expected = RunGeneric(node, 1, {&x, &scales, &bias}, c.dims);
            // Statistics are exact to a few 1e-7; then two roundings of values up to 4 deviations times a scale of 4;
            // rounding to bfloat16 on top.
            const double relative = out == DType::kBFloat16 ? kBFloat16Rounding : 1e-6;
            ExpectClose(y.Get(), expected, relative, 1e-5, ToString(c.dims) + activation);
            if (out == DType::kFloat32 && ElementCount(c.dims) > 1) {
              EXPECT_GE(SqnrDb(y.Get(), expected), 120);
            }
          }
        }
      }
    }
  });
}

TEST(GroupNormTest, KeepsItsPrecisionBesideALargeMean) {
  ForEachIsa([] {
    const Dims dims = {1, 32, 24, 24};
    TestOperand x = RandomTensor(DType::kFloat32, dims, Layout::kChannelsLast, 4, 999, 1001), y = x;
    const Node node = NodeOf("GroupNorm", {{"num_groups", int64_t{4}}}, "octavo");
    ASSERT_TRUE(RunKernel(BindFastGroupNorm, node, 1, 2, {&x}, {&y}).ok());
    // Distances from the rounded mean are exact, and what it lacks is in the offset.
    EXPECT_GE(SqnrDb(y.Get(), RunGeneric(node, 1, {&x}, dims)), 120);
  });
}

TEST(GroupNormTest, OtherLayoutsAreUnsupported) {
  TestOperand x = RandomTensor(DType::kFloat32, {2, 8, 3, 3}, Layout::kContiguous, 5), y = x;
  const Node node = NodeOf("GroupNorm", {{"num_groups", int64_t{2}}}, "octavo");
  EXPECT_EQ(RunKernel(BindFastGroupNorm, node, 1, 1, {&x}, {&y}).code(), ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace octavo
