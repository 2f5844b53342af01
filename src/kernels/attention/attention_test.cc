#include "kernels/attention/attention.h"

#include <gtest/gtest.h>

#include <limits>

#include "kernels/kernel_testing.h"

namespace octavo {
namespace {

// (batch, heads, tokens, channels), laid out as in `order`: the axes from the outermost to the innermost.
TestOperand Heads(DType dtype, const Dims& dims, const std::vector<size_t>& order, uint32_t seed) {
  TestOperand operand(dtype, {ElementCount(dims)});
  operand.operand.dims = dims;
  operand.operand.strides = Dims(dims.size());
  int64_t stride = 1;
  for (size_t k = order.size(); k-- > 0; stride *= dims[order[k]]) operand.operand.strides[order[k]] = stride;
  operand.Set(RandomValues(dims, seed, -1.5f, 1.5f));
  return operand;
}

const std::vector<size_t> kHeadsFirst = {0, 1, 2, 3};
const std::vector<size_t> kTokensFirst = {0, 2, 1, 3};    // (batch, tokens, heads, channels)
const std::vector<size_t> kChannelsFirst = {0, 1, 3, 2};  // tokens innermost

TEST(AttentionTest, MatchesTheGenericKernel) {
  struct Case {
    int64_t batch, heads, queries, keys, depth, width;
  };
  const std::vector<Case> cases = {{1, 1, 1, 1, 1, 1},     {1, 2, 7, 17, 5, 3},      {2, 3, 33, 40, 32, 32},
                                   {1, 8, 7, 257, 16, 16}, {1, 2, 197, 197, 64, 64}, {2, 1, 65, 31, 40, 48}};
  ForEachIsa([&] {
    for (const Case& c : cases) {
      const Node node = NodeOf("Attention", {{"scale", 1 / std::sqrt(static_cast<float>(c.depth))}}, "octavo");
      for (const auto& order : {kHeadsFirst, kTokensFirst, kChannelsFirst}) {
        for (const DType type : {DType::kFloat32, DType::kBFloat16}) {
          TestOperand q = Heads(type, {c.batch, c.heads, c.queries, c.depth}, order, 1);
          TestOperand k = Heads(type, {c.batch, c.heads, c.keys, c.depth}, order, 2);
          TestOperand v = Heads(type, {c.batch, c.heads, c.keys, c.width}, order, 3);
          TestOperand y = Heads(type, {c.batch, c.heads, c.queries, c.width}, order, 4);
          TestOperand mask = RandomTensor(type, {c.batch, 1, c.queries, c.keys}, Layout::kContiguous, 5);
          TestOperand key_mask = RandomTensor(type, {c.keys}, Layout::kContiguous, 6);
          for (const auto& inputs : {std::vector{&q, &k, &v}, {&q, &k, &v, &mask}, {&q, &k, &v, &key_mask}}) {
            const Status status = RunKernel(BindFastAttention, node, 1, 2, inputs, {&y});
            ASSERT_TRUE(status.ok()) << status.message();
            const std::vector<float> expected = RunGeneric(node, 1, inputs, y.operand.dims);
            // Dot products of up to 64 and sums of up to 257 products in float: roundings of 6e-8 that partly cancel,
            // magnified by e^score for scores up to 10; bfloat16 results are rounded to 8 bits.
            if (type == DType::kFloat32) {
              EXPECT_GE(SqnrDb(y.Get(), expected), 110) << c.queries << ' ' << c.keys;
            } else {
              ExpectClose(y.Get(), expected, kBFloat16Rounding, 1e-5, "bfloat16");
            }
          }
        }
      }
    }
  });
}

TEST(AttentionTest, ThreadsShareHeadsAndQueries) {
  const Node node = NodeOf("Attention", {{"scale", 0.2f}}, "octavo");
  TestOperand q = Heads(DType::kFloat32, {1, 3, 170, 32}, kTokensFirst, 1);
  TestOperand k = Heads(DType::kFloat32, {1, 3, 170, 32}, kTokensFirst, 2);
  TestOperand v = Heads(DType::kFloat32, {1, 3, 170, 32}, kTokensFirst, 3);
  TestOperand one = q, many = q;
  ASSERT_TRUE(RunKernel(BindFastAttention, node, 1, 1, {&q, &k, &v}, {&one}).ok());
  for (const int threads : {2, 3, 5}) {
    ASSERT_TRUE(RunKernel(BindFastAttention, node, 1, threads, {&q, &k, &v}, {&many}).ok());
    // A query's result does not depend on which thread computes it.
    ExpectClose(many.Get(), one.Get(), 0, 0, "threads");
  }
}

TEST(AttentionTest, AMaskedKeyHasNoWeight) {
  ForEachIsa([] {
    TestOperand q = Heads(DType::kFloat32, {1, 1, 3, 16}, kHeadsFirst, 1), y = q;
    TestOperand k = Heads(DType::kFloat32, {1, 1, 2, 16}, kHeadsFirst, 2), v = k;
    TestOperand mask(DType::kFloat32, {1, 2});
    mask.Set({0, -std::numeric_limits<float>::infinity()});
    ASSERT_TRUE(RunKernel(BindFastAttention, NodeOf("Attention"), 1, 1, {&q, &k, &v, &mask}, {&y}).ok());
    const std::vector<float> values = v.Get(), out = y.Get();
    for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], values[i % 16]);
  });
}

TEST(AttentionTest, AGuardedQueryWithoutKeysGivesZeros) {
  ForEachIsa([] {
    TestOperand q = Heads(DType::kFloat32, {1, 1, 3, 16}, kHeadsFirst, 1), y = q;
    TestOperand k = Heads(DType::kFloat32, {1, 1, 2, 16}, kHeadsFirst, 2), v = k;
    const float none = -std::numeric_limits<float>::infinity();
    TestOperand mask(DType::kFloat32, {3, 2});
    mask.Set({0, none, none, none, 0, 0});
    const Node node = NodeOf("Attention", {{"guarded", int64_t{1}}}, "octavo");
    ASSERT_TRUE(RunKernel(BindFastAttention, node, 1, 1, {&q, &k, &v, &mask}, {&y}).ok());
    const std::vector<float> expected = RunGeneric(node, 1, {&q, &k, &v, &mask}, y.operand.dims), out = y.Get();
    ExpectClose(out, expected, 1e-6, 1e-6, "guarded");
    for (size_t i = 16; i < 32; ++i) EXPECT_EQ(out[i], 0);
    ASSERT_TRUE(RunKernel(BindFastAttention, NodeOf("Attention"), 1, 1, {&q, &k, &v, &mask}, {&y}).ok());
    EXPECT_TRUE(std::isnan(y.Get()[16]));
  });
}

}  // namespace
}  // namespace octavo
