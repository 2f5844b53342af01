#include "engine/integer_contraction.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <random>

#include "kernels/fast_table.h"
#include "kernels/integer/reference.h"

namespace octavo {
namespace {

// OCTAVO_TEST_ISA asks for an instruction set, which ctest also sets as DNNL_MAX_CPU_ISA, since oneDNN reads that once
// per process. These tests then first prove that both oneDNN and our kernels obey.
class IntegerKernels : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    const char* wanted = std::getenv("OCTAVO_TEST_ISA");
    if (wanted == nullptr) return;
    const std::string isa = wanted;
    const bool has512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    if (isa != "avx2" && !has512) GTEST_SKIP() << "this CPU has no AVX-512";
    if (isa == "avx512_core_vnni" && !__builtin_cpu_supports("avx512vnni")) GTEST_SKIP() << "this CPU has no VNNI";
    if (isa == "avx2") hwy::SetSupportedTargetsForTest(HWY_AVX2 | HWY_SSE4);
    ASSERT_EQ(OneDnnIsa(), isa);
    ASSERT_EQ(OneDnnSumsExactly(), isa == "avx512_core_vnni");
    ASSERT_STREQ(FastKernelIsa(), isa == "avx2" ? "avx2" : "avx3");
  }
};

class Random {
 public:
  explicit Random(int seed) : engine_(static_cast<uint32_t>(seed)) {}
  int64_t Int(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine_); }
  float Real(float low, float high) { return std::uniform_real_distribution<float>(low, high)(engine_); }
  // Any byte, the extremes more often.
  uint8_t Byte() {
    const int64_t pick = Int(0, 9);
    return static_cast<uint8_t>(pick == 0 ? 0 : pick == 1 ? 255 : Int(0, 255));
  }

 private:
  std::mt19937 engine_;
};

WindowAxis RandomAxis(Random& random, bool window) {
  WindowAxis axis;
  axis.kernel = window ? random.Int(1, 5) : 1;
  axis.stride = window ? random.Int(1, 3) : 1;
  axis.dilation = window ? random.Int(1, 2) : 1;
  axis.pad_begin = window ? random.Int(0, axis.kernel - 1) : 0;
  axis.pad_end = window ? random.Int(0, axis.kernel - 1) : 0;
  const int64_t extent = (axis.kernel - 1) * axis.dilation + 1;
  axis.input = random.Int(std::max<int64_t>(1, extent - axis.pad_begin - axis.pad_end), extent + 20);
  axis.output = (axis.input + axis.pad_begin + axis.pad_end - extent) / axis.stride + 1;
  return axis;
}

// A graph that holds one elementwise node for the epilogue.
struct Function {
  Graph graph;
  explicit Function(const std::string& op, std::map<std::string, Attribute> attributes = {}) {
    graph.opsets[""] = 17;
    const ValueId x = graph.AddValue("x", DType::kFloat32, {1});
    graph.AddNode("f", op == "Silu" ? kOctavoDomain : "", op, {x}, {graph.AddValue("y", DType::kFloat32, {1})},
                  std::move(attributes));
  }
  const Node& node() const { return graph.nodes[0]; }
};

std::vector<Function> Functions() {
  std::vector<Function> functions;
  for (const char* op : {"Relu", "LeakyRelu", "Sigmoid", "Tanh", "Abs", "HardSwish", "Gelu", "Silu", "Clip"})
    functions.emplace_back(op);
  functions.emplace_back("Gelu", std::map<std::string, Attribute>{{"approximate", std::string("tanh")}});
  functions.emplace_back("Silu", std::map<std::string, Attribute>{{"alpha", 1.702f}});
  return functions;
}

// Weights within 8 bits, symmetric or less a zero point, so that one, two or more parts are needed.
std::vector<int16_t> RandomWeights(Random& random, int64_t count) {
  const int64_t zero = random.Int(0, 2) == 0 ? random.Int(-128, 127) : 0;
  std::vector<int16_t> weights;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t q = random.Int(0, 7) == 0 ? -128 : random.Int(0, 7) == 0 ? 127 : random.Int(-128, 127);
    weights.push_back(static_cast<int16_t>(q - zero));
  }
  return weights;
}

// Memory for a kernel, aligned as it may expect.
class Scratch {
 public:
  explicit Scratch(size_t bytes) : memory_(*Tensor::Create(DType::kUInt8, {static_cast<int64_t>(bytes)})) {}
  void* data() { return memory_.mutable_data(); }

