#include <gtest/gtest.h>

#include <set>

#include "octavo/passes.h"
#include "passes/pass_test_graph.h"

namespace octavo {
namespace {

Graph GeluThenDeadCode() {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 5});
  g.Op("Exp", {x});
  const ValueId erf = g.Op("Erf", {g.Op("Div", {x, g.Scalar(1.41421356f)})});
  return g.Finish({g.Op("Mul", {g.Op("Mul", {x, g.Op("Add", {erf, g.Scalar(1.0f)})}), g.Scalar(0.5f)})});
}

int Rewrites(const std::vector<PassReport>& reports, std::string_view name) {
  for (const PassReport& report : reports) {
    if (report.name == name) return report.rewrites;
  }
  return -1;
}

TEST(PassList, NamesEachPassOnceInKebabCase) {
  const auto names = PassNames();
  EXPECT_EQ(std::set<std::string_view>(names.begin(), names.end()).size(), names.size());
  for (const std::string_view name : names) {
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz-"), std::string_view::npos) << name;
  }
}

TEST(PassList, ReportsWhatEachPassDid) {
  Graph graph = GeluThenDeadCode();
  const auto reports = RunPasses(graph);
  ASSERT_TRUE(reports.ok()) << reports.status().message();
  EXPECT_EQ(reports->size(), PassNames().size());
  EXPECT_EQ(Rewrites(*reports, "gelu"), 1);
  EXPECT_EQ(Rewrites(*reports, "dead-code"), 1);
  EXPECT_EQ(graph.nodes.size(), 1u);
}

TEST(PassList, LeavesOutDisabledPasses) {
  Graph graph = GeluThenDeadCode();
  PassOptions options;
  options.disabled = {"gelu"};
  const auto reports = RunPasses(graph, options);
  ASSERT_TRUE(reports.ok()) << reports.status().message();
  EXPECT_EQ(Rewrites(*reports, "gelu"), -1);
  EXPECT_EQ(CountOps(graph, "Gelu"), 0);
  EXPECT_EQ(CountOps(graph, "Erf"), 1);
}

TEST(PassList, RefusesAnUnknownName) {
  Graph graph = GeluThenDeadCode();
  PassOptions options;
  options.disabled = {"gellu"};
  const auto reports = RunPasses(graph, options);
  ASSERT_FALSE(reports.ok());
  EXPECT_EQ(reports.status().code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(reports.status().message().find("gellu"), std::string::npos);
  EXPECT_NE(reports.status().message().find("layer-norm"), std::string::npos);
}

TEST(PassList, RefusesAGraphWithoutShapes) {
  TestGraph g;
  const ValueId y = g.Op("Abs", {g.Input("x", {2, -1})});
  g.graph().outputs = {y};
  const auto reports = RunPasses(g.graph());
  ASSERT_FALSE(reports.ok());
  EXPECT_EQ(reports.status().code(), ErrorCode::kInvalidArgument);
}

// Each pass that fuses can be switched off alone, and the graph still means the same.
TEST(PassList, EveryPassCanBeSwitchedOff) {
  for (const std::string_view name : PassNames()) {
    SCOPED_TRACE(name);
    Graph graph = GeluThenDeadCode();
    const Graph before = graph;
    PassOptions options;
    options.disabled = {std::string(name)};
    ASSERT_TRUE(RunPasses(graph, options).ok());
    // As the GELU test derives: 10 roundings of 2^-24 and 4 ulp of erf.
    ExpectSameOutputs(before, graph, 2e-6);
  }
}

}  // namespace
}  // namespace octavo
