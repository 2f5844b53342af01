// Small Q/DQ graphs that the bytes describe, also wrong ones: the engine gives what the generic kernels give, or an
// error that lays no blame on Octavo itself; and never an answer where the generic kernels have an error.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "graph/shape_inference.h"
#include "kernels/kernel.h"
#include "octavo/session.h"

namespace octavo {
namespace {

// Zeros where the bytes have run out.
class Bytes {
 public:
  explicit Bytes(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  uint8_t Next() {
    const uint8_t byte = bytes_.empty() ? 0 : bytes_[0];
    if (!bytes_.empty()) bytes_ = bytes_.subspan(1);
    return byte;
  }
  int Below(int n) { return Next() % n; }
  int64_t Size(int most) { return 1 + Below(most); }

 private:
  std::span<const uint8_t> bytes_;
};

class GraphMaker {
 public:
  explicit GraphMaker(Bytes bytes) : bytes_(bytes) { graph.opsets[""] = 13 + 2 * bytes_.Below(5); }

  void Make() {
    const uint8_t first = bytes_.Next();
    const int kind = first % 6;
    rounded_ = first >= 240;
    const bool convolution = kind < 3;
    dims_ = convolution ? Dims{bytes_.Size(2), bytes_.Size(9), bytes_.Size(8)} : Dims{bytes_.Size(6), bytes_.Size(20)};
    if (kind < 2) dims_.push_back(bytes_.Size(8));
    if (kind > 3) dims_.insert(dims_.begin(), bytes_.Size(3));
    x_ = graph.AddValue("x", DType::kFloat32, dims_);
    graph.inputs = {x_};
    ValueId y = convolution ? Convolution(kind == 1) : kind == 3 ? Gemm() : kind == 4 ? MatMul() : Product();
    // What lies before the contraction is exact on both sides; each quantizer behind it may round the other way.
    slack = 0;
    const int post = bytes_.Below(6);
    const char* unary[] = {"Relu", "Sigmoid", "HardSwish", "Tanh"};
    if (post < 4) y = Op(unary[post], {y});
    if (post == 4) y = Op("Add", {y, DQ(Q(Op("Neg", {y})))});
    graph.outputs = {y};
    if (bytes_.Below(2) != 0) {
      const ValueId q = Q(y);
      graph.outputs = {q, DQ(q)};
    }
  }

  Tensor Input() {
    Tensor input = *Tensor::Create(DType::kFloat32, dims_);
    for (float& v : input.mutable_values<float>()) v = (static_cast<float>(Random() % 2001) - 1000) / 300;
    return input;
  }

  Graph graph;
  float slack = 0;          // real values may be apart by this much, besides rounding
  float integer_slack = 0;  // and quantized ones

 private:
  uint32_t Random() { return (state_ = state_ * 1664525u + 1013904223u) >> 8; }

  ValueId Op(const std::string& op, std::vector<ValueId> inputs, std::map<std::string, Attribute> attributes = {}) {
    const ValueId y = graph.AddValue(op);
    graph.AddNode(op, "", op, std::move(inputs), {y}, std::move(attributes));
    return y;
  }
  ValueId Constant(Tensor tensor) { return graph.AddConstant("c", std::move(tensor)); }
  ValueId Ints(const std::vector<int64_t>& values) {
    return Constant(Tensor::FromVector<int64_t>({static_cast<int64_t>(values.size())}, values));
  }

  // Nearly always a usable one.
  float Scale() {
    const uint8_t byte = bytes_.Next();
    constexpr float kOdd[] = {0.0f, -0.5f, 1e-40f, 1e38f, INFINITY, NAN, 1e-20f, 1e20f};
    return byte >= 248 ? kOdd[byte - 248] : (static_cast<float>(byte) + 1) / 2048;
  }
  Tensor Scales(int64_t count) {
    Tensor scales = *Tensor::Create(DType::kFloat32, count == 0 ? Dims{} : Dims{count});
    for (float& scale : scales.mutable_values<float>()) scale = Scale();
    return scales;
  }
  DType QuantizedType() {
    constexpr DType kTypes[] = {DType::kUInt8, DType::kInt8,   DType::kUInt8, DType::kInt8,
                                DType::kInt16, DType::kUInt16, DType::kInt32, DType::kUInt8};
    return kTypes[bytes_.Below(8)];
  }
  Tensor Integers(DType dtype, Dims dims) {
    Tensor tensor = *Tensor::Create(dtype, std::move(dims));
    auto* data = static_cast<uint8_t*>(tensor.mutable_data());
    for (size_t i = 0; i < tensor.bytes(); ++i) data[i] = static_cast<uint8_t>(Random());
    return tensor;
  }

