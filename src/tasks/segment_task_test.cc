#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/test_files.h"
#include "octavo/judge.h"
#include "octavo/task.h"
#include "passes/pass_test_graph.h"

namespace octavo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int kSide = 16;

// Two pictures of 16 x 16, a frame of 16, and a decoder whose one mask are the embeddings, (1, 1, 4, 4), times `sign`;
// it believes in a mask by its points' coordinates.
class SegmentTaskTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"a.png", "b.png"}) {
      Image picture = MakeImage(kSide, kSide);
      for (int y = 0; y < kSide; ++y) std::fill(picture.At(kSide / 2, y), picture.At(0, y) + kSide * 3, uint8_t{255});
      ASSERT_TRUE(SavePng(folder_ / name, picture).ok());
    }
  }

  static Graph Decoder(float sign = 1) {
    TestGraph builder;
    const ValueId embeddings = builder.Input("image_embeddings", {1, 1, 4, 4});
    const ValueId coords = builder.Input("point_coords", {1, 2, 2}), labels = builder.Input("point_labels", {1, 2});
    const ValueId masks = builder.Op("Mul", {embeddings, builder.Scalar(sign)});
    const ValueId sum = builder.Op(
        "ReduceSum",
        {builder.Op("ReduceSum", {coords, builder.Ints({2})}, {{"keepdims", int64_t{0}}}), builder.Ints({1})});
    const ValueId read = builder.Op("ReduceSum", {builder.Op("Mul", {labels, builder.Scalar(0)}), builder.Ints({1})});
    const ValueId believed = builder.Op("Add", {sum, read});
    builder.graph().value(masks).name = "masks";
    builder.graph().value(believed).name = "iou_predictions";
    return builder.Finish({masks, believed});
  }
  // The picture's brightness, in steps of 4 pixels.
  static Graph Encoder() {
    TestGraph builder;
    const ValueId picture = builder.Input("input_image", {1, 3, kSide, kSide});
    const ValueId pooled =
        builder.Op("AveragePool", {picture},
                   {{"kernel_shape", std::vector<int64_t>{4, 4}}, {"strides", std::vector<int64_t>{4, 4}}});
    return builder.Finish({builder.Op("ReduceMean", {pooled}, {{"axes", std::vector<int64_t>{1}}})});
  }
  Dataset Pictures() const {
    const Graph encoder = Encoder();
    return Dataset::Open(folder_.path(), {encoder.value(encoder.inputs[0])}, PreprocessSpec::Sam()).value();
  }
  std::unique_ptr<Task> Make(const Graph* candidate = nullptr) const {
    const Graph encoder = Encoder();
    auto task = MakeSegmentTask(Pictures(), encoder.value(encoder.inputs[0]), Decoder(), options_, candidate);
    EXPECT_TRUE(task.ok()) << task.status().message();
    return std::move(task).value();
  }
  // Every pixel of a.png belongs to `id`.
  void DrawTruth(uint8_t id, int width = kSide) const {
    Image ids = MakeImage(width, kSide, 1);
    std::fill(ids.pixels.begin(), ids.pixels.end(), id);
    ASSERT_TRUE(SavePng(folder_ / "a.segments.png", ids).ok());
  }
  static Prompt BoxPrompt() { return {Box{1, 1, 9, 9}, {}}; }

  // Embeddings of 4 columns; between -1 and 1 half way, the border lies exactly on a pixel's edge.
  static Tensor Columns(std::array<float, 4> columns) {
    std::vector<float> values;
    for (int y = 0; y < 4; ++y) values.insert(values.end(), columns.begin(), columns.end());
    return Tensor::FromVector<float>({1, 1, 4, 4}, values);
  }
  const Tensor right_ = Columns({-1, -1, 1, 1}), left_ = Columns({1, 1, -1, -1}), all_ = Columns({1, 1, 1, 1}),
               last_ = Columns({-1, -1, -1, 1});

  TemporaryFolder folder_;
  SegmentTaskOptions options_;
};

TEST_F(SegmentTaskTest, MasksInThePicturesPixels) {
  options_.threads = 1;
  options_.prompts["a.png"] = {{BoxPrompt(), {}}, {{{}, {{3, 4, 1}}}, {}}};
  const auto task = Make();
  EXPECT_EQ(task->name(), "segment");
  ASSERT_TRUE(task->Learn(0, std::vector{right_}).ok());
  const auto scores = [&](const Tensor& candidate) { return task->Judge(0, std::vector{candidate})->scores; };
  EXPECT_THAT(scores(right_), ElementsAre(1, 1));
  EXPECT_THAT(scores(left_), ElementsAre(0, 0));
  EXPECT_THAT(scores(all_), ElementsAre(0.5, 0.5));   // 8 of 16 columns
  EXPECT_THAT(scores(last_), ElementsAre(0.5, 0.5));  // 4 of 8
  EXPECT_TRUE(task->Judge(0, std::vector{all_})->reference_truth.empty());
}

