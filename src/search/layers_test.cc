#include "search/layers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "octavo/targets.h"
#include "quantize/quantize_testing.h"
#include "search/boundary.h"
#include "search/search_testing.h"
#include "search/suffix.h"

namespace octavo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> Names(const std::vector<QuantizedLayer>& layers) {
  std::vector<std::string> names;
  for (const QuantizedLayer& layer : layers) names.push_back(layer.node);
  return names;
}

class LayersTest : public testing::Test {
 protected:
  // All in int8 but `node`.
  Recipe Raised(const Recipe& recipe, const std::string& node, DType precision = DType::kFloat32) const {
    return WithPrecisions(
        recipe, prepared_, [&](const std::string& n) { return n == node ? precision : DType::kInt8; }, "why");
  }
  Recipe DecideFor(const std::string& target) const {
    Policy policy;
    policy.target = target;
    return Decide(prepared_, UniformStats(prepared_, -2, 2), policy).value();
  }

  ResidualGraph residual_;
  Graph prepared_ = PrepareForQuantization(residual_.graph).value();
  Recipe recipe_ = DecideFor("octavo");
  std::string a_ = residual_.NodeName("Conv", 0), b_ = residual_.NodeName("Conv", 1),
              c_ = residual_.NodeName("Conv", 2);
};

TEST_F(LayersTest, NodesWithAQuantizedOperand) {
  const auto layers = QuantizedLayers(prepared_, recipe_);
  EXPECT_THAT(Names(layers), ElementsAre(a_, b_, c_));
  EXPECT_EQ(layers[0].op, "Conv");
  EXPECT_EQ(layers[0].macs, 4 * 4 * 16);
  EXPECT_EQ(layers[2].macs, 2 * 8 * 16);
  EXPECT_THAT(QuantizedLayers(prepared_, Recipe()), IsEmpty());
}

TEST_F(LayersTest, EntriesForEveryReaderCountEachOfThem) {
  Recipe recipe;
  recipe.activations = {{residual_.x, {}, DType::kUInt8, 0.02f, 128, ""}};  // Conv, Add and Concat read x
  EXPECT_EQ(QuantizedLayers(prepared_, recipe).size(), 3u);
  // One of three is float: the two that are left are named.
  const Recipe raised = Raised(recipe, a_);
  ASSERT_EQ(raised.activations.size(), 1u);
  EXPECT_THAT(raised.activations[0].consumers,
              ElementsAre(residual_.NodeName("Add", 0), residual_.NodeName("Concat", 0)));
  // All are: nothing is left to quantize, and an entry that is empty would mean all of them.
  const Recipe none = WithPrecisions(
      recipe, prepared_, [](const auto&) { return DType::kFloat32; }, "");
  EXPECT_THAT(none.activations, IsEmpty());
  EXPECT_EQ(none.float_nodes.size(), 3u);
  // None is: the entry stays what it was.
  EXPECT_THAT(Raised(recipe, "nobody").activations[0].consumers, IsEmpty());
}

TEST_F(LayersTest, RaisedLayersLoseWhatIsTheirs) {
  Recipe recipe = recipe_;
  recipe.biases = {{a_, {1, 2, 3, 4}}, {b_, {1, 2, 3, 4}}};
  const size_t floats = recipe.float_nodes.size();
  const Recipe raised = Raised(recipe, a_, DType::kBFloat16);
  EXPECT_EQ(raised.weights.size(), recipe.weights.size() - 1);
  for (const WeightRecipe& weight : raised.weights) EXPECT_NE(weight.node, a_);
  ASSERT_EQ(raised.biases.size(), 1u);
  EXPECT_EQ(raised.biases[0].node, b_);
  for (const ActivationRecipe& entry : raised.activations) {
    EXPECT_THAT(entry.consumers, testing::Not(testing::Contains(a_)));
  }
  ASSERT_EQ(raised.float_nodes.size(), floats + 1);
  EXPECT_EQ(raised.float_nodes.back().node, a_);
  EXPECT_EQ(raised.float_nodes.back().reason, "why");
  EXPECT_EQ(raised.float_nodes.back().precision, DType::kBFloat16);
  EXPECT_THAT(Names(QuantizedLayers(prepared_, raised)), ElementsAre(b_, c_));
}

