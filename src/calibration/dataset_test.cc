#include "octavo/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_files.h"
#include "octavo/npy.h"

namespace octavo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Value Input(const std::string& name, Dims dims, DType dtype = DType::kFloat32) {
  Value value;
  value.name = name;
  value.dtype = dtype;
  value.shape_known = true;
  value.dims = std::move(dims);
  return value;
}

Image Uniform(int width, int height, uint8_t red, uint8_t green, uint8_t blue) {
  Image image = MakeImage(width, height);
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    image.pixels[i] = red;
    image.pixels[i + 1] = green;
    image.pixels[i + 2] = blue;
  }
  return image;
}

TEST(Preprocess, SamPadsWithZerosAfterNormalization) {
  const auto tensor = Preprocess(Uniform(8, 4, 124, 116, 104), PreprocessSpec::Sam(), 3, 4, 4);
  ASSERT_TRUE(tensor.ok());
  EXPECT_THAT(tensor->dims(), ElementsAre(1, 3, 4, 4));
  const auto values = tensor->values<float>();
  EXPECT_FLOAT_EQ(values[0], (124 - 123.675f) / 58.395f);
  EXPECT_FLOAT_EQ(values[16 + 7], (116 - 116.28f) / 57.12f);
  EXPECT_FLOAT_EQ(values[32], (104 - 103.53f) / 57.375f);
  for (size_t i = 8; i < 16; ++i) EXPECT_EQ(values[i], 0);
}

TEST(Preprocess, ShorterCropTakesTheMiddle) {
  // 12 wide, columns 0, 20, 40, ...; a crop of 4 x 4 of the unresized picture starts at column 4.
  Image image = MakeImage(12, 4);
  for (int y = 0; y < 4; ++y) {
    for (int x = 0; x < 12; ++x) *image.At(x, y) = static_cast<uint8_t>(20 * x);
  }
  PreprocessSpec spec;
  spec.fit = PreprocessSpec::Fit::kShorterCrop;
  spec.crop_resize = 1;
  EXPECT_THAT(Preprocess(image, spec, 3, 4, 4)->values<float>().first(4), ElementsAre(80, 100, 120, 140));
}

TEST(Preprocess, OrdersChannelsAndLayoutsAsAsked) {
  PreprocessSpec spec;
  spec.bgr = true;
  spec.layout = PreprocessSpec::Layout::kNhwc;
  spec.scale = 0.5;
  spec.mean = {1};
  spec.std = {1, 2, 4};
  const auto tensor = Preprocess(Uniform(1, 1, 10, 20, 30), spec, 3, 1, 1);
  EXPECT_THAT(tensor->values<float>(), ElementsAre(14, 4.5, 1));
  EXPECT_THAT(tensor->dims(), ElementsAre(1, 1, 1, 3));
}

TEST(Preprocess, MakesGreyOfColourForOneChannel) {
  // Pillow's convert("L") of (10, 200, 30) is 124.
  EXPECT_THAT(Preprocess(Uniform(1, 1, 10, 200, 30), PreprocessSpec(), 1, 1, 1)->values<float>(), ElementsAre(124));
  EXPECT_FALSE(Preprocess(Uniform(1, 1, 1, 2, 3), PreprocessSpec::Sam(), 1, 1, 1).ok());
}

TEST(PreprocessSpec, ReadsEveryKeyOfAFile) {
  const TemporaryFolder folder;
  WriteText(folder / "p.json",
            R"({"resize": "stretch", "interpolation": "bicubic", "scale": 0.25, "mean": [1, 2, 3], "std": 4,
                "pad_value": -1, "layout": "nhwc", "channel_order": "bgr", "size": [32, 48], "crop_resize": 1.5})");
  const auto spec = PreprocessSpec::Parse(folder / "p.json");
  ASSERT_TRUE(spec.ok()) << spec.status().message();
  EXPECT_EQ(spec->fit, PreprocessSpec::Fit::kStretch);
  EXPECT_EQ(spec->interpolation, Interpolation::kBicubic);
  EXPECT_EQ(spec->scale, 0.25);
  EXPECT_THAT(spec->mean, ElementsAre(1, 2, 3));
  EXPECT_THAT(spec->std, ElementsAre(4));
  EXPECT_EQ(spec->pad_value, -1);
  EXPECT_EQ(spec->layout, PreprocessSpec::Layout::kNhwc);
  EXPECT_TRUE(spec->bgr);
  EXPECT_EQ(spec->height, 32);
  EXPECT_EQ(spec->width, 48);
  EXPECT_EQ(spec->crop_resize, 1.5);
}

