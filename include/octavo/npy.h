// NumPy's files: .npy (one array) and .npz (a ZIP of them).
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>

#include "octavo/status.h"
#include "octavo/tensor.h"

namespace octavo {

// Reads a .npy of format 1, 2 or 3: bool, (u)int8..64, float16/32/64, little-endian. Fortran order is turned into
// row-major order. A file is hostile: its length must be exactly what its header promises before memory is taken.
// Errors, each naming the file: kNotFound/kIo, kBadFile, kUnsupported (big-endian, complex, strings, objects).
Result<Tensor> LoadNpy(const std::string& path);
// The same from memory; `name` stands for the file in messages.
Result<Tensor> ParseNpy(std::span<const std::byte> bytes, const std::string& name);

// Writes format 1.0 in row-major order; the file appears whole or not at all. NumPy has no bfloat16: such tensors are
// widened to float32. Errors: kIo (names the path), kInvalidArgument for an undefined tensor.
Status SaveNpy(const std::string& path, const Tensor& tensor);

// Reads all arrays of a .npz (np.savez, np.savez_compressed; zip64 too), by name without ".npy".
// Nothing is unpacked that is longer than deflate could make it, nor more than 4 GiB per file; CRCs are checked.
// Errors as LoadNpy's, naming the file and the array.
Result<std::map<std::string, Tensor>> LoadNpz(const std::string& path);
Result<std::map<std::string, Tensor>> ParseNpz(std::span<const std::byte> bytes, const std::string& name);

// Writes a .npz without compression; whole or not at all. Names must be non-empty and of at most 1024 bytes; everything
// together must be less than 4 GiB.
Status SaveNpz(const std::string& path, const std::map<std::string, Tensor>& arrays);

}  // namespace octavo
