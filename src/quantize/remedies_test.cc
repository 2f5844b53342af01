#include "octavo/remedies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/test_files.h"
#include "octavo/calibrate.h"
#include "octavo/npy.h"
#include "octavo/session.h"
#include "quantize/ada_round.h"
#include "quantize/equalize.h"
#include "quantize/quantize_testing.h"
#include "quantize/weight_noise.h"

namespace octavo {
namespace {

using testing::HasSubstr;

// A model with planted outliers, samples for it, and what remedies make of it.
class RemedyTest : public testing::Test {
 protected:
  // (out, in[, 1, 1]) of values in [-1, 1], rows times `out_scale`, columns over `in_scale`; empty: 1.
  ValueId Weights(Dims dims, const std::vector<float>& out_scale, const std::vector<float>& in_scale,
                  bool transposed = false) {
    std::uniform_real_distribution<float> uniform(-1, 1);
    std::vector<float> values;
    for (int64_t row = 0; row < dims[0]; ++row) {
      for (int64_t column = 0; column < dims[1]; ++column) {
        const auto out = static_cast<size_t>(transposed ? column : row),
                   in = static_cast<size_t>(transposed ? row : column);
        const float up = out_scale.empty() ? 1 : out_scale[out], down = in_scale.empty() ? 1 : in_scale[in];
        values.push_back(uniform(random_) * up / down);
      }
    }
    return builder_.Constant(std::move(dims), values);
  }
  ValueId Conv(ValueId in, int64_t out, int64_t channels, const std::vector<float>& out_scale = {},
               const std::vector<float>& in_scale = {}) {
    return builder_.Op("Conv", {in, Weights({out, channels, 1, 1}, out_scale, in_scale)});
  }
  ValueId Silu(ValueId x) { return builder_.Op("Mul", {x, builder_.Op("Sigmoid", {x})}); }

  void Finish(ValueId output, const Dims& dims, float low = -1, float high = 1, bool whole = false) {
    prepared_ = PrepareForQuantization(builder_.Finish({output})).value();
    std::uniform_real_distribution<float> uniform(low, high);
    for (int i = 0; i < 4; ++i) {
      std::vector<float> values(static_cast<size_t>(ElementCount(dims)));
      for (float& value : values) value = whole ? std::nearbyint(uniform(random_)) : uniform(random_);
      if (whole) values[0] = low, values[1] = high;
      const std::string path = folder_ / (std::to_string(i) + ".npz");
      ASSERT_TRUE(SaveNpz(path, {{"x", Tensor::FromVector<float>(dims, values)}}).ok());
    }
    std::vector<Value> inputs;
    for (const ValueId id : prepared_.inputs) inputs.push_back(prepared_.value(id));
    auto data = Dataset::Open(folder_.path(), inputs, {});
    ASSERT_TRUE(data.ok()) << data.status().message();
    data_.emplace(*std::move(data));
    auto report = Calibrate(prepared_, *data_);
    ASSERT_TRUE(report.ok()) << report.status().message();
    stats_ = std::move(report->stats);
  }

  // With that remedy alone, judged.
  RemedyOutcome Only(std::string_view name) {
    RemedyOptions options;
    options.threads = 1;
    for (const RemedyInfo& info : AllRemedies()) {
      if (info.name != name) options.never.emplace_back(info.name);
      if (info.slow) options.slow.emplace_back(info.name);
    }
    auto outcome = DecideWithRemedies(prepared_, stats_, *data_, policy_, options);
    EXPECT_TRUE(outcome.ok()) << outcome.status().message();
    if (!outcome.ok()) return {};
    EXPECT_EQ(outcome->recipe.remedies.size(), 1u);
    return *outcome;
  }

