#include <algorithm>
#include <filesystem>
#include <memory>

#include "command.h"
#include "console.h"
#include "engine_flags.h"
#include "model_files.h"
#include "octavo/onnx.h"
#include "octavo/quantize.h"
#include "octavo/tensorrt.h"
#include "octavo/text_file.h"
#include "scale_sources.h"

namespace octavo::cli {
namespace {

namespace fs = std::filesystem;

const std::string kDefaultVersion = "8.6.1";
constexpr std::string_view kImplicit = "tensorrt8-implicit";

struct ExportFlags {
  std::string model;
  ScaleSources scales;
  Policy policy;
  std::vector<std::string> input_shapes;
  std::string layer_precisions, layer_output_types, trtexec;
  std::string version;  // of TensorRT; empty: the cache's, else 8.6.1
  std::string output, recipe_out, cache_out, script_out;
  Report report;

  bool to_implicit() const { return policy.target == kImplicit; }
  std::string RecipePath() const { return recipe_out.empty() ? output + ".recipe.json" : recipe_out; }
};

Status CheckImplicitFlags(const ExportFlags& flags) {
  if (flags.scales.count() > 0 || !flags.trtexec.empty() || !flags.layer_precisions.empty() ||
      !flags.layer_output_types.empty()) {
    return InvalidArgument(
        "--target tensorrt8-implicit takes everything from the model's Q/DQ: no other source goes with it");
  }
  if (flags.cache_out.empty()) {
    return InvalidArgument(
        "--target tensorrt8-implicit needs --calibration-cache: the scales are not in the model any more");
  }
  return {};
}

Status CheckFlags(const ExportFlags& flags) {
  std::error_code error;
  if (fs::is_directory(flags.output, error)) {
    return InvalidArgument(fmt::format("'{}' is a folder: -o wants the model's file", flags.output));
  }
  if (flags.to_implicit()) return CheckImplicitFlags(flags);
  if (!flags.cache_out.empty() || !flags.script_out.empty()) {
    return InvalidArgument("--calibration-cache and --trtexec are written with --target tensorrt8-implicit");
  }
  if (!flags.trtexec.empty() && (!flags.layer_precisions.empty() || !flags.layer_output_types.empty())) {
    return InvalidArgument("--from-trtexec holds the layers' precisions: --layer-precisions does not go with it");
  }
  return {};
}

// What trtexec would heed; `notes`: what it would not, and what Octavo does not.
Result<LayerConstraints> ReadConstraints(ExportFlags& flags, std::vector<std::string>& notes) {
  LayerConstraints constraints;
  constraints.precisions = flags.layer_precisions;
  constraints.output_types = flags.layer_output_types;
  if (flags.trtexec.empty()) return constraints;
  auto line = ParseTrtexec(flags.trtexec);
  if (!line.ok()) return line.status().WithPrefix("--from-trtexec: ");
  for (const std::string& flag : line->ignored) notes.push_back(fmt::format("'{}' is ignored", flag));
  if (flags.scales.count() == 0) flags.scales.cache = line->calib;
  if (line->heeds_layers()) {
    constraints.precisions = line->layer_precisions;
    constraints.output_types = line->layer_output_types;
  } else if (!line->layer_precisions.empty() || !line->layer_output_types.empty()) {
    notes.emplace_back(
        "trtexec ignores --layerPrecisions and --layerOutputTypes without --precisionConstraints=prefer or obey, and "
        "so "
        "does this");
  }
  if (!line->int8) notes.emplace_back("the command has no --int8, without which trtexec runs nothing in INT8");
  constraints.half_rest = line->fp16;
  return constraints;
}

// Decisions for a graph that says everything itself.
struct Decision {
  Graph prepared;
  Recipe recipe;
  std::vector<std::string> notes;
};

Result<Decision> DecideExport(ExportFlags& flags) {
  Decision decision;
  OCTAVO_ASSIGN(LayerConstraints constraints, ReadConstraints(flags, decision.notes));
  if (flags.scales.count() != 1) {
    return InvalidArgument(
        "say where scales come from: one of --stats, --recipe, --from-calibration-cache, or --calib in --from-trtexec");
  }
  const bool constrained = !constraints.precisions.empty() || !constraints.output_types.empty();
  if (!flags.scales.recipe.empty() &&
      (constrained || !flags.policy.keep_float.empty() || !flags.policy.preset.empty())) {
    return InvalidArgument(
        "--recipe holds every decision: layers' precisions, --keep-float and --preset do not go with it");
  }
  OCTAVO_ASSIGN(const Graph model, LoadOnnx(flags.model));
  OCTAVO_ASSIGN(const Scales scales, flags.scales.Load());
  OCTAVO_ASSIGN(auto dims, ParseInputShapes(flags.input_shapes, InputValues(model)));
  if (dims.empty() && scales.stats) dims = scales.stats->input_dims;
  auto prepared = PrepareForQuantization(model, dims);
  if (!prepared.ok()) return InModel(prepared.status(), flags.model);
  decision.prepared = *std::move(prepared);
  constraints.version = flags.version;
  if (constraints.version.empty()) constraints.version = scales.cache ? VersionOf(*scales.cache) : kDefaultVersion;
  flags.policy.float_without_scale = scales.cache.has_value();
  OCTAVO_ASSIGN(const LayerPlan plan, PlanLayers(model, decision.prepared, constraints, flags.policy));
  decision.notes.insert(decision.notes.end(), plan.notes.begin(), plan.notes.end());
  OCTAVO_ASSIGN(decision.recipe, flags.scales.Decide(decision.prepared, scales, flags.policy));
  NarrowTheRest(plan, decision.recipe);
  return decision;
}

size_t CountPrecision(const Recipe& recipe, DType precision) {
  return static_cast<size_t>(std::count_if(recipe.float_nodes.begin(), recipe.float_nodes.end(),
                                           [&](const FloatRecipe& node) { return node.precision == precision; }));
}

Result<ExitCode> WriteExplicit(ExportFlags flags) {
  OCTAVO_ASSIGN(Decision decision, DecideExport(flags));
  const Recipe& recipe = decision.recipe;
  decision.notes.insert(decision.notes.end(), recipe.notes.begin(), recipe.notes.end());
  OCTAVO_ASSIGN(const Graph quantized, ApplyRecipe(decision.prepared, recipe));
  OCTAVO_RETURN_IF_ERROR(SaveRecipe(recipe, flags.RecipePath()));
  OCTAVO_RETURN_IF_ERROR(SaveOnnx(quantized, flags.output));
  for (const std::string& note : decision.notes) PrintWarning(note);
  const size_t half = CountPrecision(recipe, DType::kFloat16), wide = CountPrecision(recipe, DType::kFloat32);
  flags.report.Print(
      "{}: {} weights and {} activations in int8, {} nodes in fp16, {} contractions in fp32; rules: {}\n", flags.output,
      recipe.weights.size(), recipe.activations.size(), half, wide,
      recipe.preset.empty() ? recipe.target : recipe.preset);
  flags.report.Print("decisions: {}\n", flags.RecipePath());
  Json floats = Json::array();
  for (const FloatRecipe& node : recipe.float_nodes) {
    floats.push_back({{"node", node.node}, {"precision", FloatPrecisionName(node.precision)}, {"reason", node.reason}});
  }
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson({{"model", flags.model},
                                                 {"output", flags.output},
                                                 {"recipe", flags.RecipePath()},
                                                 {"target", recipe.target},
                                                 {"preset", recipe.preset},
                                                 {"weights", recipe.weights.size()},
                                                 {"activations", recipe.activations.size()},
                                                 {"float_nodes", floats},
                                                 {"notes", decision.notes}}));
  return kDone;
}

// `path` as seen from the folder of `script`.
std::string FromScript(const std::string& path, const std::string& script) {
  std::error_code error;
  const fs::path folder = fs::absolute(script, error).parent_path();
  const fs::path relative = fs::absolute(path, error).lexically_normal().lexically_proximate(folder.lexically_normal());
  return relative.string();
}

Status WriteScript(const ExportFlags& flags, const ImplicitModel& made, const std::string& version) {
  TrtexecLine line = made.line;
  line.onnx = FromScript(flags.output, flags.script_out);
  line.calib = FromScript(flags.cache_out, flags.script_out);
  std::vector<std::string> comments = {
      fmt::format("Implicit INT8 of {} for TensorRT {}, written by octavo export. Further flags go behind:",
                  flags.model, version),
      "  sh this_script --saveEngine=model.engine",
      "A calibration file that is not found makes trtexec calibrate on one random batch without a word."};
  for (const std::string& lost : made.lost) comments.push_back("not expressed: " + lost);
  return SaveText(flags.script_out, FormatTrtexecScript(line, comments));
}

Result<ExitCode> WriteImplicit(const ExportFlags& flags) {
  OCTAVO_ASSIGN(Graph model, LoadOnnx(flags.model));
  const std::string version = flags.version.empty() ? kDefaultVersion : flags.version;
  auto made = MakeImplicit(std::move(model), version);
  if (!made.ok()) return InModel(made.status(), flags.model);
  OCTAVO_RETURN_IF_ERROR(SaveCalibrationCache(made->cache, flags.cache_out));
  if (!flags.script_out.empty()) OCTAVO_RETURN_IF_ERROR(WriteScript(flags, *made, version));
  OCTAVO_RETURN_IF_ERROR(SaveOnnx(made->model, flags.output));
  for (const std::string& lost : made->lost) PrintWarning("not expressed: " + lost);
  flags.report.Print("{}: float32; of its contractions {} are to run in INT8, {} in 16 bits, {} in FP32\n",
                     flags.output, made->int8_layers, made->half_layers, made->float_layers);
  flags.report.Print("{}: {} scales ({})\n", flags.cache_out, made->cache.scales.size(), made->cache.header);
  TrtexecLine line = made->line;
  line.onnx = flags.output;
  line.calib = flags.cache_out;
  if (!flags.script_out.empty()) flags.report.Print("{}: the call of trtexec\n", flags.script_out);
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson({{"model", flags.model},
                                                 {"output", flags.output},
                                                 {"calibration_cache", flags.cache_out},
                                                 {"scales", made->cache.scales.size()},
                                                 {"int8_layers", made->int8_layers},
                                                 {"half_layers", made->half_layers},
                                                 {"float_layers", made->float_layers},
                                                 {"trtexec", TrtexecArguments(line)},
                                                 {"lost", made->lost}}));
  return kDone;
}

