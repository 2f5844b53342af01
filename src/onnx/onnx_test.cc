#include "octavo/onnx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/test_files.h"
#include "onnx.pb.h"
#include "onnx/model_testing.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;
using onnx::AttributeProto;
using onnx::ModelProto;
using onnx::NodeProto;
using onnx::TensorProto;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// x[batch,2] -> MatMul 'product' by w[2,3] -> Add 'sum' of b[3] -> y[batch,3]; w is raw, b is typed.
ModelProto TinyModel() {
  ModelProto model;
  model.set_ir_version(8);
  model.set_producer_name("test");
  auto& import = *model.add_opset_import();
  import.set_domain("");
  import.set_version(17);
  model.mutable_graph()->set_name("tiny");
  Declare(*model.mutable_graph()->add_input(), "x", TensorProto::FLOAT, {-1, 2});
  Declare(*model.mutable_graph()->add_output(), "y", TensorProto::FLOAT, {-1, 3});
  SetRaw<float>(AddInitializer(model, "w", TensorProto::FLOAT, {2, 3}), {1, 2, 3, 4, 5, 6});
  AddInitializer(model, "b", TensorProto::FLOAT, {3}).mutable_float_data()->Resize(3, 0.5f);
  AddNode(model, "MatMul", {"x", "w"}, {"xw"}, "product");
  AddNode(model, "Add", {"xw", "b"}, {"y"}, "sum");
  return model;
}

Result<Graph> Parse(const std::string& bytes, const std::string& folder = "") {
  return ParseOnnx(std::as_bytes(std::span(bytes)), folder);
}

Result<Graph> Parse(const ModelProto& model, const std::string& folder = "") {
  return Parse(model.SerializeAsString(), folder);
}

// The error that TinyModel gives once `damage` was done to it.
Status ErrorAfter(const std::function<void(ModelProto&)>& damage) {
  ModelProto model = TinyModel();
  damage(model);
  return Parse(model).status();
}

const Tensor& Constant(const Graph& graph, const std::string& name) { return graph.value(graph.Find(name)).constant; }

// The error that the tensor 'w' of TinyModel gives once `change` was done to it.
Status TensorErrorAfter(const std::function<void(TensorProto&)>& change) {
  return ErrorAfter([&](ModelProto& m) { change(*m.mutable_graph()->mutable_initializer(0)); });
}

class OnnxFileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = root_ / "model";
    fs::create_directory(folder_);
  }

  std::string Path(const std::string& name) const { return folder_ / name; }
  static void Put(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }
  size_t FilesInFolder() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  // TinyModel with w's 24 bytes in `location`.
  static ModelProto ExternalModel(const std::string& location, const std::string& offset = "",
                                  const std::string& length = "") {
    ModelProto model = TinyModel();
    TensorProto& w = *model.mutable_graph()->mutable_initializer(0);
    w.clear_raw_data();
    w.set_data_location(TensorProto::EXTERNAL);
    const auto add = [&](const std::string& key, const std::string& value) {
      if (value.empty()) return;
      auto& entry = *w.add_external_data();
      entry.set_key(key);
      entry.set_value(value);
    };
    add("location", location);
    add("offset", offset);
    add("length", length);
    return model;
  }
  Status ErrorOf(const ModelProto& model) const { return Parse(model, folder_).status(); }

  TemporaryFolder root_;  // outside the model's folder
  fs::path folder_;       // the model's folder
};

