// Shapes by the rules of the ONNX operators. What kernels compute with them is compared with ONNX Runtime elsewhere.
#include <gmock/gmock.h>

#include "graph/infer_contraction.h"
#include "graph/infer_testing.h"

namespace octavo {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
TEST(InferTest, ConvPadsStridesAndDilates) {
  const Given x = {1, 4, 10, 11}, w = {6, 4, 3, 3};
  EXPECT_EQ(Infer("Conv", {}, {x, w}), "1x6x8x9");
  EXPECT_EQ(Infer("Conv", {{"pads", Ints{1, 0, 2, 1}}, {"strides", Ints{2, 3}}}, {x, w}), "1x6x6x4");
  EXPECT_EQ(Infer("Conv", {{"dilations", Ints{2, 4}}}, {x, w}), "1x6x6x3");
  EXPECT_EQ(Infer("Conv", {{"auto_pad", std::string("SAME_UPPER")}, {"strides", Ints{3, 2}}}, {x, w}), "1x6x4x6");
  EXPECT_EQ(Infer("Conv", {{"auto_pad", std::string("VALID")}, {"pads", Ints{9, 9, 9, 9}}}, {x, w}), "1x6x8x9");
  EXPECT_EQ(Infer("Conv", {{"group", int64_t{2}}}, {x, {6, 2, 1, 1}, {6}}), "1x6x10x11");
}

TEST(InferTest, ConvRefusesWhatDoesNotFit) {
  const Given x = {1, 4, 10, 11};
  EXPECT_THAT(Infer("Conv", {}, {x, {6, 3, 3, 3}}), StartsWith("error: a weight of 6x3x3x3"));
  EXPECT_THAT(Infer("Conv", {}, {x, {6, 4, 11, 3}}), HasSubstr("does not fit"));
  EXPECT_THAT(Infer("Conv", {}, {x, {6, 4, 3, 3}, {5}}), HasSubstr("'B' has shape 5 instead of 6"));
  EXPECT_THAT(Infer("Conv", {{"strides", Ints{0, 1}}}, {x, {6, 4, 3, 3}}), HasSubstr("'strides' holds 0"));
  EXPECT_THAT(Infer("Conv", {{"strides", Ints{1}}}, {x, {6, 4, 3, 3}}), HasSubstr("1 entries instead of 2"));
  EXPECT_THAT(Infer("Conv", {{"pads", Ints{INT64_MAX, 0, 0, 0}}}, {x, {6, 4, 3, 3}}), HasSubstr("out of range"));
  EXPECT_THAT(Infer("Conv", {{"dilations", Ints{INT64_MAX, 1}}}, {x, {6, 4, 3, 3}}), HasSubstr("out of range"));
  EXPECT_THAT(Infer("Conv", {{"group", int64_t{0}}}, {x, {6, 4, 3, 3}}), HasSubstr("group is 0"));
  EXPECT_THAT(Infer("Conv", {{"kernel_shape", Ints{5, 5}}}, {x, {6, 4, 3, 3}}), HasSubstr("kernel_shape differs"));
}

TEST(InferTest, ConvTranspose) {
  const Given x = {1, 4, 5, 5}, w = {4, 3, 3, 3};
  EXPECT_EQ(Infer("ConvTranspose", {{"strides", Ints{2, 2}}}, {x, w}), "1x3x11x11");
  EXPECT_EQ(Infer("ConvTranspose",
                  {{"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}, {"output_padding", Ints{1, 0}}}, {x, w}),
            "1x3x10x9");
  EXPECT_EQ(Infer("ConvTranspose", {{"strides", Ints{3, 2}}, {"auto_pad", std::string("SAME_LOWER")}}, {x, w}),
            "1x3x15x10");
  EXPECT_EQ(Infer("ConvTranspose", {{"strides", Ints{3, 2}}, {"output_shape", Ints{12, 8}}}, {x, w}), "1x3x12x8");
  EXPECT_EQ(Infer("ConvTranspose", {{"group", int64_t{2}}}, {x, w}), "1x6x7x7");
}

TEST(InferTest, PoolsRoundDownOrUp) {
  const Given x = {1, 3, 7, 7};
  Attributes pool = {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}};
  EXPECT_EQ(Infer("MaxPool", pool, {x}, 18, 2), "1x3x3x3, 1x3x3x3");
  pool["ceil_mode"] = int64_t{1};
  EXPECT_EQ(Infer("AveragePool", pool, {x}), "1x3x4x4");
  // The window that rounding up would add starts in the padding at the end: it is dropped.
  pool["pads"] = Ints{0, 0, 1, 1};
  pool["strides"] = Ints{4, 4};
  pool["kernel_shape"] = Ints{1, 1};
  EXPECT_EQ(Infer("AveragePool", pool, {x}), "1x3x2x2");
  EXPECT_EQ(Infer("GlobalAveragePool", {}, {x}), "1x3x1x1");
}

TEST(InferTest, MatMulTakesVectorsAndBatches) {
  EXPECT_EQ(Infer("MatMul", {}, {{3}, {3}}), "scalar");
  EXPECT_EQ(Infer("MatMul", {}, {{3}, {2, 3, 4}}), "2x4");
  EXPECT_EQ(Infer("MatMul", {}, {{2, 1, 4, 3}, {5, 3, 6}}), "2x5x4x6");
  EXPECT_EQ(Infer("MatMul", {}, {{2, 4, 3}, {3}}), "2x4");
  EXPECT_THAT(Infer("MatMul", {}, {{2, 3}, {2, 3}}), HasSubstr("do not multiply"));
  EXPECT_THAT(Infer("MatMul", {}, {Dims{}, {3}}), HasSubstr("rank 1 or more"));
}

TEST(InferTest, GemmBroadcastsItsBiasOneWay) {
  EXPECT_EQ(Infer("Gemm", {{"transA", int64_t{1}}}, {{3, 2}, {3, 4}, {4}}), "2x4");
  EXPECT_EQ(Infer("Gemm", {}, {{2, 3}, {3, 4}, {2, 1}}), "2x4");
  EXPECT_THAT(Infer("Gemm", {}, {{1, 3}, {3, 4}, {2, 4}}), HasSubstr("does not broadcast"));
}

std::string InferEinsum(const std::string& equation, const std::vector<Given>& operands) {
  return Infer("Einsum", {{"equation", equation}}, operands);
}

TEST(InferTest, EinsumEquations) {
  EXPECT_EQ(InferEinsum("ij,jk->ik", {{2, 3}, {3, 4}}), "2x4");
  EXPECT_EQ(InferEinsum(" b i j , b j k -> b k i ", {{5, 2, 3}, {5, 3, 4}}), "5x4x2");
  EXPECT_EQ(InferEinsum("ii->i", {{3, 3}}), "3");
  EXPECT_EQ(InferEinsum("ii", {{3, 3}}), "scalar");
  EXPECT_EQ(InferEinsum("ba", {{2, 3}}), "3x2");  // implicit outputs are in alphabetical order
  EXPECT_EQ(InferEinsum("...ij,...jk->...ik", {{7, 1, 2, 3}, {5, 3, 4}}), "7x5x2x4");
  EXPECT_EQ(InferEinsum("i...->...i", {{2, 3, 4}}), "3x4x2");
  EXPECT_EQ(InferEinsum("a,b,c->cab", {{2}, {3}, {4}}), "4x2x3");
  EXPECT_THAT(InferEinsum("ij,jk->ik", {{2, 3}, {4, 4}}), HasSubstr("share a label"));
  EXPECT_THAT(InferEinsum("ij,jk->ik", {{2, 3}}), HasSubstr("2 terms for 1 inputs"));
  EXPECT_THAT(InferEinsum("ij->iz", {{2, 3}}), HasSubstr("'z'"));
  EXPECT_THAT(InferEinsum("ij->ii", {{2, 2}}), HasSubstr("stands twice"));
  EXPECT_THAT(InferEinsum("i1->i", {{2, 3}}), HasSubstr("malformed"));
  EXPECT_THAT(InferEinsum("i..j->i", {{2, 3}}), HasSubstr("malformed"));
  EXPECT_THAT(InferEinsum("ii->i", {{3, 1}}), HasSubstr("different size"));
  EXPECT_THAT(InferEinsum("...i->i", {{3, 2}}), HasSubstr("drops"));
}

TEST(InferTest, ReductionsTakeAxesFromAttributeOrInput) {
  const Given x = {2, 3, 4};
  EXPECT_EQ(Infer("ReduceMean", {{"axes", Ints{-1, 0}}}, {x}, 13), "1x3x1");
  EXPECT_EQ(Infer("ReduceSum", {{"keepdims", int64_t{0}}}, {x, I64({1})}), "2x4");
  EXPECT_EQ(Infer("ReduceMax", {{"keepdims", int64_t{0}}}, {x}), "scalar");
  EXPECT_EQ(Infer("ReduceMax", {{"noop_with_empty_axes", int64_t{1}}}, {x}), "2x3x4");
  EXPECT_EQ(Infer("ReduceMax", {}, {x, I64({})}), "1x1x1");
  EXPECT_THAT(Infer("ReduceMax", {{"axes", Ints{3}}}, {x}), HasSubstr("axis 3 is out of range for rank 3"));
  EXPECT_THAT(Infer("ReduceMax", {{"axes", Ints{1, -2}}}, {x}), HasSubstr("named twice"));
  EXPECT_THAT(Infer("ReduceSum", {}, {x, {1}}), HasSubstr("make that input a constant"));
}

TEST(InferTest, NormalizationsCheckTheirParameters) {
  EXPECT_EQ(Infer("LayerNormalization", {}, {{2, 3, 4}, {4}, {4}}, 17, 3), "2x3x4, 2x3x1, 2x3x1");
  EXPECT_THAT(Infer("LayerNormalization", {}, {{2, 3, 4}, {3}}), HasSubstr("does not broadcast"));
  EXPECT_EQ(Infer("GroupNormalization", {{"num_groups", int64_t{2}}}, {{1, 6, 5}, {2}, {2}}, 18), "1x6x5");
  EXPECT_EQ(Infer("GroupNormalization", {{"num_groups", int64_t{2}}}, {{1, 6, 5}, {6}, {6}}, 21), "1x6x5");
  EXPECT_THAT(Infer("GroupNormalization", {{"num_groups", int64_t{2}}}, {{1, 6, 5}, {6}, {6}}, 18), HasSubstr("error"));
  EXPECT_THAT(Infer("BatchNormalization", {{"training_mode", int64_t{1}}}, {{1, 2}, {2}, {2}, {2}, {2}}),
              HasSubstr("training mode"));
  EXPECT_THAT(Infer("InstanceNormalization", {}, {{1, 2, 3}, {3}, {2}}), HasSubstr("error"));
  EXPECT_EQ(Infer("Softmax", {{"axis", int64_t{2}}}, {{2, 3}}, 11), "2x3");
  EXPECT_THAT(Infer("Softmax", {{"axis", int64_t{2}}}, {{2, 3}}, 13), HasSubstr("out of range"));
}

TEST(InferTest, FusedOps) {
  const auto fused = [](const char* op, const std::vector<Given>& given, Attributes attributes = {}) {
    return Infer(op, std::move(attributes), given, 17, 1, "octavo");
  };
  EXPECT_EQ(fused("Attention", {{2, 8, 5, 4}, {2, 8, 7, 4}, {2, 8, 7, 3}, {5, 7}}), "2x8x5x3");
  EXPECT_THAT(fused("Attention", {{5, 4}, {7, 3}, {7, 3}}), HasSubstr("do not fit together"));
  EXPECT_THAT(fused("Attention", {{5, 4}, {7, 4}, {7, 3}, {2, 5, 7}}), HasSubstr("mask"));
  EXPECT_EQ(fused("LinearAttention", {{2, 8, 100}, {2, 8, 50}, {2, 6, 50}}), "2x6x100");
  EXPECT_EQ(fused("LayerNorm", {{2, 3, 4}, {3}, {3}}, {{"axis", int64_t{1}}}), "2x3x4");
  EXPECT_EQ(fused("GroupNorm", {{2, 6, 4}, {2, 6}, {1, 6}}, {{"num_groups", int64_t{3}}}), "2x6x4");
  EXPECT_THAT(fused("GroupNorm", {{2, 6, 4}, {3}, {6}}, {{"num_groups", int64_t{3}}}), HasSubstr("error"));
  EXPECT_THAT(fused("GroupNorm", {{2, 6, 4}, Dims{}, {6}}, {{"num_groups", int64_t{3}}}), HasSubstr("lacks channels"));
}

TEST(InferTest, OnlySplitMayLeaveOutItsFirstOutput) {
  Node node;
  node.op = "MaxPool";
  node.attributes["kernel_shape"] = Ints{2};
  node.outputs = {kNoValue, 0};
  const std::vector<InferInput> inputs = {{true, DType::kFloat32, {1, 1, 4}, nullptr}};
  EXPECT_FALSE(InferNode(node, 18, inputs).ok());
  node.op = "Split";
  EXPECT_TRUE(InferNode(node, 18, std::vector<InferInput>{{true, DType::kFloat32, {4}, nullptr}}).ok());
}

TEST(InferTest, MovesAndTheirMistakes) {
  EXPECT_EQ(Infer("Gather", {{"axis", int64_t{-2}}}, {{2, 3, 4}, {5, 6}}), "2x5x6x4");
  EXPECT_EQ(Infer("Concat", {{"axis", int64_t{-1}}}, {{2, 3}, {2, 0}, {2, 4}}), "2x7");
  EXPECT_THAT(Infer("Concat", {{"axis", int64_t{0}}}, {{2, 3}, {2, 4}}), HasSubstr("differ beside the axis"));
  EXPECT_EQ(Infer("Expand", {}, {{3, 1}, I64({2, 1, 4})}), "2x3x4");
  EXPECT_THAT(Infer("Expand", {}, {{3}, I64({int64_t{1} << 39, 3})}), HasSubstr("too many elements"));
  EXPECT_THAT(Infer("Tile", {}, {{4}, I64({INT64_MAX})}), HasSubstr("too large"));
  EXPECT_THAT(Infer("Tile", {}, {{4}, I64({-1})}), HasSubstr("repeats -1"));
  EXPECT_EQ(Infer("Squeeze", {{"axes", Ints{-1}}}, {{1, 2, 1}}, 11), "1x2");
  EXPECT_THAT(Infer("Squeeze", {}, {{1, 2}, I64({1})}), HasSubstr("is not 1"));
  EXPECT_EQ(Infer("Unsqueeze", {}, {{3, 4}, I64({-1, 0})}), "1x3x4x1");
  EXPECT_THAT(Infer("Unsqueeze", {}, {{3, 4}, I64({0, -4})}), HasSubstr("named twice"));
  EXPECT_THAT(Infer("Transpose", {{"perm", Ints{0, 0}}}, {{3, 4}}), HasSubstr("named twice"));
  EXPECT_THAT(Infer("Transpose", {{"perm", Ints{0}}}, {{3, 4}}), HasSubstr("1 entries for rank 2"));
  EXPECT_EQ(Infer("Split", {}, {{6}}, 13, 3), "2, 2, 2");
  EXPECT_THAT(Infer("Split", {}, {{7}}, 13, 3), HasSubstr("equal parts"));
  EXPECT_THAT(Infer("Split", {}, {{7}, I64({3, 3})}, 13, 2), HasSubstr("add up to 7"));
  EXPECT_EQ(Infer("ConstantOfShape", {}, {I64({2, 0})}), "2x0");
  EXPECT_THAT(Infer("ConstantOfShape", {}, {I64({2, -1})}), HasSubstr("not all known and non-negative"));
  EXPECT_EQ(Infer("DepthToSpace", {{"blocksize", int64_t{2}}}, {{1, 8, 3, 3}}), "1x2x6x6");
  EXPECT_THAT(Infer("DepthToSpace", {{"blocksize", int64_t{3}}}, {{1, 8, 3, 3}}), HasSubstr("8 channels"));
  EXPECT_THAT(Infer("DepthToSpace", {{"blocksize", int64_t{-2}}}, {{1, 8, 3, 3}}), HasSubstr("out of range"));
}

TEST(InferTest, ChecksWhatEveryOpTakes) {
  EXPECT_EQ(Infer("Add", {}, {{2, 1}, {3}}), "2x3");
  EXPECT_THAT(Infer("Add", {}, {{2}, {3}}), HasSubstr("do not broadcast"));
  EXPECT_THAT(Infer("Add", {}, {{2}}), HasSubstr("1 inputs"));
  EXPECT_THAT(Infer("Add", {}, {{2}, {2}, {2}}), HasSubstr("at most 2"));
  EXPECT_THAT(Infer("Add", {}, {{2}, Tensor()}), HasSubstr("required ones are missing"));
  EXPECT_THAT(Infer("Add", {}, {{2}, I64({1, 2})}), HasSubstr("differ in type: float32 and int64"));
  EXPECT_THAT(Infer("And", {}, {{2}, {2}}), HasSubstr("must be bool"));
  EXPECT_THAT(Infer("Relu", {}, {Dims(17, 1)}), HasSubstr("rank 17"));
  EXPECT_THAT(Infer("Unsqueeze", {}, {Dims(16, 1), I64({0})}), HasSubstr("rank 17"));
  EXPECT_THAT(Infer("Relu", {}, {{2}}, 18, 2), HasSubstr("it has 2 outputs; 1 are supported"));
  EXPECT_THAT(Infer("NoSuchOp", {}, {{2}}), HasSubstr("'NoSuchOp' is not supported"));
}

}  // namespace
}  // namespace octavo