TEST(PreprocessSpec, NamesTheKeyThatIsWrong) {
  const TemporaryFolder folder;
  for (const auto& [text, said] : std::vector<std::pair<std::string, std::string>>{
           {"[1]", "not a JSON object"},
           {"{\"mean\": ", "not a JSON object"},
           {R"({"meen": 1})", "'meen' is not a key"},
           {R"({"resize": "longest"})", "'resize' must be one of \"longer\", \"shorter_crop\", \"stretch\""},
           {R"({"std": 0})", "'std' must not be 0"},
           {R"({"mean": [1, 2]})", "'mean' must be a number or a list of 1 or 3 numbers"},
           {R"({"mean": 1e300})", "'mean' must be a number"},
           {R"({"size": 0})", "'size' must be a side"},
           {R"({"size": 18446744073709551615})", "'size' must be a side"},
           {R"({"crop_resize": 0.5})", "'crop_resize' must be 1 to 16"}}) {
    WriteText(folder / "p.json", text);
    const auto spec = PreprocessSpec::Parse(folder / "p.json");
    ASSERT_FALSE(spec.ok()) << text;
    EXPECT_THAT(spec.status().message(), HasSubstr(said)) << text;
    EXPECT_THAT(spec.status().message(), HasSubstr("p.json"));
  }
  EXPECT_THAT(PreprocessSpec::Parse("samm").status().message(), HasSubstr("\"sam\", \"imagenet\" or a JSON file"));
}

class DatasetTest : public testing::Test {
 protected:
  void AddPicture(const std::string& name) { ASSERT_TRUE(SavePng(folder_ / name, Uniform(4, 2, 9, 9, 9)).ok()); }
  void AddArrays(const std::string& name, const std::map<std::string, Tensor>& arrays) {
    ASSERT_TRUE(SaveNpz(folder_ / name, arrays).ok());
  }
  Result<Dataset> Open(const std::vector<Value>& inputs) const {
    return Dataset::Open(folder_.path(), inputs, PreprocessSpec::Sam());
  }

  TemporaryFolder folder_;
};

TEST_F(DatasetTest, ListsPicturesByNameAndPassesOverTheRest) {
  AddPicture("b.png");
  AddPicture("a.PNG");
  AddPicture("a.segments.png");
  WriteText(folder_ / "prompts.json", "{}");
  std::filesystem::create_directory(folder_ / "c.png");
  auto dataset = Open({Input("x", {-1, 3, 8, 8})});
  ASSERT_TRUE(dataset.ok()) << dataset.status().message();
  ASSERT_EQ(dataset->size(), 2u);
  EXPECT_EQ(dataset->name(0), "a.PNG");
  EXPECT_EQ(dataset->name(1), "b.png");
  const auto sample = dataset->Load(1);
  ASSERT_TRUE(sample.ok()) << sample.status().message();
  EXPECT_THAT(sample->at("x").dims(), ElementsAre(1, 3, 8, 8));
  dataset->Truncate(1);
  EXPECT_EQ(dataset->size(), 1u);
}

TEST_F(DatasetTest, SelectsSamplesByIndex) {
  for (const char* name : {"a.png", "b.png", "c.png"}) AddPicture(name);
  const auto all = Open({Input("x", {1, 3, 8, 8})});
  ASSERT_TRUE(all.ok()) << all.status().message();
  const std::vector<size_t> indices = {2, 0};
  const Dataset selected = all->Select(indices);
  ASSERT_EQ(selected.size(), 2u);
  EXPECT_EQ(selected.name(0), "c.png");
  EXPECT_EQ(selected.name(1), "a.png");
  EXPECT_EQ(all->size(), 3u);
  EXPECT_TRUE(selected.Load(1).ok());
}