// Everything but the ids of values, which depend on the order in the file.
void ExpectEqual(const Graph& a, const Graph& b) {
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.ir_version, b.ir_version);
  EXPECT_EQ(a.producer_name, b.producer_name);
  EXPECT_EQ(a.producer_version, b.producer_version);
  EXPECT_EQ(a.doc_string, b.doc_string);
  EXPECT_EQ(a.opsets, b.opsets);
  EXPECT_EQ(a.metadata, b.metadata);
  const auto names = [](const Graph& graph, const std::vector<ValueId>& ids) {
    std::vector<std::string> found;
    for (const ValueId id : ids) found.push_back(id == kNoValue ? "" : graph.value(id).name);
    return found;
  };
  EXPECT_EQ(names(a, a.inputs), names(b, b.inputs));
  EXPECT_EQ(names(a, a.outputs), names(b, b.outputs));
  const auto expect_same_tensor = [](const Tensor& s, const Tensor& t) {
    ASSERT_EQ(s.dtype(), t.dtype());
    ASSERT_EQ(s.dims(), t.dims());
    if (s.bytes() > 0) {
      EXPECT_EQ(std::memcmp(s.data(), t.data(), s.bytes()), 0);
    }
  };
  ASSERT_EQ(a.values.size(), b.values.size());
  for (const Value& value : a.values) {
    SCOPED_TRACE(value.name);
    ASSERT_NE(b.Find(value.name), kNoValue);
    const Value& other = b.value(b.Find(value.name));
    EXPECT_EQ(value.dtype, other.dtype);
    EXPECT_EQ(value.shape_known, other.shape_known);
    EXPECT_EQ(value.dims, other.dims);
    EXPECT_EQ(value.dim_params, other.dim_params);
    expect_same_tensor(value.constant, other.constant);
  }
  ASSERT_EQ(a.nodes.size(), b.nodes.size());
  for (size_t n = 0; n < a.nodes.size(); ++n) {
    SCOPED_TRACE(a.nodes[n].name);
    EXPECT_EQ(a.nodes[n].name, b.nodes[n].name);
    EXPECT_EQ(a.nodes[n].domain, b.nodes[n].domain);
    EXPECT_EQ(a.nodes[n].op, b.nodes[n].op);
    EXPECT_EQ(names(a, a.nodes[n].inputs), names(b, b.nodes[n].inputs));
    EXPECT_EQ(names(a, a.nodes[n].outputs), names(b, b.nodes[n].outputs));
    ASSERT_EQ(a.nodes[n].attributes.size(), b.nodes[n].attributes.size());
    for (const auto& [name, attribute] : a.nodes[n].attributes) {
      const auto& other = b.nodes[n].attributes.at(name);
      ASSERT_EQ(attribute.index(), other.index());
      if (const auto* tensor = std::get_if<Tensor>(&attribute)) {
        expect_same_tensor(*tensor, std::get<Tensor>(other));
      } else {
        std::visit(
            [&](const auto& held) {
              using Held = std::decay_t<decltype(held)>;
              if constexpr (!std::is_same_v<Held, Tensor>) {
                EXPECT_EQ(held, std::get<Held>(other));
              }
            },
            attribute);
      }
    }
  }
}