  // What DequantizeLinear then reads again; sometimes it reads with something else.
  void NewQuantizer(int64_t channels) {
    const bool per_channel = bytes_.Below(8) == 0;
    const Tensor scales = Scales(per_channel ? channels : 0);
    const auto values = scales.values<float>();
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    integer_slack = values.empty() ? 0 : 1 + slack / *least;
    slack += values.empty() ? 0 : *most;
    parameters_ = {Constant(scales), Constant(Integers(QuantizedType(), scales.dims()))};
    attributes_.clear();
    if (per_channel) attributes_["axis"] = int64_t{bytes_.Below(5)} - 2;
  }
  ValueId Q(ValueId value) {
    NewQuantizer(dims_.size() > 1 ? dims_[1] : 1);
    return Op("QuantizeLinear", {value, parameters_[0], parameters_[1]}, attributes_);
  }
  ValueId DQ(ValueId value) {
    if (bytes_.Below(16) == 0) NewQuantizer(1);
    return Op("DequantizeLinear", {value, parameters_[0], parameters_[1]}, attributes_);
  }
  // Through 16 bits and back: a node that stays float multiplies such operands.
  ValueId Rounded(ValueId value) {
    const int64_t type = bytes_.Below(2) == 0 ? 16 : 10;  // TensorProto's BFLOAT16 and FLOAT16
    return Op("Cast", {Op("Cast", {value}, {{"to", type}})}, {{"to", int64_t{1}}});
  }
  // Rounded, or of few enough bits to be exact in either type.
  ValueId RoundedWeights(Dims dims) {
    Tensor weights = *Tensor::Create(DType::kFloat32, std::move(dims));
    for (float& v : weights.mutable_values<float>()) v = (static_cast<float>(Random() % 255) - 127) / 64;
    const ValueId constant = Constant(std::move(weights));
    return bytes_.Below(2) == 0 ? Rounded(constant) : constant;
  }
  ValueId QuantizedInput() {
    if (rounded_) return Rounded(x_);
    ValueId q = Q(x_);
    if (bytes_.Below(6) == 0) q = Op("Slice", {q, Ints({-1}), Ints({-100}), Ints({bytes_.Below(3)}), Ints({-1})});
    return DQ(q);
  }
  // `axis` is right three times of four.
  ValueId Weights(Dims dims, int64_t axis) {
    if (rounded_ && bytes_.Below(4) != 0) return RoundedWeights(std::move(dims));
    const bool per_channel = bytes_.Below(2) == 0;
    if (bytes_.Below(4) == 0) axis = bytes_.Below(5) - 2;
    const auto rank = static_cast<int64_t>(dims.size());
    const int64_t count = !per_channel                   ? 0
                          : axis >= -rank && axis < rank ? dims[static_cast<size_t>(axis < 0 ? axis + rank : axis)]
                                                         : 3;
    const DType dtype = QuantizedType();
    const Tensor scales = Scales(count),
                 zeros = bytes_.Below(2) == 0 ? *Tensor::Zeros(dtype, scales.dims()) : Integers(dtype, scales.dims());
    return Op("DequantizeLinear", {Constant(Integers(dtype, std::move(dims))), Constant(scales), Constant(zeros)},
              {{"axis", axis}});
  }
  ValueId Bias(int64_t channels) {
    if (bytes_.Below(3) == 0) return kNoValue;
    return Op("DequantizeLinear", {Constant(Integers(DType::kInt8, {channels})), Constant(Scales(0))});
  }

