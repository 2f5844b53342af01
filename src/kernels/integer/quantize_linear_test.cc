#include "kernels/integer/quantize_linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "kernels/kernel_testing.h"

namespace octavo {
namespace {

// A node's scale and zero point, as tensors that outlive the binding.
struct Quantizer {
  Tensor scale, zero;

  template <typename Q>
  static Quantizer Of(float s, Q z) {
    return {Tensor::Scalar(s), Tensor::Scalar<Q>(z)};
  }
};

BindContext ContextOf(const Node& node, std::vector<Operand>& inputs, std::vector<Operand>& outputs, int threads) {
  return {node, 19, inputs, outputs, threads};
}

Status RunQuantizer(BindFn bind, const char* op, TestOperand& x, TestOperand& y, const Quantizer& q, int threads) {
  const Node node = NodeOf(op);
  const auto constant = [](const Tensor& t) {
    return Operand{true, t.dtype(), t.dims(), ContiguousStrides(t.dims()), &t};
  };
  std::vector<Operand> inputs{x.operand, constant(q.scale), constant(q.zero)}, outputs{y.operand};
  OCTAVO_ASSIGN(const BoundKernel kernel, bind(ContextOf(node, inputs, outputs, threads)));
  const void* in[] = {x.data(), q.scale.data(), q.zero.data()};
  void* out[] = {y.data()};
  return kernel.run({in, out, nullptr});
}

// Fast and generic kernels write the same bytes, and nothing between the elements.
void ExpectSame(const char* op, TestOperand& x, DType to, Layout layout, const Quantizer& q, int threads) {
  const BindFn fast = std::string(op) == "QuantizeLinear" ? BindFastQuantize : BindFastDequantize;
  TestOperand actual(to, x.operand.dims, layout), expected(to, x.operand.dims, layout);
  const Status status = RunQuantizer(fast, op, x, actual, q, threads);
  ASSERT_TRUE(status.ok()) << status.message();
  ASSERT_TRUE(RunQuantizer(FindGenericKernel("", op), op, x, expected, q, 1).ok());
  ASSERT_EQ(actual.memory, expected.memory) << op << " to " << NameOf(to) << " " << ToString(x.operand.dims);
}

std::vector<float> Awkward(const Dims& dims, float scale) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> special = {nan,    infinity, -infinity,    0,           -0.0f, 3e38f,
                                      -3e38f, 1e-40f,   0.5f * scale, 1.5f * scale};
  std::vector<float> values = RandomValues(dims, 1, -200 * scale, 200 * scale);
  for (size_t i = 0; i < values.size(); i += 7) values[i] = special[i / 7 % special.size()];
  return values;
}

const std::vector<Dims> kShapes = {{}, {1}, {7}, {2049}, {3, 257}, {2, 3, 5, 7}, {1, 17, 4, 9}, {2, 1100, 3, 1}};

TEST(QuantizeLinear, EveryLayoutAndType) {
  ForEachIsa([] {
    for (const Dims& dims : kShapes) {
      for (const DType from : {DType::kFloat32, DType::kBFloat16}) {
        for (const Layout from_layout : kAllLayouts) {
          TestOperand x(from, dims, from_layout);
          x.Set(Awkward(dims, 0.03f));
          for (const Layout to_layout : kAllLayouts) {
            ExpectSame("QuantizeLinear", x, DType::kUInt8, to_layout, Quantizer::Of<uint8_t>(0.03f, 117), 2);
            ExpectSame("QuantizeLinear", x, DType::kInt8, to_layout, Quantizer::Of<int8_t>(0.03f, -128), 2);
          }
        }
      }
    }
  });
}

TEST(DequantizeLinear, EveryLayoutAndType) {
  ForEachIsa([] {
    for (const Dims& dims : kShapes) {
      for (const Layout from_layout : kAllLayouts) {
        // Memory of any bytes at all.
        TestOperand bytes(DType::kUInt8, dims, from_layout), ints(DType::kInt8, dims, from_layout);
        for (size_t i = 0; i < bytes.memory.size(); ++i)
          bytes.memory[i] = ints.memory[i] = static_cast<uint8_t>(i * 37);
        for (const DType to : {DType::kFloat32, DType::kBFloat16}) {
          for (const Layout to_layout : kAllLayouts) {
            ExpectSame("DequantizeLinear", bytes, to, to_layout, Quantizer::Of<uint8_t>(0.017f, 117), 2);
            ExpectSame("DequantizeLinear", ints, to, to_layout, Quantizer::Of<int8_t>(0.017f, -3), 2);
          }
        }
      }
    }
  });
}

TEST(QuantizeLinear, ThreadsShareTheRows) {
  const Dims dims = {5, 70, 300};
  for (const Layout layout : {Layout::kContiguous, Layout::kReversed}) {
    TestOperand x(DType::kFloat32, dims, layout);
    x.Set(Awkward(dims, 1));
    for (const int threads : {1, 3, 7}) {
      ExpectSame("QuantizeLinear", x, DType::kUInt8, Layout::kContiguous, Quantizer::Of<uint8_t>(1, 128), threads);
    }
  }
}

// Products with 1/s must not decide what division decides: around every tie, three floats to each side, for many
// scales.
TEST(QuantizeLinear, TiesOfManyScales) {
  std::mt19937 engine(5);
  std::uniform_real_distribution<float> mantissa(1, 2);
  std::uniform_int_distribution<int> exponent(-126, 125);
  std::vector<float> scales = {
      0.1f, 0.3f, 1 / 255.0f, std::ldexp(1.0f, -126), std::ldexp(1.0f, 126), std::nextafter(1.0f, 2.0f)};
  for (int i = 0; i < 60; ++i)
    scales.push_back(std::ldexp(mantissa(engine), i % 2 == 0 ? exponent(engine) : exponent(engine) / 16));
  for (const float scale : scales) {
    SCOPED_TRACE(scale);
    std::vector<float> values;
    for (int tie = -130; tie < 130; ++tie) {
      float v = (static_cast<float>(tie) + 0.5f) * scale;
      for (int k = 0; k < 3; ++k) v = std::nextafter(v, -std::numeric_limits<float>::infinity());
      for (int k = 0; k < 7; ++k) {
        values.push_back(v);
        v = std::nextafter(v, std::numeric_limits<float>::infinity());
      }
    }
    TestOperand x(DType::kFloat32, {static_cast<int64_t>(values.size())});
    x.Set(values);
    ForEachIsa([&] {
      ExpectSame("QuantizeLinear", x, DType::kInt8, Layout::kContiguous, Quantizer::Of<int8_t>(scale, 0), 1);
      ExpectSame("QuantizeLinear", x, DType::kUInt8, Layout::kContiguous, Quantizer::Of<uint8_t>(scale, 131), 1);
    });
  }
}

TEST(QuantizeLinear, ScalesOfNeighbouringSlices) {
  ForEachIsa([] {
    for (const int64_t channels : {1, 3, 16, 37, 200}) {
      std::vector<float> scales;
      std::vector<uint8_t> zeros;
      for (int64_t c = 0; c < channels; ++c) {
        scales.push_back(0.01f + 0.0007f * static_cast<float>(c));
        zeros.push_back(static_cast<uint8_t>(c * 53));
      }
      const Quantizer q{Tensor::FromVector<float>({channels}, scales), Tensor::FromVector<uint8_t>({channels}, zeros)};
      for (const Dims& dims : {Dims{5, channels}, Dims{2, channels, 3, 5}}) {
        for (const DType from : {DType::kFloat32, DType::kBFloat16}) {
          const Layout layout = dims.size() == 2 ? Layout::kContiguous : Layout::kChannelsLast;
          TestOperand x(from, dims, layout);
          x.Set(Awkward(dims, 0.01f));
          ExpectSame("QuantizeLinear", x, DType::kUInt8, layout, q, 2);
        }
      }
    }
  });
}

TEST(QuantizeLinear, LeavesTheRestToTheGenericKernel) {
  const auto code = [](BindFn bind, const char* op, DType from, DType to, const Quantizer& q) {
    TestOperand x(from, {4}), y(to, {4});
    return RunQuantizer(bind, op, x, y, q, 1).code();
  };
  const Quantizer one = Quantizer::Of<uint8_t>(1, 0);
  EXPECT_EQ(code(BindFastQuantize, "QuantizeLinear", DType::kInt32, DType::kUInt8, one), ErrorCode::kUnsupported);
  EXPECT_EQ(code(BindFastQuantize, "QuantizeLinear", DType::kFloat32, DType::kInt16, one), ErrorCode::kUnsupported);
  EXPECT_EQ(code(BindFastDequantize, "DequantizeLinear", DType::kInt32, DType::kFloat32, one), ErrorCode::kUnsupported);
  // Slices whose entries are no neighbours.
  const Quantizer sliced{Tensor::FromVector<float>({4}, {1, 2, 3, 4}), *Tensor::Zeros(DType::kUInt8, {4})};
  TestOperand x(DType::kFloat32, {2, 4, 3}), y(DType::kUInt8, {2, 4, 3});
  EXPECT_EQ(RunQuantizer(BindFastQuantize, "QuantizeLinear", x, y, sliced, 1).code(), ErrorCode::kUnsupported);
  TestOperand bytes(DType::kUInt8, {2, 4}), real(DType::kFloat32, {2, 4});
  EXPECT_EQ(RunQuantizer(BindFastDequantize, "DequantizeLinear", bytes, real, sliced, 1).code(),
            ErrorCode::kUnsupported);
  // A scale that cannot be is an error here as there.
  EXPECT_EQ(code(BindFastQuantize, "QuantizeLinear", DType::kFloat32, DType::kUInt8, Quantizer::Of<uint8_t>(0, 0)),
            ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace octavo
