#include "octavo/command_task.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>

#include "base/child_process.h"
#include "base/passing_folder.h"
#include "base/quote.h"
#include "base/text_lines.h"
#include "tasks/command_scores.h"
#include "tasks/npy_format.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostOutputBytes = size_t{64} << 20;
constexpr size_t kErrorBytes = 4096, kShownErrorBytes = 300, kShownErrorLines = 3;

// The end of what a program said on standard error, on one line: the last lines say what went wrong.
std::string EndOf(const std::string& error) {
  std::string shown;
  size_t lines = 0;
  std::vector<std::string_view> all = SplitLines(error);
  for (auto line = all.rbegin(); line != all.rend() && lines < kShownErrorLines; ++line) {
    if (Trim(*line).empty()) continue;
    shown = std::string(*line) + (shown.empty() ? "" : " | ") + shown;
    ++lines;
  }
  if (shown.size() > kShownErrorBytes) shown = "..." + shown.substr(shown.size() - kShownErrorBytes);
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return shown.empty() ? "" : "; it said: " + shown;
}

Status MakeFolder(const std::string& path) {
  return mkdir(path.c_str(), 0700) == 0 ? Status() : SystemError("make folder", path, errno);
}

// File names without extension, each once.
Result<std::vector<std::string>> NamesOf(const Dataset& samples) {
  std::map<std::string, std::string> taken;
  std::vector<std::string> names;
  for (size_t i = 0; i < samples.size(); ++i) {
    std::string name = fs::path(samples.name(i)).stem().string();
    if (name.empty() || name == "." || name == ".." || name.find_first_of("\n\r") != std::string::npos) {
      return InvalidArgument("a score command is given files by the samples' names; rename " + Quote(samples.name(i)));
    }
    const auto [other, is_new] = taken.emplace(name, samples.name(i));
    if (!is_new) {
      return InvalidArgument("a score command is given files by the samples' names without extension; rename one of " +
                             Quote(other->second) + " and " + Quote(samples.name(i)));
    }
    names.push_back(std::move(name));
  }
  return names;
}

std::string DescribeEnd(const ChildOutcome& outcome, std::chrono::milliseconds timeout) {
  switch (outcome.end) {
    case ChildOutcome::End::kExit:
      return fmt::format("ended with exit code {}", outcome.code);
    case ChildOutcome::End::kSignal:
      return fmt::format("was ended by signal {} ({})", outcome.code, strsignal(outcome.code));
    case ChildOutcome::End::kTimeout:
      return fmt::format("did not end within {:g} s", static_cast<double>(timeout.count()) / 1000);
    case ChildOutcome::End::kTooMuchOutput:
      return fmt::format("printed more than {} MiB", kMostOutputBytes >> 20);
  }
  return "ended";
}

}  // namespace

struct CommandTask::State {
  std::vector<std::string> names, outputs;
  ScoreCommand command;
  PassingFolder folder;
  bool is_whole = false;                // as the command answered last
  bool scored = false, graded = false;  // whether it scored a sample, whether by another number than 0 and 1

  std::string reference() const { return folder.path() + "/reference"; }
  std::string candidate() const { return folder.path() + "/candidate"; }
};

CommandTask::CommandTask(std::unique_ptr<State> state) : state_(std::move(state)) {}
CommandTask::~CommandTask() = default;

Result<std::unique_ptr<CommandTask>> CommandTask::Create(const Dataset& samples, std::vector<std::string> outputs,
                                                         ScoreCommand command) {
  const bool blank = command.command.find_first_not_of(" \t\n") == std::string::npos;
  if (blank || command.command.find('\0') != std::string::npos) return InvalidArgument("the score command is empty");
  if (command.timeout.count() <= 0) return InvalidArgument("the score command is given no time");
  OCTAVO_ASSIGN(std::vector<std::string> names, NamesOf(samples));
  OCTAVO_ASSIGN(PassingFolder folder, PassingFolder::Create());
  auto state =
      std::unique_ptr<State>(new State{std::move(names), std::move(outputs), std::move(command), std::move(folder)});
  OCTAVO_RETURN_IF_ERROR(MakeFolder(state->reference()));
  OCTAVO_RETURN_IF_ERROR(MakeFolder(state->candidate()));
  return std::unique_ptr<CommandTask>(new CommandTask(std::move(state)));
}

bool CommandTask::right_or_wrong() const { return state_->scored && !state_->graded; }

std::string CommandTask::note() const {
  return state_->is_whole ? "the score command gave one number for all samples: no bound can be given" : "";
}

Status CommandTask::Write(const std::string& folder, size_t sample, std::span<const Tensor> outputs) const {
  if (sample >= state_->names.size()) return InvalidArgument("there is no such sample");
  if (outputs.size() != state_->outputs.size()) return InvalidArgument("the model gave another number of outputs");
  std::map<std::string, Tensor> arrays;
  for (size_t i = 0; i < outputs.size(); ++i) arrays[state_->outputs[i]] = outputs[i];
  return SavePassingNpz(folder + "/" + state_->names[sample] + ".npz", arrays);
}

Status CommandTask::Learn(size_t sample, std::span<const Tensor> outputs) {
  return Write(state_->reference(), sample, outputs);
}

Status CommandTask::Begin() {
  // The command may have left files of its own.
  std::error_code error;
  fs::remove_all(state_->candidate(), error);
  if (error) return SystemError("empty folder", state_->candidate(), error.value());
  return MakeFolder(state_->candidate());
}

Result<Agreement> CommandTask::Judge(size_t sample, std::span<const Tensor> outputs) {
  OCTAVO_RETURN_IF_ERROR(Write(state_->candidate(), sample, outputs));
  return Agreement();
}

Result<JointAgreement> CommandTask::Finish() {
  const ScoreCommand& command = state_->command;
  const std::vector<std::string> arguments = {
      "/bin/sh", "-c", command.command + " \"$@\"", "sh", state_->reference(), state_->candidate()};
  const ChildLimits limits{command.timeout, kMostOutputBytes, kErrorBytes};
  auto run = RunChild(arguments, limits, [&](pid_t group) { state_->folder.EndWithUs(group); });
  state_->folder.EndWithUs(0);
  const std::string prefix = "score command " + Quote(command.command) + ": ";
  if (!run.ok()) return run.status().WithPrefix(prefix);
  if (run->end != ChildOutcome::End::kExit || run->code != 0) {
    return BadFile(prefix + "it " + DescribeEnd(*run, command.timeout) + EndOf(run->error));
  }
  auto scores = ParseCommandScores(run->output, state_->names);
  if (!scores.ok()) return BadFile(prefix + scores.status().message() + EndOf(run->error));
  state_->is_whole = scores->whole.has_value();
  for (const double score : scores->scores) {
    state_->scored = true;
    state_->graded = state_->graded || (score != 0 && score != 1);
  }
  return scores;
}

}  // namespace octavo