 private:
  Tensor memory_;
};

constexpr int kSeeds = 42;

uint32_t Bits(float x) { return std::bit_cast<uint32_t>(x); }

TEST_P(IntegerKernels, ConvolutionsGiveTheReferencesBits) {
  Random random(GetParam());
  // The last seeds are large enough to be cut: a product into chunks of channels, a convolution into rows.
  const bool large_product = GetParam() == kSeeds - 2, large_image = GetParam() == kSeeds - 1;
  const bool two_axes = large_image || (!large_product && random.Int(0, 3) != 0);
  const bool window = !large_product && random.Int(0, 3) != 0;
  ReferenceConvolution r;
  IntegerContractionSpec spec;
  const WindowAxis large{
      .kernel = 3, .stride = 1, .dilation = 1, .pad_begin = 1, .pad_end = 1, .input = 75, .output = 75};
  const WindowAxis row = large_image ? large
                         : two_axes  ? RandomAxis(random, window)
                                     : WindowAxis{.input = 1, .output = 1};
  const WindowAxis column = large_image     ? large
                            : large_product ? WindowAxis{.input = 301, .output = 301}
                                            : RandomAxis(random, window);
  const int64_t kind = large_image || large_product ? 3 : random.Int(0, 3);  // 0: groups, 1: depthwise, else plain
  r.groups = kind == 0 ? random.Int(2, 4) : kind == 1 ? random.Int(2, 70) : 1;
  r.in_channels = kind == 1 ? r.groups : r.groups * random.Int(1, 40);
  r.out_channels = kind == 1 ? r.groups : r.groups * random.Int(1, 40);
  if (large_product) r.in_channels = 40, r.out_channels = 2112;
  if (large_image) r.in_channels = 24, r.out_channels = 64;
  r.batch = random.Int(1, 2);
  r.in_rows = row.input, r.out_rows = row.output, r.kernel_rows = row.kernel, r.stride_rows = row.stride;
  r.dilation_rows = row.dilation, r.pad_top = row.pad_begin;
  r.in_columns = column.input, r.out_columns = column.output, r.kernel_columns = column.kernel;
  r.stride_columns = column.stride, r.dilation_columns = column.dilation, r.pad_left = column.pad_begin;
  r.zero_point = spec.src_zero_point = static_cast<int32_t>(random.Int(0, 255));

  std::vector<uint8_t> x(static_cast<size_t>(r.batch * r.in_rows * r.in_columns * r.in_channels));
  for (auto& v : x) v = random.Byte();
  spec.weights.values = RandomWeights(random, r.out_channels * r.in_channels / r.groups * row.kernel * column.kernel);
  spec.src_dims = {r.batch, r.in_channels};
  spec.dst_dims = {r.batch, r.out_channels};
  spec.weights.dims = {r.out_channels, r.in_channels / r.groups};
  if (two_axes) {
    spec.src_dims.push_back(r.in_rows), spec.dst_dims.push_back(r.out_rows), spec.weights.dims.push_back(row.kernel);
    spec.axes.push_back(row);
  }
  spec.src_dims.push_back(r.in_columns), spec.dst_dims.push_back(r.out_columns);
  spec.weights.dims.push_back(column.kernel);
  spec.axes.push_back(column);
  spec.groups = r.groups;

  const auto functions = Functions();
  const Function& function = functions[static_cast<size_t>(random.Int(0, static_cast<int64_t>(functions.size()) - 1))];
  Epilogue& epilogue = spec.epilogue;
  for (int64_t c = 0; c < r.out_channels; ++c) {
    epilogue.multiplier.push_back(std::ldexp(random.Real(1, 2), static_cast<int>(random.Int(-20, -10))));
    epilogue.bias.push_back(random.Real(-3, 3));
  }
  EpilogueStage unary, channel, add;
  unary.unary = *FindRowFunction(function.graph, function.node());
  channel.kind = EpilogueStage::Kind::kMulChannel;
  for (int64_t c = 0; c < r.out_channels; ++c) channel.channel.push_back(random.Real(0.5f, 1.5f));
  add.kind = EpilogueStage::Kind::kAdd;
  epilogue.stages = {unary, channel, add};
  const bool quantized_operand = random.Int(0, 1) == 0;
  const EpilogueOperand operand = quantized_operand ? EpilogueOperand{DType::kUInt8, random.Real(0.01f, 0.05f),
                                                                      static_cast<int32_t>(random.Int(0, 255))}
                                                    : EpilogueOperand{};
  epilogue.operands = {operand};
  const EpilogueOutput bytes{random.Int(0, 1) == 0 ? DType::kUInt8 : DType::kInt8, random.Real(0.01f, 0.1f), 3};
  epilogue.outputs = {{DType::kFloat32, 1, 0}, bytes};
  spec.operands.assign(1, DensePlacement(spec.dst_dims));
  spec.outputs.assign(2, DensePlacement(spec.dst_dims));

  const auto sums = r.Sums(x, spec.weights.values);
  std::vector<uint8_t> operand_bytes(sums.size());
  std::vector<float> operand_floats(sums.size());
  for (size_t i = 0; i < sums.size(); ++i) {
    operand_bytes[i] = random.Byte();
    operand_floats[i] = random.Real(-2, 2);
  }

  for (const int threads : {1, 2, 3}) {
    PackedWeights cache;
    OneDnnBuilder onednn(cache);
    spec.threads = threads;
    auto built = BuildIntegerContraction(spec, onednn);
    ASSERT_TRUE(built.ok()) << built.status().message();
    std::vector<float> real(sums.size());
    std::vector<uint8_t> q(sums.size());
    Scratch scratch(built->kernel.scratch_bytes);
    const void* in[] = {x.data(),
                        quantized_operand ? static_cast<const void*>(operand_bytes.data()) : operand_floats.data()};
    void* out[] = {real.data(), q.data()};
    ASSERT_TRUE(built->kernel.run({in, out, scratch.data()}).ok());
    size_t wrong = 0;
    for (size_t i = 0; i < sums.size(); ++i) {
      const size_t c = i % static_cast<size_t>(r.out_channels);
      float v = std::fma(static_cast<float>(static_cast<int32_t>(sums[i])), epilogue.multiplier[c], epilogue.bias[c]);
      v = *ReferenceUnary(function.graph, function.node(), v);
      v *= channel.channel[c];
      v += quantized_operand ? ReferenceDequantize(operand_bytes[i], operand.scale, operand.zero_point)
                             : operand_floats[i];
      const bool is_signed = bytes.dtype == DType::kInt8;
      const int32_t expected = ReferenceQuantize(v, bytes.scale, bytes.zero_point, is_signed);
      const int32_t got = is_signed ? static_cast<int8_t>(q[i]) : q[i];
      if (Bits(v) != Bits(real[i]) || expected != got) {
        if (wrong++ == 0)
          ADD_FAILURE() << "element " << i << ": " << real[i] << ", " << got << " for " << v << ", " << expected;
      }
    }
    ASSERT_EQ(wrong, 0u) << built->implementation << " threads " << threads << " src " << ToString(spec.src_dims)
                         << " weights " << ToString(spec.weights.dims) << " groups " << spec.groups << " "
                         << function.node().op;
  }
}

