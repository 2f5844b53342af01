#include "octavo/sensitivity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/json_object.h"
#include "base/test_files.h"
#include "octavo/compare.h"
#include "search/search_testing.h"

namespace octavo {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class SensitivityTest : public testing::Test {
 protected:
  SensitivityTest() { options_.checkpoint = folder_ / "c.checkpoint"; }

  Result<SensitivityReport> Measure() const {
    return MeasureSensitivity(model_.prepared, model_.recipe, model_.stats, judge_, options_);
  }
  // Stops once `layers` were measured.
  SensitivityReport StopAfter(size_t layers) {
    std::atomic<bool> stop = false;
    options_.stop = &stop;
    options_.progress = [&](size_t done, size_t) { stop = done >= layers; };
    auto report = Measure();
    EXPECT_TRUE(report.ok()) << report.status().message();
    options_.stop = nullptr;
    options_.progress = nullptr;
    return std::move(report).value();
  }
  std::string ReadCheckpoint() const {
    std::ifstream stream(options_.checkpoint);
    return {std::istreambuf_iterator<char>(stream), {}};
  }

  TemporaryFolder folder_;
  const PlantedModel model_{{4, 8, 8, 8}, {2}};
  const Judge judge_ = model_.OpenJudge();
  SensitivityOptions options_;
};

TEST_F(SensitivityTest, ThePlantedLayerIsTheHardest) {
  const auto report = Measure();
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_FALSE(report->stopped);
  ASSERT_EQ(report->layers.size(), 4u);
  const LayerSensitivity& hardest = report->layers[0];
  EXPECT_EQ(hardest.node, model_.nodes[2]);
  EXPECT_EQ(hardest.op, "Conv");
  EXPECT_EQ(hardest.macs, 8 * 8 * 64);
  ASSERT_EQ(hardest.alone.size(), 3u);
  EXPECT_EQ(hardest.alone[0].precision, DType::kInt8);
  EXPECT_EQ(hardest.alone[2].precision, DType::kFloat16);
  // An outlier of 100 costs up to 40 dB; the others have 8 bits to themselves.
  EXPECT_LT(hardest.alone[0].sqnr_db + 10, report->layers[1].alone[0].sqnr_db);
  EXPECT_LT(hardest.alone[0].sqnr_db, hardest.alone[1].sqnr_db);  // bfloat16 has no common range
  EXPECT_THAT(hardest.reason, testing::AllOf(StartsWith("activations: "), HasSubstr("channel 2 ranges")));
  EXPECT_LT(hardest.activation_sqnr_db, hardest.weight_sqnr_db);
  for (size_t i = 1; i < 4; ++i) {
    const LayerSensitivity& layer = report->layers[i];
    EXPECT_THAT(layer.reason, testing::Not(HasSubstr("channel"))) << layer.node;
    EXPECT_LE(report->layers[i - 1].alone[0].score, layer.alone[0].score);
    // Only the planted layer in float makes up for it.
    EXPECT_GT(hardest.without_sqnr_db, layer.without_sqnr_db + 6);
  }
  EXPECT_GT(hardest.without_score, report->all_quantized.score.mean);
  EXPECT_EQ(report->all_quantized.scores, judge_.Score(ApplyRecipe(model_.prepared, model_.recipe).value())->scores);
}

TEST_F(SensitivityTest, LittleMemoryGivesEqualText) {
  const auto cached = Measure();
  options_.memory_bytes = 0;
  const auto streamed = Measure();
  ASSERT_TRUE(cached.ok() && streamed.ok());
  EXPECT_EQ(FormatSensitivity(*cached), FormatSensitivity(*streamed));
}

TEST_F(SensitivityTest, GoesOnFromItsCheckpoint) {
  const auto whole = Measure();
  ASSERT_TRUE(whole.ok());
  // In the first sweep, of layers alone, and in the second.
  for (const bool second : {false, true}) {
    options_.resume = false;
    size_t sweeps = 0;
    std::atomic<bool> stop = false;
    options_.stop = &stop;
    options_.progress = [&](size_t done, size_t) {
      sweeps += done == 1;
      stop = sweeps == (second ? 2u : 1u);
    };
    const auto stopped = Measure();
    ASSERT_TRUE(stopped.ok()) << stopped.status().message();
    EXPECT_TRUE(stopped->stopped);
    EXPECT_EQ(stopped->layers.size(), second ? 4u : 1u);
    std::vector<size_t> steps;
    options_.stop = nullptr;
    options_.resume = true;
    options_.progress = [&](size_t done, size_t total) {
      EXPECT_EQ(total, 4u);
      steps.push_back(done);
    };
    const auto resumed = Measure();
    ASSERT_TRUE(resumed.ok()) << resumed.status().message();
    EXPECT_FALSE(resumed->stopped);
    EXPECT_EQ(FormatSensitivity(*resumed), FormatSensitivity(*whole));
    EXPECT_EQ(steps, second ? std::vector<size_t>({4, 1, 2, 3, 4}) : std::vector<size_t>({1, 2, 3, 4, 1, 2, 3, 4}));
  }
}

TEST_F(SensitivityTest, ResumingWithoutACheckpointStarts) {
  options_.resume = true;
  options_.without = false;
  EXPECT_EQ(Measure()->layers.size(), 4u);
}

TEST_F(SensitivityTest, CheckpointsOfSomethingElse) {
  StopAfter(1);
  options_.resume = true;
  options_.settings = "other";
  EXPECT_THAT(Measure().status().message(), testing::AllOf(HasSubstr("c.checkpoint"), HasSubstr("remove it")));
  options_.settings.clear();
  options_.precisions = {DType::kInt8};
  EXPECT_THAT(Measure().status().message(), HasSubstr("another model"));
  options_.precisions = SensitivityOptions().precisions;
  const PlantedModel other({4, 8, 8, 8}, {1});
  const auto of_other = MeasureSensitivity(other.prepared, other.recipe, other.stats, other.OpenJudge(), options_);
  EXPECT_THAT(of_other.status().message(), HasSubstr("another model"));
  EXPECT_TRUE(Measure().ok());
}

// A file that was cut or edited is an error, whatever it says.
TEST_F(SensitivityTest, HostileCheckpoints) {
  StopAfter(1);
  const std::string good = ReadCheckpoint();
  options_.resume = true;
  const auto refused = [&](const std::string& text) {
    WriteText(options_.checkpoint, text);
    const auto report = Measure();
    EXPECT_FALSE(report.ok()) << text;
    return report.ok() ? std::string() : report.status().message();
  };
  EXPECT_THAT(refused(good.substr(0, good.size() / 2)), HasSubstr("no JSON"));
  EXPECT_THAT(refused("{}"), HasSubstr("\"of\" is missing"));
  EXPECT_THAT(refused("[]"), HasSubstr("is no object"));
  EXPECT_THAT(refused(std::string(1000, '[')), HasSubstr("nested"));
  Json document = Json::parse(good);
  ASSERT_EQ(document["layers"].size(), 1u);
  const auto with = [&](const std::function<void(Json & layer)>& change) {
    Json changed = document;
    change(changed["layers"][0]);
    return refused(changed.dump());
  };
  const char* kPrecisions = "holds other precisions";
  EXPECT_THAT(with([](Json& layer) { layer.erase("alone"); }), HasSubstr(kPrecisions));
  EXPECT_THAT(with([](Json& layer) { layer["alone"].erase(2); }), HasSubstr(kPrecisions));
  EXPECT_THAT(with([](Json& layer) { layer["alone"][1]["precision"] = "fp16"; }), HasSubstr(kPrecisions));
  EXPECT_THAT(with([](Json& layer) { layer["alone"][1]["precision"] = "int4"; }), HasSubstr("'int4'"));
  EXPECT_THAT(with([](Json& layer) { layer["alone"][1]["score"] = nullptr; }), HasSubstr("a number"));
  EXPECT_THAT(with([](Json& layer) { layer.erase("node"); }), HasSubstr("\"node\" is missing"));
  EXPECT_THAT(with([](Json& layer) { layer["alone_done"] = 1; }), HasSubstr("true or false"));
  EXPECT_THAT(with([](Json& layer) { layer = 7; }), HasSubstr("is missing"));
  WriteText(options_.checkpoint, good);
  EXPECT_TRUE(Measure().ok());
}

TEST_F(SensitivityTest, TextOfAReport) {
  LayerCosts costs;
  for (const std::string& node : model_.nodes) costs.layers[node] = {{DType::kInt8, 1}, {DType::kFloat32, 3.5}};
  options_.costs = &costs;
  options_.precisions = {DType::kInt8, DType::kBFloat16};
  const SensitivityReport report = Measure().value();
  const Json document = Json::parse(FormatSensitivity(report));
  EXPECT_EQ(document["all_int8"]["score"], report.all_quantized.score.mean);
  ASSERT_EQ(document["layers"].size(), 4u);
  EXPECT_EQ(document["layers"][0]["node"], model_.nodes[2]);
  EXPECT_EQ(document["layers"][0]["milliseconds_saved"], 2.5);
  EXPECT_EQ(document["layers"][0]["alone"].size(), 2u);
  EXPECT_EQ(document["layers"][0]["alone"][1]["precision"], "bf16");
  const std::string csv = FormatSensitivityCsv(report);
  EXPECT_THAT(csv, StartsWith("node,op,macs,precision,"));
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 1 + 4 * 2);
  const std::string header = csv.substr(0, csv.find('\n'));
  EXPECT_EQ(std::count(header.begin(), header.end(), ','), 13);

