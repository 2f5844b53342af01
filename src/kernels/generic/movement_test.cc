#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/generic/node_testing.h"
#include "kernels/kernel_testing.h"

namespace octavo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pointwise;
using Ints = std::vector<int64_t>;

Tensor I64(const Ints& values) { return Tensor::FromVector<int64_t>({static_cast<int64_t>(values.size())}, values); }

// 0, 1, 2, ...
Tensor Counting(const Dims& dims) {
  std::vector<float> values(static_cast<size_t>(ElementCount(dims)));
  std::iota(values.begin(), values.end(), 0.0f);
  return Floats(dims, values);
}

TEST(ReshapeTest, CopiesInfersAndKeepsZeros) {
  const auto reshaped = [](const Dims& dims, const Ints& shape, int64_t allow_zero) {
    const auto y = RunNode(MakeNode("Reshape", {{"allowzero", allow_zero}}), {Counting(dims), I64(shape)});
    return y.ok() ? ToString(y->dims()) : y.status().message();
  };
  EXPECT_EQ(reshaped({2, 3, 4}, {0, -1}, 0), "2x12");
  EXPECT_EQ(reshaped({0, 3}, {3, 0}, 1), "3x0");
  EXPECT_THAT(reshaped({0, 3}, {0, -1}, 1), HasSubstr("does not reshape"));
  EXPECT_THAT(reshaped({2, 3}, {-1, -1}, 0), HasSubstr("more than once"));
  EXPECT_THAT(reshaped({2, 3}, {4, -1}, 0), HasSubstr("does not reshape"));
  EXPECT_THAT(reshaped({2, 3}, {1, 6, 0}, 0), HasSubstr("no such dimension"));
  EXPECT_THAT(reshaped({2, 3}, {int64_t{1} << 40, int64_t{1} << 40}, 0), HasSubstr("too large"));
}

TEST(SliceTest, WalksBackwardsAndClamps) {
  const Tensor x = Counting({5});
  const auto sliced = [&](int64_t start, int64_t end, int64_t step) {
    return ValuesOf<float>(MakeNode("Slice"), {x, I64({start}), I64({end}), I64({0}), I64({step})});
  };
  constexpr int64_t kFar = std::numeric_limits<int64_t>::max();
  EXPECT_THAT(sliced(-1, -kFar - 1, -1), ElementsAre(4, 3, 2, 1, 0));
  EXPECT_THAT(sliced(kFar, -kFar - 1, -2), ElementsAre(4, 2, 0));
  EXPECT_THAT(sliced(3, 0, -2), ElementsAre(3, 1));
  EXPECT_THAT(sliced(1, kFar, 3), ElementsAre(1, 4));
  EXPECT_THAT(sliced(0, -1, -1), ElementsAre());
  EXPECT_THAT(sliced(-kFar - 1, kFar, kFar), ElementsAre(0));
  EXPECT_THAT(sliced(4, -kFar - 1, -kFar - 1), ElementsAre(4));
  EXPECT_FALSE(RunNode(MakeNode("Slice"), {x, I64({0}), I64({1}), I64({0}), I64({0})}).ok());
}

TEST(SplitTest, TheLastPartOfAnUnevenSplitIsShorter) {
  Node node = MakeNode("Split", {{"num_outputs", int64_t{3}}}, "", 3);
  const auto parts = EvaluateNode(node, 18, std::vector<Tensor>{Counting({7})});
  ASSERT_TRUE(parts.ok()) << parts.status().message();
  EXPECT_THAT((*parts)[1].values<float>(), ElementsAre(3, 4, 5));
  EXPECT_THAT((*parts)[2].values<float>(), ElementsAre(6));
  // Five elements in chunks of 2 leave -1 for the fourth part.
  node = MakeNode("Split", {{"num_outputs", int64_t{4}}}, "", 4);
  EXPECT_FALSE(EvaluateNode(node, 18, std::vector<Tensor>{Counting({5})}).ok());
}

