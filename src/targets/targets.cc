#include "octavo/targets.h"

#include <algorithm>

#include "base/quote.h"
#include "targets/target_tables.h"

namespace octavo {
namespace {

bool Holds(std::span<const std::string_view> ops, std::string_view op) {
  return std::find(ops.begin(), ops.end(), op) != ops.end();
}

}  // namespace

bool Target::Commutes(std::string_view op) const { return Holds(commuting, op); }
bool Target::KeepsFloat(std::string_view op) const { return Holds(float_contractions, op); }
bool Target::QuantizesResult(std::string_view op) const { return Holds(quantized_results, op); }

std::span<const Target* const> AllTargets() {
  static constexpr const Target* kTargets[] = {&kOctavoTarget, &kOnnxRuntimeTarget, &kOpenVinoTarget, &kTensorRtTarget};
  return kTargets;
}

Result<const Target*> FindTarget(std::string_view name) {
  std::string names;
  for (const Target* target : AllTargets()) {
    if (target->name == name) return target;
    names += (names.empty() ? "" : ", ") + std::string(target->name);
  }
  return InvalidArgument(Quote(name) + " is no target: " + names);
}

}  // namespace octavo
