// Shapes of the ops that few models have: selection by value, scattering, sampling, signal processing.
#include <gmock/gmock.h>

#include <limits>

#include "graph/infer_sampling.h"
#include "graph/infer_selection.h"
#include "graph/infer_testing.h"

namespace octavo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Tensor F32(Dims dims, const std::vector<float>& values) { return Tensor::FromVector<float>(std::move(dims), values); }
Tensor Bools(const std::vector<bool>& values) {
  Tensor tensor = *Tensor::Create(DType::kBool, {static_cast<int64_t>(values.size())});
  for (size_t i = 0; i < values.size(); ++i) static_cast<uint8_t*>(tensor.mutable_data())[i] = values[i] ? 1 : 0;
  return tensor;
}

struct ShapeCase {
  const char* op;
  Attributes attributes;
  std::vector<Given> inputs;
  std::string expected;  // shapes, or a part of the error
  size_t outputs = 1;
  int64_t opset = 21;
};

std::vector<ShapeCase> ShapeCases() {
  const Given x = {2, 3, 4, 5};
  const auto ints = [](Ints values) { return Attribute(std::move(values)); };
  const auto one = [](int64_t value) { return Attribute(value); };
  const auto text = [](const char* value) { return Attribute(std::string(value)); };
  return {
      {"NonZero", {}, {F32({2, 2}, {0, 3, -0.0f, 1})}, "2x2"},
      {"NonZero", {}, {x}, "depends on the values of input 'X'"},
      {"Compress", {{"axis", one(1)}}, {x, Bools({true, false, true})}, "2x2x4x5"},
      {"Compress", {}, {x, Bools({true, false, true})}, "2"},
      {"Compress", {{"axis", one(1)}}, {x, Bools({false, false, false, true})}, "keeps element 3 of 3"},
      {"Unique", {}, {I64({3, 1, 3, 2})}, "3, 3, 4, 3", 4},
      {"Unique", {{"axis", one(7)}}, {I64({3, 1})}, "out of range"},
      {"TopK", {{"axis", one(-2)}}, {x, I64({3})}, "2x3x3x5, 2x3x3x5", 2},
      {"TopK", {}, {x, I64({6})}, "asks for 6 of 5"},
      {"TopK", {}, {x, I64({-1})}, "asks for -1"},
      {"OneHot", {{"axis", one(0)}}, {{2, 3}, I64({7}), {2}}, "7x2x3"},
      {"OneHot", {}, {{2, 3}, Tensor::FromVector<float>({}, {7.0f}), {2}}, "2x3x7"},
      {"OneHot", {}, {{2, 3}, I64({0}), {2}}, "depth must be one positive number"},
      {"EyeLike", {{"dtype", one(99)}}, {{2, 3}}, "ONNX type 99"},
      {"Trilu", {}, {{5}}, "rank"},
      {"CumSum", {}, {x, I64({4})}, "out of range"},
      {"ReverseSequence", {{"batch_axis", one(2)}}, {x, I64({1})}, "batch_axis and time_axis"},
      {"ScatterElements", {{"axis", one(3)}}, {x, Given(I64({0})), {1}}, "do not fit data"},
      {"ScatterND", {}, {x, Given(Tensor::FromVector<int64_t>({1, 5}, {0, 0, 0, 0, 0})), {1}}, "index tuples of 5"},
      {"ScatterND", {{"reduction", text("sum")}}, {x, Given(I64({0})), {3, 4, 5}}, "reduction 'sum'"},
      {"CenterCropPad", {{"axes", ints({-1, 1})}}, {x, I64({7, 1})}, "2x1x4x7"},
      {"CenterCropPad", {}, {x, I64({7, 1})}, "2 entries for 4 axes"},
      {"MaxUnpool",
       {{"kernel_shape", ints({2, 2})}, {"strides", ints({2, 2})}},
       {{1, 1, 2, 2}, Given(Tensor::FromVector<int64_t>({1, 1, 2, 2}, {0, 1, 2, 3}))},
       "1x1x4x4"},
      {"MaxUnpool",
       {{"kernel_shape", ints({1, 1})}, {"pads", ints({9, 9, 9, 9})}},
       {{1, 1, 2, 2}, Given(Tensor::FromVector<int64_t>({1, 1, 2, 2}, {0, 1, 2, 3}))},
       "error"},
      {"LpPool", {{"kernel_shape", ints({2, 2})}, {"p", one(0)}}, {x}, "p is 0"},
      {"LRN", {{"size", one(INT64_MAX)}}, {x}, "size is"},
      {"LpNormalization", {{"p", one(3)}}, {x}, "p is 3"},
      {"MeanVarianceNormalization", {}, {{2, 3}}, "out of range"},
      {"Det", {}, {{2, 3, 4}}, "square"},
      {"Upsample", {{"mode", text("linear")}}, {x, F32({4}, {1, 1, 2, 1.5f})}, "2x3x8x7", 1, 9},
      {"Upsample", {{"scales", Attribute(std::vector<float>{1, 1, 2, 0})}}, {x}, "not positive", 1, 7},
      {"GridSample", {}, {x, {2, 6, 7, 2}}, "2x3x6x7"},
      {"GridSample", {{"mode", text("quintic")}}, {x, {2, 6, 7, 2}}, "mode 'quintic'"},
      {"AffineGrid", {}, {{2, 2, 3}, I64({2, 9, 4, 5})}, "2x4x5x2"},
      {"AffineGrid", {}, {{2, 2, 3}, I64({2, 1, INT64_MAX, INT64_MAX})}, "error"},
      {"Col2Im", {}, {{1, 4, 12}, I64({4, 5}), I64({2, 2})}, "1x1x4x5"},
      {"Col2Im", {}, {{1, 4, 12}, I64({4, 5}), I64({9, 9})}, "a block does not fit"},
      {"DeformConv", {}, {x, {6, 3, 2, 2}, {2, 8, 3, 4}}, "2x6x3x4"},
      {"DeformConv", {{"offset_group", one(2)}}, {x, {6, 3, 2, 2}, {2, 8, 3, 4}}, "offset groups"},
      {"DFT", {{"onesided", one(1)}}, {{1, 10, 1}}, "1x6x2"},
      {"DFT", {}, {{1, 10, 2}, I64({0})}, "'dft_length' must be one number"},
      {"STFT", {}, {{1, 10, 1}, I64({2}), {4}}, "1x4x3x2"},
      {"STFT", {}, {{1, 10, 1}, I64({0}), {4}}, "'frame_step' must be one number"},
      {"HannWindow", {}, {I64({-1})}, "'size' must be one number"},
      {"MelWeightMatrix", {}, {I64({8}), I64({16}), I64({8192}), F32({1}, {0}), F32({1}, {4096})}, "9x8"},
  };
}

