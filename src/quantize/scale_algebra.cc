#include "quantize/scale_algebra.h"

namespace octavo {
namespace {

void Accumulate(const ScaleSum& sum, int times, std::map<int, int>& into) {
  for (const auto& [variable, coefficient] : sum) into[variable] += times * coefficient;
}

ScaleSum ToSum(const std::map<int, int>& coefficients) {
  ScaleSum sum;
  for (const auto& entry : coefficients) {
    if (entry.second != 0) sum.emplace_back(entry);
  }
  return sum;
}

}  // namespace

ScaleAlgebra::ScaleAlgebra() { Intern({}); }

int ScaleAlgebra::Intern(ScaleSum sum) {
  const auto [at, is_new] = ids_.emplace(std::move(sum), static_cast<int>(sums_.size()));
  if (is_new) sums_.push_back(at->first);
  return at->second;
}

int ScaleAlgebra::Fresh() {
  const int variable = variables();
  bound_.emplace_back();
  return Intern({{variable, 1}});
}

int ScaleAlgebra::Add(int a, int b, int times) {
  if (b == 0) return a;
  if (a == 0 && times == 1) return b;
  std::map<int, int> coefficients;
  Accumulate(sums_[static_cast<size_t>(a)], 1, coefficients);
  Accumulate(sums_[static_cast<size_t>(b)], times, coefficients);
  return Intern(ToSum(coefficients));
}

ScaleSum ScaleAlgebra::Expand(const ScaleSum& sum) {
  bool is_free = true;
  for (const auto& entry : sum) is_free &= !bound_[static_cast<size_t>(entry.first)].has_value();
  if (is_free) return sum;
  std::map<int, int> coefficients;
  for (const auto& [variable, coefficient] : sum) {
    auto& bound = bound_[static_cast<size_t>(variable)];
    if (!bound) {
      coefficients[variable] += coefficient;
      continue;
    }
    // Kept, so that the next look is short. What a variable is bound to never leads back to it.
    ScaleSum expanded = Expand(*bound);
    Accumulate(expanded, coefficient, coefficients);
    bound = std::move(expanded);
  }
  return ToSum(coefficients);
}

ScaleSum ScaleAlgebra::Resolve(int sum) { return Expand(sums_[static_cast<size_t>(sum)]); }

void ScaleAlgebra::Equate(int a, int b) {
  if (a == b) return;
  std::map<int, int> coefficients;
  Accumulate(Resolve(a), 1, coefficients);
  Accumulate(Resolve(b), -1, coefficients);
  const ScaleSum difference = ToSum(coefficients);
  // The newest variable goes: along a residual stream that is the branch's, and chains stay short.
  for (auto entry = difference.rbegin(); entry != difference.rend(); ++entry) {
    if (entry->second != 1 && entry->second != -1) continue;
    ScaleSum rest;
    for (const auto& [variable, coefficient] : difference) {
      if (variable != entry->first) rest.emplace_back(variable, -entry->second * coefficient);
    }
    bound_[static_cast<size_t>(entry->first)] = std::move(rest);
    return;
  }
  // Scales stay powers of two only with whole coefficients: here all of them are given up (2 v = 0, say).
  for (const auto& entry : difference) bound_[static_cast<size_t>(entry.first)] = ScaleSum{};
}

}  // namespace octavo
