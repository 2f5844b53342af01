#include "engine/onednn.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <cfloat>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <span>
#include <unordered_map>

#include "base/allocation_guard.h"
#include "base/parallel.h"
#include "base/rounding.h"
#include "octavo/tuning.h"

namespace octavo {

namespace {

using dnnl::algorithm;
using dnnl::memory;

dnnl::engine& CpuEngine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& CpuStream() {
  // A CPU stream keeps no state between primitives; one per thread keeps sessions independent.
  thread_local dnnl::stream stream(CpuEngine());
  return stream;
}

memory::data_type ToDnnl(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return memory::data_type::f32;
    case DType::kBFloat16:
      return memory::data_type::bf16;
    case DType::kInt8:
      return memory::data_type::s8;
    case DType::kUInt8:
      return memory::data_type::u8;
    case DType::kInt32:
      return memory::data_type::s32;
    default:
      return memory::data_type::undef;
  }
}

// The channels-last descriptor of an activation of rank 3 to 5.
memory::desc ChannelsLast(const Dims& dims, DType dtype) {
  constexpr memory::format_tag kTags[] = {memory::format_tag::nwc, memory::format_tag::nhwc, memory::format_tag::ndhwc};
  return {dims, ToDnnl(dtype), kTags[dims.size() - 3]};
}

bool IsReference(const char* implementation) { return std::strstr(implementation, "ref") != nullptr; }

// 64 bits of FNV-1a over 8-byte words: distinguishes the weights of one model, where a mixed-up pair would also need
// equal shapes and formats.
uint64_t ContentHash(const void* data, size_t bytes) {
  uint64_t hash = 0xcbf29ce484222325u;
  const auto* p = static_cast<const unsigned char*>(data);
  size_t i = 0;
  for (; i + 8 <= bytes; i += 8) {
    uint64_t word;
    std::memcpy(&word, p + i, 8);
    hash = (hash ^ word) * 0x100000001b3u;
    hash ^= hash >> 29;
  }
  for (; i < bytes; ++i) hash = (hash ^ p[i]) * 0x100000001b3u;
  return hash;
}

}  // namespace

struct PackedWeights::Impl {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<memory>> by_key;
  int64_t bytes = 0;
};

PackedWeights::PackedWeights() : impl_(std::make_unique<Impl>()) {}
PackedWeights::~PackedWeights() = default;
int64_t PackedWeights::bytes() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->bytes;
}

namespace {

struct IsaName {
  dnnl::cpu_isa isa;
  const char* name;
};
constexpr IsaName kIsaNames[] = {
    {dnnl::cpu_isa::sse41, "sse41"},
    {dnnl::cpu_isa::avx, "avx"},
    {dnnl::cpu_isa::avx2, "avx2"},
    {dnnl::cpu_isa::avx2_vnni, "avx2_vnni"},
    {dnnl::cpu_isa::avx512_core, "avx512_core"},
    {dnnl::cpu_isa::avx512_core_vnni, "avx512_core_vnni"},
    {dnnl::cpu_isa::avx512_core_bf16, "avx512_core_bf16"},
    {dnnl::cpu_isa::avx512_core_amx, "avx512_core_amx"},
};

}  // namespace

std::string OneDnnIsa() {
  const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
  for (const IsaName& row : kIsaNames) {
    if (row.isa == isa) return row.name;
  }
  return "generic";
}

bool LimitOneDnnIsa(const std::string& isa) {
  for (const IsaName& row : kIsaNames) {
    if (isa == row.name) return dnnl::set_max_cpu_isa(row.isa) == dnnl::status::success;
  }
  return false;
}

std::string OneDnnVersion() {
  const auto* v = dnnl_version();
  return fmt::format("{}.{}.{}", v->major, v->minor, v->patch);
}

bool OneDnnSumsExactly() {
  // With VNNI. avx2_vnni is left out: kernels without it may still be chosen there.
  const std::string isa = OneDnnIsa();
  return isa.rfind("avx512_core_", 0) == 0;
}

bool OneDnnHasBFloat16() { return OneDnnIsa().rfind("avx512_core", 0) == 0; }

namespace {

Status Execute(const dnnl::primitive& primitive, std::span<const dnnl_exec_arg_t> exec) {
  // oneDNN builds a small map of the arguments inside every execution: the only allocation of a run, and its own.
  const AllocationExemption exemption;
  const dnnl_status_t status =
      dnnl_primitive_execute(primitive.get(), CpuStream().get(), static_cast<int>(exec.size()), exec.data());
  return status == dnnl_success ? Status()
                                : InternalError(fmt::format("oneDNN failed with status {}", static_cast<int>(status)));
}

// A primitive with its arguments laid out once. Where an argument lies may change from run to run (graph inputs and
// outputs are the caller's): handles are set only when they differ.
struct BoundPrimitive {
  dnnl::primitive primitive;
  struct Argument {
    memory mem;
    int input = -1;   // index into KernelArgs.inputs,
    int output = -1;  // or into outputs,
    bool scratch = false;
    void* handle = nullptr;
  };
  std::vector<Argument> arguments;
  std::vector<dnnl_exec_arg_t> exec;
  std::vector<std::shared_ptr<memory>> keep;  // packed weights

  void Add(int name, const memory::desc& md, int input, int output, bool scratch = false) {
    Argument argument{memory(md, CpuEngine(), nullptr), input, output, scratch, nullptr};
    exec.push_back({name, argument.mem.get()});
    arguments.push_back(std::move(argument));
  }
  void AddConstant(int name, std::shared_ptr<memory> mem) {
    exec.push_back({name, mem->get()});
    keep.push_back(std::move(mem));
  }