TEST(InferRareTest, ShapesAndErrors) {
  for (const ShapeCase& c : ShapeCases()) {
    const std::string text = Infer(c.op, c.attributes, c.inputs, c.opset, c.outputs);
    if (text.starts_with("error")) {
      EXPECT_THAT(text, HasSubstr(c.expected)) << c.op;
    } else {
      EXPECT_EQ(text, c.expected) << c.op;
    }
  }
}

Node UniqueNode(Attributes attributes = {}) {
  Node node;
  node.op = "Unique";
  node.attributes = std::move(attributes);
  return node;
}

TEST(ResolveUniqueTest, OrdersByValueAndCounts) {
  // -0 and 0 are one value; negative numbers come first, as large as they are.
  const auto plan = ResolveUnique(UniqueNode(), F32({6}, {2, -1, 0, -3, 2, -0.0f}));
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(plan->first, ElementsAre(3, 1, 2, 0));
  EXPECT_THAT(plan->count, ElementsAre(1, 1, 2, 2));
  EXPECT_THAT(plan->inverse, ElementsAre(3, 1, 2, 0, 3, 2));
}

TEST(ResolveUniqueTest, KeepsTheOrderOfAppearanceWhenNotSorted) {
  const auto plan = ResolveUnique(UniqueNode({{"sorted", int64_t{0}}}), I64({5, -2, 5, 7}));
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(plan->first, ElementsAre(0, 1, 3));
  EXPECT_THAT(plan->inverse, ElementsAre(0, 1, 0, 2));
}

TEST(ResolveUniqueTest, ComparesWholeSlices) {
  const Tensor data = Tensor::FromVector<int64_t>({2, 3}, {1, 1, 1, 2, 3, 2});
  const auto plan = ResolveUnique(UniqueNode({{"axis", int64_t{1}}}), data);
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(plan->first, ElementsAre(0, 1));
  EXPECT_THAT(plan->count, ElementsAre(2, 1));
}

TEST(SelectBoxesTest, DropsWhatOverlapsABetterBox) {
  const Tensor boxes = F32({1, 3, 4}, {0, 0, 1, 1, 0, 0.1f, 1, 1.1f, 0, 10, 1, 11});
  const Tensor scores = F32({1, 1, 3}, {0.9f, 0.75f, std::numeric_limits<float>::quiet_NaN()});
  const Tensor limit = Tensor::Scalar<int64_t>(3), overlap = F32({1}, {0.5f});
  Node node;
  node.op = "NonMaxSuppression";
  const std::vector<InferInput> inputs = {{true, DType::kFloat32, boxes.dims(), &boxes},
                                          {true, DType::kFloat32, scores.dims(), &scores},
                                          {true, DType::kInt64, limit.dims(), &limit},
                                          {true, DType::kFloat32, overlap.dims(), &overlap}};
  const auto kept = SelectBoxes(node, inputs);
  ASSERT_TRUE(kept.ok()) << kept.status().message();
  EXPECT_THAT(*kept, ElementsAre(0, 0, 0));
}

}  // namespace
}  // namespace octavo
