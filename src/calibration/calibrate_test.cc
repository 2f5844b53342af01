#include "octavo/calibrate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/test_files.h"
#include "calibration/checkpoint.h"
#include "octavo/npy.h"
#include "octavo/onnx.h"
#include "octavo/quantize.h"
#include "passes/pass_test_graph.h"

namespace octavo {
namespace {

using testing::HasSubstr;

std::vector<Value> InputsOf(const Graph& graph) {
  std::vector<Value> inputs;
  for (const ValueId id : graph.inputs) inputs.push_back(graph.value(id));
  return inputs;
}

// The embedded encoder over the four sample pictures.
class NanoCalibration : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const std::string source = OCTAVO_SOURCE_DIR;
    auto model = LoadOnnx(source + "/models/efficientvit-sam-nano-encoder.onnx");
    ASSERT_TRUE(model.ok()) << model.status().message();
    auto data = Dataset::Open(source + "/samples", InputsOf(*model), PreprocessSpec::Sam());
    ASSERT_TRUE(data.ok()) << data.status().message();
    data_ = new Dataset(*std::move(data));
    const auto dims = FindInputDims(*data_);
    ASSERT_TRUE(dims.ok()) << dims.status().message();
    auto prepared = PrepareForQuantization(*std::move(model), *dims);
    ASSERT_TRUE(prepared.ok()) << prepared.status().message();
    prepared_ = new Graph(*std::move(prepared));
    CalibrateOptions options;
    options.threads = 1;
    whole_ = new std::vector<std::byte>(Bytes(options));
    ASSERT_FALSE(whole_->empty());
  }
  static void TearDownTestSuite() {
    delete data_;
    delete prepared_;
    delete whole_;
  }

  static std::vector<std::byte> Bytes(const CalibrateOptions& options) {
    const auto report = Calibrate(*prepared_, *data_, options);
    EXPECT_TRUE(report.ok()) << report.status().message();
    if (!report.ok() || report->stopped) return {};
    return *SerializeStats(report->stats);
  }

  inline static Dataset* data_ = nullptr;
  inline static Graph* prepared_ = nullptr;
  inline static std::vector<std::byte>* whole_ = nullptr;  // of one thread, in one go
};

TEST_F(NanoCalibration, SeesEveryTensorOfEverySample) {
  const auto stats = ParseStats(*whole_, "whole");
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(stats->samples, 4u);
  EXPECT_EQ(stats->fingerprint, ModelFingerprint(*prepared_));
  const auto tensors = QuantizableTensors(*prepared_);
  ASSERT_TRUE(tensors.ok());
  ASSERT_EQ(stats->tensors.size(), tensors->size());
  for (const std::string& name : *tensors) {
    const TensorStats& tensor = stats->tensors.at(name);
    EXPECT_EQ(tensor.count, 4 * static_cast<uint64_t>(ElementCount(tensor.dims))) << name;
    EXPECT_LT(tensor.min, tensor.max) << name;
    EXPECT_GE(tensor.mean_square, tensor.mean * tensor.mean) << name;
  }
}

TEST_F(NanoCalibration, ThreadsDoNotChangeABit) {
  for (const int threads : {2, 4, 7}) {
    CalibrateOptions options;
    options.threads = threads;
    EXPECT_EQ(Bytes(options), *whole_) << threads;
  }
}

TEST_F(NanoCalibration, ShardsAddUpToTheWhole) {
  Stats merged;
  for (const size_t shard : {2, 0, 1}) {
    CalibrateOptions options;
    options.threads = 2;
    options.shard_index = shard;
    options.shard_count = 3;
    const auto report = Calibrate(*prepared_, *data_, options);
    ASSERT_TRUE(report.ok()) << report.status().message();
    if (merged.samples == 0) {
      merged = report->stats;
    } else {
      ASSERT_TRUE(MergeStats(merged, report->stats).ok());
    }
  }
  EXPECT_EQ(*SerializeStats(merged), *whole_);
}

