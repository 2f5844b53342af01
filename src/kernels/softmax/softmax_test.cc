#include "kernels/softmax/softmax.h"

#include <gtest/gtest.h>

#include <limits>

#include "kernels/kernel_testing.h"

namespace octavo {
namespace {

TEST(SoftmaxTest, MatchesTheGenericKernel) {
  ForEachIsa([] {
    for (const char* op : {"Softmax", "LogSoftmax"}) {
      for (const int64_t size : {1, 7, 17, 257, 1024}) {
        for (const Layout layout : {Layout::kContiguous, Layout::kSliced}) {
          TestOperand x = RandomTensor(DType::kFloat32, {2, 5, size}, layout, 1, -20, 20);
          TestOperand y(DType::kFloat32, {2, 5, size}, layout);
          ASSERT_TRUE(RunKernel(BindFastSoftmax, NodeOf(op), 13, 2, {&x}, {&y}).ok());
          const std::vector<float> expected = RunGeneric(NodeOf(op), 13, {&x}, {2, 5, size});
          // x - largest is rounded at magnitude 40, which e^x turns into 2.4e-6 relative; the exponential, the sum and
          // the quotient add a few ulp. The logarithm is at most 40 + 7 with roundings of 4e-6.
          const bool log = std::string(op) == "LogSoftmax";
          ExpectClose(y.Get(), expected, log ? 0 : 5e-6, log ? 1e-5 : 1e-30, op);
        }
      }
    }
  });
}

TEST(SoftmaxTest, TakesTheChannelsOfAChannelsLastTensor) {
  ForEachIsa([] {
    const Node node = NodeOf("Softmax", {{"axis", int64_t{1}}});
    TestOperand x = RandomTensor(DType::kFloat32, {2, 33, 3, 5}, Layout::kChannelsLast, 2), y = x;
    ASSERT_TRUE(RunKernel(BindFastSoftmax, node, 13, 1, {&x}, {&y}).ok());
    // As above, at magnitude 8.
    ExpectClose(y.Get(), RunGeneric(node, 13, {&x}, {2, 33, 3, 5}), 2e-6, 0, "channels");
    EXPECT_EQ(RunKernel(BindFastSoftmax, node, 11, 1, {&x}, {&y}).code(), ErrorCode::kUnsupported);
  });
}

// A scalar, and the axis past the end that opset 11 allows: the generic kernel has a meaning for them.
TEST(SoftmaxTest, LeavesOddAxesToTheGenericKernel) {
  TestOperand scalar(DType::kFloat32, {}), pair(DType::kFloat32, {2}), y = pair;
  EXPECT_EQ(RunKernel(BindFastSoftmax, NodeOf("Softmax"), 13, 1, {&scalar}, {&scalar}).code(), ErrorCode::kUnsupported);
  EXPECT_EQ(RunKernel(BindFastSoftmax, NodeOf("Softmax"), 11, 1, {&pair}, {&y}).code(), ErrorCode::kUnsupported);
}

TEST(SoftmaxTest, InfinitiesWeighNothingOrMakeNan) {
  ForEachIsa([] {
    const float inf = std::numeric_limits<float>::infinity();
    TestOperand x(DType::kFloat32, {2, 3}), y(DType::kFloat32, {2, 3});
    x.Set({0, -inf, 0, -inf, -inf, -inf});
    ASSERT_TRUE(RunKernel(BindFastSoftmax, NodeOf("Softmax"), 13, 1, {&x}, {&y}).ok());
    const std::vector<float> out = y.Get();
    EXPECT_EQ(std::vector<float>(out.begin(), out.begin() + 3), (std::vector<float>{0.5f, 0, 0.5f}));
    for (size_t i = 3; i < 6; ++i) EXPECT_TRUE(std::isnan(out[i]));
  });
}

}  // namespace
}  // namespace octavo
