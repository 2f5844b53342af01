// oneDNN behind a small wall: convolutions, matrix products and pooling as bound kernels.
// Nothing outside src/engine/onednn.cc includes oneDNN's headers.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/kernel.h"
#include "octavo/tensor.h"

namespace octavo {

// "avx512_core_amx", "avx2", ...: what oneDNN dispatches to in this process.
std::string OneDnnIsa();
// "2.6.3"
std::string OneDnnVersion();
// Whether convolutions and products on bfloat16 have a JIT kernel on this CPU.
bool OneDnnHasBFloat16();

// The widest instruction set that oneDNN may use, by the names of OneDnnIsa. False: it is in use already.
bool LimitOneDnnIsa(const std::string& isa);

class Tuning;

// Weights in oneDNN's own formats, shared by all plans of a session and its duplicates: keyed by content and format.
// Thread safe.
class PackedWeights {
 public:
  PackedWeights();
  ~PackedWeights();
  int64_t bytes() const;

 private:
  friend class OneDnnBuilder;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A post-operation, in the order of execution.
struct PostOpSpec {
  enum class Kind : uint8_t { kUnary, kAdd, kMul } kind;
  const Node* unary = nullptr;   // kUnary: the node whose function is applied
  const Graph* graph = nullptr;  // kUnary: for Clip's constant bounds
  // kAdd, kMul: a tensor of the output's dims and layout, passed as the next input, or one constant per channel.
  DType operand_dtype = DType::kFloat32;
  const Tensor* per_channel = nullptr;
};

struct OneDnnKernel {
  BoundKernel kernel;
  std::string implementation;  // oneDNN's name of it, "brgconv:avx512_core"
};

// Geometry of a convolution, a transposed convolution or a pooling over 1 to 3 spatial axes.
struct WindowGeometry {
  std::vector<int64_t> kernel, strides, dilations, pads_begin, pads_end;
};

struct ConvolutionSpec {
  Dims src_dims, dst_dims;  // N, C, spatial; both channels-last in memory
  DType src_dtype = DType::kFloat32, dst_dtype = DType::kFloat32;
  WindowGeometry geometry;
  int64_t groups = 1;
  bool transposed = false;
  Tensor weights;                         // as ONNX has them, float32: (O, I/g, ...) or transposed (I, O/g, ...)
  DType weights_dtype = DType::kFloat32;  // what the product is computed on
  Tensor bias;                            // float32 (O) or undefined
  std::vector<PostOpSpec> post_ops;
};

// (M, K) x (K, N) with constant weights. src and dst are dense and row-major.
struct LinearSpec {
  int64_t m = 0, k = 0, n = 0;
  DType src_dtype = DType::kFloat32, dst_dtype = DType::kFloat32;
  Tensor weights;  // float32, (K, N), or (N, K) when `weights_transposed`
  bool weights_transposed = false;
  DType weights_dtype = DType::kFloat32;
  Tensor bias;  // float32 (N) or undefined
  std::vector<PostOpSpec> post_ops;
};

// Batched product of two activations: equal rank >= 2, batch dimensions equal or 1.
struct MatMulSpec {
  Dims a_dims, a_strides, b_dims, b_strides, dst_dims;  // dst is dense and row-major
  DType src_dtype = DType::kFloat32, dst_dtype = DType::kFloat32;
  std::vector<PostOpSpec> post_ops;
};

struct PoolingSpec {
  Dims src_dims, dst_dims;  // channels-last
  DType dtype = DType::kFloat32;
  WindowGeometry geometry;
  enum class Kind : uint8_t { kMax, kAverageIncludePad, kAverageExcludePad } kind = Kind::kMax;
};

// One block of an integer convolution: uint8 x int8 -> int32 sums, exact, without padding. One image, channels-last,
// dense on both sides. A pointwise product of M rows is a convolution over one spatial axis of M.
struct IntegerConvolutionSpec {
  Dims src_dims, dst_dims;  // 1, C, spatial
  WindowGeometry geometry;  // pads are zero
  int64_t groups = 1;
  // int8, (O, I/g, spatial), all of one shape: sets of weights that the block may be run with.
  std::vector<Tensor> weights;
  int threads = 1;
};

// Product of two activations for one block: (m, k) uint8 x (k, n) int8 -> (m, n) int32, all dense and row-major.
struct IntegerMatMulSpec {
  int64_t m = 0, k = 0, n = 0;
  int threads = 1;
};

// Runs on the calling thread alone; different `thread`s may run at the same time.
class IntegerPrimitive {
 public:
  virtual ~IntegerPrimitive() = default;
  // `thread` in [0, threads); scratch: scratch_bytes of the caller's, aligned to 64.
  virtual Status Run(int thread, size_t weights, const void* src, void* dst, void* scratch) = 0;
  // With weights in memory as IntegerMatMulSpec says.
  virtual Status RunProduct(int thread, const void* a, const void* b, void* dst, void* scratch) = 0;
  size_t scratch_bytes = 0;
  std::string implementation;
};

class PackedProduct;

// (m, k) x (k, n) -> (m, n), a and c dense and row-major: bfloat16 by bfloat16 to float32, or uint8 by int8 to int32.
// b is packed by itself, so that several products can share it. None of m, k and n is zero.
struct PackedProductSpec {
  DType a_dtype = DType::kBFloat16;  // or kUInt8
  int64_t m = 0, k = 0, n = 0;
  int64_t b_row_step = 0, b_column_step = 0;  // of b before it is packed, in elements
  int threads = 1;
  const PackedProduct* packed_as = nullptr;  // whose packed b this one is to read, too; else of the fastest format
};

// Runs on the calling thread alone; different `thread`s may run at the same time.
class PackedProduct {
 public:
  virtual ~PackedProduct() = default;
  // thread in [0, threads); packed and scratch: packed_bytes and scratch_bytes of the caller's, aligned to 64.
  virtual Status Pack(int thread, const void* b, void* packed, void* scratch) = 0;
  virtual Status Run(int thread, const void* a, const void* packed, void* c, void* scratch) = 0;
  size_t packed_bytes = 0, scratch_bytes = 0;
  std::string implementation;
};

// c = scale * op(a) op(b) + (adds ? c : 0): op(a) is (m, k), op(b) is (k, n), c is (m, n). Row-major float32; a leading
// dimension is the distance between rows as they lie in memory, before op transposes.
struct FloatProduct {
  int64_t m = 0, k = 0, n = 0;
  const float* a = nullptr;
  int64_t a_leading = 0;
  bool a_transposed = false;
  const float* b = nullptr;
  int64_t b_leading = 0;
  bool b_transposed = false;
  float* c = nullptr;
  int64_t c_leading = 0;
  float scale = 1;
  bool adds = false;
};
// On the calling thread alone: equal arguments give equal bits whatever other threads do.
void MultiplyFloats(const FloatProduct& product);

// Whether products of uint8 with any int8 are summed exactly. Where not, pairs of products saturate at 16 bits, and
// only weights of at most 64 in magnitude are exact (2 * 255 * 64 < 2^15).
bool OneDnnSumsExactly();

// Builds kernels whose KernelArgs are: inputs[0] (and [1] for MatMul) the operands, then one input per kAdd/kMul
// post-op that is not per channel; outputs[0] the destination. Kernels are for the thread count that OpenMP has when
// they are built and run. Errors: kUnsupported where oneDNN has nothing but its slow reference.
class OneDnnBuilder {
 public:
  // `tuning`: integer kernels are chosen by measurement; null: oneDNN's first choice.
  explicit OneDnnBuilder(PackedWeights& cache, Tuning* tuning = nullptr) : cache_(cache), tuning_(tuning) {}
  Result<OneDnnKernel> Convolution(const ConvolutionSpec& spec);
  Result<OneDnnKernel> Linear(const LinearSpec& spec);
  Result<OneDnnKernel> MatMul(const MatMulSpec& spec);
  Result<OneDnnKernel> Pooling(const PoolingSpec& spec);
  Result<std::shared_ptr<IntegerPrimitive>> IntegerConvolution(const IntegerConvolutionSpec& spec);
  Result<std::shared_ptr<IntegerPrimitive>> IntegerMatMul(const IntegerMatMulSpec& spec);
  Result<std::shared_ptr<PackedProduct>> Product(const PackedProductSpec& spec);

 private:
  PackedWeights& cache_;
  Tuning* tuning_;
};

}  // namespace octavo
