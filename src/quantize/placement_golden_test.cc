// Where Q/DQ stand in the demo encoder, for each target: tests/golden/placement_<target>.txt. Scales are no part of it.
// OCTAVO_REGENERATE_GOLDEN=1 writes the files anew; read the difference before committing it.
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/file.h"
#include "octavo/onnx.h"
#include "octavo/targets.h"
#include "quantize/placement.h"

namespace octavo {
namespace {

const std::string kRoot = OCTAVO_SOURCE_DIR;

std::string Describe(const Graph& graph, const Placement& placement) {
  std::string text;
  for (const Placement::Edge& edge : placement.edges) {
    text += "quantize " + graph.value(edge.tensor).name;
    if (edge.scale_of != edge.tensor) text += " with the scale of " + graph.value(edge.scale_of).name;
    text += " (" + edge.reason + ")\n";
    if (edge.result_of != kNoNode) text += "  <- " + graph.node(edge.result_of).name + ", for every reader\n";
    for (const NodeId consumer : edge.consumers)
      text += "  -> " + graph.node(consumer).op + " " + graph.node(consumer).name + "\n";
  }
  for (const Placement::Weight& weight : placement.weights) {
    text += "weight " + graph.node(weight.node).name + " input " + std::to_string(weight.input) + " axis " +
            std::to_string(weight.axis) + "\n";
  }
  for (const FloatRecipe& node : placement.float_nodes) text += "float " + node.node + " (" + node.reason + ")\n";
  return text;
}

void ExpectGolden(const std::string& name, const std::string& text) {
  const std::string path = kRoot + "/tests/golden/" + name + ".txt";
  if (std::getenv("OCTAVO_REGENERATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(WriteFile(path, text).ok());
    GTEST_SKIP() << "wrote " << path;
  }
  const auto bytes = ReadFile(path, int64_t{1} << 24);
  ASSERT_TRUE(bytes.ok()) << bytes.status().message();
  EXPECT_EQ(text, std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size())) << path;
}

class PlacementGolden : public testing::TestWithParam<std::string> {};

TEST_P(PlacementGolden, OfTheDemoEncoder) {
  const Graph graph =
      PrepareForQuantization(LoadOnnx(kRoot + "/models/efficientvit-sam-nano-encoder.onnx").value()).value();
  Policy policy;
  if (GetParam() == "tensorrt8-implicit") {
    policy.preset = GetParam();
  } else {
    policy.target = GetParam();
  }
  const auto placement = Place(graph, policy);
  ASSERT_TRUE(placement.ok()) << placement.status().message();
  ExpectGolden("placement_" + GetParam(), Describe(graph, *placement));
}

INSTANTIATE_TEST_SUITE_P(Targets, PlacementGolden,
                         testing::Values("octavo", "onnxruntime", "openvino", "tensorrt", "tensorrt8-implicit"));

}  // namespace
}  // namespace octavo
