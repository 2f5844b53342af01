// Scores by a program of the user's own.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "octavo/dataset.h"
#include "octavo/task.h"

namespace octavo {

struct ScoreCommand {
  // Text for /bin/sh, which gets the two folders as arguments behind it: "python3 score.py --strict" runs
  // python3 score.py --strict REFERENCE CANDIDATE. Whoever writes it may run anything as this user; nothing else than
  // this text is read as a command, names of files least of all.
  std::string command;
  std::chrono::milliseconds timeout = std::chrono::minutes(10);  // of one run
};

// The only task that starts processes: the command, once per candidate (in its own process group, standard input empty,
// the environment as it is), and a shell that removes the folders if this process dies. For each judged sample both
// folders hold NAME.npz, NAME being the sample's file name without its extension, with the outputs by name (bfloat16 as
// float32). What the command prints on standard output is either
//   a line "NAME<TAB>score" for every sample (other lines are passed over): one question per sample, with bounds, or
//   one score in the last line: JointAgreement::whole, without bounds.
// Scores lie in [0, 1]; what passes an end by 1e-6 or less is rounding and is cut. As long as no sample had another
// score than 0 or 1, of any candidate so far, they are taken for right or wrong, with the exact bounds of these.
// Finish blocks while the command runs. Errors of Finish, naming the command and showing the end of its standard error:
// an exit code other than 0, a signal, the timeout, more than 64 MiB of output, no score, a sample without one or with
// two, what is no number in [0, 1].
// Not thread safe; several objects in one process do not know of each other. A process that ignores SIGCHLD cannot use
// it: exit codes are lost there.
class CommandTask : public Task {
 public:
  // `samples` are the judging ones, `outputs` the names of the model's outputs. The folders lie in $TMPDIR (/tmp), with
  // access for this user only, and go away with the task, however the process ends.
  // Errors: an empty command or timeout, samples whose files differ in the extension alone, no folder.
  static Result<std::unique_ptr<CommandTask>> Create(const Dataset& samples, std::vector<std::string> outputs,
                                                     ScoreCommand command);
  CommandTask(const CommandTask&) = delete;
  CommandTask& operator=(const CommandTask&) = delete;
  ~CommandTask() override;

  std::string_view name() const override { return "command"; }
  std::string_view score_name() const override { return "score"; }
  bool right_or_wrong() const override;
  std::string note() const override;
  Status Learn(size_t sample, std::span<const Tensor> outputs) override;
  Status Begin() override;
  Result<Agreement> Judge(size_t sample, std::span<const Tensor> outputs) override;
  Result<JointAgreement> Finish() override;

 private:
  struct State;
  explicit CommandTask(std::unique_ptr<State> state);
  Status Write(const std::string& folder, size_t sample, std::span<const Tensor> outputs) const;
  const std::unique_ptr<State> state_;
};

}  // namespace octavo