  Status Run(const KernelArgs& args) {
    for (auto& a : arguments) {
      void* handle = a.scratch      ? args.scratch
                     : a.input >= 0 ? const_cast<void*>(args.inputs[a.input])
                                    : args.outputs[a.output];
      if (handle == a.handle) continue;
      dnnl_memory_set_data_handle(a.mem.get(), handle);
      a.handle = handle;
    }
    return Execute(primitive, exec);
  }
};

OneDnnKernel Finish(std::shared_ptr<BoundPrimitive> bound, const memory::desc& scratchpad, const char* implementation) {
  OneDnnKernel result;
  result.implementation = std::string("onednn ") + implementation;
  result.kernel.scratch_bytes = scratchpad.get_size();
  if (result.kernel.scratch_bytes > 0) bound->Add(DNNL_ARG_SCRATCHPAD, scratchpad, -1, -1, true);
  result.kernel.run = [bound = std::move(bound)](const KernelArgs& args) { return bound->Run(args); };
  return result;
}

Status AppendUnary(const PostOpSpec& spec, dnnl::post_ops& ops) {
  const Node& node = *spec.unary;
  algorithm alg;
  float alpha = 0, beta = 0;
  if (node.op == "Relu") {
    alg = algorithm::eltwise_relu;
  } else if (node.op == "LeakyRelu") {
    alg = algorithm::eltwise_relu;
    alpha = node.Float("alpha", 0.01f);
  } else if (node.op == "Gelu") {
    alg = node.String("approximate", "none") == "tanh" ? algorithm::eltwise_gelu_tanh : algorithm::eltwise_gelu_erf;
  } else if (node.op == "Silu") {
    alg = algorithm::eltwise_swish;
    alpha = node.Float("alpha", 1.0f);
  } else if (node.op == "HardSwish") {
    alg = algorithm::eltwise_hardswish;
  } else if (node.op == "Sigmoid") {
    alg = algorithm::eltwise_logistic;
  } else if (node.op == "Tanh") {
    alg = algorithm::eltwise_tanh;
  } else if (node.op == "Abs") {
    alg = algorithm::eltwise_abs;
  } else if (node.op == "Sqrt") {
    alg = algorithm::eltwise_sqrt;
  } else if (node.op == "Clip") {
    alg = algorithm::eltwise_clip_v2;
    auto bound = [&](size_t input, const char* attribute, float fallback) {
      if (!node.has_input(input)) return node.Float(attribute, fallback);
      const Tensor& t = spec.graph->value(node.input(input)).constant;
      return t.dtype() == DType::kFloat32 && t.size() == 1 ? t.values<float>()[0] : fallback;
    };
    alpha = bound(1, "min", -FLT_MAX);
    beta = bound(2, "max", FLT_MAX);
  } else {
    return Unsupported(node.op + " is no oneDNN post-operation");
  }
  ops.append_eltwise(1.0f, alg, alpha, beta);
  return {};
}

// Appends the post-ops to the attributes and, once the primitive exists, binds their operands.
class PostOps {
 public:
  // `per_channel`: descriptor of a tensor with one element per channel; `full`: that of a tensor like the output.
  Status Build(const std::vector<PostOpSpec>& specs, const memory::desc& per_channel,
               const std::function<memory::desc(DType)>& full, dnnl::primitive_attr& attr) {
    dnnl::post_ops ops;
    int index = 0;
    for (const auto& spec : specs) {
      if (spec.kind == PostOpSpec::Kind::kUnary) {
        OCTAVO_RETURN_IF_ERROR(AppendUnary(spec, ops));
      } else {
        const memory::desc md = spec.per_channel ? per_channel : full(spec.operand_dtype);
        ops.append_binary(spec.kind == PostOpSpec::Kind::kAdd ? algorithm::binary_add : algorithm::binary_mul, md);
        operands_.push_back({DNNL_ARG_ATTR_MULTIPLE_POST_OP(index) | DNNL_ARG_SRC_1, md, spec.per_channel});
      }
      ++index;
    }
    attr.set_post_ops(ops);
    return {};
  }

  void Bind(int first_input, BoundPrimitive& bound) const {
    int input = first_input;
    for (const auto& operand : operands_) {
      if (operand.constant) {
        auto mem = std::make_shared<memory>(operand.md, CpuEngine());
        std::memcpy(mem->get_data_handle(), operand.constant->data(), operand.constant->bytes());
        bound.AddConstant(operand.name, std::move(mem));
      } else {
        bound.Add(operand.name, operand.md, input++, -1);
      }
    }
  }

