#include "octavo/command_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "base/passing_folder.h"
#include "base/test_files.h"
#include "octavo/npy.h"
#include "tasks/command_scores.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

Dataset Samples(const std::vector<std::string>& names) {
  std::vector<std::map<std::string, Tensor>> samples(names.size(), {{"x", *Tensor::Zeros(DType::kFloat32, {1})}});
  return *Dataset::FromSamples(names, std::move(samples));
}

std::vector<Tensor> Out(float value) { return {Tensor::FromVector<float>({2}, {value, 1})}; }

// A task about two samples, learnt.
std::unique_ptr<CommandTask> Open(const std::string& command,
                                  std::chrono::milliseconds timeout = std::chrono::seconds(60)) {
  auto task = CommandTask::Create(Samples({"a.jpg", "b.jpg"}), {"y/out"}, {command, timeout});
  if (!task.ok()) ADD_FAILURE() << task.status().message();
  for (size_t i = 0; i < 2; ++i) EXPECT_TRUE((*task)->Learn(i, Out(static_cast<float>(i))).ok());
  return std::move(task).value();
}

Result<JointAgreement> Score(CommandTask& task) {
  OCTAVO_RETURN_IF_ERROR(task.Begin());
  for (size_t i = 0; i < 2; ++i) OCTAVO_RETURN_IF_ERROR(task.Judge(i, Out(5)).status());
  return task.Finish();
}

std::string Refused(const std::string& command, std::chrono::milliseconds timeout = std::chrono::seconds(60)) {
  return Score(*Open(command, timeout)).status().message();
}

TEST(CommandTask, OneNumberForAll) {
  const auto task = Open("echo reading; echo 0.75; true");
  const auto found = Score(*task);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(found->whole, 0.75);
  EXPECT_TRUE(found->scores.empty());
  EXPECT_THAT(task->note(), HasSubstr("no bound"));
}

TEST(CommandTask, ALinePerSample) {
  const auto task = Open(R"(printf 'b\t0.5\nmean\t0.7\na\t 1 \n0.7\n'; true)");
  const auto found = Score(*task);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_THAT(found->scores, ElementsAre(1, 0.5));
  EXPECT_FALSE(found->whole);
  EXPECT_EQ(task->note(), "");
}

TEST(CommandTask, OnlyZerosAndOnesAreRightOrWrong) {
  const TemporaryFolder kept;
  const auto task = Open("cat " + (kept / "scores") + "; true");
  EXPECT_FALSE(task->right_or_wrong());  // nothing is known yet
  const auto score = [&](const std::string& text) {
    WriteText(kept / "scores", text);
    return Score(*task).ok();
  };
  EXPECT_TRUE(score("0.5"));
  EXPECT_FALSE(task->right_or_wrong());
  EXPECT_TRUE(score("a\t1\nb\t0.0\n"));
  EXPECT_TRUE(task->right_or_wrong());
  EXPECT_TRUE(score("a\t1\nb\t0.5\n"));
  EXPECT_FALSE(task->right_or_wrong());
  EXPECT_TRUE(score("a\t1\nb\t1\n"));
  EXPECT_FALSE(task->right_or_wrong());
}

TEST(CommandTask, FilesAndArguments) {
  const TemporaryFolder kept;
  // Spaces and quotes in the command reach the program, which gets both folders behind its own arguments.
  const auto task = Open("copy() { cp -r \"$2\" '" + kept.path() + "/ref'; cp -r \"$3\" '" + kept.path() +
                         "/cand'; stat -c %a \"$2\" > '" + kept.path() + "/mode'; printf \"$1\"; }; copy '0.5 '");
  ASSERT_EQ(Score(*task)->whole, 0.5);
  const auto reference = LoadNpz(kept / "ref/b.npz"), candidate = LoadNpz(kept / "cand/b.npz");
  ASSERT_TRUE(reference.ok()) << reference.status().message();
  EXPECT_THAT(reference->at("y/out").values<float>(), ElementsAre(1, 1));
  EXPECT_THAT(candidate->at("y/out").values<float>(), ElementsAre(5, 1));
  std::string mode;
  std::ifstream(kept / "mode") >> mode;
  EXPECT_EQ(mode, "700");
}

TEST(CommandTask, RunsOncePerCandidateOnFilesOfItsOwn) {
  const TemporaryFolder kept;
  const auto task =
      Open("score() { ls \"$3\" | wc -l >> " + (kept / "runs") + "; touch \"$3/left\"; echo 1; }; score x");
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(Score(*task).ok());
  std::string first, second, more;
  std::ifstream(kept / "runs") >> first >> second >> more;
  EXPECT_EQ(first + " " + second + more, "2 2");
}

