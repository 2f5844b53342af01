#include "octavo/session.h"

#include <fmt/format.h>
#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <list>
#include <set>

#include "base/parallel.h"
#include "engine/canonical.h"
#include "engine/named_inputs.h"
#include "engine/onednn.h"
#include "engine/plan.h"
#include "graph/op_table.h"
#include "graph/shape_inference.h"
#include "octavo/tuning.h"

namespace octavo {

namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// OpenMP's thread count for the scope: oneDNN asks for it when primitives are made and when they run.
class ThreadCount {
 public:
  explicit ThreadCount(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~ThreadCount() { omp_set_num_threads(before_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int before_;
};

// Denormals to zero, on every thread of the pool, for the scope. Tails of GELU and softmax are full of denormals, and
// each costs over a hundred cycles: a convolution on them was measured four times slower. What is lost lies below
// 1.2e-38.
class FlushDenormals {
 public:
  explicit FlushDenormals(int threads) : threads_(threads), before_(_mm_getcsr()) { Set(before_ | kFlushAndZero); }
  ~FlushDenormals() { Set(before_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  static constexpr unsigned kFlushAndZero = 0x8040;
  void Set(unsigned csr) const {
    _mm_setcsr(csr);
    // One part per thread: each thread of the team sets its own.
    ParallelFor(threads_, threads_, 1, [csr](int64_t, int64_t) { _mm_setcsr(csr); });
  }
  int threads_;
  unsigned before_;
};

struct AlignedDelete {
  void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{64}); }
};
using Arena = std::unique_ptr<std::byte[], AlignedDelete>;

std::string ShapesKey(const std::vector<Dims>& dims) {
  std::string key;
  for (const auto& d : dims) key += ToString(d) + ";";
  return key;
}

}  // namespace

struct Session::Impl {
  struct Compiled {
    std::string key;
    std::vector<Dims> input_dims;
    // By input: the value that the plan was made for, where shapes depend on it; undefined elsewhere.
    std::vector<Tensor> input_values;
    std::vector<size_t> plan_inputs;  // which of the session's inputs the plan reads, in the plan's order
    std::unique_ptr<Plan> plan;
    Arena arena;

    bool IsFor(std::span<const Tensor> given) const {
      for (size_t i = 0; i < given.size(); ++i) {
        if (input_dims[i] != given[i].dims()) return false;
        const Tensor& value = input_values[i];
        if (value.defined() && value.bytes() > 0 && std::memcmp(value.data(), given[i].data(), value.bytes()) != 0) {
          return false;
        }
      }
      return true;
    }
    bool IsFor(const std::vector<Dims>& dims) const {
      return input_dims == dims && plan_inputs.size() == input_dims.size();
    }
  };
  // Plans kept at a time; a decoder that sees many prompt counts stays bounded.
  static constexpr size_t kMaxPlans = 8;

  Graph graph;
  SessionOptions options;
  std::vector<Value> inputs;
  std::vector<std::string> output_names;
  std::shared_ptr<PackedWeights> weights = std::make_shared<PackedWeights>();  // with duplicates
  std::list<Compiled> plans;                                                   // most recently used first
  std::set<std::string> by_value;  // inputs that shapes depend on, as far as they are known
  PlanInfo no_plan;

  // `inputs`: either the inputs' shapes or the inputs.
  template <typename Inputs>
  Result<Compiled*> Find(const Inputs& given) {
    for (auto it = plans.begin(); it != plans.end(); ++it) {
      if (!it->IsFor(given)) continue;
      plans.splice(plans.begin(), plans, it);
      return &plans.front();
    }
    OCTAVO_ASSIGN(Compiled compiled, Compile(given));
    if (plans.size() >= kMaxPlans) plans.pop_back();
    plans.push_front(std::move(compiled));
    return &plans.front();
  }

  Result<Compiled> Compile(const std::vector<Dims>& input_dims) {
    const auto start = Clock::now();
    const ThreadCount scope(options.threads);
    if (input_dims.size() != inputs.size()) {
      return InvalidArgument(fmt::format("{} shapes were given, the model has {} inputs: {}", input_dims.size(),
                                         inputs.size(), DescribeInputs(inputs)));
    }
    std::map<std::string, Dims> bindings;
    for (size_t i = 0; i < inputs.size(); ++i) bindings[inputs[i].name] = input_dims[i];
    Graph bound = graph;
    OCTAVO_RETURN_IF_ERROR(BindShapes(bound, bindings));
    return CompileBound(std::move(bound), input_dims, start);
  }

  Result<Compiled> Compile(std::span<const Tensor> given) {
    const auto start = Clock::now();
    const ThreadCount scope(options.threads);
    std::map<std::string, Tensor> bindings;
    std::vector<Dims> input_dims;
    for (size_t i = 0; i < inputs.size(); ++i) {
      bindings[inputs[i].name] = given[i];
      input_dims.push_back(given[i].dims());
    }
    Graph bound = graph;
    OCTAVO_RETURN_IF_ERROR(BindShapesByValue(bound, bindings, by_value));
    return CompileBound(std::move(bound), input_dims, start);
  }

  Result<Compiled> CompileBound(Graph bound, const std::vector<Dims>& input_dims, Clock::time_point start) {
    Compiled compiled;
    compiled.key = ShapesKey(input_dims);
    compiled.input_dims = input_dims;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const ValueId id = bound.Find(inputs[i].name);
      compiled.input_values.push_back(bound.value(id).constant);
      if (!bound.value(id).is_constant()) compiled.plan_inputs.push_back(i);
    }
    const int64_t contraction_macs = CountContractionMacs(bound);
    PassOptions pass_options;
    pass_options.disabled = options.disabled_passes;
    OCTAVO_ASSIGN(std::vector<PassReport> passes,
                  MakeCanonical(bound, pass_options, options.precision, options.float32_nodes));
    OCTAVO_ASSIGN(compiled.plan, CompilePlan(std::move(bound),
                                             {options.threads, options.precision, options.watched.size(),
                                              &options.watch, options.tuning.get()},
                                             *weights));
    if (options.tuning) OCTAVO_RETURN_IF_ERROR(options.tuning->Save());
    Plan& plan = *compiled.plan;
    const auto bytes = static_cast<size_t>(std::max<int64_t>(64, plan.arena_bytes));
    compiled.arena = Arena(static_cast<std::byte*>(::operator new[](bytes, std::align_val_t{64}, std::nothrow)));
    if (compiled.arena == nullptr) return NoMemory(plan, bytes);
    Resolve(plan, compiled.arena.get());
    plan.info.passes = std::move(passes);
    plan.info.contraction_macs = contraction_macs;
    plan.info.weight_bytes = weights->bytes();
    plan.info.compile_seconds = SecondsSince(start);
    return compiled;
  }

  static Status NoMemory(const Plan& plan, size_t bytes) {
    const auto elements = [](const StepInfo& step) { return ElementCount(step.output_dims); };
    const auto largest =
        std::max_element(plan.info.steps.begin(), plan.info.steps.end(),
                         [&](const StepInfo& a, const StepInfo& b) { return elements(a) < elements(b); });
    std::string message = fmt::format("no memory for {} MB of activations", bytes >> 20);
    if (largest != plan.info.steps.end()) {
      message += fmt::format("; the largest, {}, is made by {} '{}'", ToString(largest->output_dims), largest->op,
                             largest->node);
    }
    return IoError(std::move(message));
  }

  static int64_t CountContractionMacs(const Graph& bound) {
    int64_t macs = 0;
    for (const Node& node : bound.nodes) {
      const OpTraits* traits = FindOp(node.domain, node.op);
      if (!node.removed && traits != nullptr && traits->op_class == OpClass::kContraction)
        macs += CountMacs(bound, node);
    }
    return macs;
  }

  static void Resolve(Plan& plan, std::byte* arena) {
    plan.input_pointers.resize(plan.steps.size());
    plan.output_pointers.resize(plan.steps.size());
    for (size_t s = 0; s < plan.steps.size(); ++s) {
      auto resolve = [&](const Slot& slot, int operand, bool is_output) -> void* {
        if (slot.buffer < 0) return nullptr;
        const Buffer& buffer = plan.buffers[static_cast<size_t>(slot.buffer)];
        switch (buffer.kind) {
          case Buffer::Kind::kArena:
            return arena + buffer.place + slot.offset;
          case Buffer::Kind::kConstant:
            return const_cast<std::byte*>(static_cast<const std::byte*>(buffer.data)) + slot.offset;
          default:
            plan.externals.push_back({static_cast<int>(s), operand, is_output, slot});
            return nullptr;
        }
      };
      const Step& step = plan.steps[s];
      for (size_t i = 0; i < step.inputs.size(); ++i)
        plan.input_pointers[s].push_back(resolve(step.inputs[i], static_cast<int>(i), false));
      for (size_t i = 0; i < step.outputs.size(); ++i)
        plan.output_pointers[s].push_back(resolve(step.outputs[i], static_cast<int>(i), true));
    }
  }

  // The plan for the inputs' shapes; no allocation when it is the one used last.
  Result<Compiled*> FindFor(std::span<const Tensor> given) {
    OCTAVO_RETURN_IF_ERROR(CheckInputs(inputs, given));
    if (!plans.empty() && plans.front().IsFor(given)) return &plans.front();
    return Find(given);
  }

  static int64_t NanosecondsBetween(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(to - from).count();
  }

  Status Execute(Compiled& compiled, std::span<const Tensor> given, std::span<Tensor> outputs, RunProfile* profile) {
    Plan& plan = *compiled.plan;
    if (profile != nullptr) {
      profile->steps.resize(plan.steps.size());
      profile->start = Clock::now();
    }
    for (const auto& external : plan.externals) {
      const Buffer& buffer = plan.buffers[static_cast<size_t>(external.slot.buffer)];
      const auto index = static_cast<size_t>(buffer.external);
      auto* base = static_cast<std::byte*>(buffer.kind == Buffer::Kind::kInput
                                               ? const_cast<void*>(given[compiled.plan_inputs[index]].data())
                                               : outputs[index].mutable_data());
      void* pointer = base + external.slot.offset;
      const auto s = static_cast<size_t>(external.step), o = static_cast<size_t>(external.operand);
      if (external.output_operand) {
        plan.output_pointers[s][o] = pointer;
      } else {
        plan.input_pointers[s][o] = pointer;
      }
    }
    const ThreadCount scope(options.threads);
    const FlushDenormals flush(options.threads);
    void* scratch = compiled.arena.get() + plan.scratch_offset;
    for (size_t s = 0; s < plan.steps.size(); ++s) {
      if (profile != nullptr) profile->steps[s].begin_ns = NanosecondsBetween(profile->start, Clock::now());
      Status status =
          plan.steps[s].kernel.run({plan.input_pointers[s].data(), plan.output_pointers[s].data(), scratch});
      if (!status.ok())
        return status.WithPrefix(fmt::format("{} '{}': ", plan.steps[s].info.op, plan.steps[s].info.node));
      if (profile != nullptr) profile->steps[s].end_ns = NanosecondsBetween(profile->start, Clock::now());
    }
    if (profile != nullptr) profile->total_ns = NanosecondsBetween(profile->start, Clock::now());
    return {};
  }

  static Status CheckOutputs(const Plan& plan, const std::vector<std::string>& names, std::span<Tensor> outputs) {
    if (outputs.size() != plan.outputs.size()) {
      return InvalidArgument(
          fmt::format("{} outputs were given, the model has {}", outputs.size(), plan.outputs.size()));
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].dtype() == plan.outputs[i].dtype && outputs[i].dims() == plan.outputs[i].dims) continue;
      return InvalidArgument(fmt::format("output '{}' is {} {}, the tensor given is {} {}", names[i],
                                         NameOf(plan.outputs[i].dtype), ToString(plan.outputs[i].dims),
                                         NameOf(outputs[i].dtype()), ToString(outputs[i].dims())));
    }
    return {};
  }