TEST(ParseOnnxTest, ReadsTheTinyModel) {
  const auto graph = Parse(TinyModel());
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(graph->opset(), 17);
  EXPECT_EQ(graph->producer_name, "test");
  ASSERT_EQ(graph->inputs.size(), 1u);
  const Value& x = graph->value(graph->inputs[0]);
  EXPECT_EQ(x.name, "x");
  EXPECT_EQ(x.dims, (Dims{-1, 2}));
  EXPECT_THAT(x.dim_params, ElementsAre("batch", ""));
  EXPECT_THAT(graph->value(graph->outputs[0]).dims, ElementsAre(-1, 3));
  EXPECT_THAT(*ToFloats(Constant(*graph, "w")), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(*ToFloats(Constant(*graph, "b")), ElementsAre(0.5f, 0.5f, 0.5f));
  ASSERT_EQ(graph->nodes.size(), 2u);
  EXPECT_EQ(graph->Describe(graph->nodes[1]), "Add 'sum'");
  EXPECT_EQ(graph->value(graph->Find("y")).producer, 1);
}

TEST(ParseOnnxTest, RawAndTypedDataGiveTheSame) {
  ModelProto model = TinyModel();
  using Fill = std::function<void(TensorProto&)>;
  const auto add_pair = [&](const std::string& name, int32_t type, const Fill& raw, const Fill& typed) {
    raw(AddInitializer(model, name + "_raw", type, {2}));
    typed(AddInitializer(model, name + "_typed", type, {2}));
  };
  const auto int32_field = [](int32_t a, int32_t b) {
    return [a, b](TensorProto& t) {
      t.add_int32_data(a);
      t.add_int32_data(b);
    };
  };
  const auto raw = [](auto values) { return [values](TensorProto& t) { SetRaw(t, values); }; };
  add_pair("int8", TensorProto::INT8, raw(std::vector<int8_t>{-128, 127}), int32_field(-128, 127));
  add_pair("uint8", TensorProto::UINT8, raw(std::vector<uint8_t>{0, 255}), int32_field(0, 255));
  add_pair("int16", TensorProto::INT16, raw(std::vector<int16_t>{-5, 6}), int32_field(-5, 6));
  add_pair("uint16", TensorProto::UINT16, raw(std::vector<uint16_t>{5, 65535}), int32_field(5, 65535));
  add_pair("int32", TensorProto::INT32, raw(std::vector<int32_t>{INT32_MIN, 9}), int32_field(INT32_MIN, 9));
  add_pair("float16", TensorProto::FLOAT16, raw(std::vector<uint16_t>{0x3c00, 0xc000}), int32_field(0x3c00, 0xc000));
  add_pair("bfloat16", TensorProto::BFLOAT16, raw(std::vector<uint16_t>{0x3f80, 0xc000}), int32_field(0x3f80, 0xc000));
  // A bool is any byte but 0.
  add_pair("bool", TensorProto::BOOL, raw(std::vector<uint8_t>{0, 77}), int32_field(0, 1));
  add_pair("int64", TensorProto::INT64, raw(std::vector<int64_t>{INT64_MIN, 3}), [](TensorProto& t) {
    t.add_int64_data(INT64_MIN);
    t.add_int64_data(3);
  });
  add_pair("uint32", TensorProto::UINT32, raw(std::vector<uint32_t>{1, UINT32_MAX}), [](TensorProto& t) {
    t.add_uint64_data(1);
    t.add_uint64_data(UINT32_MAX);
  });
  add_pair("uint64", TensorProto::UINT64, raw(std::vector<uint64_t>{1, UINT64_MAX}), [](TensorProto& t) {
    t.add_uint64_data(1);
    t.add_uint64_data(UINT64_MAX);
  });
  add_pair("double", TensorProto::DOUBLE, raw(std::vector<double>{0.1, -1e300}), [](TensorProto& t) {
    t.add_double_data(0.1);
    t.add_double_data(-1e300);
  });
  add_pair("float", TensorProto::FLOAT, raw(std::vector<float>{0.1f, -3}), [](TensorProto& t) {
    t.add_float_data(0.1f);
    t.add_float_data(-3);
  });
  const auto graph = Parse(model);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  for (const char* type : {"int8", "uint8", "int16", "uint16", "int32", "int64", "uint32", "uint64", "float16",
                           "bfloat16", "float", "double", "bool"}) {
    SCOPED_TRACE(type);
    const std::string name(type);
    const Tensor from_raw = Constant(*graph, name + "_raw"), from_typed = Constant(*graph, name + "_typed");
    EXPECT_EQ(NameOf(from_raw.dtype()), name == "float" ? "float32" : name == "double" ? "float64" : name);
    ASSERT_EQ(from_raw.dtype(), from_typed.dtype());
    ASSERT_EQ(from_raw.bytes(), from_typed.bytes());
    EXPECT_EQ(std::memcmp(from_raw.data(), from_typed.data(), from_raw.bytes()), 0);
  }
}

TEST(ParseOnnxTest, LargeRawDataIsAsGoodAsSmall) {
  ModelProto model = TinyModel();
  std::vector<float> values(100'000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  SetRaw(AddInitializer(model, "large", TensorProto::FLOAT, {100, 1000}), values);
  const auto graph = Parse(model);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(*ToFloats(Constant(*graph, "large")), values);
}

TEST(ParseOnnxTest, ConstantNodesBecomeConstants) {
  ModelProto model = TinyModel();
  const auto constant = [&](const std::string& out, const std::string& name,
                            AttributeProto::AttributeType type) -> auto& {
    return AddAttribute(AddNode(model, "Constant", {}, {out}), name, type);
  };
  constant("f", "value_float", AttributeProto::FLOAT).set_f(2.5f);
  constant("i", "value_int", AttributeProto::INT).set_i(-7);
  constant("fs", "value_floats", AttributeProto::FLOATS).add_floats(1);
  constant("is", "value_ints", AttributeProto::INTS).add_ints(4);
  TensorProto& tensor = *constant("t", "value", AttributeProto::TENSOR).mutable_t();
  tensor.set_data_type(TensorProto::INT32);
  tensor.add_int32_data(11);
  const auto graph = Parse(model);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(graph->nodes.size(), 2u);
  EXPECT_EQ(Constant(*graph, "f").dims(), Dims{});
  EXPECT_THAT(*ToFloats(Constant(*graph, "f")), ElementsAre(2.5f));
  EXPECT_EQ(Constant(*graph, "i").dtype(), DType::kInt64);
  EXPECT_THAT(*ToInt64s(Constant(*graph, "i")), ElementsAre(-7));
  EXPECT_EQ(Constant(*graph, "fs").dims(), Dims{1});
  EXPECT_EQ(Constant(*graph, "is").dims(), Dims{1});
  EXPECT_THAT(*ToInt64s(Constant(*graph, "t")), ElementsAre(11));
}

TEST(ParseOnnxTest, NamesAreMadeUniqueAndOptionalOnesMayBeEmpty) {
  ModelProto model = TinyModel();
  AddNode(model, "Relu", {"xw"}, {"r"}, "Relu_0");
  AddNode(model, "Relu", {"xw"}, {"r2"});
  AddNode(model, "Clip", {"xw", "", "high"}, {"c"}).set_domain("ai.onnx");
  AddInitializer(model, "high", TensorProto::FLOAT, {}).add_float_data(1);
  const auto graph = Parse(model);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(graph->nodes[3].name, "Relu_1");
  const Node& clip = graph->nodes[4];
  EXPECT_EQ(clip.name, "Clip_2");
  EXPECT_EQ(clip.domain, "");
  EXPECT_FALSE(clip.has_input(1));
  EXPECT_TRUE(clip.has_input(2));
}

TEST(ParseOnnxTest, InitializersListedAsInputsAreConstants) {
  ModelProto model = TinyModel();
  model.set_ir_version(3);
  Declare(*model.mutable_graph()->add_input(), "w", TensorProto::FLOAT, {2, 3});
  const auto graph = Parse(model);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(graph->inputs.size(), 1u);
}

TEST(ParseOnnxTest, NodesMayComeInAnyOrder) {
  ModelProto model = TinyModel();
  model.mutable_graph()->mutable_node()->SwapElements(0, 1);
  const auto graph = Parse(model);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(graph->nodes[0].name, "product");
}

TEST(ParseOnnxTest, WhatIsNoModelIsRefused) {
  for (const std::string& bytes : {std::string(), std::string("\x89PNG\r\n\x1a\n and more"), std::string(1000, '\0'),
                                   std::string(1000, '\xff'), std::string("{\"json\": true}")}) {
    const auto graph = Parse(bytes);
    ASSERT_FALSE(graph.ok());
    EXPECT_EQ(graph.status().code(), ErrorCode::kBadFile);
    EXPECT_THAT(graph.status().message(), HasSubstr("not an ONNX model"));
  }
}

TEST(ParseOnnxTest, EveryTruncationIsRefused) {
  const std::string bytes = TinyModel().SerializeAsString();
  ASSERT_TRUE(Parse(bytes).ok());
  for (size_t length = 0; length < bytes.size(); ++length) {
    const auto graph = Parse(bytes.substr(0, length));
    ASSERT_FALSE(graph.ok()) << length;
    EXPECT_EQ(graph.status().code(), ErrorCode::kBadFile) << length << ": " << graph.status().message();
  }
}

TEST(ParseOnnxTest, ADamagedByteNeverGivesAnInvalidGraph) {
  const std::string bytes = TinyModel().SerializeAsString();
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(value);
      const auto graph = Parse(damaged);
      if (graph.ok()) {
        EXPECT_TRUE(Verify(*graph).ok()) << at << " " << value;
      } else {
        EXPECT_NE(graph.status().code(), ErrorCode::kInternal) << at << " " << value << graph.status().message();
        EXPECT_THAT(graph.status().message(), Not(HasSubstr("\n")));
      }
    }
  }
}

