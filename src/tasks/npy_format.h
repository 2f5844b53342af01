// One array in NumPy's .npy format, without file names; shared by .npy and .npz.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "octavo/status.h"
#include "octavo/tensor.h"

namespace octavo {

Result<Tensor> ParseNpyArray(std::span<const std::byte> bytes);

// Everything that precedes the elements, format 1.0, row-major.
std::string NpyHeader(DType dtype, const Dims& dims);

// The tensor as NumPy can hold it: bfloat16 becomes float32.
Result<Tensor> NpyTensor(const Tensor& tensor);

}  // namespace octavo