  static Result<std::vector<Tensor>> NewOutputs(const Plan& plan) {
    std::vector<Tensor> outputs;
    for (const auto& info : plan.outputs) {
      OCTAVO_ASSIGN(Tensor tensor, Tensor::Create(info.dtype, info.dims));
      outputs.push_back(std::move(tensor));
    }
    return outputs;
  }
};

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

Result<Session> Session::Create(Graph graph, const SessionOptions& options) {
  OCTAVO_RETURN_IF_ERROR(CheckSupported(graph));
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  if (options.threads < 0)
    return InvalidArgument(fmt::format("threads is {}; it must be 0 (all cores) or more", options.threads));
  if (options.threads == 0) impl->options.threads = omp_get_num_procs();
  const auto known = PassNames();
  for (const auto& name : options.disabled_passes) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    std::string list;
    for (auto pass : known) list += (list.empty() ? "" : ", ") + std::string(pass);
    return InvalidArgument(fmt::format("there is no pass named '{}'; passes are: {}", name, list));
  }
  for (const auto& name : options.float32_nodes) {
    const bool there =
        std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) { return node.name == name; });
    if (!there) return NotFound(fmt::format("no node is named '{}' to be kept in float32", name));
  }
  for (ValueId input : graph.inputs) impl->inputs.push_back(graph.value(input));
  for (const auto& name : options.observed) {
    const ValueId value = graph.Find(name);
    if (value == kNoValue) return NotFound(fmt::format("no value is named '{}'", name));
    graph.outputs.push_back(value);
  }
  for (ValueId output : graph.outputs) impl->output_names.push_back(graph.value(output).name);
  if (!options.watched.empty() && !options.watch) return InvalidArgument("values are watched, but by nothing");
  for (const auto& name : options.watched) {
    const ValueId value = graph.Find(name);
    if (value == kNoValue) return NotFound(fmt::format("no value is named '{}'", name));
    graph.outputs.push_back(value);
  }
  impl->graph = std::move(graph);
  return Session(std::move(impl));
}

