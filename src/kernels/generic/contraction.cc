#include "kernels/generic/rows.h"

namespace octavo {

std::span<const GenericKernelRow> ContractionKernels() { return {}; }

}  // namespace octavo
