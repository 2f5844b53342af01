#include "octavo/inspect.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <optional>

#include "command.h"
#include "console.h"
#include "engine_flags.h"
#include "model_files.h"
#include "octavo/onnx.h"
#include "octavo/session.h"
#include "octavo/tensorrt.h"

namespace octavo::cli {
namespace {

struct InspectFlags {
  std::string model;
  std::vector<std::string> input_shapes;
  EngineFlags engine;
  bool layers = false;
  bool plan = false;
  std::string target;
  Report report;
};

double Megabytes(int64_t bytes) { return static_cast<double>(bytes) * 1e-6; }

// The declared dims, with names of dynamic ones where the file has them.
std::string DeclaredShape(const Value& value) {
  if (!value.shape_known) return "unknown rank";
  std::string text;
  for (size_t i = 0; i < value.dims.size(); ++i) {
    const std::string name = i < value.dim_params.size() ? value.dim_params[i] : "";
    const std::string size = value.dims[i] >= 0 ? std::to_string(value.dims[i]) : name.empty() ? "?" : name;
    text += (i > 0 ? "x" : "") + size;
  }
  return text.empty() ? "scalar" : text;
}

Json ValueJson(const Value& value, const Dims& used) {
  Json declared = nullptr;
  if (value.shape_known) {
    declared = Json::array();
    for (const int64_t size : value.dims) declared.push_back(size >= 0 ? Json(size) : Json(nullptr));
  }
  return {
      {"name", value.name}, {"dtype", std::string(NameOf(value.dtype))}, {"declared_dims", declared}, {"dims", used}};
}

Json PlanJson(const PlanInfo& plan) {
  Json steps = Json::array();
  for (const StepInfo& step : plan.steps) {
    steps.push_back({{"node", step.node},
                     {"op", step.op},
                     {"kernel", step.kernel},
                     {"precision", step.precision},
                     {"output_dims", step.output_dims},
                     {"macs", step.macs}});
  }
  Json unfused = Json::array();
  for (const UnfusedQuantization& u : plan.unfused) {
    unfused.push_back({{"node", u.node}, {"op", u.op}, {"reason", u.reason}});
  }
  return {{"int8_macs_share", plan.int8_macs_share()}, {"int8_macs", plan.int8_macs},
          {"contraction_macs", plan.contraction_macs}, {"unfused", unfused},
          {"arena_bytes", plan.arena_bytes},           {"weight_bytes", plan.weight_bytes},
          {"compile_ms", plan.compile_seconds * 1e3},  {"steps", steps}};
}

Json SummaryJson(const std::string& model, const ModelSummary& summary) {
  Json inputs = Json::array(), outputs = Json::array(), ops = Json::array(), passes = Json::array(),
       layers = Json::array();
  for (const Value& value : summary.inputs) inputs.push_back(ValueJson(value, summary.input_dims.at(value.name)));
  for (const Value& value : summary.outputs) outputs.push_back(ValueJson(value, summary.output_dims.at(value.name)));
  for (const OpCount& op : summary.ops) ops.push_back({{"op", op.op}, {"before", op.before}, {"after", op.after}});
  for (const PassReport& pass : summary.passes) {
    passes.push_back({{"name", pass.name}, {"rewrites", pass.rewrites}, {"ms", pass.seconds * 1e3}});
  }
  for (const LayerCost& layer : summary.layers) {
    layers.push_back({{"node", layer.node},
                      {"op", layer.op},
                      {"output_dims", layer.output_dims},
                      {"macs", layer.macs},
                      {"parameters", layer.parameters}});
  }
  const ActivationSize& largest = summary.largest_activation;
  return {{"model", model},
          {"producer", summary.producer},
          {"ir_version", summary.ir_version},
          {"opset", summary.opset},
          {"inputs", inputs},
          {"outputs", outputs},
          {"notes", summary.notes},
          {"macs", summary.macs},
          {"parameters", summary.parameters},
          {"largest_activation", {{"name", largest.name}, {"dims", largest.dims}, {"bytes", largest.bytes}}},
          {"ops", ops},
          {"passes", passes},
          {"layers", layers}};
}

void PrintInterface(const Report& report, const std::string& title, const std::vector<Value>& values,
                    const std::map<std::string, Dims>& used) {
  report.Print("\n{}\n", title);
  Table table("llll", {"  name", "type", "declared", "counted for"});
  for (const Value& value : values) {
    table.AddRow(
        {"  " + value.name, std::string(NameOf(value.dtype)), DeclaredShape(value), ToString(used.at(value.name))});
  }
  table.Print(report.stream());
}

void PrintOps(const Report& report, const ModelSummary& summary) {
  int before = 0, after = 0;
  Table table("lrr", {"  op", "in the file", "after passes"});
  for (const OpCount& op : summary.ops) {
    before += op.before;
    after += op.after;
    table.AddRow(
        {"  " + op.op, op.before > 0 ? std::to_string(op.before) : "-", op.after > 0 ? std::to_string(op.after) : "-"});
  }
  table.AddRow({"  total", std::to_string(before), std::to_string(after)});
  report.Print("\nOps\n");
  table.Print(report.stream());
}

void PrintPasses(const Report& report, const ModelSummary& summary) {
  Table table("lrr", {"  pass", "rewrites", "ms"});
  for (const PassReport& pass : summary.passes) {
    table.AddRow({"  " + pass.name, std::to_string(pass.rewrites), fmt::format("{:.2f}", pass.seconds * 1e3)});
  }
  report.Print("\nPatterns found\n");
  table.Print(report.stream());
}

void PrintLayers(const Report& report, const ModelSummary& summary) {
  Table table("rllrrl", {"  #", "node", "op", "MACs", "parameters", "output"});
  for (size_t i = 0; i < summary.layers.size(); ++i) {
    const LayerCost& layer = summary.layers[i];
    table.AddRow({fmt::format("  {}", i + 1), layer.node, layer.op, Grouped(layer.macs), Grouped(layer.parameters),
                  ToString(layer.output_dims)});
  }
  report.Print("\nLayers\n");
  table.Print(report.stream());
}

void PrintPlan(const Report& report, const PlanInfo& plan) {
  Table table("rlllrl", {"  #", "op", "kernel", "precision", "MACs", "output"});
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const StepInfo& step = plan.steps[i];
    table.AddRow({fmt::format("  {}", i + 1), step.op, step.kernel, step.precision,
                  Short(static_cast<double>(step.macs)), ToString(step.output_dims)});
  }
  report.Print("\nPlan: activations {:.1f} MB, packed weights {:.1f} MB, compiled in {:.0f} ms\n",
               Megabytes(plan.arena_bytes), Megabytes(plan.weight_bytes), plan.compile_seconds * 1e3);
  table.Print(report.stream());
}

Json LayersJson(const std::vector<TensorRtLayer>& layers) {
  Json listed = Json::array();
  for (const TensorRtLayer& layer : layers) {
    listed.push_back({{"node", layer.node}, {"op", layer.op}, {"precision", layer.precision}, {"rule", layer.rule}});
  }
  return listed;
}

void PrintExpected(const Report& report, const std::vector<TensorRtLayer>& layers) {
  std::map<std::string, int> counts;
  Table table("llll", {"  node", "op", "expected", "rule"});
  for (const TensorRtLayer& layer : layers) {
    ++counts[layer.precision];
    table.AddRow({"  " + layer.node, layer.op, layer.precision, layer.rule});
  }
  std::string summary;
  for (const auto& [precision, count] : counts) {
    summary += fmt::format("{}{} {}", summary.empty() ? "" : ", ", count, precision == "-" ? "no kernel" : precision);
  }
  report.Print("\nTensorRT, strongly typed, by its documented rules: {}\n", summary);
  table.Print(report.stream());
}

bool IsQuantized(const ModelSummary& summary) {
  return std::any_of(summary.ops.begin(), summary.ops.end(), [](const OpCount& op) {
    return op.before > 0 && (op.op == "QuantizeLinear" || op.op == "DequantizeLinear");
  });
}

// The precision that each layer with products really runs in, and what of the Q/DQ was not fused.
void PrintQuantization(const Report& report, const PlanInfo& plan) {
  report.Print("\nQuantization: {:.1f} % of the MACs of convolutions and matrix products run in INT8\n",
               100 * plan.int8_macs_share());
  Table layers("lllrl", {"  layer", "precision", "op", "MACs", "kernel"});
  for (const StepInfo& step : plan.steps) {
    if (step.macs == 0) continue;
    layers.AddRow({"  " + step.node, step.precision, step.op, Short(static_cast<double>(step.macs)), step.kernel});
  }
  layers.Print(report.stream());
  if (plan.unfused.empty()) {
    report.Print("\nEvery QuantizeLinear and DequantizeLinear is fused\n");
    return;
  }
  report.Print("\nNot fused: {} QuantizeLinear and DequantizeLinear\n", plan.unfused.size());
  Table unfused("lll", {"  node", "op", "why"});
  for (const UnfusedQuantization& u : plan.unfused) unfused.AddRow({"  " + u.node, u.op, u.reason});
  unfused.Print(report.stream());
}

void PrintSummary(const InspectFlags& flags, const ModelSummary& summary) {
  const Report& report = flags.report;
  report.Print("{}\n  opset {}, IR version {}, made by {}\n", flags.model, summary.opset, summary.ir_version,
               summary.producer.empty() ? "an unnamed producer" : summary.producer);
  const ActivationSize& largest = summary.largest_activation;
  report.Print("  {} MACs, {} parameters ({} and {})\n", Short(static_cast<double>(summary.macs)),
               Short(static_cast<double>(summary.parameters)), Grouped(summary.macs), Grouped(summary.parameters));
  report.Print("  largest activation: {} {}, {:.2f} MB\n", largest.name, ToString(largest.dims),
               Megabytes(largest.bytes));
  for (const std::string& note : summary.notes) report.Print("  note: {}\n", note);
  PrintInterface(report, "Inputs", summary.inputs, summary.input_dims);
  PrintInterface(report, "Outputs", summary.outputs, summary.output_dims);
  PrintOps(report, summary);
  PrintPasses(report, summary);
  if (flags.layers) PrintLayers(report, summary);
}

Result<PlanInfo> CompilePlan(Graph graph, const InspectFlags& flags, const std::map<std::string, Dims>& input_dims) {
  std::vector<Dims> dims;
  for (const Value& input : InputValues(graph)) dims.push_back(input_dims.at(input.name));
  OCTAVO_ASSIGN(Session session, Session::Create(std::move(graph), flags.engine.ToOptions()));
  OCTAVO_RETURN_IF_ERROR(session.Prepare(dims));
  return session.plan();
}

Result<ExitCode> InspectModel(const InspectFlags& flags) {
  OCTAVO_ASSIGN(Graph graph, LoadOnnx(flags.model));
  InspectOptions options;
  OCTAVO_ASSIGN(options.input_dims, ParseInputShapes(flags.input_shapes, InputValues(graph)));
  options.disabled_passes = flags.engine.disabled_passes;
  auto summary = Inspect(graph, options);
  if (!summary.ok()) return InModel(summary.status(), flags.model);
  PrintSummary(flags, *summary);
  Json document = SummaryJson(flags.model, *summary);
  const bool quantized = IsQuantized(*summary);
  if (!flags.target.empty()) {
    OCTAVO_ASSIGN(const auto layers, ExpectTensorRt(graph, summary->input_dims));
    PrintExpected(flags.report, layers);
    document["tensorrt"] = LayersJson(layers);
  }
  if (flags.plan || quantized) {
    OCTAVO_ASSIGN(const PlanInfo plan, CompilePlan(std::move(graph), flags, summary->input_dims));
    if (quantized) PrintQuantization(flags.report, plan);
    if (flags.plan) PrintPlan(flags.report, plan);
    document["plan"] = PlanJson(plan);
  }
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson(document));
  return kDone;
}

}  // namespace