TEST(CommandTask, EachFailureIsNamed) {
  EXPECT_THAT(Refused("echo one >&2; echo two words >&2; exit 3; true"),
              HasSubstr("exit 3; true': it ended with exit code 3; it said: one | two words"));
  EXPECT_THAT(Refused("/nowhere/score"), HasSubstr("ended with exit code 127; it said: "));
  EXPECT_THAT(Refused("kill -s TERM $$; true"), HasSubstr("was ended by signal 15"));
  EXPECT_THAT(Refused("true"), HasSubstr("it printed no score"));
  EXPECT_THAT(Refused("echo good; true"), HasSubstr("its last line: 'good' is no number"));
  EXPECT_THAT(Refused("echo nan; true"), HasSubstr("'nan' is no score"));
  EXPECT_THAT(Refused("echo inf; true"), HasSubstr("'inf' is no score"));
  EXPECT_THAT(Refused("echo 1.01; true"), HasSubstr("between 0 and 1"));
  EXPECT_THAT(Refused("echo -0.5; true"), HasSubstr("between 0 and 1"));
  EXPECT_THAT(Refused("echo 0.5 0.6; true"), HasSubstr("is no number"));
  EXPECT_THAT(Refused(R"(printf 'a\t1\n'; true)"), HasSubstr("it printed no score of 'b'"));
  EXPECT_THAT(Refused(R"(printf 'a\t1\nb\t1\na\t1\n'; true)"), HasSubstr("two scores of 'a'"));
  EXPECT_THAT(Refused(R"(printf 'a\tx\nb\t1\n'; true)"), HasSubstr("it printed of 'a': 'x' is no number"));
  EXPECT_THAT(Refused("head -c 70000000 /dev/zero; true"), HasSubstr("printed more than 64 MiB"));
}

TEST(CommandTask, TimeoutEndsAllThatWasStarted) {
  const TemporaryFolder kept;
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(Refused("sleep 100 & echo $! > " + (kept / "pid") + "; echo waiting >&2; wait; true",
                      std::chrono::milliseconds(300)),
              HasSubstr("did not end within 0.3 s; it said: waiting"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  pid_t sleeper = 0;
  std::ifstream(kept / "pid") >> sleeper;
  ASSERT_GT(sleeper, 0);
  // Killed, yet perhaps not reaped by init at once: a zombie has no command line.
  std::string command;
  std::getline(std::ifstream("/proc/" + std::to_string(sleeper) + "/cmdline") >> std::ws, command);
  EXPECT_EQ(command, "");
}

TEST(CommandTask, DoesNotWaitForWhatTheCommandLeavesBehind) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(Score(*Open("sleep 100 & echo 1; true"))->whole, 1);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(CommandTask, WhatIsRefused) {
  const auto refused = [](const std::vector<std::string>& names, ScoreCommand command) {
    return CommandTask::Create(Samples(names), {"y"}, std::move(command)).status().message();
  };
  EXPECT_THAT(refused({"a.jpg"}, {" "}), HasSubstr("is empty"));
  EXPECT_THAT(refused({"a.jpg"}, {"true", std::chrono::milliseconds(0)}), HasSubstr("no time"));
  EXPECT_THAT(refused({"a.jpg", "a.png"}, {"true"}), HasSubstr("rename one of 'a.jpg' and 'a.png'"));
  EXPECT_THAT(refused({"a\nb.jpg"}, {"true"}), HasSubstr("rename"));
  EXPECT_FALSE(Open("true")->Learn(0, {}).ok());
}

// Of the folders that a task has.
size_t CountFolders(const std::string& where) {
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator(where))
    count += entry.path().filename().string().starts_with("octavo-");
  return count;
}

void WaitUntil(const std::function<bool()>& done) {
  for (int i = 0; i < 2000 && !done(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

class TemporaryFolderVariable {
 public:
  explicit TemporaryFolderVariable(const std::string& path) {
    const char* before = getenv("TMPDIR");
    if (before != nullptr) before_ = before;
    setenv("TMPDIR", path.c_str(), 1);
  }
  ~TemporaryFolderVariable() { before_.empty() ? unsetenv("TMPDIR") : setenv("TMPDIR", before_.c_str(), 1); }

 private:
  std::string before_;
};

TEST(PassingFolder, GoesAwayWithItsOwner) {
  const TemporaryFolder where;
  const TemporaryFolderVariable variable(where.path());
  {
    auto folder = PassingFolder::Create();
    ASSERT_TRUE(folder.ok()) << folder.status().message();
    WriteText(folder->path() + "/file", "x");
    const PassingFolder moved = std::move(folder).value();
    EXPECT_EQ(CountFolders(where.path()), 1u);
  }
  EXPECT_EQ(CountFolders(where.path()), 0u);
}

TEST(PassingFolder, GoesAwayWhenTheProcessIsKilled) {
  const TemporaryFolder where;
  const TemporaryFolderVariable variable(where.path());
  const pid_t child = fork();
  if (child == 0) {
    auto folder = PassingFolder::Create();
    if (!folder.ok()) _exit(1);
    raise(SIGKILL);
    _exit(2);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  WaitUntil([&] { return CountFolders(where.path()) == 0; });
  EXPECT_EQ(CountFolders(where.path()), 0u);
}

TEST(PassingFolder, CannotBeMade) {
  const TemporaryFolderVariable variable("/nowhere/at/all");
  EXPECT_THAT(PassingFolder::Create().status().message(), HasSubstr("TMPDIR"));
}

TEST(CommandScores, RoundingAtTheEndsIsCut) {
  EXPECT_EQ(ParseCommandScores("1.0000002", {"a"})->whole, 1);
  EXPECT_EQ(ParseCommandScores("-1e-9\n\n", {"a"})->whole, 0);
  EXPECT_FALSE(ParseCommandScores("1.001", {"a"}).ok());
  // A TAB in a name: the last one separates.
  EXPECT_THAT(ParseCommandScores("a\tb\t0.5", {"a\tb"})->scores, ElementsAre(0.5));
  EXPECT_EQ(ParseCommandScores("0.5", {})->whole, 0.5);
}

}  // namespace
}  // namespace octavo
