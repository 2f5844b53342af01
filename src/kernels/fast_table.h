// The table of fast kernels: vectorized, for the element types and layouts that matter.
#pragma once

#include <string_view>

#include "kernels/kernel.h"

namespace octavo {

// The fast kernel of an op, or null. Binding it gives Unsupported for operands whose type or layout it does not
// handle: fall back to the op's generic kernel.
BindFn FindFastKernel(std::string_view domain, std::string_view op);

// Whether a fast kernel does a BindContext::tail.
bool TakesQuantizedTail(BindFn fast);

// The instruction set that fast kernels use in this process: "avx3", "avx2", "sse4", "scalar".
const char* FastKernelIsa();

}  // namespace octavo
