#include "engine_flags.h"

#include <algorithm>

#include "octavo/bench.h"
#include "octavo/passes.h"

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
}

SessionOptions EngineFlags::ToOptions() const {
  SessionOptions options;
  options.threads = threads;
  options.precision = ParsePrecision(precision);
  options.disabled_passes = disabled_passes;
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
