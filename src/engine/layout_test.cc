#include "engine/layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace octavo {
namespace {

// Addresses of all elements in logical (row-major) order.
std::vector<int64_t> Addresses(const Dims& dims, const Dims& strides, int64_t offset = 0) {
  std::vector<int64_t> result;
  Dims index(dims.size(), 0);
  for (int64_t i = 0; i < ElementCount(dims); ++i) {
    int64_t at = offset;
    for (size_t d = 0; d < dims.size(); ++d) at += index[d] * strides[d];
    result.push_back(at);
    for (size_t d = dims.size(); d-- > 0;) {
      if (++index[d] < dims[d]) break;
      index[d] = 0;
    }
  }
  return result;
}

TEST(Layout, ChannelsLast) {
  EXPECT_EQ(ChannelsLastStrides({2, 3, 4, 5}), (Dims{60, 1, 15, 3}));
  EXPECT_EQ(ChannelsLastStrides({2, 3, 4}), (Dims{12, 1, 3}));
  EXPECT_EQ(ChannelsLastStrides({4, 5}), (Dims{5, 1}));
}

TEST(Layout, DenseLikeKeepsTheNestingOfASlice) {
  // A slice of 8 of 24 channels, channels-last: dense again, still channels-last.
  EXPECT_EQ(DenseLike({1, 8, 4, 5}, {480, 1, 120, 24}), (Dims{160, 1, 40, 8}));
  EXPECT_EQ(DenseLike({2, 3}, {0, 1}), (Dims{3, 1}));
}

TEST(Layout, SizeOneDimensionsHaveNoSay) {
  EXPECT_TRUE(SameStrides({1, 7}, {99, 1}, {7, 1}));
  EXPECT_FALSE(SameStrides({2, 7}, {99, 1}, {7, 1}));
}

TEST(Layout, ReshapeOfChannelsLast) {
  // (1, C, H, W) channels-last -> (1, heads, C / heads, H * W): heads split C, H and W join.
  const Dims dims = {1, 96, 8, 8};
  const auto strides = ReshapeStrides(dims, ChannelsLastStrides(dims), {1, 2, 48, 64});
  ASSERT_TRUE(strides.has_value());
  EXPECT_TRUE(SameStrides({1, 2, 48, 64}, *strides, {6144, 48, 1, 96}));
  // Joining C with H would have to interleave: only a copy can.
  EXPECT_FALSE(ReshapeStrides(dims, ChannelsLastStrides(dims), {96 * 8, 8}).has_value());
}

// Whatever ReshapeStrides answers, the addresses in logical order stay the same.
TEST(Layout, ReshapeNeverMovesAnElement) {
  std::mt19937 random(7);
  int views = 0;
  for (int round = 0; round < 2000; ++round) {
    const size_t rank = 1 + random() % 4;
    Dims dims;
    for (size_t d = 0; d < rank; ++d) dims.push_back(1 + static_cast<int64_t>(random() % 6));
    std::vector<int> order(rank);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    const Dims strides = StridesInOrder(dims, order);
    Dims target;
    int64_t rest = ElementCount(dims);
    while (rest > 1 && target.size() < 4) {
      int64_t factor = 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(rest));
      while (rest % factor != 0) --factor;
      target.push_back(factor);
      rest /= factor;
    }
    target.push_back(rest);
    const auto view = ReshapeStrides(dims, strides, target);
    if (!view) continue;
    ++views;
    EXPECT_EQ(Addresses(target, *view), Addresses(dims, strides)) << ToString(dims) << " -> " << ToString(target);
  }
  EXPECT_GT(views, 200);
}

Graph OneNode(const char* op, Dims in, std::vector<Dims> outs, std::map<std::string, Attribute> attributes,
              std::vector<Tensor> constants = {}) {
  Graph graph;
  graph.opsets[""] = 17;
  std::vector<ValueId> inputs = {graph.AddValue("x", DType::kFloat32, std::move(in))};
  graph.inputs = {inputs[0]};
  for (auto& tensor : constants) inputs.push_back(graph.AddConstant("c", std::move(tensor)));
  std::vector<ValueId> outputs;
  outputs.reserve(outs.size());
  for (auto& dims : outs) outputs.push_back(graph.AddValue("y", DType::kFloat32, std::move(dims)));
  graph.outputs = outputs;
  graph.AddNode("n", "", op, inputs, outputs, std::move(attributes));
  return graph;
}

TEST(Layout, SliceIsAView) {
  const auto ints = [](const std::vector<int64_t>& v) {
    return Tensor::FromVector<int64_t>({static_cast<int64_t>(v.size())}, v);
  };
  const Graph graph = OneNode("Slice", {4, 10}, {{4, 4}}, {}, {ints({1}), ints({9}), ints({-1}), ints({2})});
  const auto views = ViewsOf(graph, graph.nodes[0], {10, 1});
  ASSERT_TRUE(views.has_value());
  EXPECT_EQ((*views)[0].offset, 1);
  EXPECT_EQ((*views)[0].strides, (Dims{10, 2}));
  const Graph backwards = OneNode("Slice", {4, 10}, {{4, 9}}, {}, {ints({9}), ints({0}), ints({1}), ints({-1})});
  EXPECT_FALSE(ViewsOf(backwards, backwards.nodes[0], {10, 1}).has_value());
}

TEST(Layout, SplitAndTransposeAreViews) {
  const Graph split = OneNode("Split", {2, 6, 5}, {{2, 2, 5}, {2, 4, 5}}, {{"axis", int64_t{-2}}});
  const auto parts = ViewsOf(split, split.nodes[0], {30, 5, 1});
  ASSERT_TRUE(parts.has_value());
  EXPECT_EQ((*parts)[1].offset, 10);
  const Graph transpose = OneNode("Transpose", {2, 3, 4}, {{4, 2, 3}}, {{"perm", std::vector<int64_t>{2, 0, 1}}});
  EXPECT_EQ((*ViewsOf(transpose, transpose.nodes[0], {12, 4, 1}))[0].strides, (Dims{1, 12, 4}));
}

}  // namespace
}  // namespace octavo
