// Strided operands with known values, and fast kernels against generic ones: for tests of kernels.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "hwy/targets.h"
#include "kernels/fast_table.h"
#include "kernels/kernel.h"
#include "kernels/strided.h"

namespace octavo {

enum class Layout {
  kContiguous,
  kChannelsLast,  // dimension 1 innermost
  kSliced,        // rows lie 5 elements further apart than they are long
  kReversed,      // dimension 0 innermost
  kSparse,        // every second element: no neighbours along any axis
};
inline constexpr Layout kAllLayouts[] = {Layout::kContiguous, Layout::kChannelsLast, Layout::kSliced, Layout::kReversed,
                                         Layout::kSparse};

inline Dims StridesOf(const Dims& dims, Layout layout) {
  std::vector<size_t> order(dims.size());  // from the outermost loop to the innermost
  for (size_t d = 0; d < order.size(); ++d) order[d] = layout == Layout::kReversed ? order.size() - 1 - d : d;
  if (layout == Layout::kChannelsLast && order.size() > 2) {
    order.erase(order.begin() + 1);
    order.push_back(1);
  }
  Dims strides(dims.size());
  int64_t stride = layout == Layout::kSparse ? 2 : 1;
  for (size_t k = order.size(); k-- > 0;) {
    strides[order[k]] = stride;
    stride *= dims[order[k]];
    if (k + 1 == order.size() && layout == Layout::kSliced) stride += 5;
  }
  return strides;
}

// An operand with memory of its own.
class TestOperand {
 public:
  TestOperand(DType dtype, const Dims& dims, Layout layout = Layout::kContiguous) {
    operand.present = true;
    operand.dtype = dtype;
    operand.dims = dims;
    operand.strides = StridesOf(dims, layout);
    int64_t last = 0;
    for (size_t d = 0; d < dims.size(); ++d) last += (dims[d] - 1) * operand.strides[d];
    // Exactly as long as it must be: a sanitizer sees what lies beyond.
    memory.resize(static_cast<size_t>(last + 1) * SizeOf(dtype), 0xA5);
  }

  // Row-major values, rounded to the operand's type.
  void Set(const std::vector<float>& values) {
    size_t i = 0;
    Loop().ForEach([&](const auto& at) { Write(at[0], values[i++]); });
  }
  std::vector<float> Get() const {
    std::vector<float> values;
    Loop().ForEach([&](const auto& at) { values.push_back(Read(at[0])); });
    return values;
  }
  void* data() { return memory.data(); }

  Operand operand;
  std::vector<uint8_t> memory;

 private:
  StridedLoop<1> Loop() const { return StridedLoop<1>(operand.dims, {operand.strides}); }

  template <typename T>
  T At(int64_t i) const {
    T value;
    std::memcpy(&value, memory.data() + static_cast<size_t>(i) * sizeof(T), sizeof(T));
    return value;
  }
  template <typename T>
  void Put(int64_t i, T value) {
    std::memcpy(memory.data() + static_cast<size_t>(i) * sizeof(T), &value, sizeof(T));
  }
  float Read(int64_t i) const {
    switch (operand.dtype) {
      case DType::kFloat32:
        return At<float>(i);
      case DType::kBFloat16:
        return BFloat16ToFloat(At<uint16_t>(i));
      case DType::kInt64:
        return static_cast<float>(At<int64_t>(i));
      case DType::kUInt8:
        return static_cast<float>(At<uint8_t>(i));
      default:
        return static_cast<float>(At<int8_t>(i));
    }
  }
  void Write(int64_t i, float value) {
    switch (operand.dtype) {
      case DType::kFloat32:
        Put(i, value);
        break;
      case DType::kBFloat16:
        Put(i, FloatToBFloat16(value));
        break;
      case DType::kInt64:
        Put(i, static_cast<int64_t>(value));
        break;
      case DType::kUInt8:
        Put(i, static_cast<uint8_t>(value));
        break;
      default:
        Put(i, static_cast<int8_t>(value));
        break;
    }
  }
};

inline std::vector<float> RandomValues(const Dims& dims, uint32_t seed, float low = -4, float high = 4) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> values(low, high);
  std::vector<float> result(static_cast<size_t>(ElementCount(dims)));
  for (float& value : result) value = values(engine);
  return result;
}

