#include <gtest/gtest.h>

#include "graph/rounding.h"
#include "octavo/reference.h"
#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// x -> Cast -> Mul(c) -> Tanh -> Cast, in float16 between the Casts.
Graph HalfGraph() {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 5});
  const ValueId half = g.Op("Cast", {x}, {{"to", kOnnxFloat16}});
  const ValueId factor = g.Op("Cast", {g.Scalar(1.7f)}, {{"to", kOnnxFloat16}});
  return g.Finish({g.Op("Cast", {g.Op("Tanh", {g.Op("Mul", {half, factor})})}, {{"to", kOnnxFloat}})});
}

int HalfNodes(const Graph& graph) {
  int count = 0;
  for (const Node& node : graph.nodes) {
    if (!node.removed && node.op != "Cast" && graph.value(node.output(0)).dtype == DType::kFloat16) ++count;
  }
  return count;
}

TEST(HalfNodes, ComputeInFloat32WithARoundingBehind) {
  Graph graph = HalfGraph();
  ASSERT_EQ(HalfNodes(graph), 2);
  EXPECT_EQ(WidenHalfNodes(graph), 2);
  EXPECT_EQ(HalfNodes(graph), 0);
  EXPECT_EQ(WidenHalfNodes(graph), 0);
  ASSERT_TRUE(graph.Sort().ok());
  EXPECT_TRUE(Verify(graph).ok());
}

TEST(HalfNodes, GiveTheSameBits) {
  Graph graph = HalfGraph();
  std::vector<float> values;
  for (int i = 0; i < 10; ++i) values.push_back(0.37f * static_cast<float>(i - 4));
  const std::map<std::string, Tensor> inputs = {{"x", Tensor::FromVector<float>({2, 5}, values)}};
  const auto plain = RunReference(graph, inputs);
  ASSERT_TRUE(RunPasses(graph).ok());
  EXPECT_EQ(CountOps(graph, "RoundTo", kOctavoDomain), 3);  // x, the product, its Tanh
  const auto passed = RunReference(graph, inputs);
  ASSERT_TRUE(plain.ok() && passed.ok());
  for (size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(RoundTo(DType::kFloat16, (*passed)[0].values<float>()[i]), (*passed)[0].values<float>()[i]);
    EXPECT_EQ((*plain)[0].values<float>()[i], (*passed)[0].values<float>()[i]);
  }
}

}  // namespace
}  // namespace octavo
