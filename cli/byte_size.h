// Sizes on the command line: "1.5G", "800M", "2GiB".
#pragma once

#include <cstdint>
#include <string>

#include "octavo/status.h"

namespace octavo::cli {

// Bytes; K, M, G and T are powers of 1024, and "B" or "iB" may follow. Error: anything else, 0 and below, 2^60 and
// more.
Result<int64_t> ParseByteSize(const std::string& text);

}  // namespace octavo::cli