  SensitivityReport odd;
  odd.layers.push_back({});
  odd.layers[0].node = "a,\"b\"";
  odd.layers[0].alone = {{}};
  EXPECT_THAT(FormatSensitivityCsv(odd), HasSubstr("\n\"a,\"\"b\"\"\","));
}

TEST_F(SensitivityTest, WhatCannotBeMeasured) {
  options_.precisions = {DType::kFloat32};
  EXPECT_THAT(Measure().status().message(), HasSubstr("int8, bf16 or fp16"));
  options_.precisions = {DType::kInt8};
  const auto nothing = MeasureSensitivity(model_.prepared, Recipe(), model_.stats, judge_, options_);
  EXPECT_THAT(nothing.status().message(), HasSubstr("quantizes nothing"));
}

TEST(WhyHard, NamesWhatStatisticsShow) {
  TestGraph builder;
  const ValueId x = builder.Input("x", {1, 8, 4, 4});
  const ValueId divisor = builder.Op("Sigmoid", {x});
  const ValueId y = builder.Op("Div", {builder.Op("Conv", {x, builder.Random({8, 8, 1, 1})}), divisor});
  const Graph prepared = PrepareForQuantization(builder.Finish({y})).value();
  const std::string conv = FindOnly(prepared, "Conv")->name, div = FindOnly(prepared, "Div")->name;
  const std::string sigmoid = prepared.value(FindOnly(prepared, "Div")->input(1)).name;
  Recipe recipe;
  recipe.activations = {{"x", {conv}, DType::kInt8, 0.5f, 0, ""}, {sigmoid, {div}, DType::kUInt8, 0.01f, 0, ""}};
  Stats stats;
  TensorStats& of_x = stats.tensors.emplace("x", MakeTensorStats({1, 8, 4, 4}, 1)).first->second;
  of_x.mean_square = 100;  // an RMS of 10, 20 steps
  of_x.channel_min.assign(8, -1);
  of_x.channel_max.assign(8, 2);
  of_x.max = 2;
  EXPECT_EQ(WhyHard(prepared, stats, recipe, conv), "");
  of_x.channel_min[5] = -16;  // 8 times the median range
  EXPECT_EQ(WhyHard(prepared, stats, recipe, conv), "channel 5 ranges 8x the median one");
  of_x.channel_min[5] = -15.9f;
  EXPECT_EQ(WhyHard(prepared, stats, recipe, conv), "");
  of_x.mean_square = 3.9 * 0.25;
  EXPECT_EQ(WhyHard(prepared, stats, recipe, conv), "its RMS is 2.0 steps");
  of_x.mean_square = 100;
  of_x.min = -16376;
  EXPECT_EQ(WhyHard(prepared, stats, recipe, conv), "up to 1.64e+04: near FP16's limit");
  TensorStats& of_divisor = stats.tensors.emplace(sigmoid, MakeTensorStats({1, 8, 4, 4}, 1)).first->second;
  of_divisor.mean_square = 1;
  EXPECT_EQ(WhyHard(prepared, stats, recipe, div), "a divisor: what is below 0.005 becomes 0");
  EXPECT_EQ(WhyHard(prepared, stats, recipe, "nobody"), "");
}

}  // namespace
}  // namespace octavo