TEST(PadTest, EveryMode) {
  const Tensor x = Floats({1, 3}, {1, 2, 3});
  const auto padded = [&](const std::string& mode, const Ints& pads) {
    return ValuesOf<float>(MakeNode("Pad", {{"mode", mode}}), {x, I64(pads), Tensor::Scalar(9.0f)}, 19);
  };
  EXPECT_THAT(padded("constant", {0, 1, 0, 2}), ElementsAre(9, 1, 2, 3, 9, 9));
  EXPECT_THAT(padded("reflect", {0, 2, 0, 1}), ElementsAre(3, 2, 1, 2, 3, 2));
  // Beyond one reflection it goes on as a wave, as numpy does.
  EXPECT_THAT(padded("reflect", {0, 5, 0, 0}), ElementsAre(2, 1, 2, 3, 2, 1, 2, 3));
  EXPECT_THAT(padded("edge", {0, 2, 0, 1}), ElementsAre(1, 1, 1, 2, 3, 3));
  EXPECT_THAT(padded("wrap", {0, 4, 0, 1}), ElementsAre(3, 1, 2, 3, 1, 2, 3, 1));
  EXPECT_THAT(padded("constant", {0, -1, 0, 1}), ElementsAre(2, 3, 9));
  EXPECT_THAT(padded("edge", {1, -1, 0, 1}), ElementsAre(2, 3, 3, 2, 3, 3));
  EXPECT_THAT(padded("constant", {0, -3, 0, 2}), ElementsAre(9, 9));
}

TEST(PadTest, RefusesWhatHasNoSource) {
  const Node edge = MakeNode("Pad", {{"mode", std::string("edge")}});
  EXPECT_FALSE(RunNode(edge, {Counting({0}), I64({1, 0})}).ok());
  EXPECT_FALSE(RunNode(MakeNode("Pad"), {Counting({3}), I64({-2, -2})}).ok());
  EXPECT_FALSE(RunNode(MakeNode("Pad"), {Counting({3}), I64({1})}).ok());
  EXPECT_FALSE(RunNode(MakeNode("Pad"), {Counting({3}), I64({INT64_MAX, INT64_MAX})}).ok());
}

TEST(GatherTest, NamesTheIndexThatIsOutOfRange) {
  const Tensor x = Counting({3, 2});
  EXPECT_THAT(ValuesOf<float>(MakeNode("Gather"), {x, I64({-1, 0})}), ElementsAre(4, 5, 0, 1));
  for (const int64_t index : {int64_t{3}, int64_t{-4}, INT64_MIN, INT64_MAX}) {
    const auto y = RunNode(MakeNode("Gather"), {x, I64({0, index})});
    ASSERT_FALSE(y.ok());
    EXPECT_THAT(y.status().message(), HasSubstr("index " + std::to_string(index) + " is out of range"));
  }
  EXPECT_FALSE(RunNode(MakeNode("Gather"), {Counting({0, 2}), I64({0})}).ok());
  EXPECT_FALSE(
      RunNode(MakeNode("GatherElements"), {x, Tensor::FromVector<int64_t>({1, 2}, std::vector<int64_t>{0, 3})}).ok());
  EXPECT_FALSE(RunNode(MakeNode("GatherND"), {x, Tensor::FromVector<int64_t>({2}, std::vector<int64_t>{2, 2})}).ok());
}

TEST(CastTest, ClampsCutsOffAndWraps) {
  const float inf = std::numeric_limits<float>::infinity();
  const Tensor x = Floats({6}, {-1.9f, 2.9f, 300, -inf, inf, std::nanf("")});
  const auto to = [](int64_t number) { return MakeNode("Cast", {{"to", number}}); };
  EXPECT_THAT(ValuesOf<int8_t>(to(3), {x}), ElementsAre(-1, 2, 127, -128, 127, 0));
  EXPECT_THAT(ValuesOf<bool>(to(9), {x}), ElementsAre(true, true, true, true, true, true));
  // Integers wrap: 300 = 256 + 44.
  EXPECT_THAT(ValuesOf<int8_t>(to(3), {I64({300, -1})}), ElementsAre(44, -1));
  // 2^53 + 1 has no double, but passes between integers whole.
  EXPECT_THAT(ValuesOf<uint64_t>(to(13), {I64({9007199254740993})}), ElementsAre(9007199254740993u));
  EXPECT_FALSE(RunNode(to(8), {x}).ok()) << "strings";
}

TEST(CastTest, AnyByteButZeroIsTrue) {
  Tensor x = *Tensor::Create(DType::kBool, {3});
  const uint8_t bytes[] = {0, 1, 255};
  std::memcpy(x.mutable_data(), bytes, sizeof bytes);
  EXPECT_THAT(ValuesOf<float>(MakeNode("Cast", {{"to", int64_t{1}}}), {x}), ElementsAre(0, 1, 1));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Where"), {x, Floats({1}, {7}), Floats({3}, {1, 2, 3})}), ElementsAre(1, 7, 7));
}