// Whatever a target quantizes, additions and concatenations too, can be raised to whatever there is.
TEST_F(LayersTest, EveryLayerOfEveryTargetCanBeRaised) {
  std::set<std::string> ops;
  for (const Target* target : AllTargets()) {
    const Recipe recipe = DecideFor(std::string(target->name));
    for (const QuantizedLayer& layer : QuantizedLayers(prepared_, recipe)) {
      ops.insert(layer.op);
      for (const DType precision : {DType::kBFloat16, DType::kFloat16, DType::kFloat32}) {
        const auto graph = ApplyRecipe(prepared_, Raised(recipe, layer.node, precision));
        EXPECT_TRUE(graph.ok()) << target->name << ": " << graph.status().message();
      }
    }
  }
  EXPECT_TRUE(ops.count("Add") > 0);  // TensorRT's
}

// What is quantized for the sake of the layer that makes it goes with that layer, not with those that read it.
TEST_F(LayersTest, ResultsBelongToTheirLayers) {
  const Recipe recipe = DecideFor("onnxruntime");
  EXPECT_THAT(Names(QuantizedLayers(prepared_, recipe)), ElementsAre(a_, b_));
  const auto results = [](const Recipe& of) {
    std::vector<std::string> names;
    for (const ActivationRecipe& entry : of.activations) {
      if (!entry.result_of.empty()) names.push_back(entry.result_of);
    }
    return names;
  };
  EXPECT_THAT(results(recipe), ElementsAre(a_, b_));
  EXPECT_THAT(results(Raised(recipe, a_)), ElementsAre(b_));
  EXPECT_THAT(results(Raised(recipe, b_)), ElementsAre(a_));
  // b still reads what a, in float now, makes.
  EXPECT_NE(FindActivation(Raised(recipe, a_), residual_.relu, b_), nullptr);
}

TEST_F(LayersTest, RewritesAndQuantizationMakeTheWhole) {
  Recipe recipe = recipe_;
  recipe.migrations = {{residual_.relu, {b_}, {1, 4, 1, 1}, {2, 4, 8, 16}}};
  recipe.rescales = {{b_, 1, {1, 4, 1, 1}, {0.5f, 0.25f, 0.125f, 0.0625f}}};
  recipe.biases = {{a_, {1, 2, 3, 4}}};
  for (ActivationRecipe& entry : recipe.activations) {
    if (entry.tensor == residual_.relu) entry.tensor += "/migrated";
  }
  const Graph rewritten = RewriteWithoutBiases(prepared_, recipe).value();
  const auto whole = ApplyRecipe(prepared_, recipe);
  ASSERT_TRUE(whole.ok()) << whole.status().message();
  const auto parts = ApplyRecipe(rewritten, QuantizationOnly(recipe));
  ASSERT_TRUE(parts.ok()) << parts.status().message();
  ExpectSameOutputs(*whole, *parts, 0);
}

TEST(LayerPrecisions, Names) {
  for (const DType precision : {DType::kInt8, DType::kBFloat16, DType::kFloat16, DType::kFloat32}) {
    EXPECT_EQ(*ParseLayerPrecision(std::string(LayerPrecisionName(precision))), precision);
  }
  EXPECT_THAT(ParseLayerPrecision("int4").status().message(),
              HasSubstr("'int4' is no precision of a layer: int8, bf16"));
}

// ---- parts of a graph ----

class SuffixTest : public LayersTest {
 protected:
  Graph quantized_ = ApplyRecipe(prepared_, recipe_).value();
  Dataset data_ = PlantedModel::Samples(prepared_, 3);
  Judge judge_ = PlantedModel::OpenTensorJudge(prepared_, data_);
};

TEST_F(SuffixTest, PartsStartAtFloatValues) {
  // From the second convolution on: what it reads in float, and x, which the sum and the concatenation read.
  const GraphPart part = CutSuffix(quantized_, {b_}).value();
  EXPECT_THAT(part.boundary, testing::UnorderedElementsAre(residual_.relu, residual_.x));
  EXPECT_THAT(part.outputs, ElementsAre(0));
  EXPECT_EQ(CountOps(part.graph, "Conv"), 2);
  EXPECT_EQ(CountOps(part.graph, "Relu"), 0);
  EXPECT_EQ(CutSuffix(quantized_, {a_, b_, c_})->boundary, std::vector<std::string>{residual_.x});
  const GraphPart alone = CutNode(quantized_, b_).value();
  EXPECT_THAT(alone.boundary, ElementsAre(residual_.relu));
  EXPECT_EQ(CountOps(alone.graph, "Conv"), 1);
}

