#include "octavo/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "graph/op_table.h"
#include "graph/shape_inference.h"

namespace octavo {
namespace {

std::string InputList(const Graph& graph) {
  std::string list;
  for (const ValueId id : graph.inputs) {
    list += fmt::format("{}'{}' {}", list.empty() ? "" : ", ", graph.value(id).name, ToString(graph.value(id).dims));
  }
  return list.empty() ? "none" : list;
}

Status CheckGivenDims(const Value& input, const Dims& dims) {
  bool fits = !input.shape_known || dims.size() == input.dims.size();
  for (size_t i = 0; fits && i < dims.size(); ++i) {
    fits = dims[i] >= 0 && (!input.shape_known || input.dims[i] < 0 || input.dims[i] == dims[i]);
  }
  if (fits) return {};
  return InvalidArgument(
      fmt::format("input '{}' is {}, which {} does not fit", input.name, ToString(input.dims), ToString(dims)));
}

std::string OpName(const Node& node) { return node.domain.empty() ? node.op : node.domain + "." + node.op; }

bool IsParameter(const Value& value) {
  switch (value.constant.dtype()) {
    case DType::kFloat32:
    case DType::kFloat64:
    case DType::kFloat16:
    case DType::kBFloat16:
    case DType::kInt8:
    case DType::kUInt8:
      return true;
    default:
      return false;
  }
}

int64_t CountNewParameters(const Graph& graph, const Node& node, std::set<ValueId>& counted) {
  int64_t parameters = 0;
  for (const ValueId id : node.inputs) {
    if (id == kNoValue || !graph.value(id).is_constant()) continue;
    if (IsParameter(graph.value(id)) && counted.insert(id).second) parameters += graph.value(id).constant.size();
  }
  return parameters;
}

void CountLayers(const Graph& graph, ModelSummary& summary) {
  std::set<ValueId> counted;
  for (const Node& node : graph.nodes) {
    if (node.removed) continue;
    LayerCost layer{node.name, OpName(node), {}, CountMacs(graph, node), CountNewParameters(graph, node, counted)};
    for (const ValueId id : node.outputs) {
      if (id == kNoValue) continue;
      const Value& output = graph.value(id);
      if (id == node.outputs.front()) layer.output_dims = output.dims;
      const int64_t bytes = ElementCount(output.dims) * static_cast<int64_t>(SizeOf(output.dtype));
      if (bytes > summary.largest_activation.bytes) summary.largest_activation = {output.name, output.dims, bytes};
    }
    summary.macs += layer.macs;
    summary.parameters += layer.parameters;
    summary.layers.push_back(std::move(layer));
  }
}

using OpCounts = std::map<std::string, OpCount>;

void CountOps(const Graph& graph, int OpCount::*when, OpCounts& counts) {
  for (const Node& node : graph.nodes) {
    if (node.removed) continue;
    const std::string op = OpName(node);
    counts.try_emplace(op, OpCount{op}).first->second.*when += 1;
  }
}

std::vector<OpCount> SortedOps(const OpCounts& counts) {
  std::vector<OpCount> ops;
  for (const auto& [op, count] : counts) ops.push_back(count);
  std::stable_sort(ops.begin(), ops.end(), [](const OpCount& a, const OpCount& b) {
    return std::max(a.before, a.after) > std::max(b.before, b.after);
  });
  return ops;
}

void DescribeFile(const Graph& graph, ModelSummary& summary) {
  summary.producer = graph.producer_name;
  if (!graph.producer_version.empty()) summary.producer += " " + graph.producer_version;
  summary.ir_version = graph.ir_version;
  summary.opset = graph.opset();
  for (const ValueId id : graph.inputs) summary.inputs.push_back(graph.value(id));
  for (const ValueId id : graph.outputs) summary.outputs.push_back(graph.value(id));
}

}  // namespace

Result<std::map<std::string, Dims>> ChooseInputDims(const Graph& graph, const std::map<std::string, Dims>& given,
                                                    std::vector<std::string>* notes) {
  for (const auto& [name, dims] : given) {
    const ValueId id = graph.Find(name);
    if (id == kNoValue || !graph.IsInput(id)) {
      return InvalidArgument(fmt::format("the model has no input '{}'; its inputs: {}", name, InputList(graph)));
    }
    OCTAVO_RETURN_IF_ERROR(CheckGivenDims(graph.value(id), dims));
  }
  std::map<std::string, Dims> chosen;
  for (const ValueId id : graph.inputs) {
    const Value& input = graph.value(id);
    if (const auto found = given.find(input.name); found != given.end()) {
      chosen[input.name] = found->second;
      continue;
    }
    if (!input.shape_known) {
      return InvalidArgument(fmt::format("input '{}' declares no shape: give its sizes", input.name));
    }
    Dims dims = input.dims;
    std::replace_if(
        dims.begin(), dims.end(), [](int64_t size) { return size < 0; }, 1);
    if (dims != input.dims && notes != nullptr) {
      notes->push_back(fmt::format("input '{}': dynamic dimensions set to 1: {}", input.name, ToString(dims)));
    }
    chosen[input.name] = std::move(dims);
  }
  return chosen;
}

Result<ModelSummary> Inspect(Graph graph, const InspectOptions& options) {
  ModelSummary summary;
  DescribeFile(graph, summary);
  OpCounts counts;
  CountOps(graph, &OpCount::before, counts);
  OCTAVO_ASSIGN(summary.input_dims, ChooseInputDims(graph, options.input_dims, &summary.notes));
  OCTAVO_RETURN_IF_ERROR(BindShapes(graph, summary.input_dims));
  for (const ValueId id : graph.outputs) summary.output_dims[graph.value(id).name] = graph.value(id).dims;
  CountLayers(graph, summary);
  PassOptions pass_options;
  pass_options.disabled = options.disabled_passes;
  OCTAVO_ASSIGN(summary.passes, RunPasses(graph, pass_options));
  CountOps(graph, &OpCount::after, counts);
  summary.ops = SortedOps(counts);
  return summary;
}

Result<std::vector<ActivationSize>> ListActivations(Graph graph, const InspectOptions& options) {
  OCTAVO_ASSIGN(const auto input_dims, ChooseInputDims(graph, options.input_dims, nullptr));
  OCTAVO_RETURN_IF_ERROR(BindShapes(graph, input_dims));
  PassOptions pass_options;
  pass_options.disabled = options.disabled_passes;
  OCTAVO_ASSIGN(const auto reports, RunPasses(graph, pass_options));
  std::vector<ActivationSize> activations;
  for (const Node& node : graph.nodes) {
    if (node.removed) continue;
    for (const ValueId id : node.outputs) {
      if (id == kNoValue || graph.IsOutput(id)) continue;
      const Value& value = graph.value(id);
      if (value.dtype != DType::kFloat32 && value.dtype != DType::kFloat16 && value.dtype != DType::kBFloat16) continue;
      activations.push_back(
          {value.name, value.dims, ElementCount(value.dims) * static_cast<int64_t>(SizeOf(value.dtype))});
    }
  }
  return activations;
}

}  // namespace octavo
