// ModelProto -> Graph.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "octavo/graph.h"
#include "octavo/onnx.h"
#include "onnx.pb.h"
#include "onnx/external_data.h"

namespace octavo {

// Reads one model; every name, index and size in it is checked. What is valid but unsupported is gathered, so that one
// error can tell the whole of it.
class GraphReader {
 public:
  // Consumes `model`: weights move out of it. `folder` is where external data is looked for.
  GraphReader(onnx::ModelProto& model, const std::string& folder, const LoadOptions& options)
      : model_(model), external_(folder), any_op_(options.any_op) {}
  Result<Graph> Read();

 private:
  Status ReadHeader();
  Status ReadOpsets();
  Status ReadInitializers();
  Status ReadInputs();
  Status DeclareNodes();    // outputs and attributes; a Constant becomes a constant
  Status ConnectNodes();    // inputs, once everything that can be read is known
  Status ReadValueInfos();  // declared types of what nodes make; shape inference replaces them
  Status ReadOutputs();
  Status ReportUnsupported();
  // What Octavo has no op for: nothing where any is taken.
  void RefuseOp(std::string why);
  // What a branch and those within it read: names of the graph around it are among them.
  void ReadNamesOf(const onnx::GraphProto& branch, std::vector<std::string>& names);

  // A new value; a taken name is an error that says `what` wants it.
  Result<ValueId> Declare(const std::string& name, const std::string& what);
  Status DeclareConstant(const std::string& name, const std::string& what, onnx::TensorProto tensor);
  Status SetConstant(ValueId id, const std::string& what, Result<Tensor> tensor);
  Status ReadType(const onnx::ValueInfoProto& info, const std::string& what, Value& value);
  Status ReadShape(const onnx::TensorShapeProto& shape, const std::string& what, Value& value);
  Status ReadDeclaredType(const onnx::ValueInfoProto& info, const std::string& what, ValueId id);
  Status ReadConstantNode(onnx::NodeProto& proto, const std::string& what);
  Status ReadNode(onnx::NodeProto& proto, Node& node);
  Status ReadAttribute(onnx::AttributeProto& proto, Node& node);
  std::string UniqueNodeName(const std::string& base);

  onnx::ModelProto& model_;
  ExternalData external_;
  const bool any_op_;
  Graph graph_;
  std::unordered_set<std::string> node_names_;
  size_t unnamed_ = 0;                    // counts on over all unnamed nodes, so that they take linear time
  std::vector<int> node_protos_;          // for each node of graph_, its index in the file
  std::vector<std::string> outer_names_;  // of the node that is being read: what its branches read
  std::map<size_t, std::vector<std::string>> outer_reads_;  // by node of graph_
  std::vector<std::string> unsupported_;  // everything valid that Octavo does not do, except unknown ops
};

}  // namespace octavo