TEST(ParseOnnxTest, DeepNestingIsRefused) {
  // GraphProto.node -> NodeProto.attribute -> AttributeProto.g -> ..., 3000 levels of three messages.
  std::string graph;
  const auto wrap = [](char tag, const std::string& content) {
    std::string wrapped(1, tag);
    size_t length = content.size();
    for (; length >= 0x80; length >>= 7) wrapped += static_cast<char>((length & 0x7f) | 0x80);
    wrapped += static_cast<char>(length);
    return wrapped + content;
  };
  for (int level = 0; level < 3000; ++level) graph = wrap('\x0a', wrap('\x2a', wrap('\x32', graph)));
  const auto result = Parse(std::string("\x08\x08") + wrap('\x3a', graph));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), ErrorCode::kBadFile);
}

TEST(ParseOnnxTest, BrokenGraphsAreRefusedByName) {
  const auto message = [](const std::function<void(ModelProto&)>& damage) {
    const Status status = ErrorAfter(damage);
    EXPECT_FALSE(status.ok());
    if (status.ok()) return std::string();
    EXPECT_EQ(status.code(), ErrorCode::kBadFile);
    return status.message();
  };
  EXPECT_THAT(message([](ModelProto& m) { m.mutable_graph()->mutable_initializer()->RemoveLast(); }),
              AllOf(HasSubstr("Add 'sum'"), HasSubstr("'b'"), HasSubstr("missing")));
  EXPECT_THAT(message([](ModelProto& m) { m.mutable_graph()->mutable_node(0)->set_input(0, "nowhere"); }),
              AllOf(HasSubstr("MatMul 'product'"), HasSubstr("'nowhere'")));
  EXPECT_THAT(message([](ModelProto& m) { m.mutable_graph()->mutable_node(0)->set_input(0, "y"); }),
              AllOf(HasSubstr("cycle"), HasSubstr("'")));
  EXPECT_THAT(message([](ModelProto& m) { AddNode(m, "Relu", {"x"}, {"xw"}, "again"); }),
              AllOf(HasSubstr("Relu 'again'"), HasSubstr("'xw'")));
  EXPECT_THAT(message([](ModelProto& m) { AddInitializer(m, "w", TensorProto::FLOAT, {0}); }), HasSubstr("'w'"));
  EXPECT_THAT(message([](ModelProto& m) { *m.mutable_graph()->add_input() = m.graph().input(0); }), HasSubstr("'x'"));
  EXPECT_THAT(message([](ModelProto& m) { m.mutable_graph()->mutable_output(0)->set_name("z"); }), HasSubstr("'z'"));
  EXPECT_THAT(message([](ModelProto& m) { *m.mutable_graph()->add_output() = m.graph().output(0); }),
              HasSubstr("listed twice"));
  EXPECT_THAT(message([](ModelProto& m) { m.mutable_graph()->clear_output(); }), HasSubstr("no outputs"));
  EXPECT_THAT(message([](ModelProto& m) { m.clear_opset_import(); }), HasSubstr("opset"));
  EXPECT_THAT(message([](ModelProto& m) { m.mutable_graph()->mutable_node(0)->clear_op_type(); }),
              HasSubstr("'product'"));
  EXPECT_THAT(message([](ModelProto& m) {
                Declare(*m.mutable_graph()->mutable_input(0), "x", 1, {-1, 2, 1LL << 41});
              }),
              HasSubstr("'x'"));
  EXPECT_THAT(message([](ModelProto& m) {
                Declare(*m.mutable_graph()->mutable_input(0), "x", 1, {2});
                auto& shape =
                    *m.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->mutable_shape();
                shape.mutable_dim(0)->set_dim_value(-5);
              }),
              AllOf(HasSubstr("'x'"), HasSubstr("-5")));
  EXPECT_THAT(message([](ModelProto& m) {
                auto& node = *m.mutable_graph()->mutable_node(0);
                AddAttribute(node, "a", AttributeProto::INT);
                AddAttribute(node, "a", AttributeProto::INT);
              }),
              AllOf(HasSubstr("'product'"), HasSubstr("twice")));
}