 private:
  struct Operand {
    int name;
    memory::desc md;
    const Tensor* constant;
  };
  std::vector<Operand> operands_;
};

std::shared_ptr<memory> BiasMemory(const Tensor& bias, const memory::desc& md) {
  auto mem = std::make_shared<memory>(md, CpuEngine());
  std::memcpy(mem->get_data_handle(), bias.data(), bias.bytes());
  return mem;
}

// Reorders `weights`, which lie as `from` says, to `to`.
std::shared_ptr<memory> Reordered(const Tensor& weights, const memory::desc& from, const memory::desc& to) {
  auto packed = std::make_shared<memory>(to, CpuEngine());
  memory source(from, CpuEngine(), const_cast<void*>(weights.data()));
  dnnl::reorder(source, *packed).execute(CpuStream(), source, *packed);
  CpuStream().wait();
  return packed;
}

// The same, where equal weights in equal formats share one copy.
template <typename Cache>
std::shared_ptr<memory> Pack(Cache& cache, const Tensor& weights, const memory::desc& from, const memory::desc& to) {
  std::string key = fmt::format("{:016x}/{}/", ContentHash(weights.data(), weights.bytes()), weights.bytes());
  key.append(reinterpret_cast<const char*>(&from.data), sizeof from.data);
  key.append(reinterpret_cast<const char*>(&to.data), sizeof to.data);
  const std::lock_guard lock(cache.mutex);
  auto& entry = cache.by_key[key];
  if (!entry) {
    entry = Reordered(weights, from, to);
    cache.bytes += static_cast<int64_t>(to.get_size());
  }
  return entry;
}

// oneDNN reports through exceptions; they stop here.
template <typename Built = OneDnnKernel, typename Fn>
Result<Built> Guarded(const char* what, Fn&& fn) {
  try {
    return fn();
  } catch (const dnnl::error& error) {
    return Unsupported(fmt::format("oneDNN has no {} for this: {}", what, error.what()));
  } catch (const std::bad_alloc&) {
    return IoError("out of memory");
  }
}

// oneDNN's logical order of weights is (g, O/g, I/g, spatial), g only where there are groups; ONNX's transposed
// convolution stores (I, O/g, spatial).
struct ConvolutionWeights {
  memory::dims dims, strides;

  ConvolutionWeights(int64_t groups, int64_t out_per_group, int64_t in_per_group, const std::vector<int64_t>& kernel,
                     bool transposed)
      : dims{groups, out_per_group, in_per_group} {
    dims.insert(dims.end(), kernel.begin(), kernel.end());
    int64_t window = 1;
    for (int64_t k : kernel) window *= k;
    strides = {in_per_group * out_per_group * window, transposed ? window : in_per_group * window,
               transposed ? out_per_group * window : window};
    for (int64_t k : kernel) {
      window /= k;
      strides.push_back(window);
    }
    if (groups > 1) return;
    dims.erase(dims.begin());
    strides.erase(strides.begin());
  }
};

memory::dims Minus1(const std::vector<int64_t>& values) {
  memory::dims result(values);
  for (auto& v : result) v -= 1;
  return result;
}

dnnl::primitive_attr NewAttributes() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

// On AMX oneDNN's first choice sums windows of few channels over wide rows in several passes and applies the
// post-operations in each: 3 x 3 with GELU, 32 -> 512 at 128 x 128, takes 12.0 ms that way and 4.8 ms by the kernel it
// lists next; 64 -> 256 at 128 x 128 5.8 and 2.8; but 64 -> 1024 at 64 x 64 2.6 and 3.3 (two threads).
void PreferDirectKernel(const ConvolutionSpec& spec, const dnnl::convolution_forward::desc& desc,
                        const dnnl::primitive_attr& attr, dnnl::convolution_forward::primitive_desc& pd) {
  constexpr int64_t kFewChannels = 64, kWideRow = 128;
  int64_t window = 1;
  for (const int64_t k : spec.geometry.kernel) window *= k;
  if (window == 1 || spec.groups != 1 || spec.src_dims[1] > kFewChannels || spec.dst_dims.back() < kWideRow) return;
  if (std::strcmp(pd.impl_info_str(), "brgconv:avx512_core_amx_bf16") != 0) return;
  dnnl::convolution_forward::primitive_desc other(desc, attr, CpuEngine());
  while (other.next_impl()) {
    if (std::strcmp(other.impl_info_str(), "jit:avx512_core_amx_bf16") != 0) continue;
    pd = other;
    return;
  }
}

}  // namespace

Result<OneDnnKernel> OneDnnBuilder::Convolution(const ConvolutionSpec& spec) {
  return Guarded("convolution", [&]() -> Result<OneDnnKernel> {
    const size_t rank = spec.src_dims.size();
    if (rank < 3 || rank > 5) return Unsupported("convolutions have 1 to 3 spatial axes");
    const auto& g = spec.geometry;
    const int64_t groups = spec.groups;
    const int64_t in_per_group = spec.src_dims[1] / groups, out_per_group = spec.dst_dims[1] / groups;

    const ConvolutionWeights logical(groups, out_per_group, in_per_group, g.kernel, spec.transposed);
    const memory::desc weights_from(logical.dims, memory::data_type::f32, logical.strides);
    const memory::desc weights_any(logical.dims, ToDnnl(spec.weights_dtype), memory::format_tag::any);
    const memory::desc bias_md = spec.bias.defined()
                                     ? memory::desc({spec.dst_dims[1]}, memory::data_type::f32, memory::format_tag::a)
                                     : memory::desc();
    const memory::desc src = ChannelsLast(spec.src_dims, spec.src_dtype),
                       dst = ChannelsLast(spec.dst_dims, spec.dst_dtype);

    dnnl::primitive_attr attr = NewAttributes();
    PostOps post_ops;
    Dims channel_dims(rank, 1);
    channel_dims[1] = spec.dst_dims[1];
    OCTAVO_RETURN_IF_ERROR(post_ops.Build(
        spec.post_ops, ChannelsLast(channel_dims, DType::kFloat32),
        [&](DType dtype) { return ChannelsLast(spec.dst_dims, dtype); }, attr));

    auto build = [&](auto pd, auto make) -> Result<OneDnnKernel> {
      if (IsReference(pd.impl_info_str())) return Unsupported("only a reference convolution");
      auto bound = std::make_shared<BoundPrimitive>();
      bound->primitive = make(pd);
      bound->Add(DNNL_ARG_SRC, src, 0, -1);
      bound->Add(DNNL_ARG_DST, dst, -1, 0);
      bound->AddConstant(DNNL_ARG_WEIGHTS, Pack(*cache_.impl_, spec.weights, weights_from, pd.weights_desc()));
      if (spec.bias.defined()) bound->AddConstant(DNNL_ARG_BIAS, BiasMemory(spec.bias, bias_md));
      post_ops.Bind(1, *bound);
      return Finish(std::move(bound), pd.scratchpad_desc(), pd.impl_info_str());
    };
    const auto dilations = Minus1(g.dilations);
    if (spec.transposed) {
      const dnnl::deconvolution_forward::desc desc(dnnl::prop_kind::forward_inference, algorithm::deconvolution_direct,
                                                   src, weights_any, bias_md, dst, g.strides, dilations, g.pads_begin,
                                                   g.pads_end);
      return build(dnnl::deconvolution_forward::primitive_desc(desc, attr, CpuEngine()),
                   [](const auto& pd) { return dnnl::primitive(dnnl::deconvolution_forward(pd)); });
    }
    const dnnl::convolution_forward::desc desc(dnnl::prop_kind::forward_inference, algorithm::convolution_direct, src,
                                               weights_any, bias_md, dst, g.strides, dilations, g.pads_begin,
                                               g.pads_end);
    dnnl::convolution_forward::primitive_desc pd(desc, attr, CpuEngine());
    PreferDirectKernel(spec, desc, attr, pd);
    return build(std::move(pd), [](const auto& d) { return dnnl::primitive(dnnl::convolution_forward(d)); });
  });
}

