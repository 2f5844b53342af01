// ONNX Runtime's CPU provider: U8S8 is the fast one where the CPU has VNNI.
#include "targets/target_tables.h"

namespace octavo {

constinit const Target kOnnxRuntimeTarget{.name = "onnxruntime",
                                          .about = "ONNX Runtime on CPUs: uint8 activations with a zero point",
                                          .unsigned_activations = true,
                                          .float_contractions = kEinsumOnly,
                                          .commuting = kElementMovers};

}  // namespace octavo