TEST(ParseOnnxTest, BrokenTensorsAreRefusedByName) {
  const auto message = [](const std::function<void(TensorProto&)>& change) {
    const Status status = TensorErrorAfter(change);
    EXPECT_FALSE(status.ok());
    if (status.ok()) return std::string();
    EXPECT_EQ(status.code(), ErrorCode::kBadFile);
    EXPECT_THAT(status.message(), HasSubstr("'w'"));
    return status.message();
  };
  EXPECT_THAT(message([](TensorProto& t) { t.set_dims(0, -2); }), HasSubstr("-2"));
  EXPECT_THAT(message([](TensorProto& t) { t.set_dims(0, int64_t{1} << 62); }), HasSubstr("too many"));
  EXPECT_THAT(message([](TensorProto& t) { t.set_dims(0, 1000000); }), HasSubstr("24 bytes"));
  EXPECT_THAT(message([](TensorProto& t) { t.mutable_dims()->Resize(100000, 1); }), HasSubstr("dimensions"));
  EXPECT_THAT(message([](TensorProto& t) { t.add_float_data(1); }), HasSubstr("more than one"));
  EXPECT_THAT(message([](TensorProto& t) { t.set_data_type(0); }), HasSubstr("no element type"));
  EXPECT_THAT(message([](TensorProto& t) {
                t.clear_raw_data();
                t.add_float_data(1);
              }),
              HasSubstr("1 values"));
  EXPECT_THAT(message([](TensorProto& t) {
                t.clear_raw_data();
                t.set_data_type(TensorProto::INT8);
                t.mutable_int32_data()->Resize(6, 128);
              }),
              HasSubstr("128"));
}

TEST(ParseOnnxTest, UnsupportedOpsComeInOneError) {
  const Status status = ErrorAfter([](ModelProto& m) {
    AddNode(m, "NoSuchOp", {"x"}, {"n1"}, "first");
    AddNode(m, "NoSuchOp", {"x"}, {"n2"}, "second");
    AddNode(m, "OtherOp", {"x"}, {"n3"}, "third").set_domain("com.example");
    AddAttribute(AddNode(m, "If", {"x"}, {"n4"}, "branch"), "then_branch", AttributeProto::GRAPH).mutable_g();
    AddAttribute(AddNode(m, "Constant", {}, {"n5"}, "text"), "value_string", AttributeProto::STRING).set_s("a");
  });
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.code(), ErrorCode::kUnsupported);
  for (const char* part : {"NoSuchOp", "first", "second", "OtherOp", "third", "If", "branch", "text"}) {
    EXPECT_THAT(status.message(), HasSubstr(part));
  }
}

