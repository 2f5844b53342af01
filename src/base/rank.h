// The highest rank of any tensor in a graph that runs: loop nests keep their indices in arrays of this size.
#pragma once

#include <cstddef>

namespace octavo {

inline constexpr size_t kMaxRank = 16;

}  // namespace octavo
