// Scale and bias of normalizations as contiguous floats.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/generic/elements.h"
#include "kernels/kernel.h"

namespace octavo {

// `rows` vectors of `size` floats each, from an optional float32 or bfloat16 operand [size], [1, size] or [rows, size]:
// kept when it is absent (all `fallback`) or constant, else collected into scratch on every run.
class ChannelVectors {
 public:
  ChannelVectors() = default;
  // Errors: Unsupported for other types, InvalidArgument for other shapes. `operand` may be null.
  static Result<ChannelVectors> Create(const Operand* operand, int64_t rows, int64_t size, float fallback) {
    ChannelVectors vectors;
    vectors.rows_ = rows;
    vectors.size_ = size;
    if (operand == nullptr || !operand->present) {
      vectors.kept_.assign(static_cast<size_t>(rows * size), fallback);
      return vectors;
    }
    if (operand->dtype != DType::kFloat32 && operand->dtype != DType::kBFloat16) {
      return UnsupportedDType(operand->dtype);
    }
    const Dims& dims = operand->dims;
    const bool fits = !dims.empty() && dims.size() <= 2 && dims.back() == size &&
                      (dims.size() == 1 || dims[0] == 1 || dims[0] == rows);
    if (!fits) return InvalidArgument("scale or bias is not one per channel");
    vectors.dtype_ = operand->dtype;
    vectors.step_ = operand->strides.back();
    vectors.row_step_ = dims.size() == 2 && dims[0] != 1 ? operand->strides[0] : 0;
    if (operand->constant != nullptr) {
      const Dims contiguous = ContiguousStrides(operand->constant->dims());
      vectors.step_ = contiguous.back();
      vectors.row_step_ = vectors.row_step_ == 0 ? 0 : contiguous[0];
      vectors.kept_.resize(static_cast<size_t>(rows * size));
      vectors.Collect(operand->constant->data(), vectors.kept_.data());
    }
    return vectors;
  }

  // Floats of scratch that Get needs.
  int64_t scratch_size() const { return kept_.empty() ? rows_ * size_ : 0; }

  // All rows. `data` is the operand's memory, `scratch` holds scratch_size() floats.
  const float* Get(const void* data, float* scratch) const {
    if (!kept_.empty()) return kept_.data();
    Collect(data, scratch);
    return scratch;
  }

 private:
  void Collect(const void* data, float* to) const {
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = 0; c < size_; ++c) {
        const int64_t at = r * row_step_ + c * step_;
        to[r * size_ + c] = dtype_ == DType::kFloat32 ? static_cast<const float*>(data)[at]
                                                      : BFloat16ToFloat(static_cast<const uint16_t*>(data)[at]);
      }
    }
  }

  std::vector<float> kept_;
  DType dtype_ = DType::kUndefined;
  int64_t rows_ = 0, size_ = 0, step_ = 0, row_step_ = 0;
};

}  // namespace octavo