TEST_P(IntegerKernels, ProductsGiveTheReferencesBits) {
  Random random(1000 + GetParam());
  IntegerProductSpec spec;
  const int64_t batch = random.Int(1, 4), m = random.Int(1, 90), k = random.Int(1, 70), n = random.Int(1, 90);
  const bool shared_b = random.Int(0, 3) == 0, transposed_b = random.Int(0, 1) == 0;
  spec.a_dims = {batch, m, k};
  spec.a_strides = {m * k, k, 1};
  spec.b_dims = {shared_b ? 1 : batch, k, n};
  spec.b_strides = transposed_b ? Dims{k * n, 1, k} : Dims{k * n, n, 1};
  spec.dst_dims = {batch, m, n};
  spec.a_zero_point = static_cast<int32_t>(random.Int(0, 255));
  spec.b_zero_point = static_cast<int32_t>(random.Int(0, 255));
  const float multiplier = random.Real(1e-4f, 1e-3f);
  spec.epilogue.multiplier.assign(static_cast<size_t>(n), multiplier);
  spec.epilogue.bias.assign(static_cast<size_t>(n), 0.0f);
  spec.epilogue.outputs = {{DType::kFloat32, 1, 0}, {DType::kUInt8, 0.05f, 128}};
  std::vector<uint8_t> a(static_cast<size_t>(batch * m * k)), b(static_cast<size_t>(spec.b_dims[0] * k * n));
  for (auto& v : a) v = random.Byte();
  for (auto& v : b) v = random.Byte();
  for (const int threads : {1, 2, 3}) {
    PackedWeights cache;
    OneDnnBuilder onednn(cache);
    spec.threads = threads;
    auto built = BuildIntegerProduct(spec, onednn);
    ASSERT_TRUE(built.ok()) << built.status().message();
    std::vector<float> real(static_cast<size_t>(batch * m * n));
    std::vector<uint8_t> q(real.size());
    Scratch scratch(built->kernel.scratch_bytes);
    const void* in[] = {a.data(), b.data()};
    void* out[] = {real.data(), q.data()};
    ASSERT_TRUE(built->kernel.run({in, out, scratch.data()}).ok());
    for (int64_t i = 0; i < batch * m * n; ++i) {
      const int64_t image = i / (m * n), y = i / n % m, c = i % n;
      int64_t sum = 0;
      for (int64_t d = 0; d < k; ++d) {
        const int64_t at = (shared_b ? 0 : image * k * n) + d * spec.b_strides[1] + c * spec.b_strides[2];
        sum += (int64_t{a[static_cast<size_t>((image * m + y) * k + d)]} - spec.a_zero_point) *
               (int64_t{b[static_cast<size_t>(at)]} - spec.b_zero_point);
      }
      const float v = std::fma(static_cast<float>(sum), multiplier, 0.0f);
      ASSERT_EQ(Bits(v), Bits(real[static_cast<size_t>(i)])) << built->implementation << " element " << i;
      ASSERT_EQ(ReferenceQuantize(v, 0.05f, 128, false), q[static_cast<size_t>(i)]) << i;
    }
  }
}

