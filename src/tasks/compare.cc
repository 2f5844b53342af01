#include "octavo/compare.h"

#include <algorithm>
#include <cmath>

namespace octavo {
namespace {

// Calls fn with a pointer to `tensor`'s elements and a function that reads one as double.
template <typename Fn>
bool WithReader(const Tensor& tensor, Fn&& fn) {
  const auto plain = [](auto value) { return static_cast<double>(value); };
  switch (tensor.dtype()) {
    case DType::kFloat32:
      fn(static_cast<const float*>(tensor.data()), plain);
      return true;
    case DType::kFloat64:
      fn(static_cast<const double*>(tensor.data()), plain);
      return true;
    case DType::kFloat16:
      fn(static_cast<const uint16_t*>(tensor.data()), [](uint16_t bits) { return double{Float16ToFloat(bits)}; });
      return true;
    case DType::kBFloat16:
      fn(static_cast<const uint16_t*>(tensor.data()), [](uint16_t bits) { return double{BFloat16ToFloat(bits)}; });
      return true;
    case DType::kInt8:
      fn(static_cast<const int8_t*>(tensor.data()), plain);
      return true;
    case DType::kInt16:
      fn(static_cast<const int16_t*>(tensor.data()), plain);
      return true;
    case DType::kInt32:
      fn(static_cast<const int32_t*>(tensor.data()), plain);
      return true;
    case DType::kInt64:
      fn(static_cast<const int64_t*>(tensor.data()), plain);
      return true;
    case DType::kUInt8:
    case DType::kBool:
      fn(static_cast<const uint8_t*>(tensor.data()), plain);
      return true;
    case DType::kUInt16:
      fn(static_cast<const uint16_t*>(tensor.data()), plain);
      return true;
    case DType::kUInt32:
      fn(static_cast<const uint32_t*>(tensor.data()), plain);
      return true;
    case DType::kUInt64:
      fn(static_cast<const uint64_t*>(tensor.data()), plain);
      return true;
    case DType::kUndefined:
      return false;
  }
  return false;
}

bool SameNonfinite(double a, double b) { return (std::isnan(a) && std::isnan(b)) || a == b; }

}  // namespace

void TensorComparison::Sums::operator+=(const Sums& other) {
  reference += other.reference;
  output += other.output;
  product += other.product;
  error += other.error;
  abs_error += other.abs_error;
  unmatched += other.unmatched;
}

double TensorComparison::Sums::SqnrDb() const {
  if (unmatched > 0) return kWorstDb;
  if (error == 0) return kIdenticalDb;
  if (reference == 0) return kWorstDb;
  // A difference of logarithms: the quotient of two finite energies may not be finite.
  return std::clamp(10 * (std::log10(reference) - std::log10(error)), kWorstDb, kIdenticalDb);
}

Status TensorComparison::Add(const Tensor& reference, const Tensor& output) {
  if (!reference.defined() || !output.defined()) return InvalidArgument("there is no tensor to compare");
  if (reference.dims() != output.dims()) {
    return InvalidArgument("the outputs have different shapes: " + ToString(reference.dims()) + " and " +
                           ToString(output.dims()));
  }
  Sums sums;
  const int64_t count = reference.size();
  WithReader(reference, [&](const auto* a, auto read_a) {
    WithReader(output, [&](const auto* b, auto read_b) {
      for (int64_t i = 0; i < count; ++i) AddPair(read_a(a[i]), read_b(b[i]), sums);
    });
  });
  total_ += sums;
  found_.min_sqnr_db = std::min(found_.min_sqnr_db, sums.SqnrDb());
  found_.values += count;
  ++found_.samples;
  return {};
}

void TensorComparison::AddPair(double reference, double output, Sums& sums) {
  const bool finite_reference = std::isfinite(reference), finite_output = std::isfinite(output);
  if (!finite_reference || !finite_output) {
    found_.nonfinite_reference += !finite_reference;
    found_.nonfinite_output += !finite_output;
    sums.unmatched += !SameNonfinite(reference, output);
    return;
  }
  const double error = std::fabs(reference - output);
  sums.reference += reference * reference;
  sums.output += output * output;
  sums.product += reference * output;
  sums.error += error * error;
  sums.abs_error += error;
  found_.max_abs_error = std::max(found_.max_abs_error, error);
  found_.max_abs_reference = std::max(found_.max_abs_reference, std::fabs(reference));
  ++finite_;
}

TensorDifference TensorComparison::difference() const {
  TensorDifference result = found_;
  result.sqnr_db = total_.SqnrDb();
  result.mean_abs_error = finite_ > 0 ? total_.abs_error / static_cast<double>(finite_) : 0;
  const double norms = std::sqrt(total_.reference) * std::sqrt(total_.output);
  if (norms > 0) {
    result.cosine = std::clamp(total_.product / norms, -1.0, 1.0);
  } else {
    result.cosine = total_.reference == total_.output ? 1 : 0;
  }
  return result;
}

Result<TensorDifference> Compare(const Tensor& reference, const Tensor& output) {
  TensorComparison comparison;
  OCTAVO_RETURN_IF_ERROR(comparison.Add(reference, output));
  return comparison.difference();
}

}  // namespace octavo
