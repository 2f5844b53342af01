// The demo models of ../shared, before and after all passes.
#include <gtest/gtest.h>

#include <filesystem>

#include "octavo/onnx.h"
#include "octavo/passes.h"
#include "passes/pass_test_graph.h"

namespace octavo {
namespace {

const std::string kModels = std::string(OCTAVO_SOURCE_DIR) + "/../shared/models/";

// Rewrites round where the original rounded elsewhere. Each of some 40 layers adds a few 2^-24 relative to its largest
// value, and errors do not grow by more than their sum in these residual networks: 40 * 4 * 6e-8 = 1e-5.
constexpr double kTolerance = 1e-5;

void RunAndCompare(const std::string& file, const std::map<std::string, Dims>& dims, Graph& graph) {
  Result<Graph> loaded = LoadOnnx(kModels + file);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  graph = *std::move(loaded);
  const Status bound = BindShapes(graph, dims);
  ASSERT_TRUE(bound.ok()) << bound.message();
  const Graph before = graph;
  const auto reports = RunPasses(graph);
  ASSERT_TRUE(reports.ok()) << reports.status().message();
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(PassesOnRealModels, LeaveTheEncodersFusedOps) {
  if (!std::filesystem::exists(kModels)) GTEST_SKIP() << "no models in " << kModels;
  Graph graph;
  RunAndCompare("efficientvit-sam-nano-encoder.onnx", {{"input_image", {1, 3, 256, 256}}}, graph);
  if (HasFatalFailure()) return;
  EXPECT_EQ(CountOps(graph, "Conv"), 45);
  EXPECT_EQ(CountOps(graph, "Gelu"), 20);
  EXPECT_EQ(CountOps(graph, "LinearAttention", kOctavoDomain), 2);
  EXPECT_EQ(CountOps(graph, "LayerNorm", kOctavoDomain), 1);
  EXPECT_EQ(CountOps(graph, "Add"), 13);  // residuals
  EXPECT_EQ(CountOps(graph, "Mul") + CountOps(graph, "MatMul") + CountOps(graph, "Pad"), 0);
}

TEST(PassesOnRealModels, LeaveTheDecodersFusedOps) {
  if (!std::filesystem::exists(kModels)) GTEST_SKIP() << "no models in " << kModels;
  Graph graph;
  RunAndCompare("efficientvit-sam-nano-decoder.onnx", {{"point_coords", {1, 2, 2}}, {"point_labels", {1, 2}}}, graph);
  if (HasFatalFailure()) return;
  EXPECT_EQ(CountOps(graph, "Attention", kOctavoDomain), 7);
  EXPECT_EQ(CountOps(graph, "LayerNorm", kOctavoDomain), 10);
  EXPECT_EQ(CountOps(graph, "Gelu"), 2);
  EXPECT_EQ(CountOps(graph, "Softmax") + CountOps(graph, "Erf") + CountOps(graph, "ReduceMean"), 0);
}

}  // namespace
}  // namespace octavo