Result<OneDnnKernel> OneDnnBuilder::Linear(const LinearSpec& spec) {
  return Guarded("matrix product", [&]() -> Result<OneDnnKernel> {
    using tag = memory::format_tag;
    const memory::desc src({spec.m, spec.k}, ToDnnl(spec.src_dtype), tag::ab);
    const memory::desc dst({spec.m, spec.n}, ToDnnl(spec.dst_dtype), tag::ab);
    const memory::desc from({spec.k, spec.n}, memory::data_type::f32, spec.weights_transposed ? tag::ba : tag::ab);
    const memory::desc any({spec.k, spec.n}, ToDnnl(spec.weights_dtype), tag::any);
    const memory::desc bias_md =
        spec.bias.defined() ? memory::desc({1, spec.n}, memory::data_type::f32, tag::ab) : memory::desc();
    dnnl::primitive_attr attr = NewAttributes();
    PostOps post_ops;
    OCTAVO_RETURN_IF_ERROR(post_ops.Build(
        spec.post_ops, memory::desc({1, spec.n}, memory::data_type::f32, tag::ab),
        [&](DType dtype) {
          return memory::desc({spec.m, spec.n}, ToDnnl(dtype), tag::ab);
        },
        attr));
    const dnnl::matmul::desc desc(src, any, bias_md, dst);
    const dnnl::matmul::primitive_desc pd(desc, attr, CpuEngine());
    if (IsReference(pd.impl_info_str())) return Unsupported("only a reference matrix product");
    auto bound = std::make_shared<BoundPrimitive>();
    bound->primitive = dnnl::matmul(pd);
    bound->Add(DNNL_ARG_SRC, src, 0, -1);
    bound->Add(DNNL_ARG_DST, dst, -1, 0);
    bound->AddConstant(DNNL_ARG_WEIGHTS, Pack(*cache_.impl_, spec.weights, from, pd.weights_desc()));
    if (spec.bias.defined()) bound->AddConstant(DNNL_ARG_BIAS, BiasMemory(spec.bias, bias_md));
    post_ops.Bind(1, *bound);
    return Finish(std::move(bound), pd.scratchpad_desc(), pd.impl_info_str());
  });
}

Result<OneDnnKernel> OneDnnBuilder::MatMul(const MatMulSpec& spec) {
  return Guarded("matrix product", [&]() -> Result<OneDnnKernel> {
    const memory::desc a(spec.a_dims, ToDnnl(spec.src_dtype), spec.a_strides);
    const memory::desc b(spec.b_dims, ToDnnl(spec.src_dtype), spec.b_strides);
    const Dims dst_strides = ContiguousStrides(spec.dst_dims);
    const memory::desc dst(spec.dst_dims, ToDnnl(spec.dst_dtype), dst_strides);
    dnnl::primitive_attr attr = NewAttributes();
    PostOps post_ops;
    Dims channel_dims(spec.dst_dims.size(), 1);
    channel_dims.back() = spec.dst_dims.back();
    OCTAVO_RETURN_IF_ERROR(post_ops.Build(
        spec.post_ops, memory::desc(channel_dims, memory::data_type::f32, ContiguousStrides(channel_dims)),
        [&](DType dtype) { return memory::desc(spec.dst_dims, ToDnnl(dtype), dst_strides); }, attr));
    const dnnl::matmul::desc desc(a, b, dst);
    const dnnl::matmul::primitive_desc pd(desc, attr, CpuEngine());
    if (IsReference(pd.impl_info_str())) return Unsupported("only a reference matrix product");
    auto bound = std::make_shared<BoundPrimitive>();
    bound->primitive = dnnl::matmul(pd);
    bound->Add(DNNL_ARG_SRC, a, 0, -1);
    bound->Add(DNNL_ARG_WEIGHTS, b, 1, -1);
    bound->Add(DNNL_ARG_DST, dst, -1, 0);
    post_ops.Bind(2, *bound);
    return Finish(std::move(bound), pd.scratchpad_desc(), pd.impl_info_str());
  });
}

