// Small graphs for the tests of passes, and the judge of what a pass did to them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "graph/shape_inference.h"
#include "kernels/kernel.h"
#include "octavo/graph.h"
#include "passes/rewriter.h"

namespace octavo {

// Builds a graph node by node; Finish binds its shapes (and folds its constant nodes).
class TestGraph {
 public:
  using Attributes = std::map<std::string, Attribute>;

  explicit TestGraph(int64_t opset = 17) { graph_.opsets[""] = opset; }

  ValueId Input(const std::string& name, Dims dims, DType dtype = DType::kFloat32) {
    const ValueId id = graph_.AddValue(name, dtype, std::move(dims));
    graph_.inputs.push_back(id);
    return id;
  }
  ValueId Constant(Dims dims, const std::vector<float>& values) {
    return graph_.AddConstant("c", Tensor::FromVector<float>(std::move(dims), values));
  }
  ValueId Scalar(float value) { return Constant({}, {value}); }
  ValueId Filled(Dims dims, float value) {
    const auto count = static_cast<size_t>(ElementCount(dims));
    return Constant(std::move(dims), std::vector<float>(count, value));
  }
  ValueId Random(Dims dims, float low = -1.0f, float high = 1.0f) {
    std::uniform_real_distribution<float> uniform(low, high);
    std::vector<float> values(static_cast<size_t>(ElementCount(dims)));
    for (float& value : values) value = uniform(random_);
    return Constant(std::move(dims), values);
  }
  ValueId Ints(const std::vector<int64_t>& values) { return graph_.AddConstant("i", Int64Constant(values)); }
  ValueId Op(std::string_view op, std::vector<ValueId> inputs, Attributes attributes = {},
             std::string_view domain = "") {
    return Ops(op, std::move(inputs), 1, std::move(attributes), domain)[0];
  }
  std::vector<ValueId> Ops(std::string_view op, std::vector<ValueId> inputs, size_t outputs, Attributes attributes = {},
                           std::string_view domain = "") {
    std::vector<ValueId> results;
    for (size_t i = 0; i < outputs; ++i) results.push_back(graph_.AddValue(std::string(op) + "_out"));
    graph_.AddNode(std::string(op) + std::to_string(graph_.nodes.size()), domain, op, std::move(inputs), results,
                   std::move(attributes));
    return results;
  }
  Graph Finish(std::vector<ValueId> outputs) {
    graph_.outputs = std::move(outputs);
    const Status bound = BindShapes(graph_, {});
    EXPECT_TRUE(bound.ok()) << bound.message();
    return graph_;
  }
  Graph& graph() { return graph_; }

 private:
  Graph graph_;
  std::mt19937 random_{7};
};

inline int CountOps(const Graph& graph, std::string_view op, std::string_view domain = "") {
  return static_cast<int>(
      std::count_if(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) { return node.Is(op, domain); }));
}

inline const Node* FindOnly(const Graph& graph, std::string_view op, std::string_view domain = "") {
  const auto it =
      std::find_if(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) { return node.Is(op, domain); });
  return it == graph.nodes.end() ? nullptr : &*it;
}

// Runs one rewrite and checks the invariants that RunPasses checks. Returns how many patterns it rewrote.
inline int Apply(int (*rewrite)(Graph&), Graph& graph) {
  const int rewrites = rewrite(graph);
  const Status sorted = graph.Sort();
  EXPECT_TRUE(sorted.ok()) << sorted.message();
  graph.CompactValues();
  const Status verified = Verify(graph);
  EXPECT_TRUE(verified.ok()) << verified.message();
  for (const Value& value : graph.values) {
    EXPECT_TRUE(value.dtype != DType::kUndefined && value.has_static_shape()) << value.name;
  }
  return rewrites;
}

inline std::vector<Tensor> RandomInputs(const Graph& graph, float low = -2.0f, float high = 2.0f) {
  std::mt19937 random(11);
  std::uniform_real_distribution<float> uniform(low, high);
  std::vector<Tensor> inputs;
  for (const ValueId id : graph.inputs) {
    std::vector<float> values(static_cast<size_t>(ElementCount(graph.value(id).dims)));
    for (float& value : values) value = uniform(random);
    inputs.push_back(Tensor::FromVector<float>(graph.value(id).dims, values));
  }
  return inputs;
}

// Both graphs give the same names and shapes, and values that differ by at most `tolerance` times the largest magnitude
// of that output (at least 1).
inline void ExpectSameOutputs(const Graph& before, const Graph& after, double tolerance) {
  const std::vector<Tensor> inputs = RandomInputs(before);
  const auto expected = EvaluateGraph(before, inputs);
  const auto found = EvaluateGraph(after, inputs);
  ASSERT_TRUE(expected.ok()) << expected.status().message();
  ASSERT_TRUE(found.ok()) << found.status().message();
  ASSERT_EQ(expected->size(), found->size());
  for (size_t i = 0; i < expected->size(); ++i) {
    EXPECT_EQ(before.value(before.outputs[i]).name, after.value(after.outputs[i]).name);
    ASSERT_EQ((*expected)[i].dims(), (*found)[i].dims());
    const auto a = ToFloats((*expected)[i]), b = ToFloats((*found)[i]);
    ASSERT_TRUE(a.ok() && b.ok());
    float largest = 1.0f;
    for (const float value : *a) largest = std::max(largest, std::abs(value));
    for (size_t k = 0; k < a->size(); ++k) ASSERT_NEAR((*a)[k], (*b)[k], tolerance * largest) << "element " << k;
  }
}

}  // namespace octavo
