#include "graph/op_notes.h"

#include <algorithm>
#include <iterator>

#include "graph/op_table.h"
#include "octavo/ops.h"

namespace octavo {
namespace {

constexpr std::string_view kFloats = "floats";
constexpr std::string_view kNumbers = "floats, integers";
constexpr std::string_view kIntegers = "integers";
constexpr std::string_view kSums = "floats, (u)int32, (u)int64";
constexpr std::string_view kBool = "bool";
constexpr std::string_view kAny = "any";
constexpr std::string_view kBytes = "(u)int8";

struct Row {
  std::string_view op;
  OpNote note;
};

constexpr Row kRows[] = {
    {"Abs", {kNumbers, ""}},
    {"Add", {kNumbers, ""}},
    {"And", {kBool, ""}},
    {"ArgMax", {kNumbers, ""}},
    {"ArgMin", {kNumbers, ""}},
    {"BatchNormalization", {kFloats, "inference only"}},
    {"BitShift", {"uint8 to uint64", ""}},
    {"BitwiseAnd", {kIntegers, ""}},
    {"BitwiseNot", {kIntegers, ""}},
    {"BitwiseOr", {kIntegers, ""}},
    {"BitwiseXor", {kIntegers, ""}},
    {"Cast", {kAny, "no float8, int4 or strings"}},
    {"CastLike", {kAny, "no float8, int4 or strings"}},
    {"CenterCropPad", {kAny, ""}},
    {"Clip", {kNumbers, ""}},
    {"Compress", {kAny, ""}},
    {"Concat", {kAny, ""}},
    {"ConstantOfShape", {kAny, ""}},
    {"Conv", {kFloats, "1 to 3 spatial dimensions"}},
    {"ConvInteger", {kBytes, "1 to 3 spatial dimensions"}},
    {"ConvTranspose", {kFloats, "1 to 3 spatial dimensions"}},
    {"CumSum", {kSums, ""}},
    {"DFT", {kFloats, "no inverse of one-sided transforms; by definition, not fast"}},
    {"DeformConv", {kFloats, "2 spatial dimensions"}},
    {"DepthToSpace", {kAny, ""}},
    {"DequantizeLinear", {"(u)int8, (u)int16, int32", "no blocks, float8 or int4"}},
    {"Div", {kNumbers, ""}},
    {"Dropout", {kAny, "inference only"}},
    {"DynamicQuantizeLinear", {"float32", ""}},
    {"Einsum", {kSums, "up to 8 operands"}},
    {"Equal", {"floats, integers, bool", ""}},
    {"Expand", {kAny, ""}},
    {"EyeLike", {kAny, ""}},
    {"Flatten", {kAny, ""}},
    {"Gather", {kAny, ""}},
    {"GatherElements", {kAny, ""}},
    {"GatherND", {kAny, ""}},
    {"Greater", {kNumbers, ""}},
    {"GreaterOrEqual", {kNumbers, ""}},
    {"GridSample", {kFloats, "2 or 3 spatial dimensions"}},
    {"Identity", {kAny, ""}},
    {"Less", {kNumbers, ""}},
    {"LessOrEqual", {kNumbers, ""}},
    {"LpPool", {kFloats, "1 to 3 spatial dimensions"}},
    {"MatMul", {kSums, ""}},
    {"MatMulInteger", {kBytes, "zero points of A: one or one per row of a matrix"}},
    {"Max", {kNumbers, ""}},
    {"MaxPool", {"floats, (u)int8", "1 to 3 spatial dimensions"}},
    {"AveragePool", {kFloats, "1 to 3 spatial dimensions"}},
    {"GlobalLpPool", {kFloats, "1 to 3 spatial dimensions"}},
    {"MaxUnpool", {kNumbers, ""}},
    {"MelWeightMatrix", {kNumbers, ""}},
    {"BlackmanWindow", {kNumbers, ""}},
    {"HammingWindow", {kNumbers, ""}},
    {"HannWindow", {kNumbers, ""}},
    {"Min", {kNumbers, ""}},
    {"Mod", {kNumbers, ""}},
    {"Mul", {kNumbers, ""}},
    {"Neg", {"floats, signed integers", ""}},
    {"NonMaxSuppression", {"float32", ""}},
    {"NonZero", {kAny, ""}},
    {"Not", {kBool, ""}},
    {"OneHot", {kAny, ""}},
    {"Or", {kBool, ""}},
    {"PRelu", {kSums, ""}},
    {"Pad", {kAny, ""}},
    {"Pow", {"floats, int32, int64", ""}},
    {"QLinearConv", {kBytes, "1 to 3 spatial dimensions"}},
    {"QLinearMatMul", {kBytes, "scales and zero points: one, or one per row of a matrix or per column"}},
    {"QuantizeLinear", {"floats, int32", "to (u)int8 or (u)int16; no blocks"}},
    {"Range", {"float32, float64, int16, int32, int64", ""}},
    {"ReduceL1", {kSums, ""}},
    {"ReduceL2", {kSums, ""}},
    {"ReduceLogSum", {kSums, ""}},
    {"ReduceMax", {"floats, integers, bool", ""}},
    {"ReduceMean", {kSums, ""}},
    {"ReduceMin", {"floats, integers, bool", ""}},
    {"ReduceProd", {kSums, ""}},
    {"ReduceSum", {kSums, ""}},
    {"ReduceSumSquare", {kSums, ""}},
    {"Relu", {"floats, signed integers", ""}},
    {"Reshape", {kAny, ""}},
    {"Resize", {kNumbers, ""}},
    {"ReverseSequence", {kAny, ""}},
    {"RoiAlign", {kFloats, ""}},
    {"STFT", {kFloats, "by definition, not fast"}},
    {"Scatter", {kAny, ""}},
    {"ScatterElements", {kAny, ""}},
    {"ScatterND", {kAny, ""}},
    {"Shape", {kAny, ""}},
    {"Shrink", {kNumbers, ""}},
    {"Sign", {kNumbers, ""}},
    {"Size", {kAny, ""}},
    {"Slice", {kAny, ""}},
    {"SpaceToDepth", {kAny, ""}},
    {"Split", {kAny, ""}},
    {"Squeeze", {kAny, ""}},
    {"Sub", {kNumbers, ""}},
    {"Tile", {kAny, ""}},
    {"TopK", {kNumbers, ""}},
    {"Transpose", {kAny, ""}},
    {"Trilu", {kAny, ""}},
    {"Unique", {kAny, ""}},
    {"Unsqueeze", {kAny, ""}},
    {"Upsample", {kNumbers, ""}},
    {"Where", {kAny, ""}},
    {"Xor", {kBool, ""}},
};

std::string_view NameOf(OpClass op_class) {
  switch (op_class) {
    case OpClass::kElementwise:
      return "elementwise";
    case OpClass::kView:
      return "view";
    case OpClass::kContraction:
      return "contraction";
    case OpClass::kReduction:
      return "reduction";
    case OpClass::kOther:
      break;
  }
  return "other";
}

}  // namespace

OpNote NoteOf(std::string_view op) {
  const auto* row = std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& r) { return r.op == op; });
  return row == std::end(kRows) ? OpNote{kFloats, ""} : row->note;
}

std::vector<SupportedOp> SupportedOps() {
  std::vector<SupportedOp> ops;
  for (const OpTraits& traits : AllOps()) {
    if (!traits.domain.empty()) continue;
    const OpNote note = NoteOf(traits.op);
    ops.push_back({traits.domain, traits.op, traits.since, NameOf(traits.op_class), note.types, note.limits,
                   traits.quantizable_inputs != 0, traits.value_inputs != 0});
  }
  return ops;
}

}  // namespace octavo