TEST_F(NanoCalibration, AStoppedRunGoesOnToTheSameBits) {
  const TemporaryFolder folder;
  std::atomic<bool> stop = false;
  CalibrateOptions options;
  options.threads = 1;
  options.checkpoint = folder / "c.checkpoint";
  options.stop = &stop;
  options.progress = [&](size_t, size_t) { stop = true; };
  options.resume = true;  // there is nothing to resume yet
  for (size_t done = 1; done < 4; ++done) {
    stop = false;
    const auto report = Calibrate(*prepared_, *data_, options);
    ASSERT_TRUE(report.ok()) << report.status().message();
    EXPECT_TRUE(report->stopped);
    EXPECT_EQ(report->resumed, done - 1);
    EXPECT_EQ(report->done, done);
    EXPECT_TRUE(report->stats.tensors.empty());
  }
  stop = false;
  const auto report = Calibrate(*prepared_, *data_, options);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_FALSE(report->stopped);  // the last sample was done when the stop came
  EXPECT_EQ(*SerializeStats(report->stats), *whole_);
}

TEST_F(NanoCalibration, RefusesACheckpointOfSomethingElse) {
  const TemporaryFolder folder;
  std::atomic<bool> stop = false;
  CalibrateOptions options;
  options.threads = 1;
  options.checkpoint = folder / "c.checkpoint";
  options.stop = &stop;
  options.progress = [&](size_t, size_t) { stop = true; };
  ASSERT_TRUE(Calibrate(*prepared_, *data_, options).ok());
  stop = false;
  options.resume = true;
  CalibrateOptions other = options;
  other.settings = "other";
  EXPECT_THAT(Calibrate(*prepared_, *data_, other).status().message(), HasSubstr("other settings"));
  Dataset fewer = *data_;
  fewer.Truncate(3);
  EXPECT_THAT(Calibrate(*prepared_, fewer, options).status().message(), HasSubstr("other data"));
  Graph changed = *prepared_;
  changed.opsets[""] += 1;
  EXPECT_THAT(Calibrate(changed, *data_, options).status().message(), HasSubstr("another model"));
  const auto saved = LoadCheckpoint(options.checkpoint);
  ASSERT_TRUE(saved.ok()) << saved.status().message();
  std::filesystem::resize_file(options.checkpoint, 1000);
  EXPECT_THAT(Calibrate(*prepared_, *data_, options).status().message(), HasSubstr("damaged"));
  WriteText(options.checkpoint, "not a checkpoint at all");
  EXPECT_THAT(Calibrate(*prepared_, *data_, options).status().message(), HasSubstr("is no checkpoint"));
}

// ---- A tiny model: y = sqrt(x w), z = y + y.

class TinyCalibration : public testing::Test {
 protected:
  TinyCalibration() {
    const ValueId x = graph_.Input("x", {1, 2, 3});
    const ValueId product = graph_.Op("MatMul", {x, graph_.Constant({3, 2}, {1, 0, 0, 1, 0, 0})});
    const ValueId root = graph_.Op("Sqrt", {product});
    prepared_ = graph_.Finish({graph_.Op("Add", {root, root})});
    root_ = prepared_.value(root).name;
    product_ = prepared_.value(product).name;
  }
  void AddSample(const std::string& name, const std::vector<float>& values, Dims dims = {1, 2, 3}) {
    ASSERT_TRUE(SaveNpz(folder_ / name, {{"x", Tensor::FromVector<float>(std::move(dims), values)}}).ok());
  }
  Result<CalibrateReport> Run(const CalibrateOptions& options = {}) {
    std::vector<Value> inputs = InputsOf(prepared_);
    inputs[0].dims = {-1, -1, -1};
    OCTAVO_ASSIGN(const Dataset data, Dataset::Open(folder_.path(), inputs, {}));
    return Calibrate(prepared_, data, options);
  }

  TestGraph graph_;
  Graph prepared_;
  std::string root_, product_;
  TemporaryFolder folder_;
};

