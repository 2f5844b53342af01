// What a broken or unusual file is told: one line that names the node, the tensor and, where there is one, the remedy.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "graph/shape_inference.h"
#include "octavo/onnx.h"
#include "octavo/reference.h"
#include "octavo/session.h"
#include "onnx/model_testing.h"

namespace octavo {
namespace {

using onnx::ModelProto;
using onnx::NodeProto;
using onnx::TensorProto;
using testing::HasSubstr;
using testing::Not;

template <typename T>
void AddConstant(ModelProto& model, const std::string& name, int32_t type, const Dims& dims,
                 const std::vector<T>& values) {
  SetRaw(AddInitializer(model, name, type, dims), values);
}

// x[batch,2] -> `op` 'node' with w -> y.
ModelProto OneNode(const std::string& op) {
  ModelProto model;
  model.set_ir_version(8);
  model.add_opset_import()->set_version(17);
  Declare(*model.mutable_graph()->add_input(), "x", TensorProto::FLOAT, {-1, 2});
  model.mutable_graph()->add_output()->set_name("y");
  AddNode(model, op, {"x", "w"}, {"y"}, "node");
  return model;
}
template <typename T>
ModelProto OneNode(const std::string& op, int32_t type, const Dims& dims, const std::vector<T>& values) {
  ModelProto model = OneNode(op);
  AddConstant<T>(model, "w", type, dims, std::move(values));
  return model;
}
ModelProto Product() { return OneNode<float>("MatMul", TensorProto::FLOAT, {2, 2}, {1, 2, 3, 4}); }

Result<Graph> Parse(const ModelProto& model) {
  const std::string bytes = model.SerializeAsString();
  return ParseOnnx(std::as_bytes(std::span(bytes)), "");
}

// The first error on the way from the file to the outputs.
Status ErrorOf(const ModelProto& model, const std::map<std::string, Tensor>& inputs) {
  auto graph = Parse(model);
  if (!graph.ok()) return graph.status();
  const Status reference = RunReference(*graph, inputs).status();
  SessionOptions options;
  options.threads = 1;
  auto session = Session::Create(*std::move(graph), options);
  if (!session.ok()) return session.status();
  const Status engine = session->Run(inputs).status();
  EXPECT_EQ(reference.message(), engine.message()) << "the reference and the engine say different things";
  return engine;
}

struct Case {
  std::string what;
  ModelProto model;
  std::vector<std::string> says;
};

void ExpectErrors(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    const Status status = ErrorOf(c.model, {{"x", *Tensor::Zeros(DType::kFloat32, {3, 2})}});
    ASSERT_FALSE(status.ok());
    EXPECT_NE(status.code(), ErrorCode::kInternal) << status.message();
    EXPECT_THAT(status.message(), Not(HasSubstr("\n")));
    for (const std::string& text : c.says) EXPECT_THAT(status.message(), HasSubstr(text));
  }
}

TEST(OnnxErrors, ConstantsOfAnotherTypeOrRank) {
  constexpr auto kFloat = TensorProto::FLOAT;
  constexpr auto kInt64 = TensorProto::INT64;
  ExpectErrors({
      {"a product of two types",
       OneNode<int64_t>("MatMul", kInt64, {2, 1}, {1, 2}),
       {"MatMul 'node'", "float32 and int64"}},
      {"a sum of two types", OneNode<int64_t>("Add", kInt64, {1}, {1}), {"Add 'node'", "float32 and int64"}},
      {"weights of another rank", OneNode<float>("Conv", kFloat, {2}, {1, 2}), {"Conv 'node'", "rank"}},
      {"a shape of floats", OneNode<float>("Reshape", kFloat, {2}, {3, 2}), {"Reshape 'node'", "float32", "int64"}},
      {"a shape that is a matrix", OneNode<int64_t>("Reshape", kInt64, {1, 2}, {3, 2}), {"Reshape 'node'", "vector"}},
      {"sizes that do not fit", OneNode<float>("MatMul", kFloat, {3, 1}, {1, 2, 3}), {"MatMul 'node'", "3x2", "3x1"}},
      {"an index beyond the axis", OneNode<int64_t>("Gather", kInt64, {1}, {99}), {"Gather 'node'", "99"}},
  });
}

TEST(OnnxErrors, SizesThatOverflowOrAreNegative) {
  constexpr auto kInt64 = TensorProto::INT64;
  ExpectErrors({
      {"a negative size", OneNode<int64_t>("Reshape", kInt64, {2}, {-3, -1}), {"Reshape 'node'", "-3"}},
      {"2^80 elements",
       OneNode<int64_t>("Expand", kInt64, {3}, {1LL << 40, 1LL << 40, 2}),
       {"Expand 'node'", "too many"}},
      {"2^124 elements", OneNode<int64_t>("Tile", kInt64, {2}, {1LL << 62, 1LL << 62}), {"Tile 'node'"}},
      {"a pad of 2^62", OneNode<int64_t>("Pad", kInt64, {4}, {1LL << 62, 0, 0, 0}), {"Pad 'node'", "out of range"}},
  });
}

TEST(OnnxErrors, NodesThatAreNotWhole) {
  const auto changed = [](const std::function<void(NodeProto&)>& change) {
    ModelProto model = Product();
    change(*model.mutable_graph()->mutable_node(0));
    return model;
  };
  ModelProto declared = Product();
  declared.mutable_graph()->mutable_output(0)->Clear();
  Declare(*declared.mutable_graph()->mutable_output(0), "y", TensorProto::INT64, {-1, 2});
  ModelProto cycle = Product();
  AddNode(cycle, "Add", {"y", "b"}, {"a"}, "first");
  AddNode(cycle, "Relu", {"a"}, {"b"}, "second");
  ExpectErrors({
      {"too many inputs", changed([](NodeProto& n) { n.add_input("x"); }), {"MatMul 'node'", "3 inputs", "at most 2"}},
      {"too few inputs", changed([](NodeProto& n) { n.mutable_input()->RemoveLast(); }), {"MatMul 'node'", "missing"}},
      {"an empty input", changed([](NodeProto& n) { n.set_input(0, ""); }), {"MatMul 'node'", "missing"}},
      {"an output too many", changed([](NodeProto& n) { n.add_output("z"); }), {"MatMul 'node'", "2 outputs"}},
      {"an output of another type", declared, {"MatMul 'node'", "'y'", "float32", "int64"}},
      {"a cycle", cycle, {"cycle", "Add 'first'"}},
  });
}

TEST(OnnxErrors, InputsAtRunTime) {
  ModelProto model = OneNode("Add");
  Declare(*model.mutable_graph()->add_input(), "w", TensorProto::FLOAT, {-1, 2});
  const auto zeros = [](Dims dims, DType dtype = DType::kFloat32) { return *Tensor::Zeros(dtype, std::move(dims)); };
  struct Given {
    std::string what;
    std::map<std::string, Tensor> inputs;
    std::vector<std::string> says;
  };
  const std::vector<Given> cases = {
      {"one is missing", {{"x", zeros({3, 2})}}, {"missing", "w float32 ?x2"}},
      {"one too many", {{"x", zeros({3, 2})}, {"w", zeros({3, 2})}, {"q", zeros({1})}}, {"'q'", "x float32 ?x2"}},
      {"another type", {{"x", zeros({3, 2}, DType::kInt64)}, {"w", zeros({3, 2})}}, {"'x'", "int64", "float32"}},
      {"no tensor", {{"x", Tensor()}, {"w", zeros({3, 2})}}, {"'x'", "undefined"}},
      {"another rank", {{"x", zeros({3, 2, 1})}, {"w", zeros({3, 2})}}, {"'x'", "?x2", "3x2x1"}},
      {"another size", {{"x", zeros({3, 4})}, {"w", zeros({3, 2})}}, {"'x'", "?x2", "3x4"}},
      {"two sizes of one name", {{"x", zeros({3, 2})}, {"w", zeros({4, 2})}}, {"'batch'", "3", "4"}},
  };
  for (const Given& given : cases) {
    SCOPED_TRACE(given.what);
    const Status status = ErrorOf(model, given.inputs);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
    for (const std::string& text : given.says) EXPECT_THAT(status.message(), HasSubstr(text));
  }
}

TEST(OnnxErrors, NodesThatShareANameAreToldApart) {
  ModelProto model = Product();
  AddNode(model, "Relu", {"y"}, {"z"}, "node");
  AddNode(model, "Relu", {"z"}, {"z2"}, "node_0");
  model.mutable_graph()->mutable_output(0)->set_name("z2");
  const auto graph = Parse(model);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  ASSERT_EQ(graph->nodes.size(), 3u);
  EXPECT_EQ(graph->nodes[0].name, "node");
  EXPECT_EQ(graph->nodes[1].name, "node_1");  // node_0 is another's
  EXPECT_EQ(graph->nodes[2].name, "node_0");
}

TEST(OnnxErrors, ANodeThatMakesNothingIsLeftOut) {
  ModelProto model = Product();
  AddNode(model, "MatMul", {"x", "w"}, {}, "idle");
  AddNode(model, "Shape", {"x"}, {}, "idle_shape");
  EXPECT_EQ(ErrorOf(model, {{"x", *Tensor::Zeros(DType::kFloat32, {3, 2})}}).message(), "");
}

}  // namespace
}  // namespace octavo
