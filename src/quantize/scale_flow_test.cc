#include "quantize/scale_flow.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>

#include "quantize/quantize_testing.h"

namespace octavo {
namespace {

// Gives every free variable a random whole scale and returns the rewritten graph; `free` counts the variables that are
// left free in `value`.
Graph RescaledAtRandom(const Graph& graph, const ScaleFlowOptions& options, ValueId value = kNoValue,
                       size_t* free = nullptr) {
  auto flow = SolveScaleFlow(graph, options);
  EXPECT_TRUE(flow.ok()) << flow.status().message();
  if (free != nullptr) {
    std::set<int> variables;
    for (const int id : flow->labels[static_cast<size_t>(value)].ids) {
      for (const auto& entry : flow->algebra.Resolve(id)) variables.insert(entry.first);
    }
    *free = variables.size();
  }
  std::mt19937 random(5);
  std::uniform_int_distribution<int> octave(-6, 6);
  std::vector<double> octaves;
  for (int v = 0; v < flow->algebra.variables(); ++v) octaves.push_back(octave(random));
  const ScaleRewrites rewrites = MakeScaleRewrites(graph, *flow, octaves);
  Recipe recipe;
  recipe.migrations = rewrites.migrations;
  recipe.rescales = rewrites.rescales;
  const auto rewritten = RewriteByRecipe(graph, recipe);
  EXPECT_TRUE(rewritten.ok()) << rewritten.status().message();
  return *rewritten;
}

// Powers of two scale every product and every sum of a channel alike, and nothing here comes near the ends of the
// exponent: not one bit may change.
constexpr double kExact = 0;

// conv -> s;  s = s + conv(relu(conv(s)));  s = s + depthwise(s);  out = conv(maxpool(s)).
TEST(ScaleFlow, AStreamSharesItsScales) {
  TestGraph builder;
  const ValueId x = builder.Input("x", {1, 3, 6, 6});
  const auto conv = [&](ValueId in, int64_t out, int64_t channels, int64_t group = 1) {
    return builder.Op("Conv", {in, builder.Random({out, channels / group, 1, 1}), builder.Random({out})},
                      {{"group", group}});
  };
  const ValueId stem = conv(x, 8, 3);
  const ValueId inside = builder.Op("Relu", {conv(stem, 16, 8)});
  const ValueId first = builder.Op("Add", {stem, conv(inside, 8, 16)});
  const ValueId second = builder.Op("Add", {conv(first, 8, 8, 8), first});
  const ValueId pooled = builder.Op("MaxPool", {second}, {{"kernel_shape", std::vector<int64_t>{2, 2}}});
  const Graph graph = builder.Finish({conv(pooled, 2, 8)});
  size_t free = 0;
  ExpectSameOutputs(graph, RescaledAtRandom(graph, {}, second, &free), kExact);
  EXPECT_EQ(free, 8u);
  auto flow = SolveScaleFlow(graph, {}).value();
  for (const ValueId value : {first, second, pooled}) {
    const ScaleLabels& labels = flow.labels[static_cast<size_t>(value)];
    for (size_t c = 0; c < 8; ++c) {
      const int of_stem = flow.labels[static_cast<size_t>(stem)].ids[c];
      EXPECT_EQ(flow.algebra.Resolve(labels.ids[c]), flow.algebra.Resolve(of_stem));
    }
  }
  // What comes in and what goes out keep their scales.
  EXPECT_TRUE(flow.algebra.Resolve(flow.labels[static_cast<size_t>(graph.outputs[0])].ids[0]).empty());
}

TEST(ScaleFlow, GroupsTransposedConvolutionsAndViews) {
  TestGraph builder;
  const ValueId x = builder.Input("x", {1, 4, 4, 4});
  const ValueId a = builder.Op("Conv", {x, builder.Random({8, 2, 3, 3})}, {{"group", int64_t{2}}});
  const ValueId b = builder.Op("Conv", {a, builder.Random({8, 4, 1, 1}), builder.Random({8})}, {{"group", int64_t{2}}});
  const ValueId up = builder.Op("ConvTranspose", {b, builder.Random({8, 3, 2, 2})}, {{"group", int64_t{2}}});
  const auto halves = builder.Ops("Split", {up, builder.Ints({2, 4})}, 2, {{"axis", int64_t{1}}});
  const ValueId joined = builder.Op("Concat", {halves[1], halves[0]}, {{"axis", int64_t{1}}});
  const ValueId flat = builder.Op("Reshape", {joined, builder.Ints({1, 6, 9})});
  const ValueId rows = builder.Op("Transpose", {flat}, {{"perm", std::vector<int64_t>{0, 2, 1}}});
  const ValueId y = builder.Op("MatMul", {rows, builder.Random({6, 5})});
  const Graph graph = builder.Finish({builder.Op("Tanh", {builder.Op("Add", {y, builder.Random({5})})})});
  size_t free = 0;
  ExpectSameOutputs(graph, RescaledAtRandom(graph, {}, rows, &free), kExact);
  EXPECT_EQ(free, 6u);
}

// relu(q) (relu(k)^T [v; 1]) and the division by its last row: q_c k_c cancels, v passes to the projection.
TEST(ScaleFlow, LinearAttention) {
  TestGraph builder;
  const ValueId x = builder.Input("x", {1, 3, 2, 2});
  const ValueId qkv = builder.Op("Conv", {x, builder.Random({24, 3, 1, 1})});
  const ValueId heads = builder.Op("Reshape", {qkv, builder.Ints({1, 2, 12, 4})});
  const auto parts = builder.Ops("Split", {heads, builder.Ints({4, 4, 4})}, 3, {{"axis", int64_t{2}}});
  const ValueId q = builder.Op("Relu", {parts[0]}), k = builder.Op("Relu", {parts[1]});
  const ValueId v = builder.Op("Pad", {parts[2], builder.Ints({0, 0, 0, 0, 0, 0, 1, 0}), builder.Scalar(1)});
  const ValueId kt = builder.Op("Transpose", {k}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
  const ValueId product = builder.Op("MatMul", {builder.Op("MatMul", {v, kt}), q});
  const auto sums = builder.Ops("Split", {product, builder.Ints({4, 1})}, 2, {{"axis", int64_t{2}}});
  const ValueId divisor = builder.Op("Add", {sums[1], builder.Scalar(1e-3f)});
  const ValueId quotient = builder.Op("Div", {sums[0], divisor});
  const ValueId image = builder.Op("Reshape", {quotient, builder.Ints({1, 8, 2, 2})});
  const Graph graph = builder.Finish({builder.Op("Conv", {image, builder.Random({2, 8, 1, 1})})});
  size_t free = 0;
  ExpectSameOutputs(graph, RescaledAtRandom(graph, {}, qkv, &free), kExact);
  EXPECT_EQ(free, 16u);  // of 24: 8 for q, whose inverses k has, and 8 for v
}

TEST(ScaleFlow, SoftmaxAttentionAndLayerNorm) {
  TestGraph builder;
  const ValueId x = builder.Input("x", {1, 5, 6});
  const ValueId mean = builder.Op("ReduceMean", {x}, {{"axes", std::vector<int64_t>{-1}}});
  const ValueId centred = builder.Op("Sub", {x, mean});
  const ValueId square = builder.Op("Pow", {centred, builder.Scalar(2)});
  const ValueId variance = builder.Op("ReduceMean", {square}, {{"axes", std::vector<int64_t>{-1}}});
  const ValueId deviation = builder.Op("Sqrt", {builder.Op("Add", {variance, builder.Scalar(1e-5f)})});
  const ValueId gamma = builder.Op("Mul", {builder.Op("Div", {centred, deviation}), builder.Random({6})});
  const ValueId normal = builder.Op("Add", {gamma, builder.Random({6})});
  const auto linear = [&](ValueId in) { return builder.Op("MatMul", {in, builder.Random({6, 6})}); };
  const ValueId kt = builder.Op("Transpose", {linear(normal)}, {{"perm", std::vector<int64_t>{0, 2, 1}}});
  const ValueId scores = builder.Op("MatMul", {linear(normal), kt});
  const ValueId weights = builder.Op("Softmax", {scores}, {{"axis", int64_t{-1}}});
  const ValueId mixed = builder.Op("MatMul", {weights, linear(normal)});
  const Graph graph = builder.Finish({linear(mixed)});
  size_t free = 0;
  ExpectSameOutputs(graph, RescaledAtRandom(graph, {}, normal, &free), kExact);
  EXPECT_EQ(free, 6u);
  ScaleFlowOptions without;
  without.multipliers = false;
  ExpectSameOutputs(graph, RescaledAtRandom(graph, without, normal, &free), kExact);
  EXPECT_EQ(free, 0u);
}

TEST(ScaleFlow, NothingCrossesAnActivationButThroughAMul) {
  TestGraph builder;
  const ValueId x = builder.Input("x", {1, 4, 3, 3});
  const ValueId a = builder.Op("Conv", {x, builder.Random({4, 4, 1, 1})});
  const ValueId sigmoid = builder.Op("Sigmoid", {a});
  const ValueId silu = builder.Op("Mul", {a, sigmoid});
  const ValueId y = builder.Op("Conv", {silu, builder.Random({2, 4, 1, 1})});
  const Graph graph = builder.Finish({y});
  size_t free = 0;
  RescaledAtRandom(graph, {}, silu, &free);
  EXPECT_EQ(free, 0u);
  ScaleFlowOptions options;
  options.migrations.push_back({silu, {graph.value(y).producer}, 1, {}});
  const Graph migrated = RescaledAtRandom(graph, options);
  EXPECT_EQ(CountOps(migrated, "Mul"), 2);
  ExpectSameOutputs(graph, migrated, kExact);
}

// What no rule knows is left alone, and so is whatever leads there.
TEST(ScaleFlow, UnknownOpsPin) {
  TestGraph builder;
  const ValueId x = builder.Input("x", {1, 4});
  const ValueId a = builder.Op("MatMul", {x, builder.Random({4, 4})});
  const ValueId b = builder.Op("Relu", {a});
  const Graph graph = builder.Finish({builder.Op("Exp", {b})});
  size_t free = 1;
  ExpectSameOutputs(graph, RescaledAtRandom(graph, {}, a, &free), kExact);
  EXPECT_EQ(free, 0u);
}

// An epsilon is one number and stays one; a constant per channel follows its channels.
TEST(ScaleFlow, ConstantsFollowWhereTheyCan) {
  TestGraph builder;
  const ValueId x = builder.Input("x", {2, 4});
  const auto linear = [&](ValueId in) { return builder.Op("MatMul", {in, builder.Random({4, 4})}); };
  const ValueId by_channel = builder.Op("Add", {linear(x), builder.Random({4})});
  const ValueId by_row = builder.Op("Sub", {builder.Random({2, 1}), linear(by_channel)});
  const ValueId by_one = builder.Op("Add", {linear(by_row), builder.Scalar(3)});
  const Graph graph = builder.Finish({linear(by_one)});
  size_t free = 0;
  ExpectSameOutputs(graph, RescaledAtRandom(graph, {}, by_channel, &free), kExact);
  EXPECT_EQ(free, 4u);
  RescaledAtRandom(graph, {}, by_row, &free);
  EXPECT_EQ(free, 1u);  // one for all four channels
  RescaledAtRandom(graph, {}, by_one, &free);
  EXPECT_EQ(free, 0u);
}

}  // namespace
}  // namespace octavo