TEST_F(SegmentTaskTest, WhatPeopleDrew) {
  DrawTruth(7);
  // Nobody drew 8; the last prompt asks for no segment.
  options_.prompts["a.png"] = {{BoxPrompt(), 7}, {BoxPrompt(), {}}};
  const auto task = Make();
  ASSERT_TRUE(task->Learn(0, std::vector{right_}).ok());
  const Agreement found = task->Judge(0, std::vector{last_}).value();
  EXPECT_THAT(found.scores, ElementsAre(0.5, 0.5));
  EXPECT_THAT(found.reference_truth, ElementsAre(0.5));   // 8 of 16 columns
  EXPECT_THAT(found.candidate_truth, ElementsAre(0.25));  // 4 of 16
}

TEST_F(SegmentTaskTest, NoMaskIsNoEmptyMask) {
  DrawTruth(7);
  options_.prompts["a.png"] = {{BoxPrompt(), 7}, {BoxPrompt(), {}}};
  const auto task = Make();
  ASSERT_TRUE(task->Learn(0, std::vector{right_}).ok());
  for (const float value : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    const Agreement found = task->Judge(0, std::vector{Columns({-1, -1, 1, value})}).value();
    EXPECT_THAT(found.scores, ElementsAre(0, 0));
    EXPECT_THAT(found.reference_truth, ElementsAre(0.5));
    EXPECT_THAT(found.candidate_truth, ElementsAre(0));
  }
}

TEST_F(SegmentTaskTest, PointsOfAGridAskForEachMaskOnce) {
  const auto task = Make();
  ASSERT_TRUE(task->Learn(0, std::vector{right_}).ok());
  EXPECT_THAT(task->Judge(0, std::vector{right_})->scores, ElementsAre(1));
  // The whole picture is no thing; the best point is asked about all the same.
  ASSERT_TRUE(task->Learn(1, std::vector{all_}).ok());
  EXPECT_THAT(task->Judge(1, std::vector{right_})->scores, ElementsAre(0.5));
}

TEST_F(SegmentTaskTest, CandidatesMayHaveTheirOwnDecoder) {
  const Graph candidate = Decoder(-1);
  const auto task = Make(&candidate);
  ASSERT_TRUE(task->Learn(0, std::vector{right_}).ok());
  EXPECT_THAT(task->Judge(0, std::vector{right_})->scores, ElementsAre(0));
  EXPECT_THAT(task->Judge(0, std::vector{left_})->scores, ElementsAre(1));
}

TEST_F(SegmentTaskTest, MessagesNameThePicture) {
  options_.prompts["b.png"] = {{{Box{20, 20, 30, 30}, {}}, {}}};
  const auto task = Make();
  EXPECT_THAT(task->Learn(1, std::vector{right_}).message(), testing::AllOf(HasSubstr("b.png"), HasSubstr("16x16")));
  EXPECT_FALSE(task->Learn(2, std::vector{right_}).ok());
  EXPECT_FALSE(task->Learn(0, {}).ok());
  ASSERT_TRUE(task->Learn(0, std::vector{right_}).ok());
  EXPECT_FALSE(task->Judge(0, {}).ok());
  EXPECT_FALSE(task->Judge(1, std::vector{right_}).ok());  // not learnt
}

TEST_F(SegmentTaskTest, SegmentsOfAnotherPicture) {
  DrawTruth(7, kSide + 1);
  EXPECT_THAT(Make()->Learn(0, std::vector{right_}).message(), HasSubstr("another size"));
  DrawTruth(7);
  options_.prompts["a.png"] = {{BoxPrompt(), 8}};
  EXPECT_THAT(Make()->Learn(0, std::vector{right_}).message(), HasSubstr("segment 8 is nowhere in"));
}

TEST_F(SegmentTaskTest, ArraysAreNoPictures) {
  const auto arrays = Dataset::FromSamples({"a"}, {{{"x", all_}}}).value();
  const Graph encoder = Encoder();
  const auto task = MakeSegmentTask(arrays, encoder.value(encoder.inputs[0]), Decoder(), options_);
  EXPECT_THAT(task.status().message(), HasSubstr("--task tensor"));
  EXPECT_FALSE(MakeDecoderSamples(arrays, encoder, Decoder(), options_).ok());
  EXPECT_FALSE(MakeSegmentTask(Pictures(), encoder.value(encoder.inputs[0]), Encoder(), options_).ok());
}