const std::vector<Value>& Session::inputs() const { return impl_->inputs; }
const std::vector<std::string>& Session::output_names() const { return impl_->output_names; }

Status Session::Prepare(const std::vector<Dims>& input_dims) {
  OCTAVO_ASSIGN([[maybe_unused]] auto* compiled, impl_->Find(input_dims));
  return {};
}

Status Session::Prepare(std::span<const Tensor> inputs) {
  OCTAVO_ASSIGN([[maybe_unused]] auto* compiled, impl_->FindFor(inputs));
  return {};
}

Result<std::vector<Session::OutputInfo>> Session::OutputInfos(const std::vector<Dims>& input_dims) {
  OCTAVO_ASSIGN(auto* compiled, impl_->Find(input_dims));
  return compiled->plan->outputs;
}

Result<std::vector<Tensor>> Session::Run(std::span<const Tensor> inputs) {
  OCTAVO_ASSIGN(auto* compiled, impl_->FindFor(inputs));
  OCTAVO_ASSIGN(std::vector<Tensor> outputs, Impl::NewOutputs(*compiled->plan));
  OCTAVO_RETURN_IF_ERROR(impl_->Execute(*compiled, inputs, outputs, nullptr));
  return outputs;
}

Result<std::vector<Tensor>> Session::Run(const std::map<std::string, Tensor>& inputs) {
  OCTAVO_ASSIGN(const std::vector<Tensor> ordered, OrderInputs(impl_->inputs, inputs));
  return Run(ordered);
}

