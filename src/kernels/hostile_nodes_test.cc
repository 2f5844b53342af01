// Every op on nodes as a hostile file could hold them: any number of inputs, of any type and shape, with attributes at
// random. What comes out is a tensor or an error; sanitizers see what should not happen on the way.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "graph/op_table.h"
#include "kernels/kernel.h"

namespace octavo {
namespace {

constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat32, DType::kFloat32, DType::kInt64, DType::kInt64,
                            DType::kInt32,   DType::kFloat16, DType::kUInt8,   DType::kBool,  DType::kFloat64,
                            DType::kInt8,    DType::kUInt64,  DType::kBFloat16};
constexpr const char* kInts[] = {"axis",
                                 "k",
                                 "to",
                                 "p",
                                 "size",
                                 "group",
                                 "num_groups",
                                 "keepdims",
                                 "blocksize",
                                 "batch_dims",
                                 "allowzero",
                                 "dtype",
                                 "exclusive",
                                 "reverse",
                                 "onesided",
                                 "inverse",
                                 "ceil_mode",
                                 "align_corners",
                                 "batch_axis",
                                 "time_axis",
                                 "transA",
                                 "start",
                                 "end",
                                 "num_outputs",
                                 "sorted",
                                 "fmod",
                                 "output_width",
                                 "offset_group",
                                 "storage_order",
                                 "select_last_index",
                                 "ignore_index",
                                 "sampling_ratio",
                                 "output_height",
                                 "largest"};
constexpr const char* kLists[] = {"axes",      "perm",   "kernel_shape", "strides",        "pads",
                                  "dilations", "starts", "output_shape", "output_padding", "split",
                                  "steps",     "ends",   "shape"};
constexpr const char* kTexts[] = {"mode",         "auto_pad",
                                  "reduction",    "padding_mode",
                                  "direction",    "equation",
                                  "approximate",  "coordinate_transformation_mode",
                                  "nearest_mode", "keep_aspect_ratio_policy"};
constexpr const char* kWords[] = {
    "linear",        "nearest",    "cubic",      "reflect", "edge", "wrap",       "constant",
    "add",           "mul",        "none",       "mean",    "sum",  "LEFT",       "SAME_UPPER",
    "border",        "max",        "ij,jk",      "...i->i", "tanh", "reflection", "tf_crop_and_resize",
    "align_corners", "half_pixel", "not_larger", ""};

class Draw {
 public:
  explicit Draw(uint32_t seed) : engine_(seed) {}

  int64_t Below(int64_t limit) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(limit)); }
  // Mostly what a valid node could hold.
  int64_t Number() {
    if (Below(24) == 0) return Below(2) == 0 ? INT64_MAX : INT64_MIN;
    return Below(9) - 3;
  }
  template <typename T, size_t N>
  T Of(const T (&items)[N]) {
    return items[Below(N)];
  }
  Dims Shape() {
    Dims dims(static_cast<size_t>(Below(6)));
    for (int64_t& dim : dims) dim = Below(12) == 0 ? 0 : 1 + Below(4);
    return dims;
  }
  Tensor Value(const Dims& dims) {
    Tensor tensor = *Tensor::Create(Of(kTypes), dims);
    auto* bytes = static_cast<uint8_t*>(tensor.mutable_data());
    const bool wild = Below(8) == 0;
    for (size_t i = 0; i < tensor.bytes(); ++i) bytes[i] = static_cast<uint8_t>(wild ? Below(256) : 0);
    if (tensor.dtype() == DType::kBool) {
      for (size_t i = 0; i < tensor.bytes(); ++i) bytes[i] = static_cast<uint8_t>(Below(2));
    } else if (!wild) {
      for (int64_t i = 0; i < tensor.size(); ++i) Set(tensor, i, Number());
    }
    return tensor;
  }
  std::map<std::string, Attribute> Attributes() {
    std::map<std::string, Attribute> attributes;
    for (const char* name : kInts) {
      if (Below(4) == 0) attributes[name] = Number();
    }
    for (const char* name : kLists) {
      if (Below(4) != 0) continue;
      std::vector<int64_t> values(static_cast<size_t>(Below(5)));
      for (int64_t& value : values) value = Number();
      attributes[name] = std::move(values);
    }
    for (const char* name : kTexts) {
      if (Below(3) == 0) attributes[name] = std::string(Of(kWords));
    }
    if (Below(8) == 0) attributes["scales"] = std::vector<float>{1, 2, 0.5f};
    return attributes;
  }

 private:
  static void Set(Tensor& tensor, int64_t i, int64_t value) {
    switch (tensor.dtype()) {
      case DType::kFloat32:
        tensor.mutable_values<float>()[static_cast<size_t>(i)] = static_cast<float>(value);
        break;
      case DType::kFloat64:
        tensor.mutable_values<double>()[static_cast<size_t>(i)] = static_cast<double>(value);
        break;
      case DType::kInt64:
        tensor.mutable_values<int64_t>()[static_cast<size_t>(i)] = value;
        break;
      case DType::kInt32:
        tensor.mutable_values<int32_t>()[static_cast<size_t>(i)] = static_cast<int32_t>(value);
        break;
      default:
        static_cast<uint8_t*>(tensor.mutable_data())[static_cast<size_t>(i) * SizeOf(tensor.dtype())] =
            static_cast<uint8_t>(value);
    }
  }
  std::mt19937_64 engine_;
};

