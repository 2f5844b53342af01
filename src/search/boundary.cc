#include "search/boundary.h"

#include <algorithm>
#include <set>

#include "octavo/compare.h"
#include "search/suffix.h"

namespace octavo {
namespace {

// A session of a part, fed from boundary values.
class PartRunner {
 public:
  static Result<PartRunner> Create(GraphPart part, int threads) {
    PartRunner runner;
    runner.boundary_ = std::move(part.boundary);
    runner.outputs_ = std::move(part.outputs);
    SessionOptions options;
    options.threads = threads;
    OCTAVO_ASSIGN(Session session, Session::Create(std::move(part.graph), options));
    runner.session_ = std::make_unique<Session>(std::move(session));
    return runner;
  }

  Result<std::vector<Tensor>> Run(const std::map<std::string, Tensor>& values) {
    std::vector<Tensor> inputs;
    for (const std::string& name : boundary_) {
      const auto found = values.find(name);
      if (found == values.end()) return InternalError("value '" + name + "' was not kept");
      inputs.push_back(found->second);
    }
    return session_->Run(inputs);
  }
  const std::vector<size_t>& outputs() const { return outputs_; }

 private:
  PartRunner() = default;
  std::vector<std::string> boundary_;
  std::vector<size_t> outputs_;
  std::unique_ptr<Session> session_;
};

// All outputs of a changed graph: those that the change reaches are run, the others are known.
class ChangedRunner {
 public:
  static Result<ChangedRunner> Create(const Judge& judge, BoundaryValues& values, const Graph& base,
                                      const Graph& changed, const std::string& node) {
    OCTAVO_ASSIGN(GraphPart part, CutSuffix(changed, {node}));
    OCTAVO_ASSIGN(PartRunner runner, PartRunner::Create(std::move(part), judge.threads()));
    return ChangedRunner(values, base, std::move(runner));
  }

  Result<std::vector<Tensor>> Run(size_t sample) {
    OCTAVO_ASSIGN(const auto* kept, values_.Values(sample));
    OCTAVO_ASSIGN(const std::vector<Tensor> made, runner_.Run(*kept));
    std::vector<Tensor> outputs;
    for (const ValueId output : base_.outputs) outputs.push_back(kept->at(base_.value(output).name));
    for (size_t i = 0; i < made.size(); ++i) outputs[runner_.outputs()[i]] = made[i];
    return outputs;
  }

 private:
  ChangedRunner(BoundaryValues& values, const Graph& base, PartRunner runner)
      : values_(values), base_(base), runner_(std::move(runner)) {}

