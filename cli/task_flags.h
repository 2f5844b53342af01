// What a model is for, on the command line: --task and what each task needs.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "console.h"
#include "octavo/dataset.h"
#include "octavo/graph.h"
#include "octavo/judge.h"
#include "octavo/task.h"

namespace octavo::cli {

// Samples and what to ask about them.
struct JudgedSamples {
  Dataset data;
  std::unique_ptr<Task> task;
};

struct TaskFlags {
  std::string task;  // "": none was named
  std::string decoder, candidate_decoder, encoder, prompts;
  size_t points = 5;
  bool boxes = false;
  std::string judged_output;              // by name; "": the model's first
  std::string labels;                     // classify, text
  std::string characters, blank, layout;  // text
  std::string score_command;              // command
  std::optional<double> score_timeout;    // seconds
  std::string preprocess;

  // --task, what each task needs, --preprocess; `candidate_decoder` too where `with_candidate`.
  void AddTo(CLI::App& command, bool with_candidate);
  // Whether a task was named, by itself or by a flag that only one has.
  bool named() const { return !task.empty() || !score_command.empty(); }
  std::string Name() const { return !task.empty() ? task : score_command.empty() ? "tensor" : "command"; }
  // What tells two runs apart, for checkpoints.
  std::string Describe() const;
  // Flags that do not go together, before anything is loaded.
  Status Check() const;

  // What `octavo view` needs to segment pictures with a float encoder and its candidate; null where the task is
  // another.
  Json Live(const std::string& reference, const std::string& candidate) const;

  // Whether pictures only become the model's samples through an encoder.
  bool MakesSamples() const { return ForDecoder(); }

  // A folder as samples for `model`: pictures or arrays; for a mask decoder with --encoder, pictures of which the
  // encoder and the prompts will make samples.
  Result<Dataset> OpenPictures(const std::string& folder, const Graph& model) const;
  // Of pictures as OpenPictures gave them: the model's samples.
  Result<Dataset> ToSamples(const Dataset& pictures, const Graph& model, int threads) const;
  // The same with the task that asks about them.
  Result<JudgedSamples> ToJudged(const Dataset& pictures, const Graph& model, int threads) const;

 private:
  // A mask decoder whose samples an encoder makes.
  bool ForDecoder() const { return Name() == "segment" && !encoder.empty(); }
  void AddSegmentFlags(CLI::App& command, bool with_candidate);
  void AddReadingFlags(CLI::App& command);
  void AddCommandFlags(CLI::App& command);
  Result<std::unique_ptr<Task>> MakeSegment(const Dataset& pictures, const Graph& model, int threads) const;
  Result<std::unique_ptr<Task>> MakeReading(const Dataset& samples, const Graph& model) const;
  Result<std::unique_ptr<Task>> MakeCommand(const Dataset& samples, const Graph& model) const;
  Result<Graph> LoadDecoder(const std::string& path) const;
  Result<SegmentTaskOptions> SegmentOptions(int threads) const;
};

// Runs `reference` over the samples, with a bar that is called `what`. Errors: Judge::Create's.
Result<Judge> OpenJudge(const Graph& reference, JudgedSamples judged, int threads,
                        const std::string& what = "running FP32");

}  // namespace octavo::cli
