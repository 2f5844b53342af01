#include "octavo/session.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <thread>

#include "base/allocation_guard.h"
#include "graph/shape_inference.h"
#include "kernels/kernel.h"

namespace {
std::atomic<int64_t> allocations{0};

void* CountedAllocationOrNull(std::size_t bytes, std::size_t alignment) noexcept {
  if (!octavo::AllocationExemption::Active()) allocations.fetch_add(1, std::memory_order_relaxed);
  void* p = nullptr;
  const int failed = posix_memalign(&p, alignment < sizeof(void*) ? sizeof(void*) : alignment, bytes == 0 ? 1 : bytes);
  return failed == 0 ? p : nullptr;
}

void* CountedAllocation(std::size_t bytes, std::size_t alignment) {
  void* p = CountedAllocationOrNull(bytes, alignment);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
}  // namespace

// Every allocation of this test binary is counted; AllocationExemption leaves out those inside oneDNN's execute.
void* operator new(std::size_t bytes) { return CountedAllocation(bytes, 16); }
void* operator new[](std::size_t bytes) { return CountedAllocation(bytes, 16); }
void* operator new(std::size_t bytes, std::align_val_t a) {
  return CountedAllocation(bytes, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t bytes, std::align_val_t a) {
  return CountedAllocation(bytes, static_cast<std::size_t>(a));
}
// The forms that return null: left to a sanitizer's own, they would meet the deletes below as a mismatch.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return CountedAllocationOrNull(bytes, 16); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return CountedAllocationOrNull(bytes, 16); }
void* operator new(std::size_t bytes, std::align_val_t a, const std::nothrow_t&) noexcept {
  return CountedAllocationOrNull(bytes, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t bytes, std::align_val_t a, const std::nothrow_t&) noexcept {
  return CountedAllocationOrNull(bytes, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

namespace octavo {
namespace {

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  Tensor Normal(Dims dims, float scale = 1) {
    Tensor tensor = *Tensor::Create(DType::kFloat32, std::move(dims));
    std::normal_distribution<float> normal(0, scale);
    for (float& x : tensor.mutable_values<float>()) x = normal(engine_);
    return tensor;
  }
  int64_t Int(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine_); }

 private:
  std::mt19937 engine_;
};

// Builds a graph node by node; shapes are left to BindShapes.
struct Builder {
  Graph graph;
  explicit Builder(Dims input_dims) {
    graph.opsets[""] = 17;
    graph.inputs = {graph.AddValue("x", DType::kFloat32, std::move(input_dims))};
  }
  ValueId Constant(Tensor tensor) { return graph.AddConstant("c", std::move(tensor)); }
  ValueId Op(const char* op, std::vector<ValueId> inputs, std::map<std::string, Attribute> attributes = {}) {
    const ValueId out = graph.AddValue("v");
    graph.AddNode(op, "", op, std::move(inputs), {out}, std::move(attributes));
    return out;
  }
  void Output(ValueId value) { graph.outputs.push_back(value); }
};

double SqnrDb(const Tensor& reference, const Tensor& tensor) {
  double signal = 0, noise = 0;
  for (int64_t i = 0; i < reference.size(); ++i) {
    const double r = reference.values<float>()[static_cast<size_t>(i)],
                 d = r - tensor.values<float>()[static_cast<size_t>(i)];
    signal += r * r;
    noise += d * d;
  }
  return 10 * std::log10(signal / std::max(noise, 1e-300));
}

// Runs `graph` through the engine and through the slow reference.
double EngineSqnr(const Graph& graph, const Tensor& input, const SessionOptions& options = {}) {
  auto session = Session::Create(graph, options);
  EXPECT_TRUE(session.ok()) << session.status().message();
  auto outputs = session->Run(std::vector<Tensor>{input});
  EXPECT_TRUE(outputs.ok()) << outputs.status().message();
  auto expected = EvaluateGraph(graph, std::vector<Tensor>{input});
  EXPECT_TRUE(expected.ok()) << expected.status().message();
  if (!outputs.ok() || !expected.ok()) return 0;
  double worst = 1000;
  for (size_t i = 0; i < expected->size(); ++i) {
    EXPECT_EQ((*outputs)[i].dims(), (*expected)[i].dims());
    worst = std::min(worst, SqnrDb((*expected)[i], (*outputs)[i]));
  }
  return worst;
}

// One MBConv with a residual, a skip through Concat, and a Resize: what the encoders are made of.
Graph SmallNetwork(Random& random) {
  Builder b({1, 3, 20, 28});
  const auto conv = [&](ValueId x, int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t group) {
    const ValueId w = b.Constant(random.Normal(
        {out, in / group, kernel, kernel},
        1 / std::sqrt(static_cast<float>(in) / static_cast<float>(group) * static_cast<float>(kernel * kernel))));
    const ValueId bias = b.Constant(random.Normal({out}, 0.1f));
    const int64_t pad = kernel / 2;
    return b.Op("Conv", {x, w, bias},
                {{"strides", std::vector<int64_t>{stride, stride}},
                 {"pads", std::vector<int64_t>{pad, pad, pad, pad}},
                 {"group", group}});
  };
  const ValueId stem = b.Op("Relu", {conv(b.graph.inputs[0], 3, 16, 3, 2, 1)});
  const ValueId expanded = b.Op("HardSwish", {conv(stem, 16, 64, 1, 1, 1)});
  const ValueId deep = b.Op("HardSwish", {conv(expanded, 64, 64, 3, 1, 64)});
  const ValueId block = b.Op("Add", {stem, conv(deep, 64, 16, 1, 1, 1)});
  const ValueId both = b.Op("Concat", {block, stem}, {{"axis", int64_t{1}}});
  const ValueId flat = b.Op("Reshape", {both, b.Constant(Tensor::FromVector<int64_t>({3}, {1, 32, -1}))});
  const ValueId tokens = b.Op("Transpose", {flat}, {{"perm", std::vector<int64_t>{0, 2, 1}}});
  const ValueId linear = b.Op("MatMul", {tokens, b.Constant(random.Normal({32, 24}, 0.2f))});
  const ValueId biased = b.Op("Add", {b.Constant(random.Normal({24}, 0.1f)), linear});
  const ValueId scores = b.Op(
      "Softmax", {b.Op("MatMul", {biased, b.Op("Transpose", {biased}, {{"perm", std::vector<int64_t>{0, 2, 1}}})})},
      {{"axis", int64_t{-1}}});
  b.Output(b.Op("MatMul", {scores, biased}));
  b.Output(block);
  return std::move(b.graph);
}

TEST(Session, AgreesWithTheReference) {
  Random random(1);
  const Graph graph = SmallNetwork(random);
  // Float32 with sums of up to 576 products: rounding of 2^-24 relative per operation leaves well over 110 dB.
  EXPECT_GT(EngineSqnr(graph, random.Normal({1, 3, 20, 28})), 110);
}

TEST(Session, AgreesWithTheReferenceInBFloat16) {
  Random random(2);
  const Graph graph = SmallNetwork(random);
  SessionOptions options;
  options.precision = Precision::kBFloat16;
  const double sqnr = EngineSqnr(graph, random.Normal({1, 3, 20, 28}), options);
  // Rounding to 8 bits of mantissa is uniform noise of 2^-9/sqrt(3) relative at most: 59 dB for one rounding, and some
  // thirty of them add up here. Below 40 dB something rounds that should not; above 75 nothing was rounded.
  EXPECT_GT(sqnr, 40);
  EXPECT_LT(sqnr, 75);
}

TEST(Session, RepeatsItsBits) {
  Random random(3);
  const Graph graph = SmallNetwork(random);
  const Tensor input = random.Normal({1, 3, 20, 28});
  SessionOptions options;
  options.threads = 1;
  auto a = Session::Create(graph, options), b = Session::Create(graph, options);
  ASSERT_TRUE(a.ok() && b.ok());
  auto first = a->Run(std::vector<Tensor>{input}), again = a->Run(std::vector<Tensor>{input}),
       other = b->Run(std::vector<Tensor>{input});
  ASSERT_TRUE(first.ok() && again.ok() && other.ok());
  for (size_t i = 0; i < first->size(); ++i) {
    EXPECT_EQ(std::memcmp((*first)[i].data(), (*again)[i].data(), (*first)[i].bytes()), 0);
    EXPECT_EQ(std::memcmp((*first)[i].data(), (*other)[i].data(), (*first)[i].bytes()), 0);
  }
}

TEST(Session, AllocatesNothingInTheSteadyState) {
#ifdef OCTAVO_STD_THREADS
  GTEST_SKIP() << "under ThreadSanitizer every parallel loop starts threads of its own, which allocates";
#endif
  Random random(4);
  for (const Precision precision : {Precision::kFloat32, Precision::kBFloat16}) {
    SessionOptions options;
    options.precision = precision;
    options.threads = 2;
    auto session = Session::Create(SmallNetwork(random), options);
    ASSERT_TRUE(session.ok());
    const std::vector<Tensor> inputs = {random.Normal({1, 3, 20, 28})};
    auto outputs = session->Run(inputs);
    ASSERT_TRUE(outputs.ok()) << outputs.status().message();
    // Two runs for OpenMP's team and oneDNN's lazily made thread state.
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(session->RunInto(inputs, *outputs).ok());
    const int64_t before = allocations.load();
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(session->RunInto(inputs, *outputs).ok());
    EXPECT_EQ(allocations.load() - before, 0);
  }
}

TEST(Session, ProfilesARunWithoutAllocating) {
  Random random(4);
  const Graph graph = SmallNetwork(random);
  SessionOptions options;
  options.threads = 2;
  auto session = Session::Create(graph, options);
  ASSERT_TRUE(session.ok());
  const std::vector<Tensor> inputs{random.Normal({1, 3, 20, 28})};
  auto outputs = session->Run(inputs);
  ASSERT_TRUE(outputs.ok());
  const std::vector<float> plain((*outputs)[0].values<float>().begin(), (*outputs)[0].values<float>().end());
  RunProfile profile;
  ASSERT_TRUE(session->RunInto(inputs, *outputs, &profile).ok());
  const int64_t before = allocations.load();
  ASSERT_TRUE(session->RunInto(inputs, *outputs, &profile).ok());
#ifndef OCTAVO_STD_THREADS  // whose parallel loops start threads
  EXPECT_EQ(allocations.load() - before, 0);
#endif
  const auto values = (*outputs)[0].values<float>();
  EXPECT_EQ(std::memcmp(values.data(), plain.data(), plain.size() * sizeof(float)), 0);
  ASSERT_EQ(profile.steps.size(), session->plan().steps.size());
  int64_t last = 0;
  for (const StepSpan& span : profile.steps) {
    EXPECT_GE(span.begin_ns, last);
    EXPECT_GT(span.end_ns, span.begin_ns);
    last = span.end_ns;
  }
  EXPECT_GE(profile.total_ns, last);
  EXPECT_LT(last, 60'000'000'000);
}

// What a step reads and writes: the stem's picture and weights, and its 16 channels at half the size, in float32.
TEST(Session, StepsCountTheirBytes) {
  Random random(4);
  auto session = Session::Create(SmallNetwork(random));
  ASSERT_TRUE(session.ok());
  ASSERT_TRUE(session->Prepare({Dims{1, 3, 20, 28}}).ok());
  const auto& steps = session->plan().steps;
  const auto stem =
      std::find_if(steps.begin(), steps.end(), [](const StepInfo& step) { return step.op.starts_with("Conv"); });
  ASSERT_NE(stem, steps.end());
  EXPECT_EQ(stem->bytes_read, 4 * (3 * 20 * 28 + 16 * 3 * 9));
  EXPECT_EQ(stem->bytes_written, 4 * 16 * 10 * 14);
}

TEST(Session, DuplicatesRunBesideEachOtherOnSharedWeights) {
  Random random(5);
  const Graph graph = SmallNetwork(random);
  SessionOptions options;
  options.threads = 1;
  auto session = Session::Create(graph, options);
  ASSERT_TRUE(session.ok());
  const std::vector<Tensor> inputs{random.Normal({1, 3, 20, 28})};
  const auto expected = session->Run(inputs);
  ASSERT_TRUE(expected.ok());
  const int64_t weight_bytes = session->plan().weight_bytes;
  EXPECT_GT(weight_bytes, 0);
  std::vector<Session> duplicates;
  for (int i = 0; i < 3; ++i) duplicates.push_back(session->Duplicate());
  session = InternalError("destroyed before its duplicates run");
  std::atomic<int> equal{0};
  std::vector<std::thread> threads;
  for (Session& duplicate : duplicates) {
    threads.emplace_back([&] {
      for (int run = 0; run < 5; ++run) {
        const auto outputs = duplicate.Run(inputs);
        equal += outputs.ok() && std::memcmp((*outputs)[0].data(), (*expected)[0].data(), (*expected)[0].bytes()) == 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(equal, 15);
  for (const Session& duplicate : duplicates) EXPECT_EQ(duplicate.plan().weight_bytes, weight_bytes) << "packed once";
}

TEST(Session, PlansForEveryShape) {
  Builder b({-1, 3, -1, -1});
  Random random(5);
  const ValueId w = b.Constant(random.Normal({8, 3, 3, 3}, 0.2f));
  b.Output(b.Op("Relu", {b.Op("Conv", {b.graph.inputs[0], w},
                              {{"auto_pad", std::string("SAME_UPPER")}, {"strides", std::vector<int64_t>{2, 2}}})}));
  auto session = Session::Create(b.graph);
  ASSERT_TRUE(session.ok());
  for (const auto& dims : {Dims{1, 3, 8, 8}, Dims{2, 3, 9, 13}, Dims{1, 3, 8, 8}}) {
    const Tensor input = random.Normal(dims);
    auto outputs = session->Run(std::vector<Tensor>{input});
    ASSERT_TRUE(outputs.ok()) << outputs.status().message();
    const auto expected = EvaluateGraph(b.graph, std::vector<Tensor>{input});
    ASSERT_TRUE(expected.ok()) << expected.status().message();
    // Sums of 27 products in float32.
    EXPECT_GT(SqnrDb((*expected)[0], (*outputs)[0]), 120) << ToString(dims);
  }
}

TEST(Session, ObservedValuesAreReturnedAndNotFused) {
  Random random(6);
  Builder b({1, 4, 6, 6});
  const ValueId conv = b.Op("Conv", {b.graph.inputs[0], b.Constant(random.Normal({4, 4, 1, 1}))});
  b.Output(b.Op("Relu", {conv}));
  SessionOptions options;
  options.observed = {b.graph.value(conv).name};
  auto session = Session::Create(b.graph, options);
  ASSERT_TRUE(session.ok());
  auto outputs = session->Run(std::vector<Tensor>{random.Normal({1, 4, 6, 6})});
  ASSERT_TRUE(outputs.ok()) << outputs.status().message();
  ASSERT_EQ(outputs->size(), 2u);
  for (size_t i = 0; i < 144; ++i)
    EXPECT_EQ((*outputs)[0].values<float>()[i], std::max(0.0f, (*outputs)[1].values<float>()[i]));
}

TEST(Session, WatchedValuesAreHandedOverAndNotReturned) {
  Random random(8);
  Builder b({1, 4, 6, 6});
  const ValueId conv = b.Op("Conv", {b.graph.inputs[0], b.Constant(random.Normal({4, 4, 1, 1}))});
  b.Output(b.Op("Relu", {conv}));
  SessionOptions options;
  options.watched = {b.graph.value(conv).name, b.graph.value(b.graph.inputs[0]).name};
  std::vector<std::vector<float>> seen(2);
  options.watch = [&](size_t index, const TensorView& view) {
    ASSERT_EQ(view.dtype, DType::kFloat32);
    ASSERT_EQ(view.dims, (Dims{1, 4, 6, 6}));
    for (int64_t c = 0; c < 4; ++c) {
      for (int64_t h = 0; h < 6; ++h) {
        for (int64_t w = 0; w < 6; ++w) {
          seen[index].push_back(
              static_cast<const float*>(view.data)[c * view.strides[1] + h * view.strides[2] + w * view.strides[3]]);
        }
      }
    }
  };
  auto session = Session::Create(b.graph, options);
  ASSERT_TRUE(session.ok());
  const Tensor input = random.Normal({1, 4, 6, 6});
  auto outputs = session->Run(std::vector<Tensor>{input});
  ASSERT_TRUE(outputs.ok()) << outputs.status().message();
  ASSERT_EQ(outputs->size(), 1u);
  ASSERT_EQ(seen[0].size(), 144u);
  ASSERT_EQ(seen[1].size(), 144u);
  for (size_t i = 0; i < 144; ++i) {
    EXPECT_EQ((*outputs)[0].values<float>()[i], std::max(0.0f, seen[0][i]));
    EXPECT_EQ(input.values<float>()[i], seen[1][i]);
  }
}

TEST(Session, SaysWhatIsWrong) {
  Random random(7);
  auto session = Session::Create(SmallNetwork(random));
  ASSERT_TRUE(session.ok());
  auto wrong_type = session->Run(std::vector<Tensor>{*Tensor::Zeros(DType::kInt64, {1, 3, 20, 28})});
  ASSERT_FALSE(wrong_type.ok());
  EXPECT_NE(wrong_type.status().message().find("'x' is int64"), std::string::npos);
  auto wrong_shape = session->Run(std::vector<Tensor>{random.Normal({1, 3, 21, 28})});
  ASSERT_FALSE(wrong_shape.ok());
  EXPECT_NE(wrong_shape.status().message().find("'x'"), std::string::npos);
  SessionOptions options;
  options.disabled_passes = {"no-such-pass"};
  EXPECT_NE(Session::Create(SmallNetwork(random), options).status().message().find("no-such-pass"), std::string::npos);
}

// relu(x) reshaped to the shape that is the second input.
Graph ReshapedByInput() {
  Graph graph;
  graph.opsets[""] = 17;
  const ValueId x = graph.AddValue("x", DType::kFloat32, {-1, -1});
  const ValueId shape = graph.AddValue("shape", DType::kInt64, {-1});
  const ValueId relu = graph.AddValue("relu"), y = graph.AddValue("y", DType::kFloat32);
  graph.inputs = {x, shape};
  graph.outputs = {y};
  graph.AddNode("relu", "", "Relu", {x}, {relu});
  graph.AddNode("reshape", "", "Reshape", {relu, shape}, {y});
  return graph;
}

TEST(Session, PlansForTheValuesThatShapesDependOn) {
  auto session = Session::Create(ReshapedByInput());
  ASSERT_TRUE(session.ok());
  const Tensor x = Tensor::FromVector<float>({2, 3}, {1, -2, 3, -4, 5, -6});
  for (const Dims& dims : {Dims{3, 2}, Dims{6}, Dims{3, 2}, Dims{1, 6}}) {
    const auto rank = static_cast<int64_t>(dims.size());
    const auto outputs = session->Run(std::vector<Tensor>{x, Tensor::FromVector<int64_t>({rank}, dims)});
    ASSERT_TRUE(outputs.ok()) << outputs.status().message();
    EXPECT_EQ((*outputs)[0].dims(), dims);
    const auto values = (*outputs)[0].values<float>();
    EXPECT_EQ(std::vector<float>(values.begin(), values.end()), (std::vector<float>{1, 0, 3, 0, 5, 0}));
  }
  const auto wrong = session->Run(std::vector<Tensor>{x, Tensor::FromVector<int64_t>({1}, {7})});
  ASSERT_FALSE(wrong.ok());
  EXPECT_NE(wrong.status().message().find("Reshape 'reshape'"), std::string::npos) << wrong.status().message();
}

TEST(Session, ReadsTheInputsThatItDidNotPlanFor) {
  auto session = Session::Create(ReshapedByInput());
  ASSERT_TRUE(session.ok());
  const Tensor shape = Tensor::FromVector<int64_t>({1}, {2});
  for (const float value : {1.0f, 2.0f}) {
    const auto outputs = session->Run(std::vector<Tensor>{Tensor::FromVector<float>({1, 2}, {value, -1}), shape});
    ASSERT_TRUE(outputs.ok()) << outputs.status().message();
    EXPECT_EQ((*outputs)[0].values<float>()[0], value);
  }
}

TEST(Session, SaysWhichNodeAsksForValuesThatShapesDoNotTell) {
  auto session = Session::Create(ReshapedByInput());
  ASSERT_TRUE(session.ok());
  const Status status = session->Prepare({Dims{2, 3}, Dims{1}});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.code(), ErrorCode::kUnsupported);
  EXPECT_NE(status.message().find("Reshape 'reshape'"), std::string::npos) << status.message();
}

// Which elements a NonZero picks is computed from the data itself, by way of an op.
TEST(Session, RunsNodesWhoseShapeIsInTheData) {
  Graph graph;
  graph.opsets[""] = 17;
  const ValueId x = graph.AddValue("x", DType::kFloat32, {4});
  const ValueId relu = graph.AddValue("relu"), y = graph.AddValue("y", DType::kInt64);
  graph.inputs = {x};
  graph.outputs = {y};
  graph.AddNode("relu", "", "Relu", {x}, {relu});
  graph.AddNode("where", "", "NonZero", {relu}, {y});
  auto session = Session::Create(std::move(graph));
  ASSERT_TRUE(session.ok());
  const std::pair<std::vector<float>, std::vector<int64_t>> cases[] = {{{0, 1, -1, 2}, {1, 3}}, {{-1, -1, 4, 0}, {2}}};
  for (const auto& [given, expected] : cases) {
    const auto outputs = session->Run(std::vector<Tensor>{Tensor::FromVector<float>({4}, given)});
    ASSERT_TRUE(outputs.ok()) << outputs.status().message();
    const auto values = (*outputs)[0].values<int64_t>();
    EXPECT_EQ(std::vector<int64_t>(values.begin(), values.end()), expected);
  }
}

}  // namespace
}  // namespace octavo