  // Kept, by at least so many dB, and the float model computes the same.
  void ExpectHelps(std::string_view name, double least_db, double tolerance) {
    const RemedyOutcome outcome = Only(name);
    ASSERT_EQ(outcome.recipe.remedies.size(), 1u);
    const RemedyRecipe& remedy = outcome.recipe.remedies[0];
    EXPECT_TRUE(remedy.kept) << remedy.reason;
    EXPECT_GT(outcome.sqnr_db, outcome.plain_sqnr_db + least_db) << "from " << outcome.plain_sqnr_db;
    EXPECT_EQ(remedy.gain_db, outcome.sqnr_db - outcome.plain_sqnr_db);
    Recipe rewrites = outcome.recipe;
    rewrites.biases.clear();  // what makes up for rounding
    ExpectSameOutputs(prepared_, RewriteByRecipe(prepared_, rewrites).value(), tolerance);
    // The recipe alone makes the same model, through its file.
    const Recipe read = ParseRecipe(FormatRecipe(outcome.recipe), "r").value();
    EXPECT_EQ(FormatRecipe(read), FormatRecipe(outcome.recipe));
    EXPECT_EQ(ModelFingerprint(ApplyRecipe(prepared_, read).value()),
              ModelFingerprint(ApplyRecipe(prepared_, outcome.recipe).value()));
  }

