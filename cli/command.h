// What every subcommand is made of: it adds its flags to the command line and says what to run once they are read.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "octavo/status.h"

namespace octavo::cli {

// Scripts may rely on these.
enum ExitCode {
  kDone = 0,
  kFindings = 1,     // the command worked and found a difference (compare --min-sqnr)
  kBadInput = 2,     // bad usage or a bad file
  kGoalMissed = 3,   // a stated quality goal was missed; the best result is written
  kInterrupted = 4,  // interrupted, and a later call goes on from there
};

// Set by the subcommand that was named; main runs it and turns an error into one line and exit code 2.
using Action = std::function<Result<ExitCode>()>;

void AddSegmentCommand(CLI::App& app, Action& action);
void AddDemoCommand(CLI::App& app, Action& action);
void AddRunCommand(CLI::App& app, Action& action);
void AddInspectCommand(CLI::App& app, Action& action);
void AddBenchCommand(CLI::App& app, Action& action);
void AddJudgeCommand(CLI::App& app, Action& action);
void AddCompareCommand(CLI::App& app, Action& action);
void AddCalibrateCommand(CLI::App& app, Action& action);
void AddStatsCommand(CLI::App& app, Action& action);
void AddCheckFp16Command(CLI::App& app, Action& action);
void AddReportCommand(CLI::App& app, Action& action);
void AddLintCommand(CLI::App& app, Action& action);
void AddQuantizeCommand(CLI::App& app, Action& action);
void AddExportCommand(CLI::App& app, Action& action);
void AddSensitivityCommand(CLI::App& app, Action& action);
void AddResaveCommand(CLI::App& app, Action& action);
void AddOpsCommand(CLI::App& app, Action& action);

// A subcommand with an EXAMPLES section under its help. Each example is one command line without the prompt.
CLI::App* AddSubcommand(CLI::App& app, const std::string& name, const std::string& description,
                        const std::vector<std::string>& examples);

}  // namespace octavo::cli
