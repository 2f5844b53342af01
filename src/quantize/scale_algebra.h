// Scales of channels as unknowns, in log2: integer combinations of variables, and equations between them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace octavo {

// A sum of coefficient * variable, by variable, without zeros. Empty: the scale is 1.
using ScaleSum = std::vector<std::pair<int, int>>;

// Sums are kept once each and named by a number; 0 is the empty one. Not thread safe.
class ScaleAlgebra {
 public:
  ScaleAlgebra();
  // A variable of its own.
  int Fresh();
  // a + times * b.
  int Add(int a, int b, int times = 1);
  // Makes a and b equal whatever the variables are: one variable is expressed by the others.
  void Equate(int a, int b);
  // Over the variables that are still free.
  ScaleSum Resolve(int sum);
  int variables() const { return static_cast<int>(bound_.size()); }

 private:
  int Intern(ScaleSum sum);
  ScaleSum Expand(const ScaleSum& sum);

  std::vector<ScaleSum> sums_;
  std::map<ScaleSum, int> ids_;
  std::vector<std::optional<ScaleSum>> bound_;  // by variable: what it was expressed by
};

}  // namespace octavo
