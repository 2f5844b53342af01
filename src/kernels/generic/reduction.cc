#include "kernels/generic/rows.h"

namespace octavo {

std::span<const GenericKernelRow> ReductionKernels() { return {}; }

}  // namespace octavo
