// What tests of searches share: models with planted outliers, samples for them, and a judge of tensors.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "octavo/calibrate.h"
#include "octavo/judge.h"
#include "octavo/quantize.h"
#include "passes/pass_test_graph.h"

namespace octavo {

// x (1, 4, 8, 8) -> Conv -> Relu -> ... -> Conv -> out, by a float model whose channels lie close together but for
// those in front of planted layers: there channel 2 is `outlier` times the others, which the layer's weights make up
// for. It costs the others log2(outlier) of 8 bits in that layer's operand, and in no other.
class PlantedModel {
 public:
  // `channels` of each layer's operand; the last one gives 4.
  PlantedModel(const std::vector<int64_t>& channels, const std::vector<size_t>& planted, float outlier = 100,
               size_t samples = 8) {
    TestGraph builder;
    ValueId value = builder.Input("x", {1, channels[0], 8, 8});
    for (size_t i = 0; i < channels.size(); ++i) {
      const int64_t out = i + 1 < channels.size() ? channels[i + 1] : 4;
      const bool before = Has(planted, i + 1), here = Has(planted, i);
      value = builder.Op(
          "Conv", {value, builder.Constant({out, channels[i], 1, 1},
                                           Weights(out, channels[i], before ? outlier : 1, here ? outlier : 1))});
      nodes.push_back(builder.graph().nodes.back().name);
      if (i + 1 < channels.size()) value = builder.Op("Relu", {value});
    }
    prepared = PrepareForQuantization(builder.Finish({value})).value();
    data = Samples(prepared, samples);
    stats = Calibrate(prepared, data).value().stats;
    recipe = Decide(prepared, stats, {}).value();
  }

  static Dataset Samples(const Graph& graph, size_t count) {
    std::mt19937 random(5);
    std::uniform_real_distribution<float> uniform(-1, 1);
    std::vector<std::string> names;
    std::vector<std::map<std::string, Tensor>> samples;
    for (size_t i = 0; i < count; ++i) {
      names.push_back(std::to_string(i));
      samples.emplace_back();
      for (const ValueId id : graph.inputs) {
        const Value& input = graph.value(id);
        std::vector<float> values(static_cast<size_t>(ElementCount(input.dims)));
        for (float& value : values) value = uniform(random);
        samples.back()[input.name] = Tensor::FromVector<float>(input.dims, values);
      }
    }
    return Dataset::FromSamples(std::move(names), std::move(samples)).value();
  }

  Judge OpenJudge() const { return OpenTensorJudge(prepared, data); }
  static Judge OpenTensorJudge(const Graph& graph, const Dataset& data) {
    JudgeOptions options;
    options.threads = 1;
    return Judge::Create(graph, data, MakeTensorTask(), options).value();
  }

  Graph prepared;
  Dataset data;
  Stats stats;
  Recipe recipe;
  std::vector<std::string> nodes;  // names of the convolutions, in order

 private:
  static bool Has(const std::vector<size_t>& list, size_t i) {
    return std::find(list.begin(), list.end(), i) != list.end();
  }
  // Row 2 times `up`, column 2 over `down`.
  std::vector<float> Weights(int64_t out, int64_t in, float up, float down) {
    std::uniform_real_distribution<float> uniform(-1, 1);
    std::vector<float> values;
    for (int64_t row = 0; row < out; ++row) {
      for (int64_t column = 0; column < in; ++column) {
        values.push_back(uniform(random_) * (row == 2 ? up : 1) / (column == 2 ? down : 1));
      }
    }
    return values;
  }
  std::mt19937 random_{3};
};

}  // namespace octavo
