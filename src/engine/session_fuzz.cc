// Bytes as a model that is loaded, bound and run: on the generic kernels and by the engine, which must agree on whether
// it runs and on what its outputs look like, or else have an error that lays no blame on Octavo itself.
//
// libFuzzer damages bytes, and most damaged protobuf is no model. Half of the time the mutator below changes a model by
// its parts instead: ops, attributes, shapes, who reads what.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "graph/op_table.h"
#include "graph/shape_inference.h"
#include "kernels/kernel.h"
#include "octavo/onnx.h"
#include "octavo/session.h"
#include "onnx.pb.h"

// libFuzzer's; absent where a corpus is only replayed.
extern "C" __attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace octavo {
namespace {

// What takes longer or more than this is another fuzzer's business: limits of memory are the caller's to know.
constexpr int64_t kMaxBytes = 4 << 20;
constexpr int64_t kMaxMacs = 1 << 22;

// A size for each dynamic dimension, the same where dimensions share a name.
int64_t SizeOf(const Value& value, size_t axis) {
  if (value.dims[axis] >= 0) return value.dims[axis];
  if (axis >= value.dim_params.size() || value.dim_params[axis].empty()) return 2;
  return 1 + static_cast<int64_t>(value.dim_params[axis].size() % 3);
}

// The inputs' shapes; false where the model is of a size that is not run here.
bool ChooseShapes(const Graph& graph, std::map<std::string, Dims>& shapes) {
  for (const ValueId id : graph.inputs) {
    const Value& input = graph.value(id);
    Dims dims = input.shape_known ? input.dims : Dims{2, 3};
    for (size_t axis = 0; input.shape_known && axis < dims.size(); ++axis) dims[axis] = SizeOf(input, axis);
    const auto count = CheckedElementCount(dims);
    if (!count.ok() || *count > kMaxBytes) return false;
    shapes[input.name] = std::move(dims);
  }
  return true;
}

bool IsSmall(const Graph& bound) {
  int64_t bytes = 0, macs = 0;
  for (const Value& value : bound.values) {
    const auto count = CheckedElementCount(value.dims);
    if (!count.ok()) return false;
    bytes += std::min(kMaxBytes, *count) * 8;
  }
  for (const Node& node : bound.nodes) macs += node.removed ? 0 : std::min(kMaxMacs, CountMacs(bound, node));
  return bytes <= kMaxBytes && macs <= kMaxMacs;
}

Tensor InputOf(const Value& value, const Dims& dims) {
  Tensor tensor = *Tensor::Zeros(value.dtype, dims);
  if (value.dtype == DType::kFloat32) {
    float next = -1;
    for (float& v : tensor.mutable_values<float>()) v = next = next > 1 ? -1.03f : next + 0.17f;
  } else if (value.dtype == DType::kInt64) {
    int64_t next = 0;
    for (int64_t& v : tensor.mutable_values<int64_t>()) v = next++ % 3;
  }
  return tensor;
}

void Refuse(const Status& status) {
  if (status.code() == ErrorCode::kInternal) std::abort();
}

void Check(std::span<const uint8_t> bytes) {
  const auto graph = ParseOnnx(std::as_bytes(bytes), "");
  if (!graph.ok()) return Refuse(graph.status());
  std::map<std::string, Dims> shapes;
  if (!ChooseShapes(*graph, shapes)) return;
  Graph bound = *graph;
  if (const Status status = BindShapes(bound, shapes, kMaxBytes); !status.ok()) return Refuse(status);
  if (!IsSmall(bound)) return;
  std::vector<Tensor> inputs;
  for (const ValueId id : graph->inputs) inputs.push_back(InputOf(graph->value(id), shapes[graph->value(id).name]));

  const auto expected = EvaluateGraph(bound, inputs);
  if (!expected.ok()) Refuse(expected.status());
  SessionOptions options;
  options.threads = 1;
  auto session = Session::Create(*graph, options);
  if (!session.ok()) return Refuse(session.status());
  const auto actual = session->Run(inputs);
  if (!actual.ok()) Refuse(actual.status());
  // The engine leaves out what no output needs, wrong or not, and may fuse away what the generic kernels refuse; what
  // they can compute, it can.
  if (!expected.ok()) return;
  if (!actual.ok() || actual->size() != expected->size()) std::abort();
  for (size_t i = 0; i < expected->size(); ++i) {
    const Tensor &a = (*actual)[i], &b = (*expected)[i];
    if (a.dtype() != b.dtype() || a.dims() != b.dims()) std::abort();
  }
}

class ModelMutator {
 public:
  ModelMutator(onnx::ModelProto& model, unsigned seed) : graph_(*model.mutable_graph()), model_(model), random_(seed) {}

  void Mutate() {
    for (int changes = 1 + Below(3); changes > 0; --changes) {
      switch (Below(10)) {
        case 0:
        case 1:
          ChangeOp();
          break;
        case 2:
        case 3:
          ChangeAttribute();
          break;
        case 4:
          ChangeTensor();
          break;
        case 5:
          ChangeInputShape();
          break;
        case 6:
          ChangeReader();
          break;
        case 7:
          InsertNode();
          break;
        case 8:
          CopyAttribute();
          break;
        case 9:
          if (model_.opset_import_size() > 0) model_.mutable_opset_import(0)->set_version(9 + Below(13));
          break;
      }
    }
  }

 private:
  int Below(int n) { return n <= 0 ? 0 : static_cast<int>(random_() % static_cast<unsigned>(n)); }
  int64_t Number() {
    constexpr int64_t kOdd[] = {-1, -2, INT64_MAX, INT64_MIN, INT32_MAX, 1LL << 40, 0, 1000};
    return Below(8) == 0 ? kOdd[Below(8)] : Below(9) - 2;
  }
  std::string AnyOp() {
    return std::string(AllOps()[static_cast<size_t>(Below(static_cast<int>(AllOps().size())))].op);
  }
  onnx::NodeProto* AnyNode() {
    return graph_.node_size() == 0 ? nullptr : graph_.mutable_node(Below(graph_.node_size()));
  }

  std::string AnyValue() {
    const int inputs = graph_.input_size(), constants = graph_.initializer_size();
    const int at = Below(inputs + constants + graph_.node_size() + 1);
    if (at < inputs) return graph_.input(at).name();
    if (at < inputs + constants) return graph_.initializer(at - inputs).name();
    const int node = at - inputs - constants;
    return node < graph_.node_size() && graph_.node(node).output_size() > 0 ? graph_.node(node).output(0) : "";
  }

  void ChangeOp() {
    if (onnx::NodeProto* node = AnyNode()) node->set_op_type(AnyOp());
  }
  void ChangeAttribute() {
    onnx::NodeProto* node = AnyNode();
    if (node == nullptr || node->attribute_size() == 0) return;
    onnx::AttributeProto& attribute = *node->mutable_attribute(Below(node->attribute_size()));
    if (attribute.ints_size() > 0 && Below(4) != 0) return attribute.set_ints(Below(attribute.ints_size()), Number());
    if (attribute.type() == onnx::AttributeProto::INTS) return attribute.add_ints(Number());
    if (attribute.type() == onnx::AttributeProto::INT) return attribute.set_i(Number());
    if (attribute.type() == onnx::AttributeProto::FLOAT) return attribute.set_f(static_cast<float>(Number()));
    if (Below(4) == 0) node->mutable_attribute()->RemoveLast();
  }
  // Attributes of one op on another: axes, perms and modes that mean something, in the wrong place.
  void CopyAttribute() {
    const onnx::NodeProto* from = AnyNode();
    onnx::NodeProto* to = AnyNode();
    if (from == nullptr || from == to || from->attribute_size() == 0) return;
    *to->add_attribute() = from->attribute(Below(from->attribute_size()));
  }
  void ChangeTensor() {
    if (graph_.initializer_size() == 0) return;
    onnx::TensorProto& tensor = *graph_.mutable_initializer(Below(graph_.initializer_size()));
    if (Below(3) == 0 && tensor.dims_size() > 0) {
      std::swap(*tensor.mutable_dims()->Mutable(Below(tensor.dims_size())),
                *tensor.mutable_dims()->Mutable(Below(tensor.dims_size())));
    } else if (tensor.data_type() == onnx::TensorProto::INT64 && tensor.raw_data().size() >= sizeof(int64_t)) {
      const size_t count = tensor.raw_data().size() / sizeof(int64_t);
      reinterpret_cast<int64_t*>(tensor.mutable_raw_data()->data())[Below(static_cast<int>(count))] = Number();
    } else if (tensor.int64_data_size() > 0) {
      tensor.set_int64_data(Below(tensor.int64_data_size()), Number());
    } else if (Below(8) == 0) {
      tensor.set_data_type(1 + Below(16));
    }
  }
  void ChangeInputShape() {
    if (graph_.input_size() == 0) return;
    auto& tensor = *graph_.mutable_input(Below(graph_.input_size()))->mutable_type()->mutable_tensor_type();
    if (Below(6) == 0) return tensor.set_elem_type(1 + Below(16));
    auto& shape = *tensor.mutable_shape();
    if (shape.dim_size() == 0 || Below(6) == 0) return shape.add_dim()->set_dim_value(1 + Below(4));
    if (Below(6) == 0) return shape.mutable_dim()->RemoveLast();
    shape.mutable_dim(Below(shape.dim_size()))->set_dim_value(Below(6));
  }
  void ChangeReader() {
    onnx::NodeProto* node = AnyNode();
    if (node == nullptr) return;
    if (node->input_size() == 0 || Below(4) == 0) return node->add_input(AnyValue());
    if (Below(6) == 0) return node->mutable_input()->RemoveLast();
    node->set_input(Below(node->input_size()), AnyValue());
  }
  // Between a node and what it reads.
  void InsertNode() {
    onnx::NodeProto* reader = AnyNode();
    if (reader == nullptr || reader->input_size() == 0 || graph_.node_size() > 12) return;
    const int index = Below(reader->input_size());
    const std::string made = fmt::format("m{}", random_() % 100000);
    const std::string read = reader->input(index);
    reader->set_input(index, made);
    onnx::NodeProto& node = *graph_.add_node();
    node.set_op_type(AnyOp());
    node.add_input(read);
    for (int more = Below(3); more > 0; --more) node.add_input(AnyValue());
    node.add_output(made);
  }

  onnx::GraphProto& graph_;
  onnx::ModelProto& model_;
  std::mt19937 random_;
};

}  // namespace
}  // namespace octavo

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  onnx::ModelProto model;
  if (seed % 2 == 0 && model.ParseFromArray(data, static_cast<int>(size))) {
    octavo::ModelMutator(model, seed).Mutate();
    const size_t bytes = model.ByteSizeLong();
    if (bytes > 0 && bytes <= max_size && model.SerializeToArray(data, static_cast<int>(bytes))) return bytes;
  }
  return LLVMFuzzerMutate == nullptr ? size : LLVMFuzzerMutate(data, size, max_size);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  octavo::Check(std::span(data, size));
  return 0;
}