Result<ExitCode> RunExport(const ExportFlags& flags) {
  OCTAVO_RETURN_IF_ERROR(CheckFlags(flags));
  return flags.to_implicit() ? WriteImplicit(flags) : WriteExplicit(flags);
}

void AddLayerFlags(CLI::App& command, ExportFlags& flags) {
  command
      .add_option("--layer-precisions", flags.layer_precisions,
                  "Precisions by name of a node, as trtexec's --layerPrecisions: conv1:fp16,'a:b':fp32,*:int8")
      ->type_name("LIST");
  command.add_option("--layer-output-types", flags.layer_output_types, "The same for trtexec's --layerOutputTypes")
      ->type_name("LIST");
  command
      .add_option("--from-trtexec", flags.trtexec,
                  "A whole command line of trtexec: its --calib, --fp16, --layerPrecisions, ... count, the rest is "
                  "ignored with a note")
      ->type_name("ARGS");
  command
      .add_option("--trt-version", flags.version,
                  "TensorRT's version, for the cache's first line and for what '*' means (default: the cache's, else "
                  "8.6.1)")
      ->type_name("8.6.1");
}

}  // namespace

void AddExportCommand(CLI::App& app, Action& action) {
  CLI::App* command = AddSubcommand(
      app, "export",
      "Turn a calibration cache and flags of trtexec into a Q/DQ model, or a Q/DQ model into a cache and such flags",
      {"octavo export encoder.onnx --target tensorrt --from-calibration-cache encoder.cache -o encoder.qdq.onnx",
       "octavo export encoder.onnx --target tensorrt --from-trtexec \"--int8 --fp16 --calib=encoder.cache "
       "--precisionConstraints=obey --layerPrecisions=/neck/conv:fp32\" -o encoder.qdq.onnx",
       "octavo export encoder.qdq.onnx --target tensorrt8-implicit -o encoder.float.onnx --calibration-cache "
       "encoder.cache --trtexec encoder.sh"});
  auto flags = std::make_shared<ExportFlags>();
  flags->policy.target = "tensorrt";
  command->add_option("MODEL", flags->model, "ONNX file; with Q/DQ for --target tensorrt8-implicit, else without")
      ->required();
  command->add_option("--target", flags->policy.target, "Whose rules Q/DQ follow (default: tensorrt)")
      ->type_name(TargetNames() + "|" + std::string(kImplicit));
  flags->scales.AddTo(*command);
  AddLayerFlags(*command, *flags);
  command->add_option("--preset", flags->policy.preset, "Q/DQ wherever this quantizes, for comparison")
      ->type_name(JoinNames(PresetNames(), "|"));
  AddRepeatable(*command, "--keep-float", flags->policy.keep_float, "As 'octavo quantize' has it; repeatable")
      ->type_name("NODE|PATTERN|OP");
  command->add_flag("--quantize-attention", flags->policy.quantize_attention,
                    "Quantize products of two activations, too, where the target fuses attention in INT8");
  AddRepeatable(*command, "--input-shape", flags->input_shapes,
                "Sizes of an input that is dynamic (default: those of --stats, else 1); repeatable")
      ->type_name("NAME=1x3x512x512");
  command->add_option("-o,--output", flags->output, "File for the model")->type_name("OUT.onnx")->required();
  command->add_option("--recipe-out", flags->recipe_out, "File for the decisions (default: OUT.onnx.recipe.json)")
      ->type_name("FILE");
  command->add_option("--calibration-cache", flags->cache_out, "File for the cache, with --target tensorrt8-implicit")
      ->type_name("FILE");
  command->add_option("--trtexec", flags->script_out, "File for a script that calls trtexec, with the same")
      ->type_name("OUT.sh");
  flags->report.AddFlag(*command);
  command->callback([=, &action] { action = [=] { return RunExport(*flags); }; });
}

}  // namespace octavo::cli