Status Session::RunInto(std::span<const Tensor> inputs, std::span<Tensor> outputs, RunProfile* profile) {
  OCTAVO_ASSIGN(auto* compiled, impl_->FindFor(inputs));
  OCTAVO_RETURN_IF_ERROR(Impl::CheckOutputs(*compiled->plan, impl_->output_names, outputs));
  return impl_->Execute(*compiled, inputs, outputs, profile);
}

Status Session::Profile(std::span<const Tensor> inputs) {
  OCTAVO_ASSIGN(auto* compiled, impl_->FindFor(inputs));
  OCTAVO_ASSIGN(std::vector<Tensor> outputs, Impl::NewOutputs(*compiled->plan));
  RunProfile profile;
  OCTAVO_RETURN_IF_ERROR(impl_->Execute(*compiled, inputs, outputs, &profile));
  std::vector<StepInfo>& steps = compiled->plan->info.steps;
  for (size_t i = 0; i < steps.size(); ++i) {
    steps[i].milliseconds = 1e-6 * static_cast<double>(profile.steps[i].end_ns - profile.steps[i].begin_ns);
  }
  return {};
}

Session Session::Duplicate() const {
  auto impl = std::make_unique<Impl>();
  impl->graph = impl_->graph;
  impl->options = impl_->options;
  impl->inputs = impl_->inputs;
  impl->output_names = impl_->output_names;
  impl->weights = impl_->weights;
  impl->by_value = impl_->by_value;
  return Session(std::move(impl));
}

const PlanInfo& Session::plan() const {
  return impl_->plans.empty() ? impl_->no_plan : impl_->plans.front().plan->info;
}

}  // namespace octavo
