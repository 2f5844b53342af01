#include "kernels/kernel.h"

#include <gmock/gmock.h>

#include <map>

#include "kernels/generic/node_testing.h"
#include "kernels/kernel_testing.h"

namespace octavo {
namespace {

using ::testing::HasSubstr;

// x -> Relu -> Add(x) -> y
Graph TinyGraph() {
  Graph graph;
  graph.opsets[""] = 17;
  const ValueId x = graph.AddValue("x", DType::kFloat32, {2, 2});
  const ValueId r = graph.AddValue("r", DType::kFloat32, {2, 2});
  const ValueId y = graph.AddValue("y", DType::kFloat32, {2, 2});
  graph.inputs = {x};
  graph.outputs = {y};
  graph.AddNode("relu", "", "Relu", {x}, {r});
  graph.AddNode("sum", "", "Add", {x, r}, {y});
  return graph;
}

TEST(EvaluateGraphTest, RunsNodesInOrder) {
  const auto outputs = EvaluateGraph(TinyGraph(), std::vector<Tensor>{Floats({2, 2}, {-1, 2, 0, -3})});
  ASSERT_TRUE(outputs.ok()) << outputs.status().message();
  ASSERT_EQ(outputs->size(), 1u);
  EXPECT_THAT((*outputs)[0].values<float>(), testing::ElementsAre(-1, 4, 0, -3));
}

TEST(EvaluateGraphTest, GivesInputsAndConstantsThatAreOutputs) {
  Graph graph = TinyGraph();
  graph.outputs.push_back(graph.inputs[0]);
  graph.outputs.push_back(graph.AddConstant("c", Floats({1}, {7})));
  const auto outputs = EvaluateGraph(graph, std::vector<Tensor>{Floats({2, 2}, {1, 2, 3, 4})});
  ASSERT_TRUE(outputs.ok()) << outputs.status().message();
  EXPECT_THAT((*outputs)[1].values<float>(), testing::ElementsAre(1, 2, 3, 4));
  EXPECT_THAT((*outputs)[2].values<float>(), testing::ElementsAre(7));
}

TEST(EvaluateGraphTest, NamesTheNodeThatFails) {
  Graph graph;
  graph.opsets[""] = 17;
  const ValueId x = graph.AddValue("x", DType::kInt32, {1});
  const ValueId y = graph.AddValue("y", DType::kInt32, {1});
  graph.inputs = {x};
  graph.outputs = {y};
  graph.AddNode("quotient", "", "Div", {x, x}, {y});
  const auto outputs = EvaluateGraph(graph, std::vector<Tensor>{Tensor::FromVector<int32_t>({1}, {0})});
  ASSERT_FALSE(outputs.ok());
  EXPECT_THAT(outputs.status().message(), HasSubstr("Div 'quotient'"));
  EXPECT_THAT(outputs.status().message(), HasSubstr("division by zero"));
}

TEST(EvaluateGraphTest, RefusesInputsOfAnotherTypeOrNumber) {
  EXPECT_FALSE(EvaluateGraph(TinyGraph(), std::vector<Tensor>{}).ok());
  const auto outputs =
      EvaluateGraph(TinyGraph(), std::vector<Tensor>{Tensor::FromVector<int32_t>({2, 2}, {1, 2, 3, 4})});
  ASSERT_FALSE(outputs.ok());
  EXPECT_THAT(outputs.status().message(), HasSubstr("'x' is not of type float32"));
}

TEST(FindGenericKernelTest, HasNoneForUnknownOps) {
  EXPECT_NE(FindGenericKernel("", "Conv"), nullptr);
  EXPECT_NE(FindGenericKernel(kOctavoDomain, "Attention"), nullptr);
  EXPECT_EQ(FindGenericKernel("", "Attention"), nullptr);
  EXPECT_EQ(FindGenericKernel("", "NoSuchOp"), nullptr);
}

// Every layout of operands gives the very bits of contiguous ones, and nothing beside the output is written.
struct LayoutCase {
  std::string label;
  Node node;
  std::vector<Dims> inputs;
  // Inputs that are not floats at random; their dims above do not matter. Kernels know their values while binding.
  std::map<size_t, Tensor> fixed = {};
};

class LayoutTest : public testing::TestWithParam<LayoutCase> {};

TEST_P(LayoutTest, StridesDoNotChangeTheResult) {
  const LayoutCase& c = GetParam();
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    const auto given = c.fixed.find(i);
    inputs.push_back(given == c.fixed.end() ? Scrambled(c.inputs[i], static_cast<uint32_t>(i) + 1) : given->second);
  }
  const auto expected = RunNode(c.node, inputs);
  ASSERT_TRUE(expected.ok()) << expected.status().message();
  const auto values = expected->values<float>();
  for (Layout layout : kAllLayouts) {
    for (int threads : {1, 3}) {
      std::vector<TestOperand> strided;
      std::vector<TestOperand*> pointers;
      strided.reserve(inputs.size());
      for (const Tensor& input : inputs) {
        strided.emplace_back(input.dtype(), input.dims(), layout);
        strided.back().Set(*ToFloats(input));
        if (c.fixed.count(strided.size() - 1) > 0) strided.back().operand.constant = &input;
        pointers.push_back(&strided.back());
      }
      TestOperand output(DType::kFloat32, expected->dims(), layout);
      const std::vector<uint8_t> before = output.memory;
      const BindFn bind = FindGenericKernel(c.node.domain, c.node.op);
      const Status status = RunKernel(bind, c.node, 17, threads, pointers, {&output});
      ASSERT_TRUE(status.ok()) << status.message();
      EXPECT_EQ(output.Get(), std::vector<float>(values.begin(), values.end())) << threads << " threads";
      // Once its elements are as they were before, so is the memory between them.
      TestOperand untouched(DType::kFloat32, expected->dims(), layout);
      output.Set(untouched.Get());
      EXPECT_EQ(output.memory, before) << threads << " threads";
    }
  }
}

std::vector<LayoutCase> LayoutCases() {
  using Ints = std::vector<int64_t>;
  return {
      {"Add", MakeNode("Add"), {{2, 3, 4, 5}, {3, 1, 5}}},
      {"Max", MakeNode("Max"), {{2, 3, 4, 5}, {4, 1}, {2, 1, 1, 5}}},
      {"Sigmoid", MakeNode("Sigmoid"), {{2, 3, 80, 90}}},
      {"Clip", MakeNode("Clip"), {{2, 3, 4, 5}}},
      {"ReduceMean", MakeNode("ReduceMean", {{"axes", Ints{1, 3}}, {"keepdims", int64_t{0}}}), {{2, 3, 4, 5}}},
      {"Softmax", MakeNode("Softmax", {{"axis", int64_t{1}}}), {{2, 3, 4, 5}}},
      {"LayerNormalization", MakeNode("LayerNormalization", {{"axis", int64_t{2}}}), {{2, 3, 4, 5}, {4, 5}, {4, 5}}},
      {"InstanceNormalization", MakeNode("InstanceNormalization"), {{2, 3, 4, 5}, {3}, {3}}},
      {"AveragePool",
       MakeNode("AveragePool", {{"kernel_shape", Ints{2, 3}}, {"pads", Ints{1, 1, 0, 1}}}),
       {{2, 3, 4, 5}}},
      {"MaxPool", MakeNode("MaxPool", {{"kernel_shape", Ints{2, 3}}, {"strides", Ints{2, 1}}}), {{2, 3, 4, 5}}},
      {"GlobalAveragePool", MakeNode("GlobalAveragePool"), {{2, 3, 4, 5}}},
      {"Conv",
       MakeNode("Conv", {{"group", int64_t{2}}, {"pads", Ints{1, 1, 1, 1}}}),
       {{2, 4, 9, 10}, {6, 2, 3, 3}, {6}}},
      {"ConvTranspose",
       MakeNode("ConvTranspose", {{"group", int64_t{2}}, {"strides", Ints{2, 2}}}),
       {{2, 4, 5, 6}, {4, 3, 3, 3}, {6}}},
      {"MatMul", MakeNode("MatMul"), {{2, 1, 7, 70}, {3, 70, 67}}},
      {"MatVec", MakeNode("MatMul"), {{2, 70, 9}, {9}}},
      {"Gemm", MakeNode("Gemm", {{"transB", int64_t{1}}, {"alpha", 0.5f}}), {{5, 6}, {7, 6}, {7}}},
      {"Einsum", MakeNode("Einsum", {{"equation", std::string("bhid,bhjd->bijh")}}), {{2, 3, 4, 5}, {2, 3, 6, 5}}},
      {"EinsumOfThree", MakeNode("Einsum", {{"equation", std::string("ij,jk,kl->il")}}), {{2, 3}, {3, 4}, {4, 5}}},
      {"Silu", MakeNode("Silu", {}, kOctavoDomain), {{2, 3, 4, 5}}},
      {"LayerNorm",
       MakeNode("LayerNorm", {{"axis", int64_t{1}}, {"epsilon", 1e-5f}}, kOctavoDomain),
       {{2, 3, 4, 5}, {3}, {3}}},
      {"GroupNorm",
       MakeNode("GroupNorm", {{"num_groups", int64_t{2}}, {"activation", std::string("silu")}}, kOctavoDomain),
       {{2, 6, 4, 5}, {2, 6}, {6}}},
      {"Attention",
       MakeNode("Attention", {{"scale", 0.5f}}, kOctavoDomain),
       {{2, 3, 20, 5}, {2, 3, 70, 5}, {2, 3, 70, 4}, {1, 20, 70}}},
      {"LinearAttention",
       MakeNode("LinearAttention", {{"epsilon", 1e-6f}}, kOctavoDomain),
       {{2, 3, 4, 30}, {2, 3, 4, 30}, {2, 3, 5, 30}}},
  };
}

Tensor Int64s(Dims dims, const std::vector<int64_t>& values) {
  return Tensor::FromVector<int64_t>(std::move(dims), values);
}

// The rarer ops, whose kernels the optimizing engine runs too.
std::vector<LayoutCase> RareLayoutCases() {
  using Ints = std::vector<int64_t>;
  const Tensor indices = Int64s({2, 3, 2, 5}, Ints(60, -1));
  return {
      {"PRelu", MakeNode("PRelu"), {{2, 3, 4, 5}, {3, 1, 1}}},
      {"Mean", MakeNode("Mean"), {{2, 3, 4, 5}, {4, 1}, {2, 1, 1, 5}}},
      {"Hardmax", MakeNode("Hardmax", {{"axis", int64_t{1}}}), {{2, 3, 4, 5}}},
      {"LpNormalization", MakeNode("LpNormalization", {{"axis", int64_t{1}}}), {{2, 3, 4, 5}}},
      {"MeanVarianceNormalization", MakeNode("MeanVarianceNormalization"), {{2, 3, 4, 5}}},
      {"LRN", MakeNode("LRN", {{"size", int64_t{2}}}), {{2, 3, 4, 5}}},
      {"CumSum", MakeNode("CumSum", {{"reverse", int64_t{1}}}), {{2, 3, 4, 5}, {}}, {{1, Int64s({}, {2})}}},
      {"Det", MakeNode("Det"), {{2, 3, 4, 4}}},
      {"ReduceLogSumExp", MakeNode("ReduceLogSumExp", {{"axes", Ints{1, 3}}}), {{2, 3, 4, 5}}},
      {"LpPool", MakeNode("LpPool", {{"kernel_shape", Ints{2, 3}}, {"pads", Ints{1, 1, 0, 1}}}), {{2, 3, 4, 5}}},
      {"GlobalLpPool", MakeNode("GlobalLpPool", {{"p", int64_t{3}}}), {{2, 3, 4, 5}}},
      {"MaxUnpool",
       MakeNode("MaxUnpool", {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}}),
       {{1, 1, 2, 2}, {}},
       {{1, Int64s({1, 1, 2, 2}, {5, 2, 8, 15})}}},
      {"CenterCropPad", MakeNode("CenterCropPad"), {{2, 3, 4, 5}, {}}, {{1, Int64s({4}, {1, 4, 7, 2})}}},
      {"Trilu", MakeNode("Trilu"), {{2, 3, 4, 5}, {}}, {{1, Int64s({}, {1})}}},
      {"OneHot",
       MakeNode("OneHot", {{"axis", int64_t{1}}}),
       {{}, {}, {2}},
       {{0, Int64s({2, 3}, {0, 1, 2, -1, 9, 1})}, {1, Int64s({}, {4})}}},
      {"TopK", MakeNode("TopK", {{"axis", int64_t{1}}}), {{2, 6, 4, 5}, {}}, {{1, Int64s({1}, {3})}}},
      {"ReverseSequence", MakeNode("ReverseSequence"), {{4, 3, 5}, {}}, {{1, Int64s({3}, {4, 1, 2})}}},
      {"ScatterElements",
       MakeNode("ScatterElements", {{"axis", int64_t{2}}, {"reduction", std::string("add")}}),
       {{2, 3, 4, 5}, {}, {2, 3, 2, 5}},
       {{1, indices}}},
      {"ScatterND", MakeNode("ScatterND"), {{4, 3, 5}, {}, {2, 5}}, {{1, Int64s({2, 2}, {3, 0, -2, 1})}}},
      {"CrossEntropyLoss",
       MakeNode("SoftmaxCrossEntropyLoss", {{"reduction", std::string("none")}}),
       {{2, 3, 4}, {}, {3}},
       {{1, Int64s({2, 4}, {0, 1, 2, 2, 1, 0, 0, 1})}}},
      {"DFT", MakeNode("DFT", {{"axis", int64_t{1}}}), {{2, 6, 3, 2}}},
      {"STFT", MakeNode("STFT"), {{2, 20, 1}, {}, {8}}, {{1, Int64s({}, {3})}}},
      {"GridSample", MakeNode("GridSample", {{"mode", std::string("cubic")}}), {{2, 3, 4, 5}, {2, 3, 2, 2}}},
      {"GridSample3D",
       MakeNode("GridSample", {{"padding_mode", std::string("reflection")}}),
       {{2, 3, 4, 5, 3}, {2, 3, 2, 2, 3}}},
      {"AffineGrid", MakeNode("AffineGrid"), {{2, 2, 3}, {}}, {{1, Int64s({4}, {2, 3, 4, 5})}}},
      {"RoiAlign",
       MakeNode("RoiAlign",
                {{"output_height", int64_t{2}}, {"output_width", int64_t{3}}, {"sampling_ratio", int64_t{2}}}),
       {{2, 3, 4, 5}, {2, 4}, {}},
       {{2, Int64s({2}, {1, 0})}}},
      {"DeformConv",
       MakeNode("DeformConv", {{"group", int64_t{2}}, {"offset_group", int64_t{2}}, {"pads", Ints{1, 0, 1, 0}}}),
       {{2, 4, 4, 5}, {6, 2, 2, 2}, {2, 16, 5, 4}, {6}, {2, 8, 5, 4}}},
      {"Col2Im",
       MakeNode("Col2Im", {{"pads", Ints{1, 0, 0, 1}}}),
       {{2, 12, 20}, {}, {}},
       {{1, Int64s({2}, {4, 5})}, {2, Int64s({2}, {2, 2})}}},
  };
}

INSTANTIATE_TEST_SUITE_P(RareOps, LayoutTest, testing::ValuesIn(RareLayoutCases()),
                         [](const auto& test) { return test.param.label; });
INSTANTIATE_TEST_SUITE_P(Ops, LayoutTest, testing::ValuesIn(LayoutCases()),
                         [](const auto& test) { return test.param.label; });

}  // namespace
}  // namespace octavo