Result<OneDnnKernel> OneDnnBuilder::Pooling(const PoolingSpec& spec) {
  return Guarded("pooling", [&]() -> Result<OneDnnKernel> {
    const auto& g = spec.geometry;
    const auto alg = spec.kind == PoolingSpec::Kind::kMax                 ? algorithm::pooling_max
                     : spec.kind == PoolingSpec::Kind::kAverageIncludePad ? algorithm::pooling_avg_include_padding
                                                                          : algorithm::pooling_avg_exclude_padding;
    const memory::desc src = ChannelsLast(spec.src_dims, spec.dtype), dst = ChannelsLast(spec.dst_dims, spec.dtype);
    const dnnl::pooling_v2_forward::desc desc(dnnl::prop_kind::forward_inference, alg, src, dst, g.strides, g.kernel,
                                              Minus1(g.dilations), g.pads_begin, g.pads_end);
    const dnnl::pooling_v2_forward::primitive_desc pd(desc, NewAttributes(), CpuEngine());
    if (IsReference(pd.impl_info_str())) return Unsupported("only a reference pooling");
    auto bound = std::make_shared<BoundPrimitive>();
    bound->primitive = dnnl::pooling_v2_forward(pd);
    bound->Add(DNNL_ARG_SRC, src, 0, -1);
    bound->Add(DNNL_ARG_DST, dst, -1, 0);
    return Finish(std::move(bound), pd.scratchpad_desc(), pd.impl_info_str());
  });
}

namespace {

// Arguments laid out once per thread, so that runs neither allocate nor meet.
class ThreadedPrimitive : public IntegerPrimitive {
 public:
  ThreadedPrimitive(dnnl::primitive primitive, const memory::desc& src, const memory::desc& weights,
                    const memory::desc& dst, const memory::desc& scratchpad, int threads,
                    std::vector<std::shared_ptr<memory>> sets)
      : primitive_(std::move(primitive)), sets_(std::move(sets)) {
    scratch_bytes = scratchpad.get_size();
    for (int t = 0; t < threads; ++t) {
      const auto make = [](const memory::desc& md) { return memory(md, CpuEngine(), nullptr); };
      arguments_.push_back({make(src), make(weights), make(dst), make(scratchpad)});
    }
  }

  Status Run(int thread, size_t weights, const void* src, void* dst, void* scratch) override {
    return RunWith(thread, sets_[weights]->get(), src, dst, scratch);
  }
  Status RunProduct(int thread, const void* a, const void* b, void* dst, void* scratch) override {
    memory& weights = arguments_[static_cast<size_t>(thread)].weights;
    dnnl_memory_set_data_handle(weights.get(), const_cast<void*>(b));
    return RunWith(thread, weights.get(), a, dst, scratch);
  }

 private:
  struct Arguments {
    memory src, weights, dst, scratchpad;
  };

  Status RunWith(int thread, dnnl_memory_t weights, const void* src, void* dst, void* scratch) {
    Arguments& arguments = arguments_[static_cast<size_t>(thread)];
    dnnl_memory_set_data_handle(arguments.src.get(), const_cast<void*>(src));
    dnnl_memory_set_data_handle(arguments.dst.get(), dst);
    dnnl_memory_set_data_handle(arguments.scratchpad.get(), scratch);
    const dnnl_exec_arg_t exec[] = {{DNNL_ARG_SRC, arguments.src.get()},
                                    {DNNL_ARG_WEIGHTS, weights},
                                    {DNNL_ARG_DST, arguments.dst.get()},
                                    {DNNL_ARG_SCRATCHPAD, arguments.scratchpad.get()}};
    return Execute(primitive_, std::span(exec).first(scratch_bytes > 0 ? 4 : 3));
  }

  dnnl::primitive primitive_;
  std::vector<std::shared_ptr<memory>> sets_;
  std::vector<Arguments> arguments_;
};

}  // namespace

namespace {

// Primitives that are built for one thread, whatever OpenMP would use.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

// One way to compute the sums of an integer block.
struct Candidate {
  std::string implementation;
  dnnl::primitive primitive;
  memory::desc src, weights_from, weights, dst, scratchpad;
};

// Those of oneDNN's implementations that are no reference, in its order of preference, at most `limit`.
template <typename Primitive, typename Description>
void ListCandidates(Description pd, const Candidate& form, size_t limit, std::string_view prefix,
                    std::vector<Candidate>& candidates) {
  do {
    if (IsReference(pd.impl_info_str())) continue;
    // Writes past its destination: 48 pixels of 64 channels to 1024 in oneDNN 2.6.3.
    if (!candidates.empty() && std::strstr(pd.impl_info_str(), "jit_1x1:avx512_core_amx") != nullptr) continue;
    const std::string name = fmt::format("onednn {}{}", prefix, pd.impl_info_str());
    const bool known = std::any_of(candidates.begin(), candidates.end(),
                                   [&](const Candidate& other) { return other.implementation == name; });
    if (known) continue;
    Candidate candidate = form;
    candidate.implementation = name;
    candidate.primitive = Primitive(pd);
    candidate.weights = pd.weights_desc();
    candidate.scratchpad = pd.scratchpad_desc();
    candidates.push_back(std::move(candidate));
  } while (candidates.size() < limit && pd.next_impl());
}

// Any bytes, the same in every process.
void FillWithNoise(void* data, size_t bytes) {
  uint64_t state = 0x9e3779b97f4a7c15u;
  auto* p = static_cast<unsigned char*>(data);
  for (size_t i = 0; i < bytes; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    p[i] = static_cast<unsigned char>(state >> 56);
  }
}

// A candidate's block on numbers of its own, between guards: what writes past its destination or scratch is found out.
class Trial {
 public:
  static Result<Trial> Create(const Candidate& candidate, const Tensor& weights) {
    Trial trial(candidate);
    const auto bytes = static_cast<int64_t>(candidate.src.get_size());
    trial.sources_ = std::clamp<int64_t>(kSourceBytes / std::max<int64_t>(1, bytes), 1, kMostSources);
    trial.source_step_ = RoundUp(bytes, 64);
    OCTAVO_ASSIGN(trial.src_, Tensor::Create(DType::kUInt8, {trial.sources_ * trial.source_step_}));
    OCTAVO_ASSIGN(trial.dst_, Guarded(candidate.dst));
    OCTAVO_ASSIGN(trial.scratch_, Guarded(candidate.scratchpad));
    // All of the same numbers: whichever was read last, the sums are comparable.
    for (int64_t i = 0; i < trial.sources_; ++i) {
      FillWithNoise(static_cast<char*>(trial.src_.mutable_data()) + i * trial.source_step_, candidate.src.get_size());
    }
    trial.weights_ = Reordered(weights, candidate.weights_from, candidate.weights);
    return trial;
  }

