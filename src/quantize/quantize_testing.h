// What tests of quantization share: a residual network with everything that targets' rules differ in, and statistics.
#pragma once

#include "octavo/quantize.h"
#include "passes/pass_test_graph.h"

namespace octavo {

// x -> conv_a -> Relu -> conv_b -> Add(x) -> Concat(x) -> conv_c -> out.
struct ResidualGraph {
  Graph graph;
  std::string x = "x", relu, sum, concat;

  explicit ResidualGraph(int64_t opset = 13) {
    TestGraph builder(opset);
    const ValueId in = builder.Input("x", {1, 4, 4, 4});
    const ValueId a = builder.Op("Conv", {in, builder.Random({4, 4, 1, 1}), builder.Random({4})});
    const ValueId r = builder.Op("Relu", {a});
    const ValueId b = builder.Op("Conv", {r, builder.Random({4, 4, 1, 1})});
    const ValueId s = builder.Op("Add", {b, in});
    const ValueId c = builder.Op("Concat", {s, in}, {{"axis", int64_t{1}}});
    const ValueId out = builder.Op("Conv", {c, builder.Random({2, 8, 1, 1})});
    graph = builder.Finish({out});
    relu = graph.value(r).name;
    sum = graph.value(s).name;
    concat = graph.value(c).name;
  }
  // Of the n-th node of that op.
  std::string NodeName(std::string_view op, int n) const {
    for (const Node& node : graph.nodes) {
      if (node.op == op && n-- == 0) return node.name;
    }
    return "";
  }
};

// Every quantizable tensor ranges over [low, high].
inline Stats UniformStats(const Graph& prepared, float low, float high) {
  Stats stats;
  stats.fingerprint = ModelFingerprint(prepared);
  stats.samples = 1;
  const auto tensors = QuantizableTensors(prepared);
  EXPECT_TRUE(tensors.ok()) << tensors.status().message();
  for (const std::string& name : *tensors) {
    TensorStats tensor = MakeTensorStats(prepared.value(prepared.Find(name)).dims, 0);
    tensor.count = 2;
    tensor.min = low;
    tensor.max = high;
    stats.tensors.emplace(name, std::move(tensor));
  }
  return stats;
}

inline const ActivationRecipe* FindActivation(const Recipe& recipe, const std::string& tensor,
                                              const std::string& consumer = "") {
  for (const ActivationRecipe& entry : recipe.activations) {
    const bool reads = consumer.empty() ||
                       std::find(entry.consumers.begin(), entry.consumers.end(), consumer) != entry.consumers.end();
    if (entry.tensor == tensor && reads) return &entry;
  }
  return nullptr;
}

}  // namespace octavo
