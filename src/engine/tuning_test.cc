#include "octavo/tuning.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>

#include "base/file.h"
#include "base/quote.h"
#include "base/test_files.h"
#include "engine/onednn.h"
#include "engine/quantized_graph_testing.h"
#include "octavo/session.h"

namespace octavo {
namespace {

TEST(Tuning, KeepsChoicesInAFileThatOthersWriteToo) {
  const TemporaryFolder folder;
  const std::string path = folder / "tuning";
  auto first = Tuning::Open(path), second = Tuning::Open(path);
  ASSERT_TRUE(first.ok() && second.ok()) << first.status().message();
  EXPECT_TRUE((*first)->Save().ok());
  EXPECT_FALSE(std::filesystem::exists(path)) << "nothing to say";
  (*first)->Put("conv a", "kernel 1");
  (*second)->Put("conv b", "kernel 2");
  ASSERT_TRUE((*first)->Save().ok());
  ASSERT_TRUE((*second)->Save().ok());
  auto third = Tuning::Open(path);
  ASSERT_TRUE(third.ok()) << third.status().message();
  EXPECT_EQ((*third)->Find("conv a"), "kernel 1");
  EXPECT_EQ((*third)->Find("conv b"), "kernel 2");
  EXPECT_EQ((*third)->Find("conv c"), "");
  EXPECT_EQ((*third)->measured(), 0);
}

TEST(Tuning, AnotherMachinesChoicesAreKeptAndNotUsed) {
  const TemporaryFolder folder;
  const std::string path = folder / "tuning";
  WriteText(path, "octavo tuning cache 1\nanother CPU\tconv a\tkernel 1\n");
  auto tuning = Tuning::Open(path);
  ASSERT_TRUE(tuning.ok()) << tuning.status().message();
  EXPECT_EQ((*tuning)->Find("conv a"), "");
  (*tuning)->Put("conv a", "kernel 2");
  ASSERT_TRUE((*tuning)->Save().ok());
  EXPECT_EQ((*Tuning::Open(path))->size(), 2u);
}

TEST(Tuning, RefusesAFileThatIsNoCacheAndLeavesItAlone) {
  const TemporaryFolder folder;
  const std::string path = folder / "tuning", header = "octavo tuning cache 1\n";
  const std::string bad[] = {"",
                             "\n",
                             "octavo tuning cache 2\n",
                             "{\"json\": true}",
                             header + "no tabs\n",
                             header + "one\ttab\n",
                             header + "m\tk\t\n",
                             header + "\tk\tv\n",
                             header + "m\t\tv\n",
                             header + "\n",
                             header + "m\tk\tk\tv\n",
                             header + "m\tk\tv\x01\n",
                             header + "m\tk\t\xff\n",
                             header + std::string("m\tk\tv\0w\n", 8),
                             header + "m\t" + std::string(5000, 'k') + "\tv\n",
                             std::string(Tuning::kMaxFileBytes + 1, 'x')};
  for (const std::string& text : bad) {
    WriteText(path, text);
    const auto tuning = Tuning::Open(path);
    ASSERT_FALSE(tuning.ok()) << Quote(text);
    EXPECT_EQ(tuning.status().code(), ErrorCode::kBadFile) << tuning.status().message();
    EXPECT_NE(tuning.status().message().find(path), std::string::npos) << tuning.status().message();
    EXPECT_EQ(std::filesystem::file_size(path), text.size());
  }
  EXPECT_FALSE(Tuning::Open(folder.path()).ok()) << "a folder";
}

// Pointwise convolutions, which may be products, and windows, on one node's rows and in blocks.
Graph Convolutions() {
  QuantizedGraph g({1, 32, 40, 40});
  ValueId value = g.Op("Conv", {g.Fake(g.x), g.Weights({64, 32, 1, 1}, 0)});
  value = g.Op("Conv", {g.Fake(value), g.Weights({96, 64, 3, 3}, 0)}, {{"pads", std::vector<int64_t>{1, 1, 1, 1}}});
  value = g.Op("Conv", {g.Fake(value), g.Weights({16, 96, 1, 1}, 0)});
  g.Output(value);
  return g.graph;
}

Ran RunTuned(const Graph& graph, const Tensor& input, std::shared_ptr<Tuning> tuning) {
  SessionOptions options;
  options.threads = 2;
  options.tuning = std::move(tuning);
  return RunWith(graph, {input}, options);
}

TEST(Tuning, ChangesNoBitAndIsMeasuredOnce) {
  if (!OneDnnSumsExactly()) GTEST_SKIP() << "nothing is chosen where pairs of products saturate";
  const TemporaryFolder folder;
  const Graph graph = Convolutions();
  const Tensor input = QuantizedGraph({1}).Normal({1, 32, 40, 40});
  const Ran plain = RunSession(graph, input);
  ASSERT_FALSE(plain.outputs.empty());
  auto first = *Tuning::Open(folder / "tuning");
  ExpectSameBits(RunTuned(graph, input, first).outputs, plain.outputs, "measured");
  EXPECT_GE(first->measured(), 2);
  auto second = *Tuning::Open(folder / "tuning");
  EXPECT_EQ(second->size(), first->size());
  ExpectSameBits(RunTuned(graph, input, second).outputs, plain.outputs, "from the file");
  EXPECT_EQ(second->measured(), 0);
}

// Whatever a file says, the kernels are those that this machine has, and their sums are the same.
TEST(Tuning, AFileCannotChangeResults) {
  if (!OneDnnSumsExactly()) GTEST_SKIP() << "nothing is chosen where pairs of products saturate";
  const TemporaryFolder folder;
  const Graph graph = Convolutions();
  const Tensor input = QuantizedGraph({1}).Normal({1, 32, 40, 40});
  const Ran plain = RunSession(graph, input);
  auto measured = *Tuning::Open(folder / "tuning");
  RunTuned(graph, input, measured);
  std::vector<std::byte> bytes = *ReadFile(folder / "tuning", Tuning::kMaxFileBytes);
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  std::set<std::string> kernels = {"no such kernel"};
  std::vector<std::string> keys;
  for (size_t from = text.find('\n') + 1; from < text.size(); from = text.find('\n', from) + 1) {
    const size_t tab = text.find('\t', text.find('\t', from) + 1), end = text.find('\n', from);
    keys.push_back(text.substr(from, tab - from));
    kernels.insert(text.substr(tab + 1, end - tab - 1));
  }
  for (const char* other : {"onednn brgconv:avx512_core_vnni", "onednn jit:avx512_core_vnni",
                            "onednn jit_1x1:avx512_core_vnni", "onednn matmul brg:avx512_core_vnni"})
    kernels.insert(other);
  for (const std::string& kernel : kernels) {
    std::string poisoned = "octavo tuning cache 1\n";
    for (const std::string& key : keys) poisoned += key + '\t' + kernel + '\n';
    WriteText(folder / "poisoned", poisoned);
    auto tuning = Tuning::Open(folder / "poisoned");
    ASSERT_TRUE(tuning.ok()) << tuning.status().message();
    ExpectSameBits(RunTuned(graph, input, *tuning).outputs, plain.outputs, kernel);
    if (kernel == "no such kernel") {
      EXPECT_EQ((*tuning)->measured(), static_cast<int>(keys.size()));
    }
  }
}

}  // namespace
}  // namespace octavo
