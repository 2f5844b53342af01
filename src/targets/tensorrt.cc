// TensorRT with explicit quantization: its parser takes zero points of 0 only; the Add of a skip connection joins the
// convolution before it where the other operand is quantized; Concat runs in INT8 where all its tensors share a scale.
#include "targets/target_tables.h"

namespace octavo {
namespace {

constexpr std::string_view kCommuting[] = {"Flatten", "Identity",  "MaxPool",  "Reshape",
                                           "Squeeze", "Transpose", "Unsqueeze"};

}  // namespace

constinit const Target kTensorRtTarget{.name = "tensorrt",
                                       .about = "TensorRT: int8 activations, zero point 0; skip connections quantized",
                                       .unsigned_activations = false,
                                       .quantize_residuals = true,
                                       .share_concat_scale = true,
                                       .float_contractions = kEinsumOnly,
                                       .commuting = kCommuting};

}  // namespace octavo