TEST_F(DatasetTest, HoldsSamplesInMemory) {
  const auto data =
      Dataset::FromSamples({"one", "two"}, {{{"x", Tensor::Scalar(1.0f)}}, {{"x", Tensor::Scalar(2.0f)}}});
  ASSERT_TRUE(data.ok()) << data.status().message();
  const std::vector<size_t> second = {1};
  const auto sample = data->Select(second).Load(0);
  ASSERT_TRUE(sample.ok()) << sample.status().message();
  EXPECT_EQ(sample->at("x").values<float>()[0], 2.0f);
  EXPECT_FALSE(data->Load(2).ok());
  EXPECT_EQ(Dataset::FromSamples({"one"}, {}).status().code(), ErrorCode::kInvalidArgument);
}

TEST_F(DatasetTest, WantsOneKindOfSamples) {
  EXPECT_EQ(Open({Input("x", {1, 3, 8, 8})}).status().code(), ErrorCode::kNotFound);
  EXPECT_EQ(Dataset::Open(folder_ / "none", {}, PreprocessSpec()).status().code(), ErrorCode::kNotFound);
  AddPicture("a.png");
  AddArrays("b.npz", {{"x", Tensor::Scalar(1.0f)}});
  EXPECT_THAT(Open({Input("x", {1, 3, 8, 8})}).status().message(), HasSubstr("are mixed"));
}

TEST_F(DatasetTest, GivesPicturesOnlyToModelsThatTakeOne) {
  AddPicture("a.png");
  EXPECT_THAT(Open({Input("x", {1, 3, 8, 8}), Input("t", {1})}).status().message(),
              HasSubstr("the model has 2 inputs ('x', 't')"));
  EXPECT_THAT(Open({Input("x", {1, 3, -1, -1})}).status().message(), HasSubstr("leaves the picture's size open"));
  EXPECT_THAT(Open({Input("x", {4, 3, 8, 8})}).status().message(), HasSubstr("batches of 4"));
  EXPECT_THAT(Open({Input("x", {1, 128})}).status().message(), HasSubstr("takes no picture"));
  EXPECT_THAT(Open({Input("x", {1, 5, 8, 8})}).status().message(), HasSubstr("1 or 3 channels"));
}

TEST_F(DatasetTest, ChecksArraysAgainstTheInputs) {
  const std::vector<Value> inputs = {Input("x", {-1, 2}), Input("t", {1}, DType::kInt64)};
  const Tensor x = Tensor::FromVector<float>({3, 2}, {1, 2, 3, 4, 5, 6}), t = Tensor::FromVector<int64_t>({1}, {7});
  AddArrays("0.npz", {{"x", x}, {"t", t}});
  AddArrays("1.npz", {{"x", x}});
  AddArrays("2.npz", {{"x", x}, {"t", t}, {"y", t}});
  AddArrays("3.npz", {{"x", Tensor::FromVector<double>({1, 2}, {1, 2})}, {"t", t}});
  AddArrays("4.npz", {{"x", x.Reshaped({2, 3})}, {"t", t}});
  const auto dataset = Open(inputs);
  ASSERT_TRUE(dataset.ok()) << dataset.status().message();
  EXPECT_FALSE(dataset->has_pictures());
  EXPECT_THAT(dataset->Load(0)->at("x").values<float>(), ElementsAre(1, 2, 3, 4, 5, 6));
  const char* said[] = {"", "1.npz': array 't' is missing", "2.npz': array 'y' is no input of the model",
                        "3.npz': array 'x' is float64, the model takes float32",
                        "4.npz': array 'x' is 2x3, the model takes ?x2"};
  for (size_t i = 1; i < 5; ++i) EXPECT_THAT(dataset->Load(i).status().message(), HasSubstr(said[i]));
}

}  // namespace
}  // namespace octavo