// For those who only look: what a branch reads from outside is read by its node.
TEST(ParseOnnxTest, AnyOpIsTakenWhereAsked) {
  ModelProto model = TinyModel();
  AddNode(model, "NoSuchOp", {"x"}, {"n1"}, "first");
  AttributeProto& branch =
      AddAttribute(AddNode(model, "If", {"x"}, {"n2"}, "branch"), "then_branch", AttributeProto::GRAPH);
  onnx::NodeProto& inner = *branch.mutable_g()->add_node();
  inner.set_op_type("Relu");
  inner.add_input("n1");
  inner.add_output("inside");
  const std::string bytes = model.SerializeAsString();
  const auto span = std::as_bytes(std::span(bytes.data(), bytes.size()));
  EXPECT_FALSE(ParseOnnx(span, "").ok());
  const auto graph = ParseOnnx(span, "", {.any_op = true});
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  for (const Node& node : graph->nodes) {
    if (node.name != "branch") continue;
    ASSERT_EQ(node.inputs.size(), 2u);
    EXPECT_EQ(graph->value(node.inputs[1]).name, "n1");
  }
}

TEST(ParseOnnxTest, UnsupportedKindsOfDataAreNamed) {
  const auto message = [](const std::function<void(ModelProto&)>& change) {
    const Status status = ErrorAfter(change);
    EXPECT_FALSE(status.ok());
    if (status.ok()) return std::string();
    EXPECT_EQ(status.code(), ErrorCode::kUnsupported);
    return status.message();
  };
  const auto with_type = [](int32_t type) {
    return [type](ModelProto& m) { m.mutable_graph()->mutable_initializer(0)->set_data_type(type); };
  };
  EXPECT_THAT(message(with_type(17)), AllOf(HasSubstr("'w'"), HasSubstr("float8e4m3fn")));
  EXPECT_THAT(message(with_type(22)), AllOf(HasSubstr("'w'"), HasSubstr("int4")));
  EXPECT_THAT(message(with_type(TensorProto::STRING)), AllOf(HasSubstr("'w'"), HasSubstr("string")));
  EXPECT_THAT(message(with_type(-3)), HasSubstr("type -3"));
  EXPECT_THAT(
      message([](ModelProto& m) { m.mutable_graph()->add_sparse_initializer()->mutable_values()->set_name("s"); }),
      AllOf(HasSubstr("sparse"), HasSubstr("'s'")));
  EXPECT_THAT(
      message([](ModelProto& m) { m.mutable_graph()->mutable_input(0)->mutable_type()->mutable_sequence_type(); }),
      HasSubstr("'x'"));
  EXPECT_THAT(message([](ModelProto& m) {
                auto& function = *m.add_functions();
                function.set_name("Add");
              }),
              AllOf(HasSubstr("Add 'sum'"), HasSubstr("function")));
  EXPECT_THAT(message([](ModelProto& m) { m.mutable_graph()->mutable_node(1)->set_domain("octavo"); }),
              HasSubstr("'sum'"));
}

TEST_F(OnnxFileTest, ExternalDataIsRead) {
  const std::vector<float> values{1, 2, 3, 4, 5, 6};
  std::string bytes(10, 'p');
  bytes.append(reinterpret_cast<const char*>(values.data()), 24);
  fs::create_directory(folder_ / "sub");
  Put(Path("sub/w.bin"), bytes);
  for (const auto& model : {ExternalModel("sub/w.bin", "10", "24"), ExternalModel("./sub//w.bin", "10")}) {
    const auto graph = Parse(model, folder_);
    ASSERT_TRUE(graph.ok()) << graph.status().message();
    EXPECT_EQ(*ToFloats(Constant(*graph, "w")), values);
  }
  Put(Path("m.onnx"), ExternalModel("sub/w.bin", "10", "24").SerializeAsString());
  const auto graph = LoadOnnx(Path("m.onnx"));
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(*ToFloats(Constant(*graph, "w")), values);
}

TEST_F(OnnxFileTest, ExternalDataMustLieInsideItsFile) {
  Put(Path("w.bin"), std::string(30, 'x'));
  EXPECT_TRUE(ErrorOf(ExternalModel("w.bin", "6", "24")).ok());
  EXPECT_THAT(ErrorOf(ExternalModel("w.bin", "7", "24")).message(), AllOf(HasSubstr("'w'"), HasSubstr("shorter")));
  EXPECT_THAT(ErrorOf(ExternalModel("w.bin", "9223372036854775807", "24")).message(), HasSubstr("shorter"));
  EXPECT_THAT(ErrorOf(ExternalModel("w.bin", "0", "30")).message(), HasSubstr("need 24"));
  for (const char* number : {"9223372036854775808", "-1", "abc", "1x", " 1"}) {
    EXPECT_EQ(ErrorOf(ExternalModel("w.bin", number)).code(), ErrorCode::kBadFile) << number;
    EXPECT_EQ(ErrorOf(ExternalModel("w.bin", "0", number)).code(), ErrorCode::kBadFile) << number;
  }
  // Refused before it is allocated: 2^39 floats.
  ModelProto huge = ExternalModel("w.bin");
  huge.mutable_graph()->mutable_initializer(0)->set_dims(0, int64_t{1} << 37);
  huge.mutable_graph()->mutable_initializer(0)->set_dims(1, 4);
  EXPECT_THAT(ErrorOf(huge).message(), HasSubstr("shorter"));
}

