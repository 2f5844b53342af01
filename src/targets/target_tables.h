// One table per target, each in the file of its name.
#pragma once

#include "octavo/targets.h"

namespace octavo {

extern const Target kOctavoTarget;
extern const Target kOnnxRuntimeTarget;
extern const Target kOpenVinoTarget;
extern const Target kTensorRtTarget;

// Ops that move elements about and give every one of them back.
inline constexpr std::string_view kElementMovers[] = {"Flatten", "Identity",  "Reshape",
                                                      "Squeeze", "Transpose", "Unsqueeze"};
// No runtime here has an INT8 Einsum. Preparing turns those of two operands into MatMul; what is left stays float.
inline constexpr std::string_view kEinsumOnly[] = {"Einsum"};

}  // namespace octavo