  BoundaryValues& values_;
  const Graph& base_;
  PartRunner runner_;
};

int64_t BytesOf(const Graph& graph, const std::string& name) {
  const Value& value = graph.value(graph.Find(name));
  return ElementCount(value.dims) * static_cast<int64_t>(SizeOf(value.dtype));
}

// Jobs whose boundary fits into the memory together.
struct JobGroup {
  size_t begin = 0, end = 0;
  std::set<std::string> names;
  int64_t bytes = 0;  // per sample
};

Result<std::vector<JobGroup>> GroupJobs(const Graph& base, int64_t bytes_per_sample, std::span<const LayerJob> jobs) {
  std::vector<JobGroup> groups;
  for (size_t i = 0; i < jobs.size(); ++i) {
    OCTAVO_ASSIGN(const GraphPart part, CutSuffix(base, {jobs[i].node}));
    const auto added = [&](const JobGroup& group) {
      int64_t bytes = 0;
      for (const std::string& name : part.boundary) bytes += group.names.count(name) > 0 ? 0 : BytesOf(base, name);
      return bytes;
    };
    if (groups.empty() || groups.back().bytes + added(groups.back()) > bytes_per_sample)
      groups.push_back({i, i, {}, 0});
    JobGroup& group = groups.back();
    group.bytes += added(group);
    group.names.insert(part.boundary.begin(), part.boundary.end());
    group.end = i + 1;
  }
  return groups;
}

}  // namespace

Result<BoundaryValues> BoundaryValues::Create(const Graph& base, std::vector<std::string> names, const Judge& judge,
                                              size_t samples, bool keep) {
  BoundaryValues values;
  values.judge_ = &judge;
  SessionOptions options;
  options.threads = judge.threads();
  for (std::string& name : names) {
    const ValueId id = base.Find(name);
    if (id == kNoValue) return NotFound("the graph has no value '" + name + "'");
    if (!base.IsInput(id) && !base.IsOutput(id)) options.observed.push_back(std::move(name));
  }
  OCTAVO_ASSIGN(Session session, Session::Create(base, options));
  values.session_ = std::make_unique<Session>(std::move(session));
  for (size_t i = 0; keep && i < std::min(samples, judge.size()); ++i) {
    OCTAVO_ASSIGN(auto made, values.Run(i));
    values.kept_.push_back(std::move(made));
  }
  if (keep) values.session_.reset();
  return values;
}

Result<std::map<std::string, Tensor>> BoundaryValues::Run(size_t sample) {
  OCTAVO_ASSIGN(auto values, judge_->Inputs(sample));
  OCTAVO_ASSIGN(std::vector<Tensor> outputs, session_->Run(values));
  for (size_t i = 0; i < outputs.size(); ++i) values[session_->output_names()[i]] = std::move(outputs[i]);
  return values;
}

Result<const std::map<std::string, Tensor>*> BoundaryValues::Values(size_t sample) {
  if (sample < kept_.size()) return &kept_[sample];
  if (sample != current_sample_) {
    OCTAVO_ASSIGN(current_, Run(sample));
    current_sample_ = sample;
  }
  return &current_;
}

Status RunLayerJobs(const Graph& base, const Judge& judge, size_t samples, int64_t memory_bytes,
                    std::span<const LayerJob> jobs) {
  const int64_t bytes_per_sample =
      memory_bytes / std::max<int64_t>(1, static_cast<int64_t>(std::min(samples, judge.size())));
  OCTAVO_ASSIGN(const std::vector<JobGroup> groups, GroupJobs(base, bytes_per_sample, jobs));
  for (const JobGroup& group : groups) {
    const bool keep = group.bytes <= bytes_per_sample;
    OCTAVO_ASSIGN(BoundaryValues values,
                  BoundaryValues::Create(base, {group.names.begin(), group.names.end()}, judge, samples, keep));
    for (size_t i = group.begin; i < group.end; ++i) OCTAVO_RETURN_IF_ERROR(jobs[i].run(values));
  }
  return {};
}

Result<Verdict> ScoreChanged(const Judge& judge, BoundaryValues& values, const Graph& base, const Graph& changed,
                             const std::string& node) {
  OCTAVO_ASSIGN(ChangedRunner runner, ChangedRunner::Create(judge, values, base, changed, node));
  return judge.Score([&](size_t sample) { return runner.Run(sample); });
}

Result<double> NoiseOfChanged(const Judge& judge, BoundaryValues& values, const Graph& base, const Graph& changed,
                              const std::string& node, size_t samples) {
  OCTAVO_ASSIGN(ChangedRunner runner, ChangedRunner::Create(judge, values, base, changed, node));
  return judge.Noise([&](size_t sample) { return runner.Run(sample); }, samples);
}

Result<double> LocalSqnr(const Judge& judge, BoundaryValues& values, const Graph& base, const Graph& changed,
                         const std::string& node) {
  OCTAVO_ASSIGN(GraphPart exact_part, CutNode(base, node));
  OCTAVO_ASSIGN(GraphPart changed_part, CutNode(changed, node));
  OCTAVO_ASSIGN(PartRunner exact, PartRunner::Create(std::move(exact_part), judge.threads()));
  OCTAVO_ASSIGN(PartRunner noisy, PartRunner::Create(std::move(changed_part), judge.threads()));
  TensorComparison comparison;
  for (size_t i = 0; i < judge.size(); ++i) {
    OCTAVO_ASSIGN(const auto* kept, values.Values(i));
    OCTAVO_ASSIGN(const auto expected, exact.Run(*kept));
    OCTAVO_ASSIGN(const auto found, noisy.Run(*kept));
    OCTAVO_RETURN_IF_ERROR(comparison.Add(expected[0], found[0]));
  }
  return comparison.difference().sqnr_db;
}

}  // namespace octavo
