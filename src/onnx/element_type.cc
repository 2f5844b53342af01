#include "onnx/element_type.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace octavo {
namespace {

struct Row {
  const char* name;
  DType dtype;
};

// Indexed by ONNX's number (onnx/onnx.proto, TensorProto.DataType, of ONNX 1.18).
constexpr auto kRows = std::to_array<Row>({{"undefined", DType::kUndefined},
                                           {"float", DType::kFloat32},
                                           {"uint8", DType::kUInt8},
                                           {"int8", DType::kInt8},
                                           {"uint16", DType::kUInt16},
                                           {"int16", DType::kInt16},
                                           {"int32", DType::kInt32},
                                           {"int64", DType::kInt64},
                                           {"string", DType::kUndefined},
                                           {"bool", DType::kBool},
                                           {"float16", DType::kFloat16},
                                           {"double", DType::kFloat64},
                                           {"uint32", DType::kUInt32},
                                           {"uint64", DType::kUInt64},
                                           {"complex64", DType::kUndefined},
                                           {"complex128", DType::kUndefined},
                                           {"bfloat16", DType::kBFloat16},
                                           {"float8e4m3fn", DType::kUndefined},
                                           {"float8e4m3fnuz", DType::kUndefined},
                                           {"float8e5m2", DType::kUndefined},
                                           {"float8e5m2fnuz", DType::kUndefined},
                                           {"uint4", DType::kUndefined},
                                           {"int4", DType::kUndefined},
                                           {"float4e2m1", DType::kUndefined}});

bool HasRow(int32_t onnx_type) { return onnx_type >= 0 && static_cast<size_t>(onnx_type) < kRows.size(); }

}  // namespace

DType FromOnnxType(int32_t onnx_type) {
  return HasRow(onnx_type) ? kRows[static_cast<size_t>(onnx_type)].dtype : DType::kUndefined;
}

int32_t ToOnnxType(DType dtype) {
  const auto row = std::find_if(kRows.begin(), kRows.end(), [&](const Row& r) { return r.dtype == dtype; });
  return static_cast<int32_t>(row - kRows.begin());
}

std::string OnnxTypeName(int32_t onnx_type) {
  return HasRow(onnx_type) ? kRows[static_cast<size_t>(onnx_type)].name : "type " + std::to_string(onnx_type);
}

}  // namespace octavo
