// ONNX Runtime's CPU provider: U8S8 is the fast one where the CPU has VNNI. Its optimizer makes a QLinearConv of DQ,
// Conv and a Q alone behind it, and a MatMulIntegerToFloat or QGemm of a product without a bias; it has no integer
// ConvTranspose. docs/targets/onnxruntime.md says what was measured.
#include "targets/target_tables.h"

namespace octavo {
namespace {

constexpr std::string_view kFloat[] = {"ConvTranspose", "Einsum"};
constexpr std::string_view kQuantizedResults[] = {"Conv"};

}  // namespace

constinit const Target kOnnxRuntimeTarget{
    .name = "onnxruntime",
    .about = "ONNX Runtime on CPUs: uint8 activations with a zero point, results of convolutions too",
    .unsigned_activations = true,
    .quantized_results = kQuantizedResults,
    .biases_apart = true,
    .float_contractions = kFloat,
    .commuting = kElementMovers};

}  // namespace octavo
