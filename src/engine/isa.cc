#include <fmt/format.h>
#include <hwy/targets.h>

#include <algorithm>

#include "engine/onednn.h"
#include "octavo/session.h"

namespace octavo {
namespace {

struct Limit {
  const char* isa;
  int64_t disabled;  // of Highway's targets: what is wider, whose bits are lower
};
constexpr int64_t kAbove512 = HWY_AVX3 - 1;
// Own kernels know AVX2 and AVX-512; what lies above that is oneDNN's.
constexpr Limit kLimits[] = {
    {"avx512_core_amx", 0},     {"avx512_core_bf16", kAbove512}, {"avx512_core_vnni", kAbove512},
    {"avx512_core", kAbove512}, {"avx2", HWY_AVX2 - 1},
};

}  // namespace

std::string IsaInUse() { return OneDnnIsa(); }

std::vector<std::string> IsaLimits() {
  std::vector<std::string> names;
  for (const Limit& limit : kLimits) names.emplace_back(limit.isa);
  return names;
}

Status LimitIsa(const std::string& isa) {
  const auto* const limit =
      std::find_if(std::begin(kLimits), std::end(kLimits), [&](const Limit& row) { return isa == row.isa; });
  if (limit == std::end(kLimits)) return InvalidArgument(fmt::format("'{}' is no instruction set", isa));
  if (!LimitOneDnnIsa(isa) && OneDnnIsa() != isa) {
    return InvalidArgument(fmt::format("kernels cannot be held to {}: {} is in use already", isa, OneDnnIsa()));
  }
  if (OneDnnIsa() != isa) {
    return InvalidArgument(fmt::format("kernels cannot use {}: this CPU has {}", isa, OneDnnIsa()));
  }
  hwy::DisableTargets(limit->disabled);
  return {};
}

}  // namespace octavo
