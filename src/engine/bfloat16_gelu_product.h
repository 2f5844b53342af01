// GELU(x W + bias) on bfloat16: blocks of float32 sums that stay in L2 between oneDNN's product and our GELU.
//
// oneDNN's own GELU takes about as long as the product it follows: 1 x 1, 256 -> 2048 at 64 x 64, 2.0 ms without it
// and 4.9 ms with it on two threads.
#pragma once

#include "engine/onednn.h"
#include "kernels/kernel.h"

namespace octavo {

// Whether `spec` is such a product: bfloat16 in and out, one GELU behind it.
bool IsBFloat16GeluProduct(const LinearSpec& spec);

// KernelArgs as OneDnnBuilder::Linear has them. Errors: Unsupported where oneDNN has only a reference.
Result<OneDnnKernel> BindBFloat16GeluProduct(OneDnnBuilder& onednn, const LinearSpec& spec, int threads);

}  // namespace octavo