  TestGraph builder_;
  std::mt19937 random_{3};
  TemporaryFolder folder_;
  Graph prepared_;
  Policy policy_;
  std::optional<Dataset> data_;
  Stats stats_;
};

// One channel 100 times the others costs all others log2(100) of 8 bits, about 40 dB. Rescaling by powers of two is
// exact in float, to the bit.
TEST_F(RemedyTest, EqualizeSolvesAResidualStream) {
  const std::vector<float> planted = {1, 1, 100, 1, 1, 0.02f, 1, 1};
  const ValueId x = builder_.Input("x", {1, 4, 8, 8});
  const ValueId s = Conv(x, 8, 4, planted);
  const ValueId inside = builder_.Op("Relu", {Conv(s, 16, 8, {}, planted)});
  const ValueId sum = builder_.Op("Add", {s, Conv(inside, 8, 16, planted)});
  Finish(Conv(sum, 4, 8, {}, planted), {1, 4, 8, 8});
  ExpectHelps("equalize", 15, 0);
}

TEST_F(RemedyTest, SmoothNormMovesOutliersIntoTheLinear) {
  const std::vector<float> planted = {1, 60, 1, 1, 1, 1, 1, 1};
  const ValueId x = builder_.Input("x", {1, 9, 8});
  const ValueId centred = builder_.Op("Sub", {x, builder_.Op("ReduceMean", {x}, {{"axes", std::vector<int64_t>{-1}}})});
  const ValueId square = builder_.Op("Pow", {centred, builder_.Scalar(2)});
  const ValueId variance = builder_.Op("ReduceMean", {square}, {{"axes", std::vector<int64_t>{-1}}});
  const ValueId deviation = builder_.Op("Sqrt", {builder_.Op("Add", {variance, builder_.Scalar(1e-5f)})});
  const ValueId scaled =
      builder_.Op("Mul", {builder_.Op("Div", {centred, deviation}), builder_.Constant({8}, planted)});
  const ValueId normal = builder_.Op("Add", {scaled, builder_.Constant({8}, {0, 6, 0, 0, 0, 0, 0, 0})});
  Finish(builder_.Op("MatMul", {normal, Weights({8, 6}, {}, planted, true)}), {1, 9, 8});
  ExpectHelps("smooth-norm", 10, 0);
}

TEST_F(RemedyTest, MigrateDepthwise) {
  const std::vector<float> planted = {1, 1, 1, 80, 1, 1, 1, 1};
  const ValueId x = builder_.Input("x", {1, 4, 8, 8});
  const ValueId a = Silu(Conv(x, 8, 4, planted));
  std::vector<float> small;
  for (const float scale : planted) small.push_back(1 / scale);
  const ValueId depthwise = builder_.Op("Conv", {a, builder_.Constant({8, 1, 1, 1}, small)}, {{"group", int64_t{8}}});
  Finish(depthwise, {1, 4, 8, 8});
  ExpectHelps("migrate-depthwise", 10, 0);
  EXPECT_EQ(Only("migrate").recipe.remedies[0].reason, "no scale of a channel is free to move");
}

TEST_F(RemedyTest, MigrateCrossesAnActivation) {
  const std::vector<float> planted = {1, 1, 1, 80, 1, 1, 1, 1};
  const ValueId x = builder_.Input("x", {1, 4, 8, 8});
  Finish(Conv(Silu(Conv(x, 8, 4, planted)), 6, 8, {}, planted), {1, 4, 8, 8});
  ExpectHelps("migrate", 10, 0);
  EXPECT_FALSE(Only("equalize").recipe.remedies[0].kept);
}

// SiLU reaches from -0.28 to several: of a symmetric range half is never used. A bit is 6 dB, less what weights cost.
// Sums of 8 products, rounded 11 times, of |w| < 1 and |x| < 4, |v| < 2.
TEST_F(RemedyTest, ShiftChannelsFillsASymmetricRange) {
  policy_.target = "tensorrt";
  const ValueId x = builder_.Input("x", {1, 4, 8, 8});
  Finish(Conv(Silu(Conv(x, 8, 4, std::vector<float>(8, 4.0f))), 6, 8), {1, 4, 8, 8});
  ExpectHelps("shift-channels", 2, 8 * (8 + 2 * 4) * 11 * 0x1p-24);
}

// Channels that lie far apart, by LayerNorm's beta: together they span 44, each of them 5; then most of the noise is of
// weights. The shift is part of beta.
TEST_F(RemedyTest, ShiftChannelsGoesIntoBeta) {
  const ValueId x = builder_.Input("x", {1, 9, 8});
  const ValueId normal = builder_.Op("LayerNormalization",
                                     {x, builder_.Filled({8}, 1), builder_.Constant({8}, {0, 20, 0, -20, 5, 0, 0, 9})});
  Finish(builder_.Op("Add", {builder_.Op("MatMul", {normal, Weights({8, 6}, {}, {}, true)}), builder_.Random({6})}),
         {1, 9, 8});
  // 8 products of |w| < 1 and |x| < 23, |v| < 20.
  ExpectHelps("shift-channels", 3, 8 * (23 + 2 * 20) * 11 * 0x1p-24);
  const RemedyOutcome outcome = Only("shift-channels");
  EXPECT_EQ(CountOps(RewriteByRecipe(prepared_, outcome.recipe).value(), "Add"), 1);
}

// What a convolution makes and another one multiplies has one pair where the target quantizes results, and one scale.
TEST_F(RemedyTest, ShiftedResultsHaveOneScale) {
  policy_.target = "onnxruntime";
  const ValueId x = builder_.Input("x", {1, 4, 8, 8});
  const ValueId shifted =
      builder_.Op("Conv", {x, builder_.Random({8, 4, 1, 1}), builder_.Constant({8}, {0, 20, 0, -20, 5, 0, 0, 9})});
  const ValueId hidden = builder_.Op("Conv", {shifted, builder_.Random({6, 8, 1, 1})});
  Finish(builder_.Op("Conv", {hidden, builder_.Random({2, 6, 1, 1})}), {1, 4, 8, 8});
  const RemedyOutcome outcome = Only("shift-channels");
  EXPECT_EQ(outcome.recipe.shifts.size(), 1u);
  size_t results = 0;
  for (const ActivationRecipe& result : outcome.recipe.activations) {
    const ActivationRecipe* operand = FindActivation(outcome.recipe, result.tensor);
    results += result.result_of.empty() ? 0 : 1;
    EXPECT_EQ(operand->scale, result.scale);
    EXPECT_EQ(operand->zero_point, result.zero_point);
  }
  EXPECT_EQ(results, 2u);
}

// A picture's border sees zeros that a shift would move.
TEST_F(RemedyTest, ShiftChannelsLeavesPaddingAlone) {
  policy_.target = "tensorrt";
  const ValueId x = builder_.Input("x", {1, 4, 8, 8});
  const ValueId a = builder_.Op("Relu", {Conv(x, 4, 4)});
  Finish(builder_.Op("Conv", {a, builder_.Random({4, 4, 3, 3})}, {{"pads", std::vector<int64_t>(4, 1)}}), {1, 4, 8, 8});
  EXPECT_EQ(Only("shift-channels").recipe.remedies[0].reason, "no range would shrink enough");
}

// Keys around +-8 by their biases, each sign in every head: turned, they span half as much. Products and sums keep
// their bits.
TEST_F(RemedyTest, FoldSignsTurnsKeys) {
  policy_.quantize_attention = true;
  const ValueId x = builder_.Input("x", {1, 6, 8});
  const auto heads = [&](const std::vector<float>& bias, std::vector<int64_t> perm) {
    const ValueId linear = builder_.Op("MatMul", {x, Weights({8, 8}, {}, {}, true)});
    const ValueId biased = builder_.Op("Add", {linear, builder_.Constant({8}, bias)});
    const ValueId split = builder_.Op("Reshape", {biased, builder_.Ints({1, 6, 2, 4})});
    return builder_.Op("Transpose", {split}, {{"perm", std::move(perm)}});
  };
  const std::vector<float> none(8, 0.0f);
  const ValueId q = builder_.Op("Mul", {heads(none, {0, 2, 1, 3}), builder_.Scalar(0.5f)});
  const ValueId k = heads({8, -8, 8, -8, -8, -8, 8, 8}, {0, 2, 3, 1});
  const ValueId scores = builder_.Op("MatMul", {q, k});
  Finish(builder_.Op("MatMul", {builder_.Op("Softmax", {scores}, {{"axis", int64_t{-1}}}), heads(none, {0, 2, 1, 3})}),
         {1, 6, 8});
  ExpectHelps("fold-signs", 2, 0);
  const RemedyOutcome outcome = Only("fold-signs");
  EXPECT_EQ(outcome.recipe.rescales.size(), 3u);  // weights of both, and the keys' bias: queries have none
  const std::string keys = builder_.graph().value(k).name;
  const auto plain = Decide(prepared_, stats_, policy_).value();
  ASSERT_TRUE(FindActivation(plain, keys) != nullptr && FindActivation(outcome.recipe, keys) != nullptr);
  EXPECT_LT(FindActivation(outcome.recipe, keys)->scale, 0.7f * FindActivation(plain, keys)->scale);
  policy_.target = "tensorrt";
  EXPECT_THAT(Only("fold-signs").recipe.remedies[0].reason, HasSubstr("zero point 0"));
  policy_.target = "octavo";
  policy_.quantize_attention = false;
  EXPECT_EQ(Only("fold-signs").recipe.remedies[0].reason, "products of attention stay float");
}

// Linear attention's ReLU treats signs apart.
TEST_F(RemedyTest, FoldSignsStopsAtRelu) {
  policy_.quantize_attention = true;
  const ValueId x = builder_.Input("x", {1, 6, 8});
  const auto linear = [&] { return builder_.Op("MatMul", {x, Weights({8, 4}, {}, {}, true)}); };
  const ValueId q = builder_.Op("Relu", {linear()});
  const ValueId k = builder_.Op("Add", {linear(), builder_.Constant({4}, {8, -8, 8, -8})});
  Finish(builder_.Op("MatMul", {q, builder_.Op("Transpose", {k}, {{"perm", std::vector<int64_t>{0, 2, 1}}})}),
         {1, 6, 8});
  EXPECT_EQ(Only("fold-signs").recipe.remedies[0].reason, "no range would shrink");
}

// Two branches of ranges 1 : 100 before a Concat: one scale for both leaves 1.3 bits to the smaller, which its reader
// weighs a hundred times. Rescaled, both fill it.
TEST_F(RemedyTest, EqualizeGivesBranchesOfAConcatTheirScales) {
  const ValueId x = builder_.Input("x", {1, 4, 8, 8});
  const ValueId small = Conv(x, 4, 4), large = Conv(x, 4, 4, std::vector<float>(4, 100));
  const ValueId both = builder_.Op("Concat", {small, large}, {{"axis", int64_t{1}}});
  Finish(Conv(both, 6, 8, {}, {1, 1, 1, 1, 100, 100, 100, 100}), {1, 4, 8, 8});
  ExpectHelps("equalize", 20, 0);
}

// The same behind activation functions, which no scale crosses.
TEST_F(RemedyTest, MigrateGivesBranchesOfAConcatTheirScales) {
  const ValueId x = builder_.Input("x", {1, 4, 8, 8});
  const ValueId small = Silu(Conv(x, 4, 4)), large = Silu(Conv(x, 4, 4, std::vector<float>(4, 100)));
  const ValueId both = builder_.Op("Concat", {small, large}, {{"axis", int64_t{1}}});
  Finish(Conv(both, 6, 8, {}, {1, 1, 1, 1, 100, 100, 100, 100}), {1, 4, 8, 8});
  ExpectHelps("migrate", 20, 0);
}

// Inputs are whole numbers from 0 to 255, which uint8 holds exactly: all noise is that of weights, and most of it a
// constant, for the inputs' mean is far larger than their deviation. The bias takes it back.
TEST_F(RemedyTest, CorrectBiasTakesBackTheMean) {
  const ValueId x = builder_.Input("x", {1, 16, 4, 4});
  const ValueId conv = builder_.Op("Conv", {x, Weights({8, 16, 1, 1}, {}, {}), builder_.Random({8})});
  Finish(conv, {1, 16, 4, 4}, 0, 255, true);
  const RemedyOutcome outcome = Only("correct-bias");
  EXPECT_TRUE(outcome.recipe.remedies[0].kept);
  // Uniform inputs: the mean's square is 3 times the variance, so a quarter of the noise is left: 6 dB, less what the
  // sample's mean misses.
  EXPECT_GT(outcome.sqnr_db, outcome.plain_sqnr_db + 3);
  EXPECT_EQ(outcome.recipe.biases.size(), 1u);
}

// The same for a window of 3 x 3 over a picture of 3 x 3: of 81 products per channel padding leaves 49. A bias that
// counted all would add 32/49 of what it takes back.
TEST_F(RemedyTest, CorrectBiasKnowsPadding) {
  const ValueId x = builder_.Input("x", {1, 8, 3, 3});
  const ValueId w = builder_.Random({8, 8, 3, 3}, 0.1f, 1);
  Finish(builder_.Op("Conv", {x, w, builder_.Random({8})}, {{"pads", std::vector<int64_t>(4, 1)}}), {1, 8, 3, 3}, 128,
         255, true);
  Recipe recipe = Decide(prepared_, stats_, {}).value();
  recipe.biases = CorrectBiases(prepared_, *data_, 4, 1, recipe).value();
  const Graph quantized = ApplyRecipe(prepared_, recipe).value();
  // With the weights' errors alone, the sum over a channel's results vanishes but for the inputs' spread.
  std::vector<double> mean(8), size(8);
  for (size_t i = 0; i < data_->size(); ++i) {
    const std::vector<Tensor> inputs = {data_->Load(i).value().at("x")};
    const auto expected = EvaluateGraph(prepared_, inputs).value(), found = EvaluateGraph(quantized, inputs).value();
    for (size_t k = 0; k < 72; ++k) {
      const double error = found[0].values<float>()[k] - expected[0].values<float>()[k];
      mean[k / 9] += error;
      size[k / 9] += std::abs(error);
    }
  }
  for (size_t c = 0; c < 8; ++c) EXPECT_LT(std::abs(mean[c]), 0.25 * size[c]) << c;
}

// The largest weights multiply a channel that hardly speaks.
TEST_F(RemedyTest, ClipWeightsWeighsByPower) {
  std::vector<float> loud(16, 1.0f);
  loud[0] = 1e-4f;
  const ValueId x = builder_.Input("x", {1, 16});
  const ValueId quiet = builder_.Op("Mul", {x, builder_.Constant({16}, loud)});
  const ValueId w = Weights({16, 8}, {}, std::vector<float>{0.3f, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, true);
  Finish(builder_.Op("MatMul", {quiet, w}), {1, 16});
  Recipe recipe = Decide(prepared_, stats_, {}).value();
  const Recipe before = recipe;
  const auto changed = ClipWeights(prepared_, *data_, 4, 1, recipe);
  ASSERT_TRUE(changed.ok()) << changed.status().message();
  EXPECT_GT(*changed, 0);
  for (size_t o = 0; o < recipe.weights[0].scales.size(); ++o) {
    EXPECT_LE(recipe.weights[0].scales[o], before.weights[0].scales[o]);
    EXPECT_GE(recipe.weights[0].scales[o], 0.79f * before.weights[0].scales[o]);
  }
  ASSERT_TRUE(ApplyRecipe(prepared_, recipe).ok());
}

// Four copies of each input, which uint8 holds exactly: nearest rounding leaves four errors of variance s^2 / 12, and
// weights rounded together only that of their sum: 6 dB less noise, of which the bias leaves out the mean's.
TEST_F(RemedyTest, AdaRoundFitsWeightsTogether) {
  const ValueId x = builder_.Input("x", {1, 4, 8, 8});
  const ValueId copies = builder_.Op("Concat", {x, x, x, x}, {{"axis", int64_t{1}}});
  Finish(Conv(copies, 16, 16), {1, 4, 8, 8}, 0, 255, true);
  const RemedyOutcome outcome = Only("ada-round");
  const RemedyRecipe& remedy = outcome.recipe.remedies[0];
  EXPECT_TRUE(remedy.kept) << remedy.reason;
  EXPECT_GT(remedy.gain_db, 5);
  EXPECT_GT(outcome.sqnr_db, outcome.plain_sqnr_db + 5);
  const Recipe read = ParseRecipe(FormatRecipe(outcome.recipe), "r").value();
  EXPECT_EQ(FormatRecipe(read), FormatRecipe(outcome.recipe));
  EXPECT_EQ(ModelFingerprint(ApplyRecipe(prepared_, read).value()),
            ModelFingerprint(ApplyRecipe(prepared_, outcome.recipe).value()));
  Recipe nearest = outcome.recipe;
  for (WeightRecipe& weight : nearest.weights) weight.offsets.clear();
  EXPECT_NE(ModelFingerprint(ApplyRecipe(prepared_, nearest).value()),
            ModelFingerprint(ApplyRecipe(prepared_, outcome.recipe).value()));
}

TEST_F(RemedyTest, AdaRoundReachesDepthwiseAndProducts) {
  const ValueId x = builder_.Input("x", {1, 2, 16, 16});
  const ValueId wide = builder_.Op("Relu", {Conv(x, 24, 2)});
  const ValueId depthwise = builder_.Op("Conv", {wide, builder_.Random({24, 1, 3, 3}), builder_.Random({24})},
                                        {{"group", int64_t{24}}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}});
  const ValueId tokens = builder_.Op("Transpose", {builder_.Op("Reshape", {depthwise, builder_.Ints({1, 24, 256})})},
                                     {{"perm", std::vector<int64_t>{0, 2, 1}}});
  const ValueId product = builder_.Op("MatMul", {tokens, builder_.Random({24, 12})});
  Finish(builder_.Op("Add", {product, builder_.Random({12})}), {1, 2, 16, 16});
  Recipe recipe = Decide(prepared_, stats_, {}).value();
  ASSERT_EQ(recipe.weights.size(), 3u);
  recipe.biases = {{recipe.weights[1].node, std::vector<float>(24, 100.0f)}};
  LayerRoundingOptions options;
  options.samples = {0, 1, 2, 3};
  options.threads = 1;
  std::vector<size_t> done;
  options.progress = [&](size_t layers, size_t) { done.push_back(layers); };
  ASSERT_TRUE(RoundLayers(prepared_, *data_, options, recipe).ok());
  EXPECT_THAT(done, testing::ElementsAre(0, 1, 2, 3));
  EXPECT_FALSE(recipe.weights[1].offsets.empty());
  EXPECT_FALSE(recipe.weights[2].offsets.empty());
  ASSERT_EQ(recipe.biases.size(), 3u);
  EXPECT_LT(std::abs(recipe.biases[0].values[0]), 1);  // found anew: the float model has no such bias
  EXPECT_TRUE(ApplyRecipe(prepared_, recipe).ok());
}

// The engine's results on these small layers do not depend on its threads, and nor do integers.
TEST_F(RemedyTest, AdaRoundIsTheSameOnAnyThreads) {
  const ValueId x = builder_.Input("x", {1, 4, 8, 8});
  Finish(Conv(builder_.Op("Relu", {Conv(x, 70, 4)}), 8, 70), {1, 4, 8, 8});
  const Recipe plain = Decide(prepared_, stats_, {}).value();
  std::vector<std::string> recipes;
  for (const int threads : {1, 2, 3}) {
    Recipe recipe = plain;
    LayerRoundingOptions options;
    options.samples = {0, 1, 2};
    options.threads = threads;
    const auto moved = RoundLayers(prepared_, *data_, options, recipe);
    ASSERT_TRUE(moved.ok()) << moved.status().message();
    EXPECT_GT(*moved, 0);
    recipes.push_back(FormatRecipe(recipe));
  }
  EXPECT_EQ(recipes[1], recipes[0]);
  EXPECT_EQ(recipes[2], recipes[0]);
}

TEST_F(RemedyTest, KeepsOnlyWhatGains) {
  const ValueId x = builder_.Input("x", {1, 4, 8, 8});
  Finish(Conv(builder_.Op("Relu", {Conv(x, 8, 4)}), 4, 8), {1, 4, 8, 8});
  RemedyOptions options;
  options.threads = 1;
  options.least_gain_db = 100;
  const auto none = DecideWithRemedies(prepared_, stats_, *data_, {}, options);
  ASSERT_TRUE(none.ok()) << none.status().message();
  EXPECT_EQ(none->sqnr_db, none->plain_sqnr_db);
  EXPECT_TRUE(none->recipe.rescales.empty() && none->recipe.biases.empty());
  EXPECT_EQ(none->recipe.remedies.size(), AllRemedies().size() - 1);  // the slow one is not tried
  options.always = {"correct-bias"};
  const auto one = DecideWithRemedies(prepared_, stats_, *data_, {}, options);
  ASSERT_TRUE(one.ok()) << one.status().message();
  EXPECT_EQ(one->recipe.biases.size(), 2u);
}

TEST_F(RemedyTest, Refuses) {
  const ValueId x = builder_.Input("x", {1, 4, 8, 8});
  Finish(Conv(x, 4, 4), {1, 4, 8, 8});
  const auto error = [&](const Policy& policy, const RemedyOptions& options) {
    const auto outcome = DecideWithRemedies(prepared_, stats_, *data_, policy, options);
    return outcome.ok() ? "no error" : outcome.status().message();
  };
  RemedyOptions unknown;
  unknown.always = {"prayer"};
  EXPECT_THAT(error({}, unknown), HasSubstr("'prayer' is no remedy: defer-softmax, search-ranges, equalize"));
  std::swap(unknown.always, unknown.never);
  EXPECT_THAT(error({}, unknown), HasSubstr("is no remedy"));
  RemedyOptions signs;
  signs.always = {"fold-signs"};
  Policy symmetric;
  symmetric.target = "tensorrt";
  EXPECT_THAT(error(symmetric, signs), HasSubstr("no fold-signs: tensorrt's int8 has zero point 0"));
  Policy implicit;
  implicit.preset = "tensorrt8-implicit";
  EXPECT_THAT(error(implicit, {}), HasSubstr("another tool"));
}

}  // namespace
}  // namespace octavo
