#include "octavo/segment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace octavo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Tensors = std::map<std::string, Tensor>;

Value Input(const std::string& name, Dims dims) {
  Value value;
  value.name = name;
  value.dtype = DType::kFloat32;
  value.shape_known = true;
  value.dims = std::move(dims);
  return value;
}

Prompt BoxPrompt(double x0, double y0, double x1, double y1) { return {Box{x0, y0, x1, y1}, {}}; }
Prompt PointPrompt(std::vector<Point> points) { return {std::nullopt, std::move(points)}; }

Image FilledMask(int width, int height, int x0, int y0, int x1, int y1) {
  Image mask = MakeImage(width, height, 1);
  for (int y = y0; y < y1; ++y) std::fill(mask.At(x0, y), mask.At(x0, y) + (x1 - x0), uint8_t{255});
  return mask;
}

// An encoder and a decoder that keep what they are given. Mask m of prompt b is positive left of column m + 1 of 4 and
// its prediction is `scores[m]`.
struct FakeSam {
  Dims embedding = {1, 8, 4, 4};
  int64_t side = 16, batch = -1, points = -1;
  std::vector<float> scores = {0.9f, 0.1f, 0.7f, 0.3f};
  std::vector<std::string> extra_inputs;
  std::shared_ptr<std::vector<Tensors>> calls = std::make_shared<std::vector<Tensors>>();

  SegmentModel Encoder() const {
    return {{Input("input_image", {-1, 3, side, side})},
            {"image_embeddings"},
            [dims = embedding](const Tensors&) -> Result<std::vector<Tensor>> {
              return std::vector<Tensor>{*Tensor::Zeros(DType::kFloat32, dims)};
            }};
  }

  SegmentModel Decoder() const {
    SegmentModel model;
    model.inputs = {Input("image_embeddings", embedding), Input("point_coords", {batch, points, 2}),
                    Input("point_labels", {batch, points})};
    for (const std::string& name : extra_inputs) model.inputs.push_back(Input(name, {1}));
    model.output_names = {"masks", "iou_predictions"};
    model.run = [fake = *this](const Tensors& inputs) { return fake.Decode(inputs); };
    return model;
  }

  Result<std::vector<Tensor>> Decode(const Tensors& inputs) const {
    calls->push_back(inputs);
    const int64_t prompts = inputs.at("point_coords").dims()[0], count = static_cast<int64_t>(scores.size());
    Tensor masks = *Tensor::Create(DType::kFloat32, {prompts, count, 4, 4});
    Tensor predictions = *Tensor::Create(DType::kFloat32, {prompts, count});
    for (int64_t i = 0; i < masks.size(); ++i) {
      const int64_t column = i % 4, mask = i / 16 % count;
      masks.mutable_values<float>()[static_cast<size_t>(i)] = column < mask + 1 ? 1.0f : -1.0f;
    }
    for (int64_t i = 0; i < predictions.size(); ++i) {
      predictions.mutable_values<float>()[static_cast<size_t>(i)] = scores[static_cast<size_t>(i % count)];
    }
    return std::vector<Tensor>{masks, predictions};
  }

  Result<Segmenter> Create(const SegmenterOptions& options = {}) const {
    return Segmenter::Create(Encoder(), Decoder(), options);
  }
};

TEST(CheckPrompt, RefusesBoxesThatHoldNothing) {
  EXPECT_EQ(CheckPrompt(BoxPrompt(5, 5, 2, 8), 10, 10, nullptr).status().message(),
            "box 5,5,2,8 is inside out or empty: x0 < x1 and y0 < y1 are wanted");
  EXPECT_FALSE(CheckPrompt(BoxPrompt(5, 5, 5, 8), 10, 10, nullptr).ok());
  EXPECT_EQ(CheckPrompt(BoxPrompt(10, 0, 12, 4), 10, 8, nullptr).status().message(),
            "box 10,0,12,4 lies wholly outside: the picture is 10x8");
  EXPECT_FALSE(CheckPrompt(BoxPrompt(-4, 0, 0, 4), 10, 8, nullptr).ok());
  EXPECT_FALSE(CheckPrompt(BoxPrompt(0, 0, std::nan(""), 4), 10, 8, nullptr).ok());
}

