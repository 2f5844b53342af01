// Flags of every command that runs a model: --threads, --precision, --disable-pass, --tune, --tuning-cache, --isa.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "octavo/session.h"

namespace octavo::cli {

struct EngineFlags {
  int threads = 0;
  std::string precision = "fp32";
  std::vector<std::string> disabled_passes;
  std::shared_ptr<Tuning> tuning;  // of --tune or --tuning-cache; null without

  void AddTo(CLI::App& command);
  SessionOptions ToOptions() const;
  // "all" cores resolved.
  int thread_count() const;
};

// Adds --isa, which holds this process to an instruction set as soon as it is read.
void AddIsaFlag(CLI::App& command);
// Adds --tune and --tuning-cache, which opens the file as soon as it is read.
void AddTuningFlags(CLI::App& command, std::shared_ptr<Tuning>& tuning);

// Adds a flag that takes "fp32", "bf16" or "fp16".
CLI::Option* AddPrecisionFlag(CLI::App& command, const std::string& name, std::string& precision,
                              const std::string& description);
Precision ParsePrecision(const std::string& precision);

// An option that may be given several times with one argument each.
CLI::Option* AddRepeatable(CLI::App& command, const std::string& name, std::vector<std::string>& values,
                           const std::string& description);

// Adds --disable-pass NAME; names are checked against PassNames() at once.
void AddDisablePassFlag(CLI::App& command, std::vector<std::string>& disabled_passes);

}  // namespace octavo::cli