void AddInspectCommand(CLI::App& app, Action& action) {
  CLI::App* command = AddSubcommand(
      app, "inspect",
      "Show what a model is made of: interface, ops, cost, patterns that passes find; of a quantized one also "
      "the precision that each layer really runs in",
      {"octavo inspect model.onnx", "octavo inspect model.onnx --layers --plan --precision bf16",
       "octavo inspect model.onnx --input-shape input_image=1x3x512x512 --json model.json"});
  auto flags = std::make_shared<InspectFlags>();
  command->add_option("MODEL", flags->model, "ONNX file")->required();
  AddRepeatable(*command, "--input-shape", flags->input_shapes,
                "Sizes of an input; dynamic ones are 1 otherwise; repeatable")
      ->type_name("NAME=1x3x512x512");
  command->add_flag("--layers", flags->layers, "List every layer with its MACs and parameters");
  command->add_flag("--plan", flags->plan, "List the steps of the compiled plan with their kernels");
  command
      ->add_option("--target", flags->target, "Show the precision that TensorRT is expected to give each node, and why")
      ->type_name("tensorrt")
      ->check(CLI::IsMember({"tensorrt"}));
  flags->engine.AddTo(*command);
  flags->report.AddFlag(*command);
  command->callback([=, &action] { action = [=] { return InspectModel(*flags); }; });
}

}  // namespace octavo::cli
