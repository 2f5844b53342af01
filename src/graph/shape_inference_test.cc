#include "graph/shape_inference.h"

#include <gmock/gmock.h>

#include <chrono>

namespace octavo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ints = std::vector<int64_t>;

Tensor I64(const Ints& values) { return Tensor::FromVector<int64_t>({static_cast<int64_t>(values.size())}, values); }

ValueId AddInput(Graph& graph, const char* name, Dims dims, std::vector<std::string> symbols) {
  const ValueId id = graph.AddValue(name, DType::kFloat32, std::move(dims));
  graph.value(id).dim_params = std::move(symbols);
  graph.inputs.push_back(id);
  return id;
}

ValueId AddNode(Graph& graph, const char* op, std::vector<ValueId> inputs,
                std::map<std::string, Attribute> attributes = {}) {
  const ValueId y = graph.AddValue(std::string(op) + "_out");
  graph.AddNode(op, "", op, std::move(inputs), {y}, std::move(attributes));
  return y;
}

// x (batch, 3, 4) is reshaped to (batch, 12) by arithmetic on its shape, as PyTorch exports it.
Graph FlattenByArithmetic() {
  Graph graph;
  graph.opsets[""] = 17;
  const ValueId x = AddInput(graph, "x", {-1, 3, 4}, {"batch", "", ""});
  const ValueId shape = AddNode(graph, "Shape", {x});
  const ValueId batch = AddNode(graph, "Gather", {shape, graph.AddConstant("zero", Tensor::Scalar<int64_t>(0))});
  const ValueId axes = graph.AddConstant("axes", I64({0}));
  const ValueId row = AddNode(graph, "Unsqueeze", {batch, axes});
  const ValueId target = AddNode(graph, "Concat", {row, graph.AddConstant("rest", I64({-1}))}, {{"axis", int64_t{0}}});
  graph.outputs = {AddNode(graph, "Reshape", {x, target})};
  return graph;
}

TEST(BindShapesTest, FoldsShapeArithmeticAway) {
  Graph graph = FlattenByArithmetic();
  const Status status = BindShapes(graph, {{"x", {5, 3, 4}}});
  ASSERT_TRUE(status.ok()) << status.message();
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_EQ(graph.nodes[0].op, "Reshape");
  EXPECT_EQ(graph.value(graph.outputs[0]).dims, (Dims{5, 12}));
  const Value& target = graph.value(graph.nodes[0].input(1));
  ASSERT_TRUE(target.is_constant());
  EXPECT_THAT(target.constant.values<int64_t>(), ElementsAre(5, -1));
  for (const Value& value : graph.values) {
    EXPECT_TRUE(value.has_static_shape()) << value.name;
    EXPECT_NE(value.dtype, DType::kUndefined) << value.name;
    EXPECT_TRUE(value.dim_params.empty()) << value.name;
  }
  const Status verified = Verify(graph);
  EXPECT_TRUE(verified.ok()) << verified.message();
}

TEST(BindShapesTest, ChecksInputsAgainstTheirDeclaration) {
  const auto error = [](const std::map<std::string, Dims>& dims) {
    Graph graph = FlattenByArithmetic();
    graph.source = "m.onnx";
    return BindShapes(graph, dims).message();
  };
  EXPECT_THAT(error({}), HasSubstr("m.onnx: input 'x' has no fixed shape (?x3x4)"));
  EXPECT_THAT(error({{"x", {5, 3, 5}}}), HasSubstr("input 'x' takes ?x3x4, not 5x3x5"));
  EXPECT_THAT(error({{"x", {5, 3}}}), HasSubstr("not 5x3"));
  EXPECT_THAT(error({{"x", {-1, 3, 4}}}), HasSubstr("not all known"));
  EXPECT_THAT(error({{"x", {int64_t{1} << 40, 3, 4}}}), HasSubstr("too many elements"));
  EXPECT_THAT(error({{"x", {1, 3, 4}}, {"z", {1}}}), HasSubstr("no input 'z'"));
}