TEST(CheckPrompt, CutsABoxThatOverlapsTheEdgeAndSaysSo) {
  std::vector<std::string> warnings;
  const auto prompt = CheckPrompt(BoxPrompt(-3, 2.5, 99, 7), 10, 8, &warnings);
  ASSERT_TRUE(prompt.ok());
  EXPECT_EQ(prompt->box->x0, 0);
  EXPECT_EQ(prompt->box->y0, 2.5);
  EXPECT_EQ(prompt->box->x1, 10);
  EXPECT_THAT(warnings,
              ElementsAre("box -3,2.5,99,7 overlaps the edge: the picture is 10x8; it was cut to box 0,2.5,10,7"));
  EXPECT_TRUE(CheckPrompt(BoxPrompt(0, 0, 10, 8), 10, 8, &warnings).ok());
  EXPECT_EQ(warnings.size(), 1u);
}

TEST(CheckPrompt, RefusesPointsOutsideAndStrangeLabels) {
  EXPECT_TRUE(CheckPrompt(PointPrompt({{0, 0, 1}, {9, 7, 0}}), 10, 8, nullptr).ok());
  EXPECT_THAT(CheckPrompt(PointPrompt({{11, 3}}), 10, 8, nullptr).status().message(),
              HasSubstr("point 11,3,1 lies outside: the picture is 10x8"));
  EXPECT_FALSE(CheckPrompt(PointPrompt({{-1, 3}}), 10, 8, nullptr).ok());
  EXPECT_FALSE(CheckPrompt(PointPrompt({{std::nan(""), 3}}), 10, 8, nullptr).ok());
  EXPECT_FALSE(CheckPrompt(PointPrompt({{1, 3, 2}}), 10, 8, nullptr).ok());
  EXPECT_FALSE(CheckPrompt(Prompt{}, 10, 8, nullptr).ok());
  EXPECT_FALSE(CheckPrompt(Prompt{Box{0, 0, 1, 1}, {{1, 1}}}, 10, 8, nullptr).ok());
}

TEST(FitSamFrame, RoundsAsSamDoes) {
  const SamFrame frame = FitSamFrame(481, 321, 256);
  EXPECT_EQ(frame.width, 256);
  EXPECT_EQ(frame.height, 171);  // 170.84
  EXPECT_DOUBLE_EQ(frame.scale_y, 171.0 / 321);
  EXPECT_EQ(FitSamFrame(3, 4000, 256).width, 1);  // never nothing
}

