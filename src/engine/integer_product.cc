// Products of two quantized activations. With a' = a and b' = b - 128 in int8, z' = zb - 128:
//   sum (a - za)(b - zb) = sum a b' - za sum b' - z' sum a + K za z'
// where the sum over b' belongs to a column and the sum over a to a row.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/rounding.h"
#include "engine/integer_contraction.h"
#include "graph/quantization.h"
#include "kernels/parts.h"

namespace octavo {

namespace {

constexpr int64_t kSumBytes = 512 << 10;  // of a block of rows

// An operand's matrix for each batch index of the destination.
struct BatchedMatrix {
  Dims dims, strides;  // padded with ones to the destination's rank

  BatchedMatrix(const Dims& d, const Dims& s, size_t rank) : dims(d), strides(s) {
    while (dims.size() < rank) {
      dims.insert(dims.begin(), 1);
      strides.insert(strides.begin(), 0);
    }
  }
  int64_t row_stride() const { return strides[strides.size() - 2]; }
  int64_t column_stride() const { return strides.back(); }
  int64_t Offset(int64_t batch, const Dims& dst) const {
    int64_t offset = 0;
    for (size_t d = dst.size() - 2; d-- > 0;) {
      if (dims[d] != 1) offset += batch % dst[d] * strides[d];
      batch /= dst[d];
    }
    return offset;
  }
};

class Product {
 public:
  explicit Product(IntegerProductSpec spec)
      : spec_(std::move(spec)),
        a_(spec_.a_dims, spec_.a_strides, spec_.dst_dims.size()),
        b_(spec_.b_dims, spec_.b_strides, spec_.dst_dims.size()) {}

  Status Build(OneDnnBuilder& onednn) {
    const Dims& dst = spec_.dst_dims;
    m_ = dst[dst.size() - 2];
    n_ = dst.back();
    k_ = spec_.a_dims.back();
    for (size_t d = 0; d + 2 < dst.size(); ++d) batch_ *= dst[d];
    if (k_ > std::numeric_limits<int32_t>::max() / (255 * 255)) {
      return Unsupported(fmt::format("sums of {} products may not fit 32 bits", k_));
    }
    for (const float m : spec_.epilogue.multiplier) {
      if (!IsUsableScale(m)) return Unsupported(fmt::format("the product of its scales is {}", m));
    }
    // int8 in two halves where pairs of products would saturate.
    spec_.epilogue.parts = OneDnnSumsExactly() ? 1 : 2;
    rows_ = std::clamp<int64_t>(kSumBytes / (n_ * 4), 16, std::max<int64_t>(16, RoundUp(m_, 16)));
    rows_ = std::min(m_, rows_ / 16 * 16);
    OCTAVO_ASSIGN(main_, onednn.IntegerMatMul({rows_, k_, n_, spec_.threads}));
    if (m_ % rows_ != 0) {
      OCTAVO_ASSIGN(last_, onednn.IntegerMatMul({m_ % rows_, k_, n_, spec_.threads}));
    }
    PlaceScratch();
    return {};
  }

  size_t scratch_bytes() const { return static_cast<size_t>(thread_scratch_ * spec_.threads); }
  std::string implementation() const { return main_->implementation; }

  Status Run(const KernelArgs& args) const {
    // Whole batches for each thread, or rows of each batch where there are few.
    const int64_t blocks = (m_ + rows_ - 1) / rows_;
    const int64_t shares = batch_ >= spec_.threads ? 1 : std::min<int64_t>(spec_.threads, blocks);
    return TryForParts(spec_.threads, batch_ * shares, 1, "an integer product",
                       [&](int part, int64_t begin, int64_t end) {
                         for (int64_t u = begin; u < end; ++u) {
                           const int64_t share = u % shares;
                           OCTAVO_RETURN_IF_ERROR(
                               RunRows(args, part, u / shares, blocks * share / shares, blocks * (share + 1) / shares));
                         }
                         return Status();
                       });
  }

 private:
  void PlaceScratch() {
    part_elements_ = RoundUp(rows_ * n_, 16);
    const int64_t parts = spec_.epilogue.parts;
    ScratchLayout scratch;
    sums_ = scratch.Place(part_elements_ * 4 * parts);
    floats_ = scratch.Place(EpilogueScratch(n_) * 4);
    packed_b_ = scratch.Place(RoundUp(k_ * n_, 64) * parts);
    columns_ = scratch.Place(n_ * 4);
    packed_a_ = scratch.Place(rows_ * k_);
    row_sums_ = scratch.Place(rows_ * 4);
    primitive_ = scratch.Place(static_cast<int64_t>(std::max(main_->scratch_bytes, last_ ? last_->scratch_bytes : 0)));
    thread_scratch_ = scratch.bytes() + 64;
  }

