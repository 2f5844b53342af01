#include "engine/fusion.h"

#include <gtest/gtest.h>

namespace octavo {
namespace {

// conv1(x) + conv2(x), then Relu; both 1x1 on 4 channels.
struct TwoConvolutions {
  Graph graph;
  ValueId x, a, b, sum, out;

  TwoConvolutions() {
    graph.opsets[""] = 17;
    x = graph.AddValue("x", DType::kFloat32, {1, 4, 5, 5});
    graph.inputs = {x};
    a = Convolve("a");
    b = Convolve("b");
    sum = graph.AddValue("sum", DType::kFloat32, {1, 4, 5, 5});
    out = graph.AddValue("out", DType::kFloat32, {1, 4, 5, 5});
    graph.AddNode("add", "", "Add", {a, b}, {sum});
    graph.AddNode("relu", "", "Relu", {sum}, {out});
    graph.outputs = {out};
  }

  ValueId Convolve(const std::string& name) {
    const ValueId w = graph.AddConstant(name + "_w", *Tensor::Zeros(DType::kFloat32, {4, 4, 1, 1}));
    const ValueId y = graph.AddValue(name, DType::kFloat32, {1, 4, 5, 5});
    graph.AddNode("conv_" + name, "", "Conv", {x, w}, {y});
    return y;
  }
};

TEST(Fusion, TheLaterConvolutionTakesTheAdd) {
  TwoConvolutions t;
  const auto groups = FuseEpilogues(t.graph);
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(t.graph.node(groups[0].anchor).name, "conv_b");
  ASSERT_EQ(groups[0].post_ops.size(), 2u);
  EXPECT_EQ(groups[0].post_ops[0].operand, t.a);
  EXPECT_EQ(groups[0].output, t.out);
  EXPECT_TRUE(groups[1].post_ops.empty());
}

TEST(Fusion, AGraphOutputIsNotFusedAway) {
  TwoConvolutions t;
  t.graph.outputs.push_back(t.b);
  const auto groups = FuseEpilogues(t.graph);
  // conv_b must leave its own result, so conv_a takes the Add.
  EXPECT_TRUE(groups[0].post_ops.empty());
  EXPECT_EQ(groups[1].post_ops.size(), 2u);
}

TEST(Fusion, AValueReadTwiceStays) {
  TwoConvolutions t;
  const ValueId twice = t.graph.AddValue("twice", DType::kFloat32, {1, 4, 5, 5});
  t.graph.AddNode("mul", "", "Mul", {t.b, t.a}, {twice});
  t.graph.outputs.push_back(twice);
  for (const auto& group : FuseEpilogues(t.graph)) EXPECT_TRUE(group.post_ops.empty());
}

TEST(Fusion, APerChannelAddBecomesTheBias) {
  Graph graph;
  graph.opsets[""] = 17;
  const ValueId x = graph.AddValue("x", DType::kFloat32, {2, 6, 3});
  const ValueId w = graph.AddConstant("w", *Tensor::Zeros(DType::kFloat32, {3, 5}));
  const ValueId bias = graph.AddConstant("bias", *Tensor::Zeros(DType::kFloat32, {5}));
  const ValueId y = graph.AddValue("y", DType::kFloat32, {2, 6, 5}),
                z = graph.AddValue("z", DType::kFloat32, {2, 6, 5});
  graph.inputs = {x};
  graph.outputs = {z};
  graph.AddNode("mm", "", "MatMul", {x, w}, {y});
  graph.AddNode("add", "", "Add", {bias, y}, {z});
  const auto groups = FuseEpilogues(graph);
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].bias, bias);
  EXPECT_TRUE(groups[0].post_ops.empty());
  EXPECT_EQ(groups[0].output, z);
}

}  // namespace
}  // namespace octavo