TEST(BindShapesTest, OneSymbolIsOneSize) {
  Graph graph;
  graph.opsets[""] = 17;
  const ValueId a = AddInput(graph, "a", {-1, 2}, {"batch", ""});
  const ValueId b = AddInput(graph, "b", {-1, 2}, {"batch", ""});
  graph.outputs = {AddNode(graph, "Add", {a, b})};
  const Graph unbound = graph;
  EXPECT_TRUE(BindShapes(graph, {{"a", {3, 2}}, {"b", {3, 2}}}).ok());
  graph = unbound;
  EXPECT_EQ(BindShapes(graph, {{"a", {3, 2}}, {"b", {1, 2}}}).message(),
            "dimension 'batch' is 3 for input 'a' but 1 for input 'b'");
}

TEST(BindShapesTest, NamesTheNodeThatDoesNotFit) {
  Graph graph;
  graph.opsets[""] = 17;
  const ValueId a = AddInput(graph, "a", {2, 3}, {});
  graph.outputs = {AddNode(graph, "MatMul", {a, a})};
  EXPECT_EQ(BindShapes(graph, {}).message(), "MatMul 'MatMul': matrices of 2x3 and 2x3 do not multiply");
}

TEST(BindShapesTest, SaysWhichValueMustBeConstant) {
  Graph graph;
  graph.opsets[""] = 17;
  const ValueId x = AddInput(graph, "x", {2, 3}, {});
  const ValueId shape = graph.AddValue("shape", DType::kInt64, {2});
  graph.inputs.push_back(shape);
  graph.outputs = {AddNode(graph, "Reshape", {x, shape})};
  EXPECT_THAT(BindShapes(graph, {}).message(), HasSubstr("depends on the values of input 'shape'"));
}

TEST(BindShapesTest, LeavesResultsBeyondTheLimit) {
  const auto nodes_left = [](int64_t limit) {
    Graph graph;
    graph.opsets[""] = 17;
    const ValueId shape = graph.AddConstant("shape", I64({100}));
    graph.outputs = {AddNode(graph, "ConstantOfShape", {shape})};
    EXPECT_TRUE(BindShapes(graph, {}, limit).ok());
    return graph.nodes.size();
  };
  EXPECT_EQ(nodes_left(399), 1u);
  EXPECT_EQ(nodes_left(400), 0u);
}

TEST(BindShapesTest, FoldsEveryOutputOfANode) {
  Graph graph;
  graph.opsets[""] = 13;
  const ValueId x = graph.AddConstant("x", I64({1, 2, 3, 4}));
  const ValueId a = graph.AddValue("a"), b = graph.AddValue("b");
  graph.AddNode("split", "", "Split", {x}, {a, b});
  graph.outputs = {b};
  ASSERT_TRUE(BindShapes(graph, {}).ok());
  EXPECT_TRUE(graph.nodes.empty());
  EXPECT_THAT(graph.value(b).constant.values<int64_t>(), ElementsAre(3, 4));
  EXPECT_TRUE(Verify(graph).ok());
}

TEST(BindShapesTest, ReportsAnErrorThatFoldingFinds) {
  Graph graph;
  graph.opsets[""] = 17;
  const ValueId x = graph.AddConstant("x", I64({1, 2}));
  graph.outputs = {AddNode(graph, "Gather", {x, graph.AddConstant("at", I64({2}))})};
  EXPECT_EQ(BindShapes(graph, {}).message(), "Gather 'Gather': index 2 is out of range for an axis of 2");
}

// Binding runs for every new input shape: it must stay linear. 40 times the nodes may take 40 times as long; what a
// quadratic scan would add is 1600 times. The bound leaves a factor of 10 for a noisy machine.
TEST(BindShapesTest, TakesTimeInProportionToTheNodes) {
  const auto milliseconds = [](int nodes) {
    Graph graph;
    graph.opsets[""] = 17;
    ValueId at = AddInput(graph, "x", {-1, 8}, {"batch", ""});
    for (int i = 0; i < nodes; ++i) {
      const ValueId next = graph.AddValue("v" + std::to_string(i));
      graph.AddNode("n" + std::to_string(i), "", "Relu", {at}, {next});
      at = next;
    }
    graph.outputs = {at};
    const auto start = std::chrono::steady_clock::now();
    EXPECT_TRUE(BindShapes(graph, {{"x", {4, 8}}}).ok());
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  };
  milliseconds(500);
  const double small = milliseconds(500);
  EXPECT_LT(milliseconds(20000), 400 * small + 5);
}

}  // namespace
}  // namespace octavo
