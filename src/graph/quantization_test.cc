#include "graph/quantization.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>

#include "graph/op_table.h"
#include "passes/pass_test_graph.h"

namespace octavo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Attributes = std::map<std::string, Attribute>;

Tensor Filled(DType dtype, Dims dims, float value = 1) {
  Tensor tensor = *Tensor::Zeros(dtype, std::move(dims));
  if (dtype == DType::kFloat32) {
    for (float& v : tensor.mutable_values<float>()) v = value;
  }
  return tensor;
}

// "int8 2x3", or the error.
std::string Infer(const char* op, const InferInput& x, const InferInput& scale, const InferInput& zero = {},
                  Attributes attributes = {}) {
  Node node;
  node.op = op;
  node.outputs = {0};
  node.attributes = std::move(attributes);
  const auto inferred = InferNode(node, 21, std::vector<InferInput>{x, scale, zero});
  if (!inferred.ok()) return "error: " + inferred.status().message();
  return std::string(NameOf((*inferred)[0].dtype)) + " " + ToString((*inferred)[0].dims);
}

InferInput Of(DType dtype, Dims dims = {}) { return {true, dtype, std::move(dims), nullptr}; }

TEST(InferQuantize, TypesOfResults) {
  const InferInput x = Of(DType::kFloat32, {2, 3}), one = Of(DType::kFloat32);
  EXPECT_EQ(Infer("QuantizeLinear", x, one), "uint8 2x3");
  for (const DType dtype : {DType::kInt8, DType::kUInt8, DType::kInt16, DType::kUInt16}) {
    const std::string name(NameOf(dtype));
    EXPECT_EQ(Infer("QuantizeLinear", x, one, Of(dtype)), name + " 2x3");
    EXPECT_EQ(Infer("DequantizeLinear", Of(dtype, {2, 3}), one, Of(dtype)), "float32 2x3");
    EXPECT_EQ(Infer("DequantizeLinear", Of(dtype, {2, 3}), one), "float32 2x3");
  }
  EXPECT_EQ(Infer("QuantizeLinear", x, one, {}, {{"output_dtype", int64_t{5}}}), "int16 2x3");
  // The zero point speaks louder than an attribute that says the same in other words.
  EXPECT_EQ(Infer("QuantizeLinear", x, one, Of(DType::kInt8), {{"output_dtype", int64_t{3}}}), "int8 2x3");
  EXPECT_EQ(Infer("DequantizeLinear", Of(DType::kInt32, {4}), one), "float32 4");
  EXPECT_EQ(Infer("DequantizeLinear", Of(DType::kInt8, {4}), Of(DType::kFloat16)), "float16 4");
  EXPECT_EQ(Infer("QuantizeLinear", Of(DType::kInt32, {4}), one), "uint8 4");
}

TEST(InferQuantize, ShapesOfScales) {
  const InferInput x = Of(DType::kFloat32, {2, 3, 4});
  for (const int64_t axis : {1, -2}) {
    const Attributes attributes{{"axis", axis}};
    EXPECT_EQ(Infer("QuantizeLinear", x, Of(DType::kFloat32, {3}), Of(DType::kInt8, {3}), attributes), "int8 2x3x4");
    EXPECT_THAT(Infer("QuantizeLinear", x, Of(DType::kFloat32, {2}), {}, attributes), HasSubstr("2 scales for axis 1"));
    EXPECT_THAT(Infer("QuantizeLinear", x, Of(DType::kFloat32, {3}), Of(DType::kInt8, {2}), attributes),
                HasSubstr("zero point has shape 2"));
  }
  EXPECT_EQ(Infer("QuantizeLinear", x, Of(DType::kFloat32, {4}), {}, {{"axis", int64_t{-1}}}), "uint8 2x3x4");
  EXPECT_EQ(Infer("QuantizeLinear", x, Of(DType::kFloat32, {1}), Of(DType::kInt8)), "int8 2x3x4");
  EXPECT_EQ(Infer("QuantizeLinear", x, Of(DType::kFloat32), Of(DType::kInt8, {1})), "int8 2x3x4");
  for (const int64_t axis : {3, -4, 100}) {
    EXPECT_THAT(Infer("DequantizeLinear", Of(DType::kInt8, {2, 3, 4}), Of(DType::kFloat32, {3}), {}, {{"axis", axis}}),
                HasSubstr("axis"));
  }
  EXPECT_THAT(Infer("DequantizeLinear", Of(DType::kInt8, {2, 4}), Of(DType::kFloat32, {2, 2}), {},
                    {{"block_size", int64_t{2}}}),
              HasSubstr("blocked"));
}

TEST(InferQuantize, TypesThatDoNotFit) {
  const InferInput x = Of(DType::kFloat32, {2}), one = Of(DType::kFloat32);
  EXPECT_THAT(Infer("QuantizeLinear", Of(DType::kInt64, {2}), one), HasSubstr("its input is int64"));
  EXPECT_THAT(Infer("QuantizeLinear", x, Of(DType::kInt32)), HasSubstr("its scale is int32"));
  EXPECT_THAT(Infer("QuantizeLinear", x, one, Of(DType::kInt32)), HasSubstr("quantizes to int32"));
  EXPECT_THAT(Infer("QuantizeLinear", x, one, Of(DType::kFloat32)), HasSubstr("quantizes to float32"));
  EXPECT_THAT(Infer("QuantizeLinear", x, one, {}, {{"output_dtype", int64_t{22}}}), HasSubstr("ONNX type 22"));  // int4
  EXPECT_THAT(Infer("QuantizeLinear", x, one, {}, {{"output_dtype", int64_t{17}}}),
              HasSubstr("ONNX type 17"));  // float8
  EXPECT_THAT(Infer("DequantizeLinear", x, one), HasSubstr("its input is float32"));
  EXPECT_THAT(Infer("DequantizeLinear", Of(DType::kUInt8, {2}), one, Of(DType::kInt8)),
              HasSubstr("its zero point is int8"));
}