// Every saturation that a 16-bit sum of pairs could meet: bytes of 255 against weights of one sign.
TEST_P(IntegerKernels, ExtremesDoNotSaturate) {
  IntegerContractionSpec spec;
  const int64_t k = 64, n = 32, m = 48;
  spec.src_dims = {1, k, m};
  spec.dst_dims = {1, n, m};
  spec.axes.resize(1);
  spec.axes[0].input = spec.axes[0].output = m;
  const int16_t w = std::array<int16_t, 4>{127, -128, 255, -255}[static_cast<size_t>(GetParam() % 4)];
  spec.weights = {{n, k, 1}, std::vector<int16_t>(static_cast<size_t>(n * k), w)};
  spec.epilogue.multiplier.assign(static_cast<size_t>(n), 1.0f);
  spec.epilogue.bias.assign(static_cast<size_t>(n), 0.0f);
  spec.epilogue.outputs = {{DType::kFloat32, 1, 0}};
  spec.outputs = {DensePlacement(spec.dst_dims)};
  PackedWeights cache;
  OneDnnBuilder onednn(cache);
  auto built = BuildIntegerContraction(spec, onednn);
  ASSERT_TRUE(built.ok()) << built.status().message();
  const std::vector<uint8_t> x(static_cast<size_t>(m * k), 255);
  std::vector<float> y(static_cast<size_t>(m * n));
  Scratch scratch(built->kernel.scratch_bytes);
  const void* in[] = {x.data()};
  void* out[] = {y.data()};
  ASSERT_TRUE(built->kernel.run({in, out, scratch.data()}).ok());
  for (const float v : y) ASSERT_EQ(v, static_cast<float>(255 * k * w));
}

TEST(IntegerContraction, RefusesSumsThatMayNotFit) {
  IntegerContractionSpec spec;
  const int64_t k = 70000;  // 70000 * 127 * 255 > 2^31
  spec.src_dims = {1, k, 1};
  spec.dst_dims = {1, 1, 1};
  spec.axes.resize(1);
  spec.axes[0].input = spec.axes[0].output = 1;
  spec.weights = {{1, k, 1}, std::vector<int16_t>(static_cast<size_t>(k), 127)};
  spec.epilogue.multiplier = {1.0f};
  spec.epilogue.bias = {0.0f};
  spec.epilogue.outputs = {{DType::kFloat32, 1, 0}};
  spec.outputs = {DensePlacement(spec.dst_dims)};
  PackedWeights cache;
  OneDnnBuilder onednn(cache);
  const auto built = BuildIntegerContraction(spec, onednn);
  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.status().code(), ErrorCode::kUnsupported);
}

INSTANTIATE_TEST_SUITE_P(Seeds, IntegerKernels, ::testing::Range(0, kSeeds));

}  // namespace
}  // namespace octavo
