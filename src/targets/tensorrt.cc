// TensorRT with explicit quantization: its parser takes zero points of 0 only; the Add of a skip connection joins the
// convolution before it where the other operand is quantized; Concat runs in INT8 where all its tensors share a scale.
// Types follow from the graph (strongly typed networks): float16 is what stands between Casts.
#include "targets/target_tables.h"

namespace octavo {
namespace {

constexpr std::string_view kCommuting[] = {"Flatten", "Identity",  "MaxPool",  "Reshape",
                                           "Squeeze", "Transpose", "Unsqueeze"};

// Fused multi-head attention in INT8 (TensorRT issue 2981).
constexpr int64_t kMostTokens = 512;
constexpr int64_t kHeadSizes[] = {16, 32, 64};

}  // namespace

constinit const Target kTensorRtTarget{.name = "tensorrt",
                                       .about = "TensorRT: int8 activations, zero point 0; skip connections quantized",
                                       .unsigned_activations = false,
                                       .quantize_residuals = true,
                                       .share_concat_scale = true,
                                       .half_islands = true,
                                       .most_int8_attention_tokens = kMostTokens,
                                       .int8_attention_heads = kHeadSizes,
                                       .float_contractions = kEinsumOnly,
                                       .commuting = kCommuting};

}  // namespace octavo
