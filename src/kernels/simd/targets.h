// The instruction sets that kernels are compiled for; included before any of Highway's headers.
#pragma once

// SSSE3 and AVX3_DL add compile time and next to nothing over their neighbours.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