class DecoderTaskTest : public SegmentTaskTest {
 protected:
  Result<Judge> Open() const {
    OCTAVO_ASSIGN(const DecoderSamples samples, MakeDecoderSamples(Pictures(), Encoder(), Decoder(), options_));
    OCTAVO_ASSIGN(auto task, MakeDecoderTask(samples, Decoder()));
    JudgeOptions options;
    options.threads = 1;
    return Judge::Create(Decoder(), samples.data, std::move(task), options);
  }
};

TEST_F(DecoderTaskTest, OneSampleForEachPrompt) {
  options_.prompts["a.png"] = {{BoxPrompt(), {}}, {{{}, {{4, 8, 0}}}, {}}, {{{}, {{4, 8, 1}, {2, 3, 0}}}, {}}};
  options_.prompts["b.png"] = {{BoxPrompt(), {}}};
  const auto samples = MakeDecoderSamples(Pictures(), Encoder(), Decoder(), options_);
  ASSERT_TRUE(samples.ok()) << samples.status().message();
  ASSERT_EQ(samples->data.size(), 4u);
  ASSERT_EQ(samples->questions.size(), 4u);
  EXPECT_EQ(samples->coordinate_frame, kSide);
  const auto box = samples->data.Load(0).value(), point = samples->data.Load(1).value(),
             points = samples->data.Load(2).value();
  EXPECT_THAT(box.at("point_coords").values<float>(), ElementsAre(1, 1, 9, 9));
  EXPECT_THAT(box.at("point_labels").values<float>(), ElementsAre(2, 3));
  EXPECT_THAT(point.at("point_coords").values<float>(), ElementsAre(4, 8, 0, 0));
  EXPECT_THAT(point.at("point_labels").values<float>(), ElementsAre(0, -1));  // with a point that counts nothing
  EXPECT_THAT(points.at("point_labels").values<float>(), ElementsAre(1, 0));
  EXPECT_EQ(samples->questions[3].picture, folder_ / "b.png");
  EXPECT_EQ(samples->questions[3].width, kSide);
}

TEST_F(DecoderTaskTest, TheFp32DecoderScoresExactlyOne) {
  options_.prompts["a.png"] = {{BoxPrompt(), 7}, {{{}, {{4, 8, 1}}}, {}}};
  DrawTruth(7);
  const auto judge = Open();
  ASSERT_TRUE(judge.ok()) << judge.status().message();
  ASSERT_EQ(judge->size(), 3u);
  const auto same = judge->Score(Decoder());
  ASSERT_TRUE(same.ok()) << same.status().message();
  EXPECT_EQ(same->score.mean, 1);
  EXPECT_EQ(same->score.count, 3u);
  // Two prompts are about one picture: what fails one fails the other, so that they are no two samples.
  EXPECT_EQ(judge->units(), 2u);
  ASSERT_EQ(same->scores.size(), 2u);
  EXPECT_EQ(same->scores[0].size(), 2u);
  EXPECT_EQ(same->scores[1].size(), 1u);
  EXPECT_EQ(same->noise, std::pow(10, -kIdenticalDb / 10));
  // The right half of the picture is white, and all of it was drawn.
  EXPECT_EQ(same->reference_truth, same->candidate_truth);
  EXPECT_NEAR(*same->reference_truth, 0.5, 1.0 / 16);  // by a column at most
  const auto inverted = judge->Score(Decoder(-1));
  EXPECT_EQ(inverted->score.mean, 0);
  EXPECT_NEAR(*inverted->candidate_truth + *inverted->reference_truth, 1, 1e-12);
  const auto broken = judge->Score(Decoder(std::nanf("")));
  EXPECT_EQ(broken->score.mean, 0);
  EXPECT_EQ(broken->reference_truth, same->reference_truth);
  EXPECT_EQ(broken->candidate_truth, 0);
}

TEST_F(DecoderTaskTest, AlikeWithTheSegmentTask) {
  const auto judge = Open();
  ASSERT_TRUE(judge.ok()) << judge.status().message();
  EXPECT_EQ(judge->size(), 2u);  // one mask per picture
  EXPECT_EQ(judge->Score(Decoder())->score.mean, 1);
}

TEST_F(DecoderTaskTest, PromptsThatDoNotFit) {
  options_.prompts["b.png"] = {{{{}, {{1, 1, 1}, {2, 2, 1}, {3, 3, 1}}}, {}}};
  EXPECT_THAT(Open().status().message(), testing::AllOf(HasSubstr("b.png"), HasSubstr("at most 2 points")));
  options_.prompts["b.png"] = {{{{}, {{99, 1, 1}}}, {}}};
  EXPECT_THAT(Open().status().message(), testing::AllOf(HasSubstr("b.png"), HasSubstr("lies outside")));
  const Graph two_inputs = Decoder();
  EXPECT_THAT(MakeDecoderSamples(Pictures(), two_inputs, Decoder(), options_).status().message(),
              HasSubstr("one input"));
}

}  // namespace
}  // namespace octavo