  ValueId Convolution(bool transposed) {
    const int64_t c = dims_[1], group = bytes_.Below(2) == 0 ? 1 : c, kernel = bytes_.Size(3),
                  out = group * bytes_.Size(4);
    Dims weights = transposed ? Dims{c, out / group} : Dims{out, c / group};
    std::vector<int64_t> strides, pads;
    for (size_t d = 2; d < dims_.size(); ++d) {
      weights.push_back(kernel);
      strides.push_back(bytes_.Size(3));
    }
    for (size_t d = 2; d < dims_.size(); ++d) pads.insert(pads.end(), {bytes_.Below(3), bytes_.Below(3)});
    const ValueId x = QuantizedInput(), w = Weights(std::move(weights), transposed ? 1 : 0), b = Bias(out);
    return Op(transposed ? "ConvTranspose" : "Conv", {x, w, b},
              {{"group", group}, {"strides", strides}, {"pads", pads}});
  }
  ValueId Gemm() {
    const int64_t n = bytes_.Size(20), transposed = bytes_.Below(2);
    const ValueId x = QuantizedInput(),
                  w = Weights(transposed != 0 ? Dims{n, dims_[1]} : Dims{dims_[1], n}, transposed != 0 ? 0 : 1);
    return Op("Gemm", {x, w, Bias(n)}, {{"transB", transposed}});
  }
  ValueId MatMul() {
    const int64_t n = bytes_.Size(20);
    const ValueId x = QuantizedInput();
    return Op("MatMul", {x, Weights({dims_.back(), n}, 1)});
  }
  ValueId Product() {
    const ValueId x = QuantizedInput();
    const ValueId transposed = Op("Transpose", {Q(x_)}, {{"perm", std::vector<int64_t>{0, 2, 1}}});
    return Op("MatMul", {x, DQ(transposed)});
  }

  Bytes bytes_;
  bool rounded_ = false;  // 16-bit floats instead of integers
  Dims dims_;
  ValueId x_ = kNoValue;
  std::vector<ValueId> parameters_;
  std::map<std::string, Attribute> attributes_;
  uint32_t state_ = 1;
};

// Float rounding, of sums that may have cancelled, and `slack`.
bool IsNear(const Tensor& actual, const Tensor& expected, float slack) {
  if (actual.dtype() != expected.dtype() || actual.dims() != expected.dims()) return false;
  const auto a = *ToFloats(actual), b = *ToFloats(expected);
  float largest = 1e-30f;
  for (const float v : b) largest = std::isfinite(v) ? std::max(largest, std::fabs(v)) : largest;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || !std::isfinite(b[i])) continue;
    if (!(std::fabs(a[i] - b[i]) <= slack * 1.01f + 1e-3f * largest)) return false;
  }
  return true;
}

void Check(std::span<const uint8_t> bytes) {
  GraphMaker maker{Bytes(bytes)};
  maker.Make();
  const std::vector<Tensor> inputs{maker.Input()};
  Graph bound = maker.graph;
  const auto expected = BindShapes(bound, {}).ok() ? EvaluateGraph(bound, inputs)
                                                   : Result<std::vector<Tensor>>(InvalidArgument("shapes"));
  SessionOptions options;
  options.threads = 1;
  auto session = Session::Create(maker.graph, options);
  if (!session.ok()) std::abort();
  const auto actual = session->Run(inputs);
  if (!actual.ok() && actual.status().code() == ErrorCode::kInternal) std::abort();
  // Nobody computes nothing, or looks at the scales of that.
  if (actual.ok() && (*actual)[0].size() == 0) return;
  if (actual.ok() != expected.ok()) std::abort();
  if (!actual.ok()) return;
  for (size_t k = 0; k < actual->size(); ++k) {
    const DType dtype = (*actual)[k].dtype();
    if (!IsNear((*actual)[k], (*expected)[k], dtype == DType::kFloat32 ? maker.slack : maker.integer_slack))
      std::abort();
  }
}

}  // namespace
}  // namespace octavo

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  octavo::Check(std::span(data, size));
  return 0;
}