TEST(SamPostprocess, CutsThePaddingBeforeTheLastResize) {
  // A picture of 8x4 fills the upper half of the frame: only the upper two of four rows of logits count.
  const std::vector<float> logits = {-1, -1, 1, 1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  const auto mask = SamPostprocess(logits, 4, 4, FitSamFrame(8, 4, 16), 8, 4);
  ASSERT_TRUE(mask.ok());
  for (int x = 0; x < 8; ++x) EXPECT_EQ(*mask->At(x, 0), x >= 4 ? 255 : 0) << x;
  EXPECT_FALSE(SamPostprocess(logits, 4, 3, FitSamFrame(8, 4, 16), 8, 4).ok());
}

TEST(Segmenter, GivesTheDecoderPointsInItsFrame) {
  const FakeSam sam;
  auto segmenter = sam.Create();
  ASSERT_TRUE(segmenter.ok()) << segmenter.status().message();
  ASSERT_TRUE(segmenter->Encode(MakeImage(32, 8)).ok());
  EXPECT_EQ(segmenter->coordinate_frame(), 16);
  const auto found = segmenter->Predict({BoxPrompt(4, 2, 24, 8)});
  ASSERT_TRUE(found.ok()) << found.status().message();
  const Tensors& inputs = sam.calls->at(0);
  EXPECT_THAT(inputs.at("point_coords").dims(), ElementsAre(1, 2, 2));
  EXPECT_THAT(inputs.at("point_coords").values<float>(), ElementsAre(2, 1, 12, 4));
  EXPECT_THAT(inputs.at("point_labels").values<float>(), ElementsAre(2, 3));
  EXPECT_EQ(found->masks[0].mask.width, 32);
  EXPECT_EQ(found->masks[0].mask.height, 8);
}

TEST(Segmenter, UsesTheFrameOf1024ForPublishedEmbeddings) {
  FakeSam sam;
  sam.embedding = {1, 256, 64, 64};
  auto segmenter = sam.Create();
  ASSERT_TRUE(segmenter->Encode(MakeImage(32, 32)).ok());
  EXPECT_EQ(segmenter->coordinate_frame(), 1024);
  ASSERT_TRUE(segmenter->Predict({PointPrompt({{16, 8, 0}})}).ok());
  EXPECT_THAT(sam.calls->at(0).at("point_coords").values<float>(), ElementsAre(512, 256));
  EXPECT_THAT(sam.calls->at(0).at("point_labels").values<float>(), ElementsAre(0));

  auto forced = sam.Create({.coordinate_frame = 64});
  ASSERT_TRUE(forced->Encode(MakeImage(32, 32)).ok());
  EXPECT_EQ(forced->coordinate_frame(), 64);
}

TEST(Segmenter, AnswersBoxesWithMask0AndPointsWithTheBestOfTheRest) {
  const FakeSam sam;
  auto segmenter = sam.Create();
  ASSERT_TRUE(segmenter->Encode(MakeImage(16, 16)).ok());
  const auto found = segmenter->Predict({PointPrompt({{3, 3}}), BoxPrompt(0, 0, 9, 9), PointPrompt({{1, 1}})});
  ASSERT_TRUE(found.ok());
  ASSERT_EQ(found->masks.size(), 3u);
  EXPECT_EQ(sam.calls->size(), 2u);  // the two points share one run
  EXPECT_EQ(found->masks[0].mask_index, 2);
  EXPECT_EQ(found->masks[0].iou_prediction, 0.7f);
  EXPECT_EQ(found->masks[1].mask_index, 0);
  EXPECT_EQ(found->masks[1].iou_prediction, 0.9f);
  // Mask 0 is positive in 1 of 4 columns, mask 2 in 3: 4 and 12 of 16 pixels, the edges halfway between.
  EXPECT_EQ(found->masks[1].area, 4 * 16);
  EXPECT_EQ(found->masks[2].area, 12 * 16);
}

TEST(Segmenter, TakesTheOnlyMaskOfADecoderThatHasOne) {
  FakeSam sam;
  sam.scores = {0.5f};
  auto segmenter = sam.Create();
  ASSERT_TRUE(segmenter->Encode(MakeImage(16, 16)).ok());
  EXPECT_EQ(segmenter->Predict({PointPrompt({{3, 3}})})->masks[0].mask_index, 0);
}

TEST(Segmenter, PadsForDecodersOfFixedShape) {
  FakeSam sam;
  sam.batch = 2;
  sam.points = 3;
  auto segmenter = sam.Create();
  ASSERT_TRUE(segmenter->Encode(MakeImage(16, 16)).ok());
  const auto found = segmenter->Predict({PointPrompt({{3, 5}}), BoxPrompt(1, 2, 9, 8), BoxPrompt(0, 0, 4, 4)});
  ASSERT_TRUE(found.ok()) << found.status().message();
  ASSERT_EQ(sam.calls->size(), 2u);
  EXPECT_THAT(sam.calls->at(0).at("point_labels").values<float>(), ElementsAre(1, -1, -1, 2, 3, -1));
  EXPECT_THAT(sam.calls->at(0).at("point_coords").values<float>(), ElementsAre(3, 5, 0, 0, 0, 0, 1, 2, 9, 8, 0, 0));
  EXPECT_THAT(sam.calls->at(1).at("point_coords").dims(), ElementsAre(2, 3, 2));
  EXPECT_FALSE(segmenter->Predict({PointPrompt({{1, 1}, {2, 2}, {3, 3}, {4, 4}})}).ok());
}

TEST(Segmenter, FillsTheInputsThatSamsOwnExportHas) {
  FakeSam sam;
  sam.extra_inputs = {"mask_input", "has_mask_input", "orig_im_size"};
  auto segmenter = sam.Create();
  ASSERT_TRUE(segmenter->Encode(MakeImage(16, 12)).ok());
  ASSERT_TRUE(segmenter->Predict({PointPrompt({{3, 5}})}).ok());
  EXPECT_THAT(sam.calls->at(0).at("mask_input").dims(), ElementsAre(1, 1, 16, 16));
  EXPECT_THAT(sam.calls->at(0).at("has_mask_input").values<float>(), ElementsAre(0));
  EXPECT_THAT(sam.calls->at(0).at("orig_im_size").values<float>(), ElementsAre(12, 16));
}

TEST(Segmenter, SaysWhatDoesNotFit) {
  FakeSam sam;
  sam.extra_inputs = {"something"};
  EXPECT_THAT(sam.Create().status().message(), HasSubstr("'something'"));
  sam.extra_inputs.clear();
  sam.side = -1;
  EXPECT_THAT(sam.Create().status().message(), HasSubstr("leaves the picture's side open"));
  EXPECT_EQ(sam.Create({.input_side = 32})->input_side(), 32);
  EXPECT_THAT(Segmenter::Create(sam.Decoder(), sam.Encoder()).status().message(), HasSubstr("the encoder"));
  sam.side = 16;
  auto segmenter = sam.Create();
  EXPECT_EQ(segmenter->Predict({PointPrompt({{1, 1}})}).status().message(), "no picture was encoded");
  ASSERT_TRUE(segmenter->Encode(MakeImage(16, 16)).ok());
  EXPECT_FALSE(segmenter->Predict({}).ok());
  EXPECT_THAT(segmenter->Predict({BoxPrompt(0, 0, 4, 4), BoxPrompt(20, 20, 30, 30)}).status().message(),
              HasSubstr("prompt 2: box 20,20,30,30 lies wholly outside"));
}

TEST(MaskIou, CountsPixels) {
  const Image a = FilledMask(4, 4, 0, 0, 2, 4), b = FilledMask(4, 4, 1, 0, 3, 4), none = MakeImage(4, 4, 1);
  EXPECT_DOUBLE_EQ(*MaskIou(a, b), 4.0 / 12);
  EXPECT_EQ(*MaskIou(a, a), 1);
  EXPECT_EQ(*MaskIou(a, none), 0);
  EXPECT_EQ(*MaskIou(none, none), 1);
  EXPECT_FALSE(MaskIou(a, MakeImage(4, 5, 1)).ok());
}

TEST(DrawOverlay, TintsAndOutlinesTheMask) {
  const Image picture = MakeImage(16, 16);
  const auto drawn = DrawOverlay(picture, {{FilledMask(16, 16, 4, 4, 12, 12)}}, {});
  ASSERT_TRUE(drawn.ok());
  EXPECT_EQ(drawn->At(0, 0)[2], 0);
  EXPECT_EQ(drawn->At(4, 8)[2], 255);  // the contour has the full colour, (30, 144, 255)
  EXPECT_EQ(drawn->At(8, 8)[2], 115);  // the inside 45 % of it on black
  EXPECT_FALSE(DrawOverlay(picture, {{MakeImage(8, 8, 1)}}, {}).ok());
}

TEST(DrawOverlay, StaysInsideThePicture) {
  const auto drawn = DrawOverlay(MakeImage(9, 7), {}, {BoxPrompt(-5, -5, 20, 20), PointPrompt({{9, 7, 0}, {0, 0, 1}})});
  ASSERT_TRUE(drawn.ok()) << drawn.status().message();
  EXPECT_EQ(drawn->pixels.size(), 9u * 7 * 3);
}

}  // namespace
}  // namespace octavo