TEST(RangeTest, CountsUpAndDown) {
  const auto range = [](int64_t start, int64_t limit, int64_t delta) {
    return RunNode(MakeNode("Range"), {Tensor::Scalar(start), Tensor::Scalar(limit), Tensor::Scalar(delta)});
  };
  EXPECT_THAT(range(10, 4, -3)->values<int64_t>(), ElementsAre(10, 7));
  EXPECT_EQ(range(0, -1, 1)->size(), 0);
  EXPECT_THAT(range(INT64_MAX - 1, INT64_MAX, 5)->values<int64_t>(), ElementsAre(INT64_MAX - 1));
  EXPECT_FALSE(range(0, 1, 0).ok());
  EXPECT_FALSE(range(INT64_MIN, INT64_MAX, 1).ok());
  EXPECT_FALSE(range(0, INT64_MIN, -1).ok());
  EXPECT_THAT(range(0, INT64_MIN, INT64_MIN)->values<int64_t>(), ElementsAre(0));
}

TEST(DropoutTest, KeepsEverything) {
  const auto y = EvaluateNode(MakeNode("Dropout", {}, "", 2), 13, std::vector<Tensor>{Counting({2})});
  ASSERT_TRUE(y.ok()) << y.status().message();
  EXPECT_THAT((*y)[0].values<float>(), ElementsAre(0, 1));
  EXPECT_THAT((*y)[1].values<bool>(), ElementsAre(true, true));
}

