#include "engine_flags.h"

#include <algorithm>

#include "octavo/bench.h"
#include "octavo/passes.h"
#include "octavo/tuning.h"

namespace octavo::cli {
namespace {

std::string CheckPassName(const std::string& name) {
  const auto names = PassNames();
  if (std::find(names.begin(), names.end(), name) != names.end()) return {};
  std::string list;
  for (const std::string_view known : names) list += (list.empty() ? "" : ", ") + std::string(known);
  return "no pass is named '" + name + "'; the passes: " + list;
}

}  // namespace

void EngineFlags::AddTo(CLI::App& command) {
  command.add_option("--threads", threads, "Threads to compute with; 0: every core")
      ->type_name("N")
      ->check(CLI::Range(0, 1024));
  AddPrecisionFlag(command, "--precision", precision,
                   "Arithmetic of convolutions and matrix products: fp32 or bf16; fp16: every value rounded "
                   "as an FP16 deployment would, to measure it");
  AddDisablePassFlag(command, disabled_passes);
  AddTuningFlags(command, tuning);
  AddIsaFlag(command);
}

void AddIsaFlag(CLI::App& command) {
  std::string names;
  for (const std::string& name : IsaLimits()) names += (names.empty() ? "" : "|") + name;
  command
      .add_option_function<std::string>(
          "--isa",
          [](const std::string& isa) {
            const Status status = LimitIsa(isa);
            if (!status.ok()) throw CLI::ValidationError("--isa", status.message());
          },
          "Hold every kernel to an instruction set narrower than this CPU's, to compare")
      ->type_name(names)
      ->envname("OCTAVO_ISA");
}

void AddTuningFlags(CLI::App& command, std::shared_ptr<Tuning>& tuning) {
  command.add_flag_callback(
      "--tune",
      [&tuning] {
        if (!tuning) tuning = std::make_shared<Tuning>();
      },
      "Time the integer kernels that give the same bits while the model is planned, and use the fastest");
  command
      .add_option_function<std::string>(
          "--tuning-cache",
          [&tuning](const std::string& path) {
            auto opened = Tuning::Open(path);
            if (!opened.ok()) throw CLI::ValidationError("--tuning-cache", opened.status().message());
            tuning = *std::move(opened);
          },
          "As --tune, with the choices kept in a file, by machine; what it has is not timed again")
      ->type_name("FILE");
}

SessionOptions EngineFlags::ToOptions() const {
  SessionOptions options;
  options.threads = threads;
  options.precision = ParsePrecision(precision);
  options.disabled_passes = disabled_passes;
  options.tuning = tuning;
  return options;
}

int EngineFlags::thread_count() const { return threads > 0 ? threads : AvailableCores(); }

CLI::Option* AddPrecisionFlag(CLI::App& command, const std::string& name, std::string& precision,
                              const std::string& description) {
  return command.add_option(name, precision, description)->type_name("P")->check([](const std::string& value) {
    const bool known = value == "fp32" || value == "bf16" || value == "fp16";
    return known ? std::string() : "'" + value + "' is not a precision: fp32, bf16 or fp16";
  });
}

Precision ParsePrecision(const std::string& precision) {
  if (precision == "fp16") return Precision::kFloat16;
  return precision == "bf16" ? Precision::kBFloat16 : Precision::kFloat32;
}

CLI::Option* AddRepeatable(CLI::App& command, const std::string& name, std::vector<std::string>& values,
                           const std::string& description) {
  return command.add_option(name, values, description)->allow_extra_args(false);
}

void AddDisablePassFlag(CLI::App& command, std::vector<std::string>& disabled_passes) {
  AddRepeatable(command, "--disable-pass", disabled_passes, "Leave this rewrite out (see inspect); repeatable")
      ->type_name("NAME")
      ->check(CheckPassName);
}

}  // namespace octavo::cli