TEST(QuantizeParams, UsableScales) {
  for (const float scale : {FLT_MIN, 1.0f, 0.1f, std::ldexp(1.0f, 126)}) EXPECT_TRUE(IsUsableScale(scale)) << scale;
  for (const float scale : {0.0f, -1.0f, NAN, INFINITY, -INFINITY, std::nextafter(FLT_MIN, 0.0f),
                            std::nextafter(std::ldexp(1.0f, 126), INFINITY), FLT_MAX}) {
    EXPECT_FALSE(IsUsableScale(scale)) << scale;
  }
}

TEST(QuantizeParams, FromTensors) {
  Node node;
  node.op = "DequantizeLinear";
  node.attributes = {{"axis", int64_t{-1}}};
  const Tensor scales = Tensor::FromVector<float>({3}, {0.1f, 0.2f, 0.3f});
  const auto params =
      MakeQuantizeParams(node, 4, DType::kUInt8, scales, Tensor::FromVector<uint8_t>({3}, {0, 128, 255}));
  ASSERT_TRUE(params.ok()) << params.status().message();
  EXPECT_EQ(params->axis, 3);
  EXPECT_FALSE(params->per_tensor());
  EXPECT_THAT(params->zero_points, ElementsAre(0, 128, 255));
  EXPECT_THAT(params->scales, ElementsAre(0.1f, 0.2f, 0.3f));
  EXPECT_EQ(params->dtype, DType::kUInt8);

  const auto defaults = MakeQuantizeParams(node, 0, DType::kInt8, Tensor::Scalar(0.5f), {});
  ASSERT_TRUE(defaults.ok()) << defaults.status().message();
  EXPECT_TRUE(defaults->per_tensor());
  EXPECT_THAT(defaults->zero_points, ElementsAre(0));

  EXPECT_FALSE(MakeQuantizeParams(node, 4, DType::kInt8, Filled(DType::kFloat32, {0}), {}).ok());
  EXPECT_FALSE(MakeQuantizeParams(node, 4, DType::kInt8, scales, Filled(DType::kInt8, {2})).ok());
  node.attributes = {{"axis", int64_t{4}}};
  EXPECT_FALSE(MakeQuantizeParams(node, 4, DType::kInt8, scales, {}).ok());
}

TEST(QuantizeParams, ZeroPointsWithinTheType) {
  QuantizeParams params;
  params.scales = {1};
  for (const auto& [dtype, low, high] : {std::tuple{DType::kInt8, -128, 127}, std::tuple{DType::kUInt8, 0, 255},
                                         std::tuple{DType::kInt16, -32768, 32767}, std::tuple{DType::kUInt16, 0, 65535},
                                         std::tuple{DType::kInt32, 0, 0}}) {
    params.dtype = dtype;
    for (const int32_t zero : {low, high}) {
      params.zero_points = {zero};
      EXPECT_TRUE(CheckQuantizeParams(params).ok()) << NameOf(dtype) << zero;
    }
    for (const int32_t zero : {low - 1, high + 1}) {
      params.zero_points = {zero};
      EXPECT_THAT(CheckQuantizeParams(params).message(),
                  HasSubstr("out of the range of " + std::string(NameOf(dtype))));
    }
  }
}

TEST(IsWeightDequantize, ConstantsThatAContractionMultiplies) {
  TestGraph g;
  const ValueId x = g.Input("x", {1, 4, 5, 5});
  const auto dequantize = [&](DType dtype, Dims dims) {
    return g.Op("DequantizeLinear", {g.graph().AddConstant("q", Filled(dtype, std::move(dims))), g.Scalar(1)});
  };
  const auto reaches = [&](ValueId value) {
    const Graph& graph = g.graph();
    return IsWeightDequantize(graph, graph.node(graph.value(value).producer), graph.Uses());
  };
  const ValueId weights = dequantize(DType::kInt8, {4, 4, 1, 1}), bias = dequantize(DType::kInt8, {4});
  const ValueId reshaped = dequantize(DType::kUInt8, {4, 4}), wide = dequantize(DType::kInt16, {4, 4, 1, 1});
  const ValueId added = dequantize(DType::kInt8, {4, 1, 1});
  g.Op("Conv", {x, weights, bias});
  g.Op("Conv", {x, g.Op("Reshape", {reshaped, g.Ints({4, 4, 1, 1})})});
  g.Op("Conv", {x, wide});
  const ValueId sum = g.Op("Add", {x, added});
  EXPECT_TRUE(reaches(weights));
  EXPECT_TRUE(reaches(reshaped));
  EXPECT_FALSE(reaches(bias));
  EXPECT_FALSE(reaches(wide));
  EXPECT_FALSE(reaches(added));
  EXPECT_FALSE(reaches(sum));
}

}  // namespace
}  // namespace octavo
