#include <cerrno>
#include <filesystem>
#include <memory>
#include <set>

#include "command.h"
#include "console.h"
#include "engine_flags.h"
#include "implicit_flag.h"
#include "model_files.h"
#include "octavo/npy.h"
#include "octavo/onnx.h"
#include "octavo/reference.h"
#include "octavo/session.h"
#include "stopwatch.h"

namespace octavo::cli {
namespace {

struct RunFlags {
  std::string model;
  std::string file;
  std::vector<std::string> inputs;
  std::string preprocess;
  std::string folder = ".";
  std::string engine_name = "octavo";
  EngineFlags engine;
  ImplicitFlag implicit;
  Report report;
};

struct Outputs {
  std::vector<std::string> names;
  std::vector<Tensor> tensors;
  double milliseconds = 0;
};

Result<Outputs> Compute(Graph graph, const RunFlags& flags, const std::map<std::string, Tensor>& inputs) {
  Outputs outputs;
  if (flags.engine_name == "reference") {
    for (const ValueId id : graph.outputs) outputs.names.push_back(graph.value(id).name);
    const Stopwatch stopwatch;
    OCTAVO_ASSIGN(outputs.tensors, RunReference(std::move(graph), inputs, ParsePrecision(flags.engine.precision)));
    outputs.milliseconds = stopwatch.Milliseconds();
    return outputs;
  }
  std::vector<Tensor> ordered;
  for (const Value& input : InputValues(graph)) ordered.push_back(inputs.at(input.name));
  OCTAVO_ASSIGN(Session session, Session::Create(std::move(graph), flags.engine.ToOptions()));
  OCTAVO_RETURN_IF_ERROR(session.Prepare(ordered));
  outputs.names = session.output_names();
  const Stopwatch stopwatch;
  OCTAVO_ASSIGN(outputs.tensors, session.Run(inputs));
  outputs.milliseconds = stopwatch.Milliseconds();
  return outputs;
}

// Names that become equal once odd characters are replaced get a number.
std::string UniqueFileName(const std::string& output, std::set<std::string>& taken) {
  const std::string wanted = NpyName(output);
  std::string name = wanted;
  for (int i = 2; !taken.insert(name).second; ++i) name = fmt::format("{}.{}.npy", Stem(wanted), i);
  return name;
}

Result<ExitCode> RunModel(RunFlags flags) {
  if (!flags.file.empty()) flags.inputs.push_back(flags.file);
  OCTAVO_ASSIGN(Graph graph, LoadOnnx(flags.model));
  OCTAVO_ASSIGN(const auto inputs, ReadInputs(flags.inputs, InputValues(graph), flags.preprocess, true));
  std::map<std::string, Dims> dims;
  for (const auto& [name, tensor] : inputs) dims[name] = tensor.dims();
  OCTAVO_ASSIGN(graph, flags.implicit.Apply(std::move(graph), dims, flags.model));
  OCTAVO_RETURN_IF_ERROR(MakeFolder(flags.folder));
  auto outputs = Compute(std::move(graph), flags, inputs);
  if (!outputs.ok()) return InModel(outputs.status(), flags.model);

  Table table("lll", {"output", "shape", "file"});
  Json listed = Json::array();
  std::set<std::string> taken;
  for (size_t i = 0; i < outputs->tensors.size(); ++i) {
    const Tensor& tensor = outputs->tensors[i];
    const std::string path = (std::filesystem::path(flags.folder) / UniqueFileName(outputs->names[i], taken)).string();
    OCTAVO_RETURN_IF_ERROR(SaveNpy(path, tensor));
    table.AddRow({outputs->names[i], fmt::format("{} {}", NameOf(tensor.dtype()), ToString(tensor.dims())), path});
    listed.push_back({{"name", outputs->names[i]},
                      {"dtype", std::string(NameOf(tensor.dtype()))},
                      {"dims", tensor.dims()},
                      {"file", path}});
  }
  table.Print(flags.report.stream());
  flags.report.Print("{:.1f} ms\n", outputs->milliseconds);
  OCTAVO_RETURN_IF_ERROR(
      flags.report.WriteJson({{"model", flags.model}, {"ms", outputs->milliseconds}, {"outputs", listed}}));
  return kDone;
}

}  // namespace

void AddRunCommand(CLI::App& app, Action& action) {
  CLI::App* command =
      AddSubcommand(app, "run", "Run a model once and write its outputs as .npy files",
                    {"octavo run vit.onnx photo.jpg --preprocess imagenet -o out",
                     "octavo run unet.onnx --input noisy=x.npy --input sigma=s.npy --input difficulty=d.npy -o out",
                     "octavo run unet.onnx --input sample.npz -o out --json -"});
  auto flags = std::make_shared<RunFlags>();
  command->add_option("MODEL", flags->model, "ONNX file")->required();
  command->add_option("FILE", flags->file, "The input's file, for a model with one input; or a .npz with every input");
  AddRepeatable(*command, "--input", flags->inputs, "An input: .npy, .npz or a picture; repeatable")
      ->type_name("NAME=FILE");
  command->add_option("--preprocess", flags->preprocess, "How pictures become inputs: sam, imagenet or a JSON file")
      ->type_name("sam|imagenet|FILE.json");
  command
      ->add_option("-o,--output", flags->folder,
                   "Folder for OUTPUT.npy files, made when it is not there (default: this one); characters of "
                   "names other than letters, digits, '.', '-', '_' become '_'")
      ->type_name("DIR");
  flags->implicit.AddTo(*command, "Run in INT8 by the scales of TensorRT's calibration cache; the file holds no Q/DQ");
  flags->engine.AddTo(*command);
  command->add_option("--engine", flags->engine_name)->group("")->check(CLI::IsMember({"octavo", "reference"}));
  flags->report.AddFlag(*command);
  command->callback([=, &action] { action = [=] { return RunModel(*flags); }; });
}

}  // namespace octavo::cli
