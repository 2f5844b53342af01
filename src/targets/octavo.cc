// Octavo's own engine: u8s8 and s8s8 contractions with int32 accumulation; what lies between them runs in float.
#include "targets/target_tables.h"

namespace octavo {

constinit const Target kOctavoTarget{.name = "octavo",
                                     .about = "this engine: uint8 activations with a zero point",
                                     .unsigned_activations = true,
                                     .takes_channel_factors = true,
                                     .float_contractions = kEinsumOnly,
                                     .commuting = kElementMovers};

}  // namespace octavo
