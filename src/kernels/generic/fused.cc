#include "kernels/generic/rows.h"

namespace octavo {

std::span<const GenericKernelRow> FusedKernels() { return {}; }

}  // namespace octavo