// A result or an error, whichever it is; nothing that is too large to be made.
void Try(const OpTraits& traits, uint32_t seed, int& results) {
  constexpr int64_t kMaxElements = 1 << 16;
  Draw draw(seed);
  Node node;
  node.name = "node";
  node.op = traits.op;
  node.domain = traits.domain;
  node.attributes = draw.Attributes();
  node.outputs.assign(static_cast<size_t>(1 + draw.Below(3)), 0);
  const int64_t most = traits.max_inputs < 0 ? traits.min_inputs + 2 : traits.max_inputs;
  const int64_t count = traits.min_inputs + draw.Below(most - traits.min_inputs + 1);
  std::vector<Tensor> inputs;
  const Dims shape = draw.Shape();
  for (int64_t i = 0; i < count; ++i) {
    if (i >= traits.min_inputs && draw.Below(5) == 0) {
      inputs.emplace_back();
    } else {
      inputs.push_back(draw.Value(draw.Below(2) == 0 ? shape : draw.Shape()));
    }
  }
  std::vector<InferInput> infer(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].defined()) infer[i] = {true, inputs[i].dtype(), inputs[i].dims(), &inputs[i]};
  }
  const int64_t opset = traits.since + draw.Below(std::max<int64_t>(1, 22 - traits.since));
  const auto inferred = InferNode(node, opset, infer);
  if (!inferred.ok()) {
    EXPECT_FALSE(inferred.status().message().empty());
    EXPECT_NE(inferred.status().code(), ErrorCode::kInternal) << traits.op << ": " << inferred.status().message();
    return;
  }
  for (const InferOutput& output : *inferred) {
    if (ElementCount(output.dims) > kMaxElements) return;
  }
  const auto outputs = EvaluateNode(node, opset, inputs);
  if (!outputs.ok()) {
    EXPECT_NE(outputs.status().code(), ErrorCode::kInternal) << traits.op << ": " << outputs.status().message();
    return;
  }
  ++results;
  for (size_t i = 0; i < outputs->size(); ++i) EXPECT_EQ((*outputs)[i].dims(), (*inferred)[i].dims) << traits.op;
}

TEST(HostileNodesTest, GiveATensorOrAnError) {
  constexpr uint32_t kDraws = 400;
  int results = 0;
  for (const OpTraits& traits : AllOps()) {
    for (uint32_t seed = 0; seed < kDraws; ++seed) {
      SCOPED_TRACE(std::string(traits.op) + ", seed " + std::to_string(seed));
      Try(traits, seed, results);
    }
  }
  EXPECT_GT(results, static_cast<int>(AllOps().size()) * 5) << "hardly any node was valid";
}

}  // namespace
}  // namespace octavo