TEST_F(OnnxFileTest, ExternalDataMustLieInsideTheFolder) {
  const std::string secret = root_ / "secret.bin";
  Put(secret, std::string(24, 's'));
  Put(Path("inside.bin"), std::string(24, 'i'));
  fs::create_symlink("inside.bin", Path("fine"));
  fs::create_symlink("../secret.bin", Path("escape"));
  fs::create_symlink(secret, Path("absolute_escape"));
  fs::create_symlink("..", Path("parent"));
  // A folder whose name only begins like the model's.
  fs::create_directory(root_ / "model2");
  Put(root_ / "model2/w.bin", std::string(24, 't'));
  fs::create_symlink("../model2", Path("sibling"));
  EXPECT_TRUE(ErrorOf(ExternalModel("fine")).ok());
  for (const std::string& location :
       {secret, std::string("../secret.bin"), std::string("sub/../../secret.bin"), std::string(".."),
        std::string("escape"), std::string("absolute_escape"), std::string("parent/secret.bin"),
        std::string("sibling/w.bin"), std::string("inside.bin\0x", 12), std::string("."), std::string()}) {
    const Status status = ErrorOf(ExternalModel(location));
    ASSERT_FALSE(status.ok()) << location;
    EXPECT_THAT(status.message(), HasSubstr("'w'")) << location;
  }
  EXPECT_EQ(ErrorOf(ExternalModel(secret)).code(), ErrorCode::kBadFile);
  EXPECT_EQ(ErrorOf(ExternalModel("escape")).code(), ErrorCode::kBadFile);
  EXPECT_EQ(ErrorOf(ExternalModel("absent")).code(), ErrorCode::kNotFound);
  ASSERT_EQ(mkfifo(Path("fifo").c_str(), 0600), 0);
  EXPECT_FALSE(ErrorOf(ExternalModel("fifo")).ok());  // and does not wait for a writer
  EXPECT_EQ(Parse(ExternalModel("inside.bin"), "").status().code(), ErrorCode::kInvalidArgument);
}

TEST_F(OnnxFileTest, OneRangeCannotFillMemory) {
  Put(Path("w.bin"), std::string(24, 'x'));
  ModelProto model = ExternalModel("w.bin");
  const TensorProto w = model.graph().initializer(0);
  for (int i = 0; i < 3; ++i) {
    TensorProto& copy = *model.mutable_graph()->add_initializer();
    copy = w;
    copy.set_name("tied" + std::to_string(i));
  }
  EXPECT_TRUE(ErrorOf(model).ok());
  TensorProto& one_more = *model.mutable_graph()->add_initializer();
  one_more = w;
  one_more.set_name("one_more");
  EXPECT_THAT(ErrorOf(model).message(), HasSubstr("'one_more'"));
}

TEST_F(OnnxFileTest, LoadNamesTheFile) {
  EXPECT_EQ(LoadOnnx(Path("absent.onnx")).status().code(), ErrorCode::kNotFound);
  EXPECT_THAT(LoadOnnx(Path("absent.onnx")).status().message(), HasSubstr("absent.onnx"));
  EXPECT_THAT(LoadOnnx(folder_).status().message(), HasSubstr("Is a directory"));
  const std::string bytes = TinyModel().SerializeAsString();
  for (size_t twentieth = 0; twentieth < 20; ++twentieth) {
    Put(Path("cut.onnx"), bytes.substr(0, bytes.size() * twentieth / 20));
    const auto graph = LoadOnnx(Path("cut.onnx"));
    ASSERT_FALSE(graph.ok());
    EXPECT_EQ(graph.status().code(), ErrorCode::kBadFile);
    EXPECT_THAT(graph.status().message(), HasSubstr("cut.onnx: "));
  }
}

TEST_F(OnnxFileTest, FilesBeyondProtobufsLimitAreRefusedUnread) {
  Put(Path("huge.onnx"), "");
  fs::resize_file(Path("huge.onnx"), uintmax_t{1} << 31);  // sparse
  const auto graph = LoadOnnx(Path("huge.onnx"));
  ASSERT_FALSE(graph.ok());
  EXPECT_THAT(graph.status().message(), AllOf(HasSubstr("2 GiB"), HasSubstr("external data")));
}

