// One array in NumPy's .npy format, without file names; shared by .npy and .npz.
#pragma once

#include <cstddef>
#include <map>
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

// SaveNpz for a file that nobody needs after a crash: whole or not at all, but not synced. (Syncing took 5 ms a file,
// and a search writes as many files as it judges samples.)
Status SavePassingNpz(const std::string& path, const std::map<std::string, Tensor>& arrays);

}  // namespace octavo
