#include "kernels/linear_attention/integer_linear_attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/integer/reference.h"
#include "kernels/kernel_testing.h"
#include "kernels/linear_attention/linear_attention.h"

namespace octavo {
namespace {

// (batch, channels, tokens) with the channels innermost: a row-major (batch, tokens, channels + gap).
struct Bytes {
  Bytes(DType dtype, int64_t batch, int64_t rows, int64_t columns, int64_t gap, float scale, int32_t zero_point)
      : tensor(dtype, {batch, columns, rows}), channels(rows), tokens(columns) {
    const int64_t step = channels + gap;
    tensor.operand.dims = {batch, channels, tokens};
    tensor.operand.strides = {tokens * step, 1, step};
    // The gap behind the last token is no memory of the operand.
    tensor.memory.assign(static_cast<size_t>(batch * tokens * step - gap) * SizeOf(dtype), 0xA5);
    bytes = {tensor.operand, scale, zero_point};
  }
  // Any byte, the extremes more often; or always one of the extremes.
  void Fill(uint32_t seed, bool extremes = false) {
    const bool is_signed = tensor.operand.dtype == DType::kInt8;
    const int low = is_signed ? -128 : 0;
    std::mt19937 random(seed);
    std::vector<float> values(static_cast<size_t>(ElementCount(tensor.operand.dims)));
    for (float& value : values) {
      const uint32_t pick = random();
      const bool extreme = extremes || pick % 8 == 0;
      value = static_cast<float>(low + static_cast<int>(extreme ? pick / 8 % 2 * 255 : pick / 8 % 256));
    }
    tensor.Set(values);
  }
  // (tokens, channels) of one head, its zero point taken off.
  std::vector<int32_t> Head(int64_t head, bool relu) const {
    const std::vector<float> all = tensor.Get();
    std::vector<int32_t> values(static_cast<size_t>(tokens * channels));
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t t = 0; t < tokens; ++t) {
        const auto byte = static_cast<int32_t>(all[static_cast<size_t>((head * channels + c) * tokens + t)]);
        const int32_t value = byte - bytes.zero_point;
        values[static_cast<size_t>(t * channels + c)] = relu ? std::max(value, 0) : value;
      }
    }
    return values;
  }
  TestOperand Reals() const {
    TestOperand reals(DType::kFloat32, {1});
    reals.operand.dims = tensor.operand.dims;
    reals.operand.strides = tensor.operand.strides;
    reals.memory.assign(tensor.memory.size() * 4, 0);
    std::vector<float> values = tensor.Get();
    for (float& value : values) value = (value - static_cast<float>(bytes.zero_point)) * bytes.scale;
    reals.Set(values);
    return reals;
  }

  TestOperand tensor;
  ByteOperand bytes;
  int64_t channels, tokens;
};

struct Case {
  int64_t heads, depth, width, keys, queries;
  DType q_type = DType::kUInt8, k_type = DType::kUInt8, v_type = DType::kUInt8;
  int32_t q_zero = 0, k_zero = 0, v_zero = 128;
  bool extremes = false;
};

struct Attention {
  explicit Attention(const Case& c)
      : shape(c),
        q(c.q_type, c.heads, c.depth, c.queries, 0, 0.02f, c.q_zero),
        k(c.k_type, c.heads, c.depth, c.keys, 3, 0.013f, c.k_zero),
        v(c.v_type, c.heads, c.width, c.keys, 7, 0.031f, c.v_zero) {
    q.Fill(1, c.extremes);
    k.Fill(2, c.extremes);
    v.Fill(3, c.extremes);
  }

  TestOperand Result(DType dtype) const {
    Bytes y(DType::kUInt8, shape.heads, shape.width, shape.queries, 5, 1, 0);
    TestOperand result = y.tensor;
    result.operand.dtype = dtype;
    result.memory.assign(y.tensor.memory.size() * SizeOf(dtype), 0xA5);
    return result;
  }