TEST_F(TinyCalibration, CountsWhatTheModelComputes) {
  AddSample("a.npz", {4, 9, 100, 16, 25, 100});
  AddSample("b.npz", {1, 0, -7, 0, 0, -7});
  const auto report = Run();
  ASSERT_TRUE(report.ok()) << report.status().message();
  const TensorStats& x = report->stats.tensors.at("x");
  EXPECT_EQ(x.channel_axis, 2);
  EXPECT_EQ(x.channel_min, (std::vector<float>{0, 0, -7}));
  EXPECT_EQ(x.channel_max, (std::vector<float>{16, 25, 100}));
  const TensorStats& root = report->stats.tensors.at(root_);
  EXPECT_EQ(root.count, 8u);
  EXPECT_EQ(root.max, 5);
  EXPECT_EQ(root.mean, (2 + 3 + 4 + 5 + 1) / 8.0);
  EXPECT_EQ(root.mean_square, (4 + 9 + 16 + 25 + 1) / 8.0);
  EXPECT_EQ(root.histogram.exponent, -8);  // 5 < 8 = 2048 / 256
  EXPECT_EQ(root.histogram.counts[Histogram::kHalfBins + 5 * 256], 1u);
  EXPECT_EQ(root.histogram.counts[Histogram::kHalfBins], 3u);
}

TEST_F(TinyCalibration, SkipsAndReportsWhatCannotBeUsed) {
  AddSample("a.npz", {1, 1, 1, 1, 1, 1});
  AddSample("b.npz", {1, NAN, 1, 1, 1, 1});
  AddSample("c.npz", {1, 2, 3}, {1, 1, 3});
  WriteText(folder_ / "d.npz", "not a zip");
  AddSample("e.npz", {2, 2, 2, 2, 2, 2});
  const auto report = Run();
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->stats.samples, 2u);
  EXPECT_EQ(report->stats.tensors.at("x").count, 12u);
  ASSERT_EQ(report->skipped.size(), 3u);
  EXPECT_THAT(report->skipped[0].reason, HasSubstr("b.npz': input 'x' holds NaN"));
  EXPECT_THAT(report->skipped[1].reason, HasSubstr("c.npz': input 'x' is 1x1x3, the model was prepared for 1x2x3"));
  EXPECT_THAT(report->skipped[2].reason, HasSubstr("d.npz'"));
  CalibrateOptions strict;
  strict.strict = true;
  strict.threads = 1;
  EXPECT_THAT(Run(strict).status().message(), HasSubstr("b.npz': input 'x' holds NaN"));
}

TEST_F(TinyCalibration, NoUsableSampleIsAnError) {
  AddSample("a.npz", {1, 2, 3}, {1, 1, 3});
  EXPECT_THAT(Run().status().message(), HasSubstr("none of the 1 samples can be used"));
}

TEST_F(TinyCalibration, ActivationsThatAreNotFiniteNameSampleAndTensor) {
  AddSample("a.npz", {1, 1, 1, 1, 1, 1});
  AddSample("b.npz", {1, -1, 1, 1, 1, 1});
  const auto nan = Run();
  EXPECT_THAT(nan.status().message(), HasSubstr("b.npz': tensor '" + root_ + "' holds NaN"));
  CalibrateOptions options;
  options.tensors = {product_};
  EXPECT_TRUE(Run(options).ok());
  options.tensors = {"nowhere"};
  EXPECT_EQ(Run(options).status().code(), ErrorCode::kNotFound);
}

TEST_F(TinyCalibration, ZeroTensorsAreCounted) {
  AddSample("a.npz", {0, 0, 0, 0, 0, 0});
  const auto report = Run();
  ASSERT_TRUE(report.ok()) << report.status().message();
  const TensorStats& x = report->stats.tensors.at("x");
  EXPECT_EQ(x.max, 0);
  EXPECT_EQ(x.histogram.counts[Histogram::kHalfBins], 6u);
  const auto range = EstimateRange(x, {});
  ASSERT_TRUE(range.ok());
  EXPECT_EQ(range->high, 0);
  EXPECT_TRUE(ParseStats(*SerializeStats(report->stats), "zeros").ok());
}

TEST_F(TinyCalibration, AShardBeyondTheSamplesIsAnError) {
  AddSample("a.npz", {1, 1, 1, 1, 1, 1});
  CalibrateOptions options;
  options.shard_index = 1;
  options.shard_count = 2;
  EXPECT_THAT(Run(options).status().message(), HasSubstr("holds none of the 1 samples"));
  options.shard_index = 2;
  EXPECT_FALSE(Run(options).ok());
}

}  // namespace
}  // namespace octavo
