#include "octavo/batch.h"

#include <gtest/gtest.h>

#include "kernels/kernel.h"

namespace octavo {
namespace {

struct Builder {
  explicit Builder(Dims input) {
    graph.opsets[""] = 17;
    x = graph.AddValue("x", DType::kFloat32, std::move(input));
    graph.inputs = {x};
  }
  ValueId Op(const std::string& op, std::vector<ValueId> inputs, std::map<std::string, Attribute> attributes = {}) {
    const ValueId y = graph.AddValue(op + "/out", DType::kFloat32);
    graph.AddNode(op, "", op, std::move(inputs), {y}, std::move(attributes));
    return y;
  }
  ValueId Ints(const std::vector<int64_t>& values) {
    return graph.AddConstant("ints", Tensor::FromVector<int64_t>({static_cast<int64_t>(values.size())}, values));
  }
  Graph graph;
  ValueId x = kNoValue;
};

Tensor Counting(const Dims& dims, float first) {
  Tensor tensor = *Tensor::Create(DType::kFloat32, dims);
  for (float& v : tensor.mutable_values<float>()) v = first++;
  return tensor;
}

// Every sample's part of the outputs is what the model of one makes of it.
void ExpectSamplesApart(const Builder& b, int64_t batch) {
  const Dims dims = b.graph.value(b.x).dims;
  const auto batched = WithBatch(b.graph, {{"x", dims}}, batch);
  ASSERT_TRUE(batched.ok()) << batched.status().message();
  EXPECT_TRUE(Verify(*batched).ok()) << Verify(*batched).message();
  Dims many = dims;
  many[0] = batch;
  const Tensor input = Counting(many, -7);
  const auto together = EvaluateGraph(*batched, std::vector<Tensor>{input});
  ASSERT_TRUE(together.ok()) << together.status().message();
  const int64_t each = ElementCount(dims);
  for (int64_t i = 0; i < batch; ++i) {
    const auto alone = EvaluateGraph(*WithBatch(b.graph, {{"x", dims}}, 1),
                                     std::vector<Tensor>{Counting(dims, -7.0f + static_cast<float>(i * each))});
    ASSERT_TRUE(alone.ok()) << alone.status().message();
    const auto want = (*alone)[0].values<float>(), all = (*together)[0].values<float>();
    const auto got = all.subspan(static_cast<size_t>(i) * want.size(), want.size());
    EXPECT_TRUE(std::equal(want.begin(), want.end(), got.begin())) << "sample " << i;
  }
}

std::string WhyNot(const Builder& b, int64_t batch) {
  const auto batched = WithBatch(b.graph, {{"x", b.graph.value(b.x).dims}}, batch);
  return batched.ok() ? "" : batched.status().message();
}

TEST(Batch, FixedShapesOfOneSampleBecomeThoseOfMany) {
  Builder b({1, 6, 2, 2});
  ValueId heads = b.Op("Reshape", {b.x, b.Ints({1, 3, 2, -1})});
  heads = b.Op("Transpose", {heads}, {{"perm", std::vector<int64_t>{1, 0, 2, 3}}});  // (3, N, 2, 4)
  const ValueId joined = b.Op("Reshape", {heads, b.Ints({3, -1, 4})});               // (3, 2 N, 4)
  const ValueId apart = b.Op("Reshape", {joined, b.Ints({3, 1, 2, 4})});
  const ValueId back = b.Op("Transpose", {apart}, {{"perm", std::vector<int64_t>{1, 0, 2, 3}}});
  const ValueId image = b.Op("Reshape", {back, b.Ints({1, 6, 2, 2})});
  const ValueId none = kNoValue;
  const ValueId large = b.Op("Resize", {image, none, none, b.Ints({1, 6, 4, 4})}, {{"mode", std::string("nearest")}});
  b.graph.outputs = {b.Op("Expand", {large, b.Ints({1, 6, 4, 4})})};
  ExpectSamplesApart(b, 3);
}

TEST(Batch, ShapesThatAreComputedFollow) {
  Builder b({1, 4, 3});
  const ValueId shape = b.graph.AddValue("shape", DType::kInt64);
  b.graph.AddNode("Shape", "", "Shape", {b.x}, {shape}, {{"end", int64_t{1}}});
  const ValueId rest = b.Ints({12});
  const ValueId joined = b.graph.AddValue("joined", DType::kInt64);
  b.graph.AddNode("Concat", "", "Concat", {shape, rest}, {joined}, {{"axis", int64_t{0}}});
  b.graph.outputs = {b.Op("Reshape", {b.x, joined})};
  ExpectSamplesApart(b, 2);
}

TEST(Batch, AConstantIsJoinedToEverySample) {
  Builder b({1, 2, 3});
  const ValueId token = b.graph.AddConstant("token", Tensor::FromVector<float>({1, 1, 3}, {1, 2, 3}));
  b.graph.outputs = {b.Op("Concat", {token, b.x}, {{"axis", int64_t{1}}})};
  ExpectSamplesApart(b, 3);
}

TEST(Batch, NamesTheNodeThatMixesSamples) {
  Builder flat({1, 4, 3});
  flat.graph.outputs = {
      flat.Op("Reshape", {flat.Op("Transpose", {flat.x}, {{"perm", std::vector<int64_t>{1, 0, 2}}}), flat.Ints({12})})};
  EXPECT_NE(WhyNot(flat, 2).find("Reshape 'Reshape'"), std::string::npos) << WhyNot(flat, 2);

  Builder mean({1, 4});
  mean.graph.outputs = {mean.Op("ReduceMean", {mean.x}, {{"axes", std::vector<int64_t>{0}}, {"keepdims", int64_t{1}}})};
  EXPECT_NE(WhyNot(mean, 2).find("ReduceMean 'ReduceMean'"), std::string::npos) << WhyNot(mean, 2);

  Builder squeezed({1, 4});
  squeezed.graph.outputs = {squeezed.Op("Squeeze", {squeezed.x, squeezed.Ints({0})})};
  EXPECT_NE(WhyNot(squeezed, 2).find("Squeeze 'Squeeze'"), std::string::npos) << WhyNot(squeezed, 2);

  Builder moved({1, 4});
  moved.graph.outputs = {moved.Op("Transpose", {moved.x}, {{"perm", std::vector<int64_t>{1, 0}}})};
  EXPECT_NE(WhyNot(moved, 2).find("Transpose/out"), std::string::npos) << WhyNot(moved, 2);

  Builder two({2, 4});
  two.graph.outputs = {two.Op("Relu", {two.x})};
  EXPECT_NE(WhyNot(two, 2).find("'x'"), std::string::npos) << WhyNot(two, 2);
  EXPECT_NE(WhyNot(two, 0), "");
}

// A product over all samples would have as many rows, and a sum of them all in each.
TEST(Batch, SeesAProductAcrossSamples) {
  Builder b({1, 4});
  const ValueId column = b.Op("Transpose", {b.x}, {{"perm", std::vector<int64_t>{1, 0}}});
  b.graph.outputs = {b.Op("MatMul", {b.x, column})};
  EXPECT_NE(WhyNot(b, 2).find("MatMul 'MatMul'"), std::string::npos) << WhyNot(b, 2);
}

}  // namespace
}  // namespace octavo