// A model that uses everything SaveOnnx writes.
ModelProto RichModel() {
  ModelProto model = TinyModel();
  model.set_doc_string("doc");
  model.set_producer_version("1.2");
  auto& import = *model.add_opset_import();
  import.set_domain("com.example");
  import.set_version(3);
  auto& entry = *model.add_metadata_props();
  entry.set_key("key");
  entry.set_value("value");
  NodeProto& clip = AddNode(model, "Clip", {"xw", "", "high"}, {"c"}, "clip");
  AddInitializer(model, "high", TensorProto::FLOAT, {}).add_float_data(1);
  AddAttribute(clip, "f", AttributeProto::FLOAT).set_f(0.25f);
  AddAttribute(clip, "i", AttributeProto::INT).set_i(-1);
  AddAttribute(clip, "s", AttributeProto::STRING).set_s(std::string("a\0b", 3));
  AddAttribute(clip, "fs", AttributeProto::FLOATS).add_floats(0.5f);
  AddAttribute(clip, "is", AttributeProto::INTS);  // empty
  AddAttribute(clip, "ss", AttributeProto::STRINGS).add_strings("one");
  TensorProto& t = *AddAttribute(clip, "t", AttributeProto::TENSOR).mutable_t();
  t.set_data_type(TensorProto::INT64);
  t.add_dims(1);
  t.add_int64_data(42);
  SetRaw<uint8_t>(AddInitializer(model, "bool", TensorProto::BOOL, {2, 1}), {1, 0});
  SetRaw<uint16_t>(AddInitializer(model, "half", TensorProto::FLOAT16, {1}), {0x3c00});
  AddInitializer(model, "empty", TensorProto::FLOAT, {0, 3});
  SetRaw(AddInitializer(model, "large", TensorProto::FLOAT, {20000}), std::vector<float>(20000, 1.5f));
  Declare(*model.mutable_graph()->add_output(), "c", TensorProto::FLOAT, {-1, 3});
  Declare(*model.mutable_graph()->add_value_info(), "xw", TensorProto::FLOAT, {-1, 3});
  return model;
}

TEST_F(OnnxFileTest, SaveOfLoadGivesAnEqualGraph) {
  const auto graph = Parse(RichModel());
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(graph->value(graph->Find("xw")).dims, (Dims{-1, 3}));
  for (const bool external : {false, true}) {
    const Status saved = SaveOnnx(*graph, Path("m.onnx"), {.external_data = external});
    ASSERT_TRUE(saved.ok()) << saved.message();
    EXPECT_EQ(fs::exists(Path("m.onnx.data")), external);
    const auto again = LoadOnnx(Path("m.onnx"));
    ASSERT_TRUE(again.ok()) << again.status().message();
    ExpectEqual(*graph, *again);
  }
  EXPECT_EQ(FilesInFolder(), 2u);  // no temporary file is left
  // 'large' alone is over the threshold of 1024 bytes.
  EXPECT_EQ(fs::file_size(Path("m.onnx.data")), 80000u);
  EXPECT_LT(fs::file_size(Path("m.onnx")), 2000u);
}

TEST_F(OnnxFileTest, OldIrVersionsListInitializersAsInputs) {
  ModelProto model = TinyModel();
  model.set_ir_version(3);
  const auto graph = Parse(model);
  ASSERT_TRUE(graph.ok());
  ASSERT_TRUE(SaveOnnx(*graph, Path("m.onnx")).ok());
  ModelProto saved;
  std::ifstream file(Path("m.onnx"), std::ios::binary);
  ASSERT_TRUE(saved.ParseFromIstream(&file));
  EXPECT_EQ(saved.graph().input_size(), 3);
  const auto again = LoadOnnx(Path("m.onnx"));
  ASSERT_TRUE(again.ok());
  ExpectEqual(*graph, *again);
}

TEST_F(OnnxFileTest, WhatCannotBeSavedLeavesNothingBehind) {
  auto graph = Parse(TinyModel());
  ASSERT_TRUE(graph.ok());
  EXPECT_EQ(SaveOnnx(*graph, Path("no/such/folder/m.onnx")).code(), ErrorCode::kNotFound);
  graph->nodes[1].op = "Gelu";
  EXPECT_THAT(SaveOnnx(*graph, Path("m.onnx")).message(), AllOf(HasSubstr("Gelu 'sum'"), HasSubstr("opset 20")));
  graph->nodes[1].domain = kOctavoDomain;
  EXPECT_THAT(SaveOnnx(*graph, Path("m.onnx")).message(), AllOf(HasSubstr("Gelu 'sum'"), HasSubstr("Octavo's own")));
  EXPECT_EQ(FilesInFolder(), 0u);
}

}  // namespace
}  // namespace octavo
