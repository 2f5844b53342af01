#include "graph/op_table.h"

#include <gmock/gmock.h>

#include <set>

#include "graph/shape_inference.h"
#include "kernels/kernel.h"
#include "onnx/element_type.h"

namespace octavo {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(OpTableTest, EveryRowIsFoundAndHasAKernel) {
  for (const OpTraits& traits : AllOps()) {
    EXPECT_EQ(FindOp(traits.domain, traits.op), &traits) << traits.op;
    EXPECT_NE(traits.infer, nullptr) << traits.op;
    EXPECT_NE(FindGenericKernel(traits.domain, traits.op), nullptr) << traits.op;
    EXPECT_TRUE(traits.max_inputs < 0 || traits.min_inputs <= traits.max_inputs) << traits.op;
    EXPECT_EQ(traits.quantizable_inputs != 0, traits.op_class == OpClass::kContraction) << traits.op;
  }
}

TEST(OpTableTest, KnowsOnlyItsDomains) {
  EXPECT_EQ(FindOp("ai.onnx", "Conv"), FindOp("", "Conv"));
  EXPECT_EQ(FindOp("octavo", "Conv"), nullptr);
  EXPECT_EQ(FindOp("", "Silu"), nullptr);
  EXPECT_EQ(FindOp("", ""), nullptr);
  EXPECT_EQ(FindOp("", "Zzz"), nullptr);
}

TEST(CheckSupportedTest, ListsEveryOffenderByOp) {
  Graph graph;
  graph.opsets[""] = 10;
  const ValueId x = graph.AddValue("x", DType::kFloat32, {1});
  const auto add = [&](const char* name, const char* op) { graph.AddNode(name, "", op, {x}, {graph.AddValue("y")}); };
  add("a", "Multinomial");
  add("b", "Multinomial");
  add("c", "Round");
  add("d", "Relu");
  graph.AddNode("e", "com.example", "Odd", {x}, {graph.AddValue("y")});
  const Status status = CheckSupported(graph);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.code(), ErrorCode::kUnsupported);
  EXPECT_THAT(status.message(), HasSubstr("Multinomial (2 nodes: 'a', 'b')"));
  EXPECT_THAT(status.message(), HasSubstr("Round of opset 10"));
  EXPECT_THAT(status.message(), HasSubstr("com.example.Odd (1 node: 'e')"));
  EXPECT_THAT(status.message(), Not(HasSubstr("Relu")));
}

TEST(CheckSupportedTest, TakesOurOwnOpsInAnyGraph) {
  Graph graph;
  graph.opsets[""] = 11;
  const ValueId x = graph.AddValue("x", DType::kFloat32, {1});
  graph.AddNode("a", "", "Gelu", {x}, {graph.AddValue("y")});
  graph.AddNode("b", kOctavoDomain, "Silu", {x}, {graph.AddValue("y")});
  EXPECT_TRUE(CheckSupported(graph).ok());
}

TEST(OpTableTest, CastNumbersTypesAsTheFileDoes) {
  for (int32_t number = -1; number < 40; ++number) {
    EXPECT_EQ(DTypeFromOnnx(number).value_or(DType::kUndefined), FromOnnxType(number)) << number;
  }
  EXPECT_FALSE(DTypeFromOnnx((int64_t{1} << 32) + 1).has_value());
}

// Multiply-accumulates of one node on inputs of those shapes.
int64_t MacsOf(const char* domain, const char* op, const std::vector<Dims>& shapes,
               std::map<std::string, Attribute> attributes = {}) {
  Graph graph;
  graph.opsets[""] = 17;
  std::vector<ValueId> inputs;
  inputs.reserve(shapes.size());
  for (const Dims& dims : shapes) inputs.push_back(graph.AddValue("x", DType::kFloat32, dims));
  graph.inputs = inputs;
  graph.outputs = {graph.AddValue("y")};
  graph.AddNode("n", domain, op, inputs, graph.outputs, std::move(attributes));
  const Status status = BindShapes(graph, {});
  EXPECT_TRUE(status.ok()) << status.message();
  return CountMacs(graph, graph.nodes[0]);
}

TEST(CountMacsTest, EveryContraction) {
  using Ints = std::vector<int64_t>;
  // 8 x 8 positions, 6 output channels, 2 input channels per group, 3 x 3.
  EXPECT_EQ(MacsOf("", "Conv", {{1, 4, 10, 10}, {6, 2, 3, 3}}, {{"group", int64_t{2}}}), 8 * 8 * 6 * 2 * 9);
  // 5 x 5 positions of 4 channels, each to 3 channels, 2 x 2.
  EXPECT_EQ(MacsOf("", "ConvTranspose", {{1, 4, 5, 5}, {4, 3, 2, 2}}, {{"strides", Ints{2, 2}}}), 25 * 4 * 3 * 4);
  EXPECT_EQ(MacsOf("", "MatMul", {{2, 3, 4}, {4, 5}}), 2 * 3 * 4 * 5);
  EXPECT_EQ(MacsOf("", "Gemm", {{4, 3}, {5, 4}}, {{"transA", int64_t{1}}, {"transB", int64_t{1}}}), 3 * 4 * 5);
  EXPECT_EQ(MacsOf("", "Einsum", {{2, 3, 4}, {2, 5, 4}}, {{"equation", std::string("bid,bjd->bij")}}), 2 * 3 * 5 * 4);
  EXPECT_EQ(MacsOf("octavo", "Attention", {{2, 3, 4}, {2, 5, 4}, {2, 5, 6}}), 2 * 3 * 5 * (4 + 6));
  // v relu(k)^T, its product with relu(q), the divisor.
  EXPECT_EQ(MacsOf("octavo", "LinearAttention", {{2, 3, 7}, {2, 3, 7}, {2, 5, 7}}), 2 * 7 * (5 * 3 + 5 * 3 + 3));
  EXPECT_EQ(MacsOf("", "Relu", {{2, 3}}), 0);
}

}  // namespace
}  // namespace octavo