TEST(DepthToSpaceTest, BothOrders) {
  const Tensor x = Counting({1, 8, 1, 1});
  const auto blocks = [&](const std::string& mode) {
    return ValuesOf<float>(MakeNode("DepthToSpace", {{"blocksize", int64_t{2}}, {"mode", mode}}), {x});
  };
  EXPECT_THAT(blocks("DCR"), ElementsAre(0, 2, 4, 6, 1, 3, 5, 7));
  EXPECT_THAT(blocks("CRD"), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

// Values from the examples of the ONNX operator's documentation, input 1..16 as 4x4 or 1..4 as 2x2.
Tensor OneTo(const Dims& dims) {
  std::vector<float> values(static_cast<size_t>(ElementCount(dims)));
  std::iota(values.begin(), values.end(), 1.0f);
  return Floats(dims, values);
}

std::vector<float> Resized(Attributes attributes, const Tensor& x, const std::vector<float>& scales,
                           const Ints& sizes = {}, int64_t opset = 19) {
  std::vector<Tensor> inputs = {x, Tensor(), Tensor(), Tensor()};
  if (!scales.empty()) inputs[2] = Floats({static_cast<int64_t>(scales.size())}, scales);
  if (!sizes.empty()) inputs[3] = I64(sizes);
  return ValuesOf<float>(MakeNode("Resize", std::move(attributes)), inputs, opset);
}

// The documentation prints eight digits; the arithmetic here is float32 on values up to 16.
MATCHER(NearDocumented, "") { return std::abs(std::get<0>(arg) - std::get<1>(arg)) <= 4e-6f; }

TEST(ResizeTest, DocumentedLinear) {
  const Attributes linear = {{"mode", std::string("linear")}};
  EXPECT_THAT(Resized(linear, OneTo({1, 1, 2, 2}), {1, 1, 2, 2}),
              Pointwise(NearDocumented(), {1.0f, 1.25f, 1.75f, 2.0f, 1.5f, 1.75f, 2.25f, 2.5f, 2.5f, 2.75f, 3.25f, 3.5f,
                                           3.0f, 3.25f, 3.75f, 4.0f}));
  EXPECT_THAT(Resized(linear, OneTo({1, 1, 2, 4}), {1, 1, 0.6f, 0.6f}),
              Pointwise(NearDocumented(), {2.6666665f, 4.3333331f}));
  Attributes corners = linear;
  corners["coordinate_transformation_mode"] = std::string("align_corners");
  EXPECT_THAT(Resized(corners, OneTo({1, 1, 2, 4}), {1, 1, 0.6f, 0.6f}), Pointwise(NearDocumented(), {1.0f, 4.0f}));
}

TEST(ResizeTest, DocumentedCubic) {
  const Attributes cubic = {{"mode", std::string("cubic")}};
  EXPECT_THAT(Resized(cubic, OneTo({1, 1, 4, 4}), {1, 1, 0.8f, 0.8f}),
              Pointwise(NearDocumented(), {1.47119141f, 2.78125f, 4.08251953f, 6.71142578f, 8.02148438f, 9.32275391f,
                                           11.91650391f, 13.2265625f, 14.52783203f}));
  Attributes outside = cubic;
  outside["exclude_outside"] = int64_t{1};
  outside["cubic_coeff_a"] = -0.5f;
  EXPECT_THAT(Resized(outside, OneTo({1, 1, 4, 4}), {1, 1, 0.8f, 0.8f}),
              Pointwise(NearDocumented(), {1.36812675f, 2.6695014f, 4.0133367f, 6.57362535f, 7.875f, 9.2188353f,
                                           11.94896657f, 13.25034122f, 14.59417652f}));
}

TEST(ResizeTest, DocumentedAntialias) {
  EXPECT_THAT(
      Resized({{"mode", std::string("linear")}, {"antialias", int64_t{1}}}, OneTo({1, 1, 4, 4}), {1, 1, 0.6f, 0.6f}),
      Pointwise(NearDocumented(), {2.875f, 4.5f, 9.375f, 11.0f}));
}

TEST(ResizeTest, DocumentedNearest) {
  const Attributes floors = {{"nearest_mode", std::string("floor")},
                             {"coordinate_transformation_mode", std::string("align_corners")}};
  EXPECT_THAT(Resized(floors, OneTo({1, 1, 4, 4}), {}, {1, 1, 8, 8}),
              Pointwise(NearDocumented(),
                        {1.0f,  1.0f,  1.0f,  2.0f,  2.0f,  3.0f,  3.0f,  4.0f,  1.0f,  1.0f,  1.0f,  2.0f, 2.0f,
                         3.0f,  3.0f,  4.0f,  1.0f,  1.0f,  1.0f,  2.0f,  2.0f,  3.0f,  3.0f,  4.0f,  5.0f, 5.0f,
                         5.0f,  6.0f,  6.0f,  7.0f,  7.0f,  8.0f,  5.0f,  5.0f,  5.0f,  6.0f,  6.0f,  7.0f, 7.0f,
                         8.0f,  9.0f,  9.0f,  9.0f,  10.0f, 10.0f, 11.0f, 11.0f, 12.0f, 9.0f,  9.0f,  9.0f, 10.0f,
                         10.0f, 11.0f, 11.0f, 12.0f, 13.0f, 13.0f, 13.0f, 14.0f, 14.0f, 15.0f, 15.0f, 16.0f}));
}

TEST(ResizeTest, KeepsTheAspect) {
  const auto dims = [](const std::string& policy) {
    const Node node = MakeNode("Resize", {{"keep_aspect_ratio_policy", policy}, {"axes", Ints{2, 3}}});
    return ToString(RunNode(node, {OneTo({1, 1, 2, 4}), Tensor(), Tensor(), I64({7, 8})}, 18)->dims());
  };
  EXPECT_EQ(dims("stretch"), "1x1x7x8");
  EXPECT_EQ(dims("not_larger"), "1x1x4x8");
  EXPECT_EQ(dims("not_smaller"), "1x1x7x14");
}

TEST(ResizeTest, ExtrapolatesBeyondTheCrop) {
  const Node node = MakeNode("Resize", {{"mode", std::string("linear")},
                                        {"coordinate_transformation_mode", std::string("tf_crop_and_resize")},
                                        {"extrapolation_value", 10.0f}});
  // roi -1 .. 2 of positions 0 .. 1, in 4 steps: -1, 0, 1, 2.
  EXPECT_THAT(ValuesOf<float>(node, {Floats({2}, {3, 5}), Floats({2}, {-1, 2}), Tensor(), I64({4})}, 13),
              ElementsAre(10, 3, 5, 10));
}

TEST(ResizeTest, RefusesNonsense) {
  const Node node = MakeNode("Resize");
  const Tensor x = OneTo({1, 1, 2, 2});
  EXPECT_FALSE(RunNode(node, {x}).ok()) << "neither scales nor sizes";
  EXPECT_FALSE(RunNode(node, {x, Tensor(), Floats({4}, {1, 1, -1, 1})}).ok());
  EXPECT_FALSE(RunNode(node, {x, Tensor(), Floats({4}, {1, 1, std::nanf(""), 1})}).ok());
  EXPECT_FALSE(RunNode(node, {x, Tensor(), Floats({4}, {1, 1, 1e30f, 1})}).ok());
  EXPECT_FALSE(RunNode(node, {x, Tensor(), Floats({3}, {1, 1, 1})}).ok());
  EXPECT_FALSE(RunNode(node, {OneTo({1, 0}), Tensor(), Tensor(), I64({1, 5})}).ok());
  // A crop so far away that its coordinates are infinite, or not numbers, reads nothing of the input.
  const Node crop = MakeNode("Resize", {{"coordinate_transformation_mode", std::string("tf_crop_and_resize")}});
  const Tensor roi = Floats({2}, {-3e38f, 3e38f});
  EXPECT_THAT(ValuesOf<float>(crop, {OneTo({9}), roi, Tensor(), I64({2})}), ElementsAre(0, 0));
}

// Every layout of data and output gives the very values of contiguous ones.
struct MovementCase {
  std::string label;
  Node node;
  std::vector<Dims> data;          // float inputs, laid out in every way
  std::vector<Tensor> parameters;  // constant inputs behind them; undefined ones are absent
};

class MovementLayoutTest : public testing::TestWithParam<MovementCase> {};

TEST_P(MovementLayoutTest, StridesDoNotChangeTheResult) {
  const MovementCase& c = GetParam();
  std::vector<Tensor> inputs;
  for (const Dims& dims : c.data) inputs.push_back(Scrambled(dims, static_cast<uint32_t>(inputs.size()) + 1));
  inputs.insert(inputs.end(), c.parameters.begin(), c.parameters.end());
  const auto expected = EvaluateNode(c.node, 18, inputs);
  ASSERT_TRUE(expected.ok()) << expected.status().message();
  for (const Layout from : kAllLayouts) {
    for (const Layout to : kAllLayouts) {
      for (const int threads : {1, 3}) {
        std::vector<TestOperand> data, results;
        std::vector<Operand> in, out;
        std::vector<const void*> in_data;
        std::vector<void*> out_data;
        for (size_t i = 0; i < c.data.size(); ++i) {
          data.emplace_back(DType::kFloat32, c.data[i], from);
          const auto values = inputs[i].values<float>();
          data.back().Set({values.begin(), values.end()});
          in.push_back(data.back().operand);
        }
        for (TestOperand& tensor : data) in_data.push_back(tensor.data());
        for (const Tensor& tensor : c.parameters) {
          in.push_back({tensor.defined(), tensor.dtype(), tensor.dims(), ContiguousStrides(tensor.dims()), &tensor});
          if (!tensor.defined()) in.back() = Operand();
          in_data.push_back(tensor.data());
        }
        for (const Tensor& tensor : *expected) {
          results.emplace_back(DType::kFloat32, tensor.dims(), to);
          out.push_back(results.back().operand);
        }
        for (TestOperand& tensor : results) out_data.push_back(tensor.data());
        const std::vector<uint8_t> before = results[0].memory;
        const auto kernel = FindGenericKernel("", c.node.op)({c.node, 18, in, out, threads});
        ASSERT_TRUE(kernel.ok()) << kernel.status().message();
        std::vector<double> scratch(kernel->scratch_bytes / sizeof(double) + 1);
        const Status status = kernel->run({in_data.data(), out_data.data(), scratch.data()});
        ASSERT_TRUE(status.ok()) << status.message();
        for (size_t i = 0; i < results.size(); ++i) {
          const auto values = (*expected)[i].values<float>();
          EXPECT_EQ(results[i].Get(), std::vector<float>(values.begin(), values.end()));
        }
        // Once its elements are as they were before, so is the memory between them.
        results[0].Set(TestOperand(DType::kFloat32, (*expected)[0].dims(), to).Get());
        EXPECT_EQ(results[0].memory, before);
      }
    }
  }
}

std::vector<MovementCase> MovementCases() {
  const auto str = [](const char* text) { return std::string(text); };
  const Dims big = {2, 6, 20, 35};  // more elements than the grain of one thread with the tiles' remainders
  return {
      {"Identity", MakeNode("Identity"), {{2, 6, 4, 5}}, {}},
      {"ReshapeNests", MakeNode("Reshape"), {{2, 6, 4, 5}}, {I64({2, 2, 3, 20})}},
      {"ReshapeCrosses", MakeNode("Reshape"), {{2, 6, 4, 5}}, {I64({10, 24})}},
      {"Flatten", MakeNode("Flatten", {{"axis", int64_t{2}}}), {{2, 6, 4, 5}}, {}},
      {"Unsqueeze", MakeNode("Unsqueeze"), {{2, 6, 4}}, {I64({0, -1})}},
      {"Transpose", MakeNode("Transpose", {{"perm", Ints{0, 2, 3, 1}}}), {big}, {}},
      {"TransposeBack", MakeNode("Transpose", {{"perm", Ints{0, 3, 1, 2}}}), {{2, 20, 35, 6}}, {}},
      {"TransposeLarge", MakeNode("Transpose"), {{130, 300}}, {}},
      {"Concat", MakeNode("Concat", {{"axis", int64_t{1}}}), {{2, 3, 4, 5}, {2, 1, 4, 5}}, {}},
      {"Split", MakeNode("Split", {{"axis", int64_t{-1}}}, "", 2), {{2, 3, 4, 5}}, {I64({2, 3})}},
      {"Slice", MakeNode("Slice"), {{2, 6, 7, 5}}, {I64({5, 1}), I64({0, 6}), I64({1, 2}), I64({-2, 3})}},
      {"Expand", MakeNode("Expand"), {{3, 1, 4}}, {I64({2, 3, 5, 4})}},
      {"Tile", MakeNode("Tile"), {{2, 3, 4}}, {I64({2, 1, 3})}},
      {"Gather", MakeNode("Gather", {{"axis", int64_t{1}}}), {{2, 6, 4, 5}}, {I64({5, -6, 2})}},
      {"GatherOfMany", MakeNode("Gather", {{"axis", int64_t{2}}}), {{2, 6, 4, 5}}, {I64(Ints(20, 3))}},
      {"GatherElements",
       MakeNode("GatherElements", {{"axis", int64_t{1}}}),
       {{2, 3}},
       {Tensor::FromVector<int64_t>({2, 2}, Ints{2, 0, -1, 1})}},
      {"GatherND",
       MakeNode("GatherND", {{"batch_dims", int64_t{1}}}),
       {{2, 3, 4, 5}},
       {Tensor::FromVector<int64_t>({2, 3, 2}, Ints{0, 1, 2, 3, -1, -1, 0, 0, 1, 1, 2, 2})}},
      {"PadConstant", MakeNode("Pad"), {{2, 3, 4, 5}}, {I64({0, 1, 2, -1, 1, 0, 3, 2})}},
      {"PadReflect", MakeNode("Pad", {{"mode", str("reflect")}}), {{2, 3, 4, 5}}, {I64({0, 1, 2, -1, 1, 0, 3, 2})}},
      {"DepthToSpace", MakeNode("DepthToSpace", {{"blocksize", int64_t{2}}}), {{2, 8, 3, 5}}, {}},
      {"SpaceToDepth", MakeNode("SpaceToDepth", {{"blocksize", int64_t{2}}}), {{2, 3, 6, 4}}, {}},
      {"ResizeNearest", MakeNode("Resize"), {{2, 3, 4, 5}}, {Tensor(), Floats({4}, {1, 1, 2, 1.5f})}},
      {"ResizeOneAxis",
       MakeNode("Resize", {{"mode", str("linear")}}),
       {{2, 3, 4, 5}},
       {Tensor(), Floats({4}, {1, 1, 1, 2})}},
  };
}

INSTANTIATE_TEST_SUITE_P(Ops, MovementLayoutTest, testing::ValuesIn(MovementCases()),
                         [](const auto& test) { return test.param.label; });

// The order in which rows are summed depends on the layout, so that results may differ in their last bits.
TEST(ResizeTest, AnyLayout) {
  for (const char* mode : {"linear", "cubic"}) {
    const Node node = MakeNode("Resize", {{"mode", std::string(mode)}, {"antialias", int64_t{1}}});
    const Tensor sizes = I64({2, 3, 7, 3});
    const std::vector<float> given = RandomValues({2, 3, 4, 8}, 7);
    const std::vector<float> expected =
        ValuesOf<float>(node, {Floats({2, 3, 4, 8}, given), Tensor(), Tensor(), sizes}, 18);
    for (const Layout from : kAllLayouts) {
      for (const Layout to : kAllLayouts) {
        TestOperand x(DType::kFloat32, {2, 3, 4, 8}, from), y(DType::kFloat32, {2, 3, 7, 3}, to);
        x.Set(given);
        TestOperand none(DType::kInt64, {4});
        none.operand.constant = &sizes;
        ASSERT_TRUE(RunKernel(FindGenericKernel("", "Resize"), node, 18, 3, {&x, nullptr, nullptr, &none}, {&y}).ok());
        // At most 16 taps of weights below 2 on values below 4, each rounded by 2^-24, along two axes.
        ExpectClose(y.Get(), expected, 0, 2 * 16 * 8 * 0x1p-24, mode);
      }
    }
  }
}

}  // namespace
}  // namespace octavo
