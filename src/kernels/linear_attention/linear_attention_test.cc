#include "kernels/linear_attention/linear_attention.h"

#include <gtest/gtest.h>

#include "kernels/kernel_testing.h"

namespace octavo {
namespace {

// (batch..., channels, tokens) with the channels innermost: a row-major (batch..., tokens, channels + gap).
TestOperand Tokens(DType dtype, const Dims& batch, int64_t channels, int64_t tokens, int64_t gap, uint32_t seed) {
  Dims dims = batch, strides = batch;
  dims.insert(dims.end(), {channels, tokens});
  TestOperand tensor(dtype, {1});
  tensor.operand.dims = dims;
  tensor.operand.strides = Dims(dims.size());
  tensor.operand.strides[dims.size() - 2] = 1;
  tensor.operand.strides[dims.size() - 1] = channels + gap;
  int64_t stride = tokens * (channels + gap);
  for (size_t d = batch.size(); d-- > 0; stride *= batch[d]) tensor.operand.strides[d] = stride;
  tensor.memory.assign(static_cast<size_t>(stride) * SizeOf(dtype), 0);
  tensor.Set(RandomValues(dims, seed, -1, 3));
  return tensor;
}

TEST(LinearAttentionTest, MatchesTheGenericKernel) {
  struct Case {
    Dims batch;
    int64_t depth, width, keys, queries;
  };
  const std::vector<Case> cases = {
      {{}, 1, 1, 1, 1},     {{3}, 7, 5, 17, 17},       {{2, 4}, 16, 16, 257, 257}, {{1, 3}, 32, 32, 300, 300},
      {{2}, 8, 33, 65, 64}, {{1, 16}, 16, 16, 64, 64}, {{1}, 32, 16, 4096, 129},
  };
  const Node node = NodeOf("LinearAttention", {{"epsilon", 1e-6f}}, "octavo");
  ForEachIsa([&] {
    for (const Case& c : cases) {
      for (const DType in : {DType::kFloat32, DType::kBFloat16}) {
        for (const DType out : {DType::kFloat32, DType::kBFloat16}) {
          for (const int threads : {1, 2}) {
            TestOperand q = Tokens(in, c.batch, c.depth, c.queries, 0, 1);
            TestOperand k = Tokens(in, c.batch, c.depth, c.keys, 3, 2);
            TestOperand v = Tokens(in, c.batch, c.width, c.keys, 7, 3);
            TestOperand y = Tokens(out, c.batch, c.width, c.queries, 5, 4);
            const Status status = RunKernel(BindFastLinearAttention, node, 1, threads, {&q, &k, &v}, {&y});
            ASSERT_TRUE(status.ok()) << status.message();
            const std::vector<float> expected = RunGeneric(node, 1, {&q, &k, &v}, y.operand.dims);
            // Float sums of 64 tokens, then of 64 blocks: below 128 roundings of 6e-8 each, most of which cancel;
            // bfloat16 results are rounded to 8 bits.
            if (out == DType::kFloat32) {
              EXPECT_GE(SqnrDb(y.Get(), expected), 110) << c.depth << ' ' << c.keys;
            } else {
              ExpectClose(y.Get(), expected, kBFloat16Rounding, 1e-5, "bfloat16");
            }
          }
        }
      }
    }
  });
}

TEST(LinearAttentionTest, AllNegativeKeysDivideByEpsilon) {
  ForEachIsa([] {
    TestOperand q = Tokens(DType::kFloat32, {}, 4, 3, 0, 1), k = q, v = q, y = q;
    k.Set(std::vector<float>(12, -1.0f));
    const Node node = NodeOf("LinearAttention", {{"epsilon", 1e-5f}}, "octavo");
    ASSERT_TRUE(RunKernel(BindFastLinearAttention, node, 1, 1, {&q, &k, &v}, {&y}).ok());
    for (const float value : y.Get()) EXPECT_EQ(value, 0);
  });
}

TEST(LinearAttentionTest, ChannelsThatAreNoNeighboursAreUnsupported) {
  TestOperand x = RandomTensor(DType::kFloat32, {4, 9}, Layout::kContiguous, 1), y = x;
  EXPECT_EQ(RunKernel(BindFastLinearAttention, NodeOf("LinearAttention"), 1, 1, {&x, &x, &x}, {&y}).code(),
            ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace octavo