  std::vector<float> Run(DType dtype, int threads) {
    TestOperand y = Result(dtype);
    const auto kernel = BindIntegerLinearAttention(q.bytes, k.bytes, v.bytes, y.operand, epsilon, threads);
    EXPECT_TRUE(kernel.ok()) << kernel.status().message();
    if (!kernel.ok()) return {};
    std::vector<uint8_t> scratch(kernel->scratch_bytes + 64);
    const size_t shift = (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
    const void* inputs[] = {q.tensor.data(), k.tensor.data(), v.tensor.data()};
    void* outputs[] = {y.data()};
    EXPECT_TRUE(kernel->run({inputs, outputs, scratch.data() + shift}).ok());
    return y.Get();
  }

  // What one head gives for (query, channel), as (heads, channels, queries).
  template <typename T, typename HeadFn>
  std::vector<T> ByHead(const HeadFn& head_fn) const {
    std::vector<T> all(static_cast<size_t>(shape.heads * shape.width * shape.queries));
    for (int64_t h = 0; h < shape.heads; ++h) {
      const std::vector<T> head = head_fn(q.Head(h, true), k.Head(h, true), v.Head(h, false));
      for (int64_t t = 0; t < shape.queries; ++t) {
        for (int64_t e = 0; e < shape.width; ++e) {
          all[static_cast<size_t>((h * shape.width + e) * shape.queries + t)] =
              head[static_cast<size_t>(t * shape.width + e)];
        }
      }
    }
    return all;
  }

  std::vector<float> Reference() const {
    ReferenceLinearAttention reference{shape.depth, shape.width, shape.keys, shape.queries};
    reference.value_scale = v.bytes.scale;
    reference.epsilon = static_cast<float>(double{epsilon} / (double{q.bytes.scale} * double{k.bytes.scale}));
    return ByHead<float>([&](const auto& qs, const auto& ks, const auto& vs) { return reference.Run(qs, ks, vs); });
  }

  // In doubles, whose sums of integers below 2^53 are exact.
  std::vector<double> Exact() const {
    return ByHead<double>([this](const auto& qs, const auto& ks, const auto& vs) { return ExactHead(qs, ks, vs); });
  }

  std::vector<double> ExactHead(const std::vector<int32_t>& qs, const std::vector<int32_t>& ks,
                                const std::vector<int32_t>& vs) const {
    const int64_t columns = shape.width + 1;
    const auto at = [](const std::vector<int32_t>& m, int64_t i) {
      return static_cast<double>(m[static_cast<size_t>(i)]);
    };
    std::vector<double> state(static_cast<size_t>(shape.depth * columns), 0.0), result;
    for (int64_t t = 0; t < shape.keys; ++t) {
      for (int64_t i = 0; i < shape.depth * columns; ++i) {
        const int64_t e = i % columns;
        state[static_cast<size_t>(i)] +=
            at(ks, t * shape.depth + i / columns) * (e == shape.width ? 1.0 : at(vs, t * shape.width + e));
      }
    }
    for (int64_t t = 0; t < shape.queries; ++t) {
      std::vector<double> sums(static_cast<size_t>(columns), 0.0);
      for (int64_t i = 0; i < shape.depth * columns; ++i) {
        sums[static_cast<size_t>(i % columns)] += at(qs, t * shape.depth + i / columns) * state[static_cast<size_t>(i)];
      }
      const double shift = double{epsilon} / (double{q.bytes.scale} * double{k.bytes.scale});
      for (int64_t e = 0; e < shape.width; ++e) {
        result.push_back(double{v.bytes.scale} * sums[static_cast<size_t>(e)] / (sums.back() + shift));
      }
    }
    return result;
  }

  Case shape;
  Bytes q, k, v;
  float epsilon = 1e-5f;
};

// docs/numerics.md: numerator and divisor 2^-23 each, epsilon, the sum, the quotient and the product 2^-24 each.
constexpr double kRelativeBound = 8.0 / (1 << 24);

void ExpectWithinBound(const std::vector<float>& actual, const std::vector<double>& exact) {
  ASSERT_EQ(actual.size(), exact.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_LE(std::abs(double{actual[i]} - exact[i]), kRelativeBound * std::abs(exact[i])) << i;
  }
}

double LargestRelativeError(const std::vector<float>& actual, const std::vector<double>& exact) {
  double largest = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    if (exact[i] != 0) largest = std::max(largest, std::abs(double{actual[i]} - exact[i]) / std::abs(exact[i]));
  }
  return largest;
}

TEST(IntegerLinearAttentionTest, EqualsTheReferenceBitForBit) {
  constexpr DType kU = DType::kUInt8, kS = DType::kInt8;
  const std::vector<Case> cases = {
      {1, 1, 1, 1, 1},
      {3, 7, 5, 17, 17},
      {8, 16, 16, 257, 130, kU, kU, kS, 0, 0, -3},
      {3, 32, 32, 300, 300, kU, kU, kU, 0, 0, 0},
      {2, 33, 47, 65, 64, kU, kS, kU, 9, -20, 255},
      {1, 8, 64, 129, 63, kS, kS, kS, -128, -128, 127},
      {1, 31, 33, 4096, 65},
      {5, 16, 8, 64, 1, kU, kU, kU, 0, 0, 128, true},
  };
  for (const Case& c : cases) {
    Attention attention(c);
    const std::vector<float> expected = attention.Reference();
    ForEachIsa([&] {
      for (const int threads : {1, 2, 3}) {
        const std::vector<float> actual = attention.Run(DType::kFloat32, threads);
        ASSERT_EQ(actual, expected) << c.depth << ' ' << c.width << ' ' << c.keys << ", " << threads << " threads";
        ExpectClose(attention.Run(DType::kBFloat16, threads), expected, kBFloat16Rounding, 0, "bfloat16");
      }
    });
    ExpectWithinBound(expected, attention.Exact());
  }
}