inline TestOperand RandomTensor(DType dtype, const Dims& dims, Layout layout, uint32_t seed, float low = -4,
                                float high = 4) {
  TestOperand tensor(dtype, dims, layout);
  tensor.Set(RandomValues(dims, seed, low, high));
  return tensor;
}

inline Node NodeOf(std::string op, std::map<std::string, Attribute> attributes = {}, std::string domain = "") {
  Node node;
  node.op = std::move(op);
  node.domain = std::move(domain);
  node.attributes = std::move(attributes);
  return node;
}

// Binds and runs; null inputs are absent.
inline Status RunKernel(const std::function<Result<BoundKernel>(const BindContext&)>& bind, const Node& node,
                        int64_t opset, int threads, const std::vector<TestOperand*>& inputs,
                        const std::vector<TestOperand*>& outputs) {
  std::vector<Operand> in, out;
  std::vector<const void*> in_data;
  std::vector<void*> out_data;
  for (TestOperand* tensor : inputs) {
    in.push_back(tensor ? tensor->operand : Operand());
    in_data.push_back(tensor ? tensor->data() : nullptr);
  }
  for (TestOperand* tensor : outputs) {
    out.push_back(tensor->operand);
    out_data.push_back(tensor->data());
  }
  if (bind == nullptr) return NotFound("there is no kernel for " + node.op);
  OCTAVO_ASSIGN(const BoundKernel kernel, bind({node, opset, in, out, threads}));
  std::vector<uint8_t> scratch(kernel.scratch_bytes + 64);
  const size_t shift = (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
  return kernel.run({in_data.data(), out_data.data(), scratch.data() + shift});
}

// The generic kernel's output on contiguous float32 copies of the inputs.
inline std::vector<float> RunGeneric(const Node& node, int64_t opset, const std::vector<TestOperand*>& inputs,
                                     const Dims& output_dims) {
  std::vector<TestOperand> copies;
  copies.reserve(inputs.size());
  std::vector<TestOperand*> pointers;
  for (TestOperand* tensor : inputs) {
    if (tensor == nullptr) {
      pointers.push_back(nullptr);
      continue;
    }
    copies.emplace_back(DType::kFloat32, tensor->operand.dims);
    copies.back().Set(tensor->Get());
    pointers.push_back(&copies.back());
  }
  TestOperand output(DType::kFloat32, output_dims);
  const Status status = RunKernel(FindGenericKernel(node.domain, node.op), node, opset, 1, pointers, {&output});
  EXPECT_TRUE(status.ok()) << status.message();
  return output.Get();
}

// Runs test() on every instruction set of this CPU that kernels are compiled for.
template <typename Test>
void ForEachIsa(Test&& test) {
  const int64_t compiled = HWY_AVX3 | HWY_AVX2 | HWY_SSE4 | HWY_SCALAR;
  for (int64_t rest = (hwy::SupportedTargets() | HWY_SCALAR) & compiled; rest != 0; rest &= rest - 1) {
    hwy::SetSupportedTargetsForTest(rest & -rest);
    SCOPED_TRACE(FastKernelIsa());
    test();
  }
  hwy::SetSupportedTargetsForTest(0);
}

// |actual - expected| <= relative |expected| + absolute, element by element; NaN equals NaN.
inline void ExpectClose(const std::vector<float>& actual, const std::vector<float>& expected, double relative,
                        double absolute, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i) {
    if (actual[i] == expected[i] || (std::isnan(actual[i]) && std::isnan(expected[i]))) continue;
    const double error = std::abs(static_cast<double>(actual[i]) - static_cast<double>(expected[i]));
    ASSERT_LE(error, relative * std::abs(static_cast<double>(expected[i])) + absolute)
        << what << ", element " << i << ": " << actual[i] << " for " << expected[i];
  }
}

// 10 log10(sum expected^2 / sum error^2); 300 where there is no error.
inline double SqnrDb(const std::vector<float>& actual, const std::vector<float>& expected) {
  double signal = 0, noise = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = static_cast<double>(actual[i]) - static_cast<double>(expected[i]);
    signal += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
    noise += error * error;
  }
  return noise == 0 ? 300 : 10 * std::log10(signal / noise);
}

// Half a unit in the last place of bfloat16, relative: 8 significant bits.
inline constexpr double kBFloat16Rounding = 1.0 / 256;

}  // namespace octavo
