// Element types as ONNX numbers them.
#pragma once

#include <cstdint>
#include <string>

#include "octavo/tensor.h"

namespace octavo {

// kUndefined for numbers that Octavo has no type for (strings, complex, float8, int4, ... and numbers unknown).
DType FromOnnxType(int32_t onnx_type);
// 0 for kUndefined.
int32_t ToOnnxType(DType dtype);
// "float8e4m3fn", "string", ...; "type 99" for an unknown number. Covers types that are newer than the schema we build
// against.
std::string OnnxTypeName(int32_t onnx_type);

}  // namespace octavo