TEST_F(SuffixTest, WhatIsNotThere) {
  EXPECT_FALSE(CutSuffix(quantized_, {"nobody"}).ok());
  EXPECT_FALSE(CutSuffix(quantized_, {a_, "nobody"}).ok());
  EXPECT_FALSE(CutNode(quantized_, "nobody").ok());
  TestGraph builder;
  const ValueId x = builder.Input("x", {1, 4});
  builder.Op("Relu", {x});
  const Graph dead = builder.Finish({builder.Op("Sigmoid", {x})});
  EXPECT_THAT(CutSuffix(dead, {"Relu0"}).status().message(), HasSubstr("no output depends on 'Relu0'"));
}

// Every layer changed in every way: running what depends on it, on kept values or on values made again, gives the bits
// of the whole changed model.
TEST_F(SuffixTest, PartsHaveTheBitsOfTheWhole) {
  for (const Target* target : AllTargets()) {
    const Recipe recipe = DecideFor(std::string(target->name));
    const Graph all = ApplyRecipe(prepared_, recipe).value();
    std::vector<LayerJob> jobs;
    for (const QuantizedLayer& layer : QuantizedLayers(prepared_, recipe)) {
      jobs.push_back({layer.node, [&, node = layer.node](BoundaryValues& values) -> Status {
                        for (const DType precision : {DType::kInt8, DType::kFloat32, DType::kBFloat16}) {
                          const Graph changed = ApplyRecipe(prepared_, Raised(recipe, node, precision)).value();
                          OCTAVO_ASSIGN(const Verdict whole, judge_.Score(changed));
                          OCTAVO_ASSIGN(const Verdict part, ScoreChanged(judge_, values, all, changed, node));
                          EXPECT_EQ(part.scores, whole.scores) << target->name << ", " << node;
                          EXPECT_EQ(part.noise, whole.noise);
                          OCTAVO_ASSIGN(const double noise, NoiseOfChanged(judge_, values, all, changed, node, 3));
                          EXPECT_EQ(noise, whole.noise);
                        }
                        return {};
                      }});
    }
    for (const int64_t memory : {int64_t{1} << 30, int64_t{6000}, int64_t{0}}) {
      const Status status = RunLayerJobs(all, judge_, judge_.size(), memory, jobs);
      EXPECT_TRUE(status.ok()) << target->name << ": " << status.message();
    }
  }
}

TEST_F(SuffixTest, JobsRunInOrderAndStopAtAnError) {
  std::vector<std::string> ran;
  std::vector<LayerJob> jobs;
  for (const std::string& node : {c_, a_, b_}) {
    jobs.push_back({node, [&ran, node, this](BoundaryValues&) {
                      ran.push_back(node);
                      return node == a_ ? InvalidArgument("stop here") : Status();
                    }});
  }
  EXPECT_EQ(RunLayerJobs(quantized_, judge_, 3, 0, jobs).message(), "stop here");
  EXPECT_THAT(ran, ElementsAre(c_, a_));
  EXPECT_TRUE(RunLayerJobs(quantized_, judge_, 3, 0, {}).ok());
}

TEST_F(SuffixTest, LocalNoiseIsThatOfTheLayerAlone) {
  const std::vector<LayerJob> jobs = {
      {b_, [&](BoundaryValues& values) -> Status {
         OCTAVO_ASSIGN(const double same, LocalSqnr(judge_, values, prepared_, prepared_, b_));
         EXPECT_EQ(same, kIdenticalDb);
         OCTAVO_ASSIGN(const double other,
                       LocalSqnr(judge_, values, prepared_, ApplyRecipe(prepared_, Raised(recipe_, a_)).value(), b_));
         EXPECT_LT(other, 60);  // 8 bits of noise
         EXPECT_GT(other, 20);
         OCTAVO_ASSIGN(const double elsewhere,
                       LocalSqnr(judge_, values, prepared_, ApplyRecipe(prepared_, Raised(recipe_, b_)).value(), b_));
         EXPECT_EQ(elsewhere, kIdenticalDb);  // noise of other layers is not its own
         return {};
       }}};
  const Status status = RunLayerJobs(prepared_, judge_, 3, 1 << 20, jobs);
  EXPECT_TRUE(status.ok()) << status.message();
}

}  // namespace
}  // namespace octavo
