// OpenVINO's CPU plugin: 8-bit activations per tensor, with or without a zero point; symmetric weights per channel that
// leave -128 out.
#include "targets/target_tables.h"

namespace octavo {

constinit const Target kOpenVinoTarget{.name = "openvino",
                                       .about = "OpenVINO on CPUs: uint8 activations with a zero point",
                                       .unsigned_activations = true,
                                       .float_contractions = kEinsumOnly,
                                       .commuting = kElementMovers};

}  // namespace octavo