  // b' by parts, and -za sum b' + K za z' per column.
  void PackB(const uint8_t* b, int8_t* packed, int32_t* columns) const {
    const int32_t za = spec_.a_zero_point, zb = spec_.b_zero_point - 128;
    const int64_t part_bytes = RoundUp(k_ * n_, 64);
    std::fill_n(columns, n_, static_cast<int32_t>(k_) * za * zb);
    for (int64_t k = 0; k < k_; ++k) {
      const uint8_t* row = b + k * b_.row_stride();
      int8_t* to = packed + k * n_;
      for (int64_t n = 0; n < n_; ++n) {
        const int value = row[n * b_.column_stride()] - 128;
        columns[n] -= za * value;
        const int first = spec_.epilogue.parts == 1 ? value : std::clamp(value, -64, 64);
        to[n] = static_cast<int8_t>(first);
        if (spec_.epilogue.parts > 1) to[part_bytes + n] = static_cast<int8_t>(value - first);
      }
    }
  }

  // Rows of a, dense, and -z' sum a per row.
  const uint8_t* PackA(const uint8_t* a, int64_t rows, uint8_t* packed, int32_t* row_sums) const {
    const bool dense = a_.column_stride() == 1 && a_.row_stride() == k_;
    const int32_t zb = spec_.b_zero_point - 128;
    for (int64_t m = 0; m < rows; ++m) {
      const uint8_t* row = a + m * a_.row_stride();
      int32_t sum = 0;
      for (int64_t k = 0; k < k_; ++k) {
        const uint8_t value = row[k * a_.column_stride()];
        sum += value;
        if (!dense) packed[m * k_ + k] = value;
      }
      row_sums[m] = -zb * sum;
    }
    return dense ? a : packed;
  }

  Status RunRows(const KernelArgs& args, int thread, int64_t batch, int64_t first, int64_t last) const {
    auto* scratch = static_cast<std::byte*>(args.scratch) + thread * thread_scratch_;
    const auto* a = static_cast<const uint8_t*>(args.inputs[0]) + a_.Offset(batch, spec_.dst_dims);
    const auto* b = static_cast<const uint8_t*>(args.inputs[1]) + b_.Offset(batch, spec_.dst_dims);
    auto* packed_b = reinterpret_cast<int8_t*>(scratch + packed_b_);
    auto* columns = reinterpret_cast<int32_t*>(scratch + columns_);
    auto* row_sums = reinterpret_cast<int32_t*>(scratch + row_sums_);
    auto* sums = reinterpret_cast<int32_t*>(scratch + sums_);
    PackB(b, packed_b, columns);
    const Epilogue& epilogue = spec_.epilogue;
    for (int64_t block = first; block < last; ++block) {
      const int64_t row = block * rows_, rows = std::min(rows_, m_ - row);
      const uint8_t* dense =
          PackA(a + row * a_.row_stride(), rows, reinterpret_cast<uint8_t*>(scratch + packed_a_), row_sums);
      for (int part = 0; part < epilogue.parts; ++part) {
        OCTAVO_RETURN_IF_ERROR((rows == rows_ ? main_ : last_)
                                   ->RunProduct(thread, dense, packed_b + part * RoundUp(k_ * n_, 64),
                                                sums + part * part_elements_, scratch + primitive_));
      }
      EpilogueBlock out;
      out.accumulators = sums;
      out.accumulator_stride = out.channels = n_;
      out.part_stride = part_elements_;
      out.row_compensation = row_sums;
      out.compensation = columns;
      out.pixels = rows;
      const int64_t offset = (batch * m_ + row) * n_;
      for (size_t i = 0; i < epilogue.operands.size(); ++i) {
        out.operands[i] = static_cast<const char*>(args.inputs[2 + i]) +
                          offset * static_cast<int64_t>(SizeOf(epilogue.operands[i].dtype));
        out.operand_strides[i] = n_;
      }
      for (size_t i = 0; i < epilogue.outputs.size(); ++i) {
        out.outputs[i] =
            static_cast<char*>(args.outputs[i]) + offset * static_cast<int64_t>(SizeOf(epilogue.outputs[i].dtype));
        out.output_strides[i] = n_;
      }
      RunEpilogue(epilogue, out, reinterpret_cast<float*>(scratch + floats_));
    }
    return {};
  }

  IntegerProductSpec spec_;
  BatchedMatrix a_, b_;
  int64_t batch_ = 1, m_ = 0, n_ = 0, k_ = 0, rows_ = 0;
  std::shared_ptr<IntegerPrimitive> main_, last_;
  // Offsets into a thread's scratch, in bytes.
  int64_t sums_ = 0, floats_ = 0, packed_b_ = 0, columns_ = 0, packed_a_ = 0, row_sums_ = 0, primitive_ = 0;
  int64_t part_elements_ = 0, thread_scratch_ = 0;
};

}  // namespace

Result<IntegerKernel> BuildIntegerProduct(IntegerProductSpec spec, OneDnnBuilder& onednn) {
  auto product = std::make_shared<Product>(std::move(spec));
  OCTAVO_RETURN_IF_ERROR(product->Build(onednn));
  IntegerKernel result;
  result.implementation = product->implementation();
  result.kernel = KernelOf(std::move(product));
  return result;
}

}  // namespace octavo
