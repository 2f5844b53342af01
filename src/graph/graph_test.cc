#include "octavo/graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace octavo {
namespace {

using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;

// x -> Relu -> a -> Add(a, c) -> y
struct Chain {
  Graph graph;
  ValueId x = graph.AddValue("x", DType::kFloat32, {1, 2});
  ValueId a = graph.AddValue("a");
  ValueId c = graph.AddConstant("c", Tensor::FromVector<float>({2}, {1, 2}));
  ValueId y = graph.AddValue("y");
  NodeId relu = graph.AddNode("relu", "", "Relu", {x}, {a});
  NodeId add = graph.AddNode("add", "", "Add", {a, c}, {y});
  Chain() {
    graph.inputs = {x};
    graph.outputs = {y};
  }
};

std::vector<std::string> NodeNames(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes) names.push_back(node.name);
  return names;
}

TEST(GraphTest, TakenNamesGetASuffix) {
  Graph graph;
  EXPECT_EQ(graph.value(graph.AddValue("x")).name, "x");
  EXPECT_EQ(graph.value(graph.AddValue("x")).name, "x_1");
  EXPECT_EQ(graph.value(graph.AddValue("x")).name, "x_2");
  EXPECT_EQ(graph.value(graph.AddValue("")).name, "value");
  EXPECT_EQ(graph.Find("x_2"), 2);
  EXPECT_EQ(graph.Find("y"), kNoValue);
  graph.value(1).name = "renamed";
  EXPECT_EQ(graph.Find("renamed"), 1);
  EXPECT_EQ(graph.Find("x_1"), kNoValue);
}

TEST(GraphTest, AttributesFallBackOnAbsenceAndOtherTypes) {
  Node node;
  node.attributes = {{"axis", int64_t{2}}, {"alpha", 0.5f}, {"mode", std::string("linear")}};
  EXPECT_EQ(node.Int("axis", -1), 2);
  EXPECT_EQ(node.Int("alpha", -1), -1);
  EXPECT_EQ(node.Float("alpha", 1), 0.5f);
  EXPECT_EQ(node.String("mode", "nearest"), "linear");
  EXPECT_THAT(node.Ints("pads", {0, 1}), ElementsAre(0, 1));
  EXPECT_TRUE(node.Has("axis"));
  EXPECT_FALSE(node.Has("pads"));
}

TEST(GraphTest, SortIsStableAndSweeps) {
  Chain chain;
  Graph& graph = chain.graph;
  // Appended last, read first: a new node between x and relu, and a removed one.
  const ValueId b = graph.AddValue("b");
  const NodeId gone = graph.AddNode("gone", "", "Neg", {chain.x}, {graph.AddValue("d")});
  graph.AddNode("neg", "", "Neg", {chain.x}, {b});
  graph.node(chain.relu).inputs = {b};
  graph.RemoveNode(gone);
  EXPECT_FALSE(Verify(graph).ok());
  ASSERT_TRUE(graph.Sort().ok());
  EXPECT_THAT(NodeNames(graph), ElementsAre("neg", "relu", "add"));
  EXPECT_EQ(graph.value(b).producer, 0);
  EXPECT_TRUE(Verify(graph).ok()) << Verify(graph).message();
  ASSERT_TRUE(graph.Sort().ok());
  EXPECT_THAT(NodeNames(graph), ElementsAre("neg", "relu", "add"));
}

TEST(GraphTest, CycleIsNamedByANodeOnIt) {
  Chain chain;
  Graph& graph = chain.graph;
  const ValueId e = graph.AddValue("e"), f = graph.AddValue("f"), g = graph.AddValue("g");
  graph.AddNode("downstream", "", "Neg", {f}, {g});
  graph.AddNode("left", "", "Add", {chain.y, f}, {e});
  graph.AddNode("right", "", "Neg", {e}, {f});
  const Status status = graph.Sort();
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.message(), AnyOf(HasSubstr("'left'"), HasSubstr("'right'")));
  EXPECT_EQ(graph.nodes.size(), 5u);
}

TEST(GraphTest, ReplaceUsesReachesNodesAndOutputs) {
  Chain chain;
  chain.graph.ReplaceUses(chain.a, chain.x);
  chain.graph.ReplaceUses(chain.y, chain.a);
  EXPECT_THAT(chain.graph.node(chain.add).inputs, ElementsAre(chain.x, chain.c));
  EXPECT_THAT(chain.graph.outputs, ElementsAre(chain.a));
  EXPECT_TRUE(chain.graph.IsOutput(chain.a));
  EXPECT_TRUE(chain.graph.IsInput(chain.x));
  EXPECT_FALSE(chain.graph.IsOutput(chain.y));
}

TEST(GraphTest, UsesListsEveryRead) {
  Chain chain;
  chain.graph.node(chain.add).inputs = {chain.a, chain.a};
  const auto uses = chain.graph.Uses();
  EXPECT_THAT(uses[static_cast<size_t>(chain.a)], ElementsAre(chain.add, chain.add));
  EXPECT_TRUE(uses[static_cast<size_t>(chain.c)].empty());
}

TEST(GraphTest, CompactValuesDropsWhatNothingRefersTo) {
  Chain chain;
  Graph& graph = chain.graph;
  graph.AddConstant("dead", Tensor::Scalar(1.0f));
  graph.node(chain.add).inputs = {chain.a, chain.a};
  ASSERT_TRUE(graph.Sort().ok());
  graph.CompactValues();
  EXPECT_EQ(graph.values.size(), 3u);
  EXPECT_EQ(graph.Find("dead"), kNoValue);
  EXPECT_EQ(graph.Find("c"), kNoValue);
  EXPECT_EQ(graph.value(graph.outputs[0]).name, "y");
  EXPECT_EQ(graph.value(graph.Find("y")).producer, 1);
  EXPECT_TRUE(Verify(graph).ok()) << Verify(graph).message();
  // A dropped name is free again.
  EXPECT_EQ(graph.value(graph.AddValue("c")).name, "c");
}

TEST(VerifyTest, NamesTheOffender) {
  ASSERT_TRUE(Verify(Chain().graph).ok());
  const auto message_after = [](auto&& damage) {
    Chain chain;
    damage(chain);
    return Verify(chain.graph).message();
  };
  EXPECT_THAT(message_after([](Chain& c) { c.graph.node(c.add).inputs[0] = 99; }), HasSubstr("Add 'add'"));
  EXPECT_THAT(message_after([](Chain& c) { c.graph.value(c.a).name = "x"; }), HasSubstr("'x'"));
  EXPECT_THAT(message_after([](Chain& c) { c.graph.RemoveNode(c.relu); }), HasSubstr("reads 'a' before"));
  EXPECT_THAT(message_after([](Chain& c) { c.graph.RemoveNode(c.add); }), HasSubstr("output 'y' is never made"));
  EXPECT_THAT(message_after([](Chain& c) { c.graph.value(c.c).dims = {3}; }), HasSubstr("constant 'c'"));
  EXPECT_THAT(message_after([](Chain& c) { c.graph.AddNode("again", "", "Neg", {c.x}, {c.a}); }), HasSubstr("'relu'"));
  EXPECT_THAT(message_after([](Chain& c) { std::swap(c.graph.nodes[0], c.graph.nodes[1]); }), HasSubstr("'a'"));
  EXPECT_THAT(message_after([](Chain& c) { c.graph.inputs.push_back(c.x); }), HasSubstr("listed twice"));
}

}  // namespace
}  // namespace octavo
