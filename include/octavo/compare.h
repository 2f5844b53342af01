// How far one set of outputs is from another.
#pragma once

#include <cstdint>

#include "octavo/status.h"
#include "octavo/tensor.h"

namespace octavo {

// What stands for "no difference at all" and for "nothing in common" where a decibel value is finite by contract
// (JSON has no infinity). Real values lie between.
inline constexpr double kIdenticalDb = 999.0;
inline constexpr double kWorstDb = -999.0;

struct TensorDifference {
  // 10 log10(sum of reference^2 / sum of (reference - output)^2) over all samples together.
  // kIdenticalDb when no value differs; kWorstDb when the reference is all zero and the output is not, or when a value
  // is NaN or infinite on one side only.
  double sqnr_db = kIdenticalDb;
  double min_sqnr_db = kIdenticalDb;  // of the worst single sample
  double cosine = 1;                  // over all samples as one vector; 1 when both are zero, 0 when one is
  double max_abs_error = 0;
  double mean_abs_error = 0;
  double max_abs_reference = 0;
  int64_t samples = 0;
  int64_t values = 0;
  // Values that are NaN or infinite, in the reference and in the output. They enter none of the sums above; where both
  // sides hold the same one they count as equal.
  int64_t nonfinite_reference = 0;
  int64_t nonfinite_output = 0;
};

// Accumulates in double over any number of samples of one output. Not thread safe.
class TensorComparison {
 public:
  // Any numeric types (read as double; bool as 0 and 1). Errors: kInvalidArgument when the dims differ.
  Status Add(const Tensor& reference, const Tensor& output);
  TensorDifference difference() const;

 private:
  struct Sums {
    double reference = 0, output = 0, product = 0, error = 0, abs_error = 0;
    int64_t unmatched = 0;  // NaN or infinite on one side only
    void operator+=(const Sums& other);
    double SqnrDb() const;
  };
  void AddPair(double reference, double output, Sums& sums);

  Sums total_;
  TensorDifference found_;
  int64_t finite_ = 0;
};

// One sample alone.
Result<TensorDifference> Compare(const Tensor& reference, const Tensor& output);

}  // namespace octavo