  // Seconds, or infinity where it failed or wrote where it must not.
  double Run() {
    char* source = static_cast<char*>(src_.mutable_data()) + next_++ % sources_ * source_step_;
    memory src(candidate_->src, CpuEngine(), source), dst(candidate_->dst, CpuEngine(), dst_.mutable_data()),
        scratch(candidate_->scratchpad, CpuEngine(), scratch_.mutable_data());
    const dnnl_exec_arg_t exec[] = {{DNNL_ARG_SRC, src.get()},
                                    {DNNL_ARG_WEIGHTS, weights_->get()},
                                    {DNNL_ARG_DST, dst.get()},
                                    {DNNL_ARG_SCRATCHPAD, scratch.get()}};
    Status status;
    std::chrono::duration<double> passed{};
    // Blocks run inside a parallel loop, where oneDNN uses the one thread that calls it.
    ParallelFor(2, 2, 1, [&](int64_t first, int64_t) {
      if (first != 0) return;
      const auto start = std::chrono::steady_clock::now();
      status = Execute(candidate_->primitive, exec);
      passed = std::chrono::steady_clock::now() - start;
    });
    const bool good = status.ok() && IsIntact(dst_, candidate_->dst) && IsIntact(scratch_, candidate_->scratchpad);
    return good ? passed.count() : std::numeric_limits<double>::infinity();
  }

  bool HasSumsOf(const Trial& other) const {
    return std::memcmp(dst_.data(), other.dst_.data(), candidate_->dst.get_size()) == 0;
  }

 private:
  static constexpr size_t kGuardBytes = 64 << 10;
  static constexpr char kGuard = 0x5a;
  // In a model a block's source was written by another layer, and weights are warm from the block before: sources take
  // turns, so that none is in the nearest cache.
  static constexpr int64_t kSourceBytes = 4 << 20, kMostSources = 16;

  explicit Trial(const Candidate& candidate) : candidate_(&candidate) {}

  static Result<Tensor> Guarded(const memory::desc& md) {
    OCTAVO_ASSIGN(Tensor tensor, Tensor::Create(DType::kUInt8, {static_cast<int64_t>(md.get_size() + kGuardBytes)}));
    std::memset(tensor.mutable_data(), kGuard, tensor.bytes());
    return tensor;
  }
  static bool IsIntact(const Tensor& tensor, const memory::desc& md) {
    const auto* bytes = static_cast<const char*>(tensor.data());
    return std::all_of(bytes + md.get_size(), bytes + tensor.bytes(), [](char byte) { return byte == kGuard; });
  }

  const Candidate* candidate_;
  int64_t sources_ = 1, source_step_ = 0, next_ = 0;
  Tensor src_, dst_, scratch_;
  std::shared_ptr<memory> weights_;
};

// The fastest of the candidates on one thread, as they run; the first stays unless another is faster by more than
// timings waver. One whose sums differ from the first's is out.
Result<size_t> Fastest(const std::vector<Candidate>& candidates, const Tensor& weights) {
  constexpr int kRounds = 16;
  constexpr double kSurelyFaster = 0.9;
  std::vector<Trial> trials;
  for (const Candidate& candidate : candidates) {
    OCTAVO_ASSIGN(Trial trial, Trial::Create(candidate, weights));
    trials.push_back(std::move(trial));
  }
  std::vector<double> seconds(trials.size(), std::numeric_limits<double>::infinity());
  std::vector<bool> out(trials.size());
  // The first round warms up, and shows the sums.
  for (size_t i = 0; i < trials.size(); ++i)
    out[i] = !std::isfinite(trials[i].Run()) || !trials[i].HasSumsOf(trials[0]);
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < trials.size(); ++i) {
      if (!out[i]) seconds[i] = std::min(seconds[i], trials[i].Run());
    }
  }
  size_t best = 0;
  for (size_t i = 1; i < trials.size(); ++i) {
    if (seconds[i] < (best == 0 ? seconds[0] * kSurelyFaster : seconds[best])) best = i;
  }
  return best;
}