// The largest token count and depth, and only extremes: one step more would not fit the stated bounds.
TEST(IntegerLinearAttentionTest, TheLargestSumsFit) {
  Case c{1, 256, 3, kMaxIntegerAttentionTokens, 5};
  for (const int32_t zero : {0, 255}) {
    c.v_zero = zero;
    Attention attention(c);
    const uint8_t far = zero == 0 ? 255 : 0;
    attention.q.tensor.Set(std::vector<float>(static_cast<size_t>(c.depth * c.queries), 255));
    attention.k.tensor.Set(std::vector<float>(static_cast<size_t>(c.depth * c.keys), 255));
    attention.v.tensor.Set(std::vector<float>(static_cast<size_t>(c.width * c.keys), far));
    const std::vector<float> expected = attention.Reference();
    ForEachIsa([&] { ASSERT_EQ(attention.Run(DType::kFloat32, 2), expected); });
    ExpectWithinBound(expected, attention.Exact());
  }
}

// Sums of 4e8 that cancel to 3e4, of integers throughout: float32, whose integers end at 2^24, loses what is left.
TEST(IntegerLinearAttentionTest, LongSumsThatCancelStayExact) {
  constexpr int64_t kTokens = 32768;
  Attention attention({2, 16, 16, kTokens, 64, DType::kUInt8, DType::kUInt8, DType::kUInt8, 0, 0, 100});
  for (Bytes* operand : {&attention.q, &attention.k, &attention.v}) operand->bytes.scale = 1;
  std::mt19937 random(7);
  std::vector<float> keys, values;
  for (int64_t i = 0; i < 2 * 16 * kTokens; ++i) {
    keys.push_back(static_cast<float>(250 + random() % 6));
    values.push_back(i % kTokens < kTokens / 2 ? 200.0f : 0.0f);
  }
  attention.k.tensor.Set(keys);
  attention.v.tensor.Set(values);
  const std::vector<double> exact = attention.Exact();
  ForEachIsa([&] { ExpectWithinBound(attention.Run(DType::kFloat32, 2), exact); });

  // The float kernel on the same values.
  TestOperand q = attention.q.Reals(), k = attention.k.Reals(), v = attention.v.Reals();
  TestOperand y = attention.Result(DType::kFloat32);
  const Node node = NodeOf("LinearAttention", {{"epsilon", attention.epsilon}}, "octavo");
  ASSERT_TRUE(RunKernel(BindFastLinearAttention, node, 1, 1, {&q, &k, &v}, {&y}).ok());
  EXPECT_GT(LargestRelativeError(y.Get(), exact), 4 * kRelativeBound);
}

// Queries that ask for channels whose keys differ by a factor of 255: divisors span it.
TEST(IntegerLinearAttentionTest, AWideDivisorIsExact) {
  Attention attention({4, 8, 16, 512, 256});
  std::vector<float> keys, queries;
  for (int64_t i = 0; i < 4 * 8 * 512; ++i) keys.push_back(i / 512 % 8 == 0 ? 255.0f : i % 64 == 0 ? 1.0f : 0.0f);
  for (int64_t i = 0; i < 4 * 8 * 256; ++i) queries.push_back((i / 256 % 8 == 0) == (i % 2 == 0) ? 1.0f : 0.0f);
  attention.k.tensor.Set(keys);
  attention.q.tensor.Set(queries);
  const std::vector<double> exact = attention.Exact();
  const std::vector<float> actual = attention.Run(DType::kFloat32, 2);
  ExpectWithinBound(actual, exact);
  EXPECT_GE(SqnrDb(actual, std::vector<float>(exact.begin(), exact.end())), -20 * std::log10(kRelativeBound));
}

TEST(IntegerLinearAttentionTest, ZeroOverEpsilonIsZero) {
  Attention attention({1, 4, 3, 5, 6});
  attention.k.tensor.Set(std::vector<float>(20, 0.0f));
  ForEachIsa([&] {
    for (const float value : attention.Run(DType::kFloat32, 1)) EXPECT_EQ(value, 0);
  });
  attention.epsilon = 0;
  for (const float value : attention.Run(DType::kFloat32, 1)) EXPECT_TRUE(std::isnan(value));
}

TEST(IntegerLinearAttentionTest, WhatDoesNotFitIsUnsupported) {
  const auto code = [](Attention& a) {
    return BindIntegerLinearAttention(a.q.bytes, a.k.bytes, a.v.bytes, a.Result(DType::kFloat32).operand, a.epsilon, 1)
        .status()
        .code();
  };
  Attention deep({1, kMaxIntegerAttentionDepth + 1, 1, 2, 2}), longer({1, 1, 1, kMaxIntegerAttentionTokens + 1, 2});
  EXPECT_EQ(code(deep), ErrorCode::kUnsupported);
  EXPECT_EQ(code(longer), ErrorCode::kUnsupported);
  Attention far({1, 2, 2, 2, 2}), apart = far, wide = far;
  far.v.bytes.scale = std::ldexp(1.0f, -100);
  EXPECT_EQ(code(far), ErrorCode::kUnsupported);
  std::swap(apart.k.bytes.operand.strides[1], apart.k.bytes.operand.strides[2]);
  EXPECT_EQ(code(apart), ErrorCode::kUnsupported);
  wide.q.bytes.operand.dtype = DType::kFloat32;
  EXPECT_EQ(code(wide), ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace octavo
