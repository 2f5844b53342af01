#include "graph/rounding.h"
#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

ValueId Cast(TestGraph& builder, ValueId value, int64_t to) { return builder.Op("Cast", {value}, {{"to", to}}); }

TEST(CastPairs, BecomeOneRounding) {
  for (const int64_t to : {kOnnxBFloat16, kOnnxFloat16}) {
    TestGraph builder;
    const ValueId x = builder.Input("x", {3, 40});
    const Graph before = builder.Finish({Cast(builder, Cast(builder, x, to), kOnnxFloat)});
    Graph after = before;
    EXPECT_EQ(Apply(JoinCastPairs, after), 1);
    EXPECT_EQ(CountOps(after, "Cast"), 0);
    EXPECT_EQ(FindOnly(after, "RoundTo", kOctavoDomain)->Int("to", 0), to);
    ExpectSameOutputs(before, after, 0);
  }
}

TEST(CastPairs, LeaveTheNarrowValueToItsOtherReaders) {
  TestGraph builder;
  const ValueId narrow = Cast(builder, builder.Input("x", {3, 4}), kOnnxFloat16);
  const ValueId wide = Cast(builder, narrow, kOnnxFloat);
  const Graph before = builder.Finish({wide, builder.Op("Relu", {narrow})});
  Graph after = before;
  EXPECT_EQ(Apply(JoinCastPairs, after), 1);
  EXPECT_EQ(CountOps(after, "Cast"), 1);
  ExpectSameOutputs(before, after, 0);
}

TEST(CastPairs, LeaveOtherCastsAlone) {
  constexpr int64_t kInt32 = 6, kDouble = 11;
  TestGraph builder;
  const ValueId x = builder.Input("x", {3, 4});
  Graph graph = builder.Finish({Cast(builder, Cast(builder, x, kInt32), kOnnxFloat),
                                Cast(builder, Cast(builder, x, kOnnxFloat16), kDouble),
                                Cast(builder, Cast(builder, Cast(builder, x, kDouble), kOnnxFloat16), kOnnxFloat)});
  EXPECT_EQ(Apply(JoinCastPairs, graph), 0);
}

}  // namespace
}  // namespace octavo