// Whether a candidate keeps to its memory and sums as the first does: what a file names is tried before it is used.
Result<bool> IsSound(const Candidate& candidate, const Candidate& first, const Tensor& weights) {
  OCTAVO_ASSIGN(Trial trial, Trial::Create(candidate, weights));
  OCTAVO_ASSIGN(Trial reference, Trial::Create(first, weights));
  return std::isfinite(trial.Run()) && std::isfinite(reference.Run()) && trial.HasSumsOf(reference);
}

// Which of several candidates: as `tuning` has it, or by measurement.
Result<size_t> Choose(Tuning& tuning, const std::string& key, const std::vector<Candidate>& candidates,
                      const Tensor& weights) {
  const std::string known = tuning.Find(key);
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].implementation != known) continue;
    if (i == 0) return i;
    OCTAVO_ASSIGN(const bool sound, IsSound(candidates[i], candidates[0], weights));
    if (sound) return i;
  }
  OCTAVO_ASSIGN(const size_t best, Fastest(candidates, weights));
  tuning.Put(key, candidates[best].implementation);
  return best;
}

std::string KeyOf(const IntegerConvolutionSpec& spec) {
  const WindowGeometry& g = spec.geometry;
  return fmt::format("conv u8s8s32 {} -> {} kernel {} stride {} dilation {} groups {} threads {}",
                     ToString(spec.src_dims), ToString(spec.dst_dims), ToString(g.kernel), ToString(g.strides),
                     ToString(g.dilations), spec.groups, spec.threads);
}

// The product that a pointwise convolution over one axis is.
void ListProducts(const IntegerConvolutionSpec& spec, size_t limit, std::vector<Candidate>& candidates) {
  using tag = memory::format_tag;
  const int64_t m = spec.dst_dims.back(), k = spec.src_dims[1], n = spec.dst_dims[1];
  Candidate form;
  form.src = memory::desc({m, k}, memory::data_type::u8, tag::ab);
  form.dst = memory::desc({m, n}, memory::data_type::s32, tag::ab);
  form.weights_from = memory::desc({k, n}, memory::data_type::s8, tag::ba);
  const memory::desc any({k, n}, memory::data_type::s8, tag::any);
  const OneThread one;
  try {
    const dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(form.src, any, form.dst), NewAttributes(), CpuEngine());
    ListCandidates<dnnl::matmul>(pd, form, candidates.size() + limit, "matmul ", candidates);
  } catch (const dnnl::error&) {
    // The convolutions remain.
  }
}

}  // namespace

Result<std::shared_ptr<IntegerPrimitive>> OneDnnBuilder::IntegerConvolution(const IntegerConvolutionSpec& spec) {
  using Shared = std::shared_ptr<IntegerPrimitive>;
  return Guarded<Shared>("integer convolution", [&]() -> Result<Shared> {
    const auto& g = spec.geometry;
    const ConvolutionWeights logical(spec.groups, spec.dst_dims[1] / spec.groups, spec.src_dims[1] / spec.groups,
                                     g.kernel, false);
    Candidate form;
    form.weights_from = memory::desc(logical.dims, memory::data_type::s8, logical.strides);
    form.src = ChannelsLast(spec.src_dims, DType::kUInt8);
    form.dst = ChannelsLast(spec.dst_dims, DType::kInt32);
    const memory::desc any(logical.dims, memory::data_type::s8, memory::format_tag::any);
    const dnnl::convolution_forward::desc desc(dnnl::prop_kind::forward_inference, algorithm::convolution_direct,
                                               form.src, any, memory::desc(), form.dst, g.strides, Minus1(g.dilations),
                                               g.pads_begin, g.pads_end);
    // Where pairs of products saturate, kernels may differ in what is exact: there is no choice then.
    const bool tunes = tuning_ != nullptr && OneDnnSumsExactly();
    constexpr size_t kMostConvolutions = 4, kMostProducts = 2;
    std::vector<Candidate> candidates;
    ListCandidates<dnnl::convolution_forward>(
        dnnl::convolution_forward::primitive_desc(desc, NewAttributes(), CpuEngine()), form,
        tunes ? kMostConvolutions : 1, "", candidates);
    if (candidates.empty()) return Unsupported("only a reference integer convolution");
    size_t chosen = 0;
    if (tunes) {
      const bool pointwise = spec.groups == 1 && spec.src_dims.size() == 3 && g.kernel[0] == 1 && g.strides[0] == 1;
      if (pointwise) ListProducts(spec, kMostProducts, candidates);
      if (candidates.size() > 1) {
        OCTAVO_ASSIGN(chosen, Choose(*tuning_, KeyOf(spec), candidates, spec.weights[0]));
      }
    }
    const Candidate& best = candidates[chosen];
    std::vector<std::shared_ptr<memory>> sets;
    for (const auto& weights : spec.weights) {
      sets.push_back(Pack(*cache_.impl_, weights, best.weights_from, best.weights));
    }
    Shared primitive = std::make_shared<ThreadedPrimitive>(best.primitive, best.src, best.weights, best.dst,
                                                           best.scratchpad, spec.threads, std::move(sets));
    primitive->implementation = best.implementation;
    return primitive;
  });
}

