#include "engine/bfloat16_gelu_product.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/rounding.h"
#include "kernels/elementwise/gelu_rows.h"
#include "kernels/parts.h"
#include "kernels/simd/convert.h"

namespace octavo {

namespace {

constexpr int64_t kSumBytes = 256 << 10;  // of a block
constexpr int64_t kRows = 64;             // of a block, at least, for the weights' sake

class GeluProduct {
 public:
  static Result<std::shared_ptr<GeluProduct>> Create(OneDnnBuilder& onednn, const LinearSpec& spec, int threads) {
    auto product = std::make_shared<GeluProduct>();
    OCTAVO_RETURN_IF_ERROR(product->Build(onednn, spec, std::max(1, threads)));
    return product;
  }

  size_t scratch_bytes() const { return static_cast<size_t>(PartCount(threads_, tasks(), 1) * part_bytes_); }
  std::string implementation() const { return whole_->implementation; }

  Status Run(const KernelArgs& args) const {
    return TryForParts(threads_, tasks(), 1, "a product", [&](int part, int64_t begin, int64_t end) {
      char* scratch = static_cast<char*>(args.scratch) + part * part_bytes_;
      // Chunks of columns outside: their weights stay in cache while rows pass.
      for (int64_t task = begin; task < end; ++task) {
        OCTAVO_RETURN_IF_ERROR(RunBlock(args, part, task % blocks_, task / blocks_, scratch));
      }
      return Status();
    });
  }

 private:
  int64_t tasks() const { return blocks_ * (n_ / columns_); }

  Status Build(OneDnnBuilder& onednn, const LinearSpec& spec, int threads) {
    m_ = spec.m;
    k_ = spec.k;
    n_ = spec.n;
    if (m_ == 0 || k_ == 0 || n_ == 0) return Unsupported("an empty product");
    threads_ = threads;
    gelu_ = ChooseGeluRow(spec.post_ops[0].unary->String("approximate", "none") == "tanh");
    columns_ = n_;
    while (columns_ % 64 == 0 && std::min(m_, kRows) * columns_ * 4 > kSumBytes) columns_ /= 2;
    const int64_t most = std::max<int64_t>(16, kSumBytes / (4 * columns_) / 16 * 16);
    // Blocks of nearly equal size, a multiple of the threads where there is more than one block for each.
    const int64_t chunks = n_ / columns_;
    int64_t blocks = CeilDivide(m_, most);
    if (chunks % threads != 0) blocks = RoundUp(blocks, threads);
    rows_ = std::min(m_, RoundUp(CeilDivide(m_, blocks), 16));
    blocks_ = CeilDivide(m_, rows_);
    const int64_t rest = m_ - (blocks_ - 1) * rows_;
    const PackedProductSpec product{
        DType::kBFloat16, rows_, k_, columns_, spec.weights_transposed ? 1 : n_, spec.weights_transposed ? k_ : 1,
        threads};
    OCTAVO_ASSIGN(whole_, onednn.Product(product));
    PackedProductSpec smaller = product;
    smaller.m = rest;
    smaller.packed_as = whole_.get();
    OCTAVO_ASSIGN(rest_, onednn.Product(smaller));
    if (spec.bias.defined()) {
      const auto bias = spec.bias.values<float>();
      bias_.assign(bias.begin(), bias.end());
    }
    ScratchLayout scratch;
    scratch.Place(rows_ * columns_ * 4);
    library_at_ = scratch.Place(static_cast<int64_t>(std::max(whole_->scratch_bytes, rest_->scratch_bytes)));
    part_bytes_ = scratch.bytes();
    return Pack(spec);
  }

  Status Pack(const LinearSpec& spec) {
    const auto values = spec.weights.values<float>();
    std::vector<uint16_t> narrow(values.size());
    ChooseRowConversions().narrow(values.data(), narrow.data(), values.size());
    OCTAVO_ASSIGN(Tensor scratch, Tensor::Create(DType::kUInt8, {static_cast<int64_t>(whole_->scratch_bytes) + 64}));
    for (int64_t first = 0; first < n_; first += columns_) {
      OCTAVO_ASSIGN(Tensor packed, Tensor::Create(DType::kUInt8, {static_cast<int64_t>(whole_->packed_bytes)}));
      const uint16_t* from = narrow.data() + first * (spec.weights_transposed ? k_ : 1);
      OCTAVO_RETURN_IF_ERROR(whole_->Pack(0, from, packed.mutable_data(), scratch.mutable_data()));
      packed_.push_back(std::move(packed));
    }
    return {};
  }

  Status RunBlock(const KernelArgs& args, int part, int64_t block, int64_t chunk, char* scratch) const {
    const int64_t first = block * rows_, count = std::min(rows_, m_ - first), column = chunk * columns_;
    auto* sums = reinterpret_cast<float*>(scratch);
    const auto* src = static_cast<const uint16_t*>(args.inputs[0]) + first * k_;
    const auto& product = block + 1 == blocks_ ? rest_ : whole_;
    OCTAVO_RETURN_IF_ERROR(
        product->Run(part, src, packed_[static_cast<size_t>(chunk)].data(), sums, scratch + library_at_));
    const float* bias = bias_.empty() ? nullptr : bias_.data() + column;
    auto* dst = static_cast<uint16_t*>(args.outputs[0]) + first * n_ + column;
    for (int64_t r = 0; r < count; ++r) {
      gelu_(sums + r * columns_, bias, dst + r * n_, static_cast<size_t>(columns_));
    }
    return {};
  }

  int64_t m_ = 0, k_ = 0, n_ = 0, rows_ = 0, blocks_ = 0, columns_ = 0, library_at_ = 0, part_bytes_ = 0;
  int threads_ = 1;
  std::shared_ptr<PackedProduct> whole_, rest_;  // the last block is rest_'s
  std::vector<Tensor> packed_;                   // by chunk
  std::vector<float> bias_;
  GeluRowFn gelu_ = nullptr;
};

}  // namespace

bool IsBFloat16GeluProduct(const LinearSpec& spec) {
  return spec.src_dtype == DType::kBFloat16 && spec.dst_dtype == DType::kBFloat16 && spec.post_ops.size() == 1 &&
         spec.post_ops[0].kind == PostOpSpec::Kind::kUnary && spec.post_ops[0].unary->op == "Gelu";
}

Result<OneDnnKernel> BindBFloat16GeluProduct(OneDnnBuilder& onednn, const LinearSpec& spec, int threads) {
  OCTAVO_ASSIGN(std::shared_ptr<GeluProduct> product, GeluProduct::Create(onednn, spec, threads));
  OneDnnKernel result;
  result.implementation = "onednn " + product->implementation() + " in blocks";
  result.kernel = KernelOf(std::move(product));
  return result;
}

}  // namespace octavo