Result<std::shared_ptr<IntegerPrimitive>> OneDnnBuilder::IntegerMatMul(const IntegerMatMulSpec& spec) {
  using Shared = std::shared_ptr<IntegerPrimitive>;
  using tag = memory::format_tag;
  return Guarded<Shared>("integer matrix product", [&]() -> Result<Shared> {
    const memory::desc a({spec.m, spec.k}, memory::data_type::u8, tag::ab);
    const memory::desc b({spec.k, spec.n}, memory::data_type::s8, tag::ab);
    const memory::desc dst({spec.m, spec.n}, memory::data_type::s32, tag::ab);
    const dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(a, b, dst), NewAttributes(), CpuEngine());
    if (IsReference(pd.impl_info_str())) return Unsupported("only a reference integer matrix product");
    Shared primitive = std::make_shared<ThreadedPrimitive>(dnnl::matmul(pd), a, b, dst, pd.scratchpad_desc(),
                                                           spec.threads, std::vector<std::shared_ptr<memory>>());
    primitive->implementation = fmt::format("onednn {}", pd.impl_info_str());
    return primitive;
  });
}

namespace {

class OneDnnPackedProduct : public PackedProduct {
 public:
  OneDnnPackedProduct(const dnnl::matmul::primitive_desc& product, const dnnl::reorder::primitive_desc& packing,
                      int threads)
      : product_(product), packing_(packing) {
    packed_format = product.weights_desc();
    packed_bytes = packed_format.get_size();
    scratch_bytes = std::max(product.scratchpad_desc().get_size(), packing.scratchpad_desc().get_size());
    implementation = product.impl_info_str();
    const auto make = [](const memory::desc& md) { return memory(md, CpuEngine(), nullptr); };
    for (int t = 0; t < threads; ++t) {
      arguments_.push_back({make(product.src_desc()), make(packing.src_desc()), make(product.weights_desc()),
                            make(product.dst_desc()), make(product.scratchpad_desc()),
                            make(packing.scratchpad_desc())});
    }
  }

  Status Pack(int thread, const void* b, void* packed, void* scratch) override {
    Arguments& a = arguments_[static_cast<size_t>(thread)];
    Set(a.b, b);
    Set(a.packed, packed);
    Set(a.packing_scratchpad, scratch);
    const dnnl_exec_arg_t exec[] = {
        {DNNL_ARG_FROM, a.b.get()}, {DNNL_ARG_TO, a.packed.get()}, {DNNL_ARG_SCRATCHPAD, a.packing_scratchpad.get()}};
    return Execute(packing_, exec);
  }

  Status Run(int thread, const void* a_data, const void* packed, void* c, void* scratch) override {
    Arguments& a = arguments_[static_cast<size_t>(thread)];
    Set(a.a, a_data);
    Set(a.packed, packed);
    Set(a.c, c);
    Set(a.product_scratchpad, scratch);
    const dnnl_exec_arg_t exec[] = {{DNNL_ARG_SRC, a.a.get()},
                                    {DNNL_ARG_WEIGHTS, a.packed.get()},
                                    {DNNL_ARG_DST, a.c.get()},
                                    {DNNL_ARG_SCRATCHPAD, a.product_scratchpad.get()}};
    return Execute(product_, exec);
  }

  memory::desc packed_format;

 private:
  struct Arguments {
    memory a, b, packed, c, product_scratchpad, packing_scratchpad;
  };
  static void Set(memory& mem, const void* data) { dnnl_memory_set_data_handle(mem.get(), const_cast<void*>(data)); }
  dnnl::matmul product_;
  dnnl::reorder packing_;
  std::vector<Arguments> arguments_;
};

}  // namespace

Result<std::shared_ptr<PackedProduct>> OneDnnBuilder::Product(const PackedProductSpec& spec) {
  using Shared = std::shared_ptr<PackedProduct>;
  using tag = memory::format_tag;
  return Guarded<Shared>("product", [&]() -> Result<Shared> {
    if (spec.a_dtype != DType::kBFloat16 && spec.a_dtype != DType::kUInt8) return Unsupported("its types");
    // oneDNN leaves c as it was where k is zero.
    if (spec.m == 0 || spec.k == 0 || spec.n == 0) return Unsupported("an empty product");
    const bool integers = spec.a_dtype == DType::kUInt8;
    const auto b_type = integers ? memory::data_type::s8 : memory::data_type::bf16;
    const OneThread one;
    const memory::desc a({spec.m, spec.k}, ToDnnl(spec.a_dtype), tag::ab);
    const memory::desc b({spec.k, spec.n}, b_type, memory::dims{spec.b_row_step, spec.b_column_step});
    const memory::desc packed = spec.packed_as ? static_cast<const OneDnnPackedProduct*>(spec.packed_as)->packed_format
                                               : memory::desc({spec.k, spec.n}, b_type, tag::any);
    const memory::desc c({spec.m, spec.n}, integers ? memory::data_type::s32 : memory::data_type::f32, tag::ab);
    const dnnl::matmul::primitive_desc product(dnnl::matmul::desc(a, packed, c), NewAttributes(), CpuEngine());
    if (IsReference(product.impl_info_str())) return Unsupported("only a reference product");
    const dnnl::reorder::primitive_desc packing(CpuEngine(), b, CpuEngine(), product.weights_desc(), NewAttributes());
    return Shared(std::make_shared<OneDnnPackedProduct>(product, packing, spec.threads));
  });
}

void MultiplyFloats(const FloatProduct& product) {
  if (product.m == 0 || product.n == 0) return;
  const OneThread one;
  // Its only errors are arguments out of range.
  dnnl_sgemm(product.a_transposed ? 'T' : 'N', product.b_transposed ? 'T' : 'N', product.m, product.n, product.k,
             product.scale, product.a, product.a_leading, product.b, product.b_leading, product.adds ? 1.0f : 0.0f,
             product.c, product.c_leading);
}

}  // namespace octavo
