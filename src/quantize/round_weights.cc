// Babai's nearest plane (GPTQ's order of work, without its inverse), then descent one coordinate at a time.
#include "quantize/round_weights.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/parallel.h"
#include "base/rounding.h"
#include "engine/onednn.h"
#include "octavo/quantize.h"

namespace octavo {
namespace {

constexpr int64_t kBlock = 64;        // columns that are solved by plain loops between two products
constexpr int64_t kRowTile = 64;      // outputs per unit of work: the partition does not depend on threads
constexpr int kMaxSweeps = 16;        // of coordinate descent: most rows end after three
constexpr double kLeastPower = 1e-9;  // of a channel, against the strongest one's: a silent channel still has a scale
// Pivots of a positive definite matrix whose diagonal is 1 or more; rounding may leave less.
constexpr double kLeastPivot = 1e-6;

// The problem with every input scaled to H_kk = 1 and the strongest one last, so that it is chosen first.
class ScaledProblem {
 public:
  explicit ScaledProblem(const RoundingProblem& problem) : p_(problem), k_(problem.inputs) {
    ScaleInputs();
    FillGram();
    const auto count = static_cast<size_t>(p_.outputs * k_);
    weights_.resize(count);
    pull_.resize(count);
    nearest_.resize(count);
    largest_.resize(static_cast<size_t>(p_.outputs), 0.0f);
    for (int64_t o = 0; o < p_.outputs; ++o) FillRow(o);
  }

  int64_t inputs() const { return k_; }
  int64_t outputs() const { return p_.outputs; }
  const float* gram() const { return gram_.data(); }
  const float* weights(int64_t o) const { return weights_.data() + o * k_; }
  const float* pull(int64_t o) const { return pull_.data() + o * k_; }
  const float* nearest(int64_t o) const { return nearest_.data() + o * k_; }
  float Step(int64_t o, int64_t k) const { return p_.scales[static_cast<size_t>(o)] * size_[static_cast<size_t>(k)]; }
  // The integer closest to `wanted` that is allowed.
  float Allowed(int64_t o, int64_t k, float wanted) const {
    const float near = nearest(o)[k], largest = largest_[static_cast<size_t>(o)];
    const float low = std::max(near - kMaxRoundingOffset, -largest),
                high = std::min(near + kMaxRoundingOffset, largest);
    return std::clamp(std::nearbyint(wanted), low, high);
  }
  int64_t OriginalInput(int64_t k) const { return order_[static_cast<size_t>(k)]; }

 private:
  double Power(int64_t k) const { return p_.gram[static_cast<size_t>(k * k_ + k)]; }

  void ScaleInputs() {
    double strongest = 0;
    for (int64_t k = 0; k < k_; ++k) strongest = std::max(strongest, Power(k));
    const double floor = strongest > 0 ? strongest * kLeastPower : 1;
    order_.resize(static_cast<size_t>(k_));
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(), [&](int64_t a, int64_t b) { return Power(a) < Power(b); });
    for (const int64_t k : order_) size_.push_back(static_cast<float>(std::sqrt(std::max(Power(k), floor))));
  }

  void FillGram() {
    gram_.resize(static_cast<size_t>(k_ * k_));
    for (int64_t i = 0; i < k_; ++i) {
      const double* row = p_.gram.data() + OriginalInput(i) * k_;
      float* out = gram_.data() + i * k_;
      for (int64_t j = 0; j < k_; ++j) {
        const double size = double{size_[static_cast<size_t>(i)]} * size_[static_cast<size_t>(j)];
        out[j] = static_cast<float>(row[OriginalInput(j)] / size);
      }
      out[i] = static_cast<float>(1 + p_.ridge);
    }
  }

  void FillRow(int64_t o) {
    const auto row = static_cast<size_t>(o * k_);
    const float scale = p_.scales[static_cast<size_t>(o)];
    for (int64_t k = 0; k < k_; ++k) {
      const auto from = row + static_cast<size_t>(OriginalInput(k)), to = row + static_cast<size_t>(k);
      const float size = size_[static_cast<size_t>(k)];
      weights_[to] = p_.weights[from] * size;
      pull_[to] = static_cast<float>(p_.pull[from] / size);
      nearest_[to] = std::clamp(std::nearbyint(p_.weights[from] / scale), -127.0f, 127.0f);
      float& largest = largest_[static_cast<size_t>(o)];
      largest = std::max(largest, std::abs(nearest_[to]));
    }
  }

  const RoundingProblem& p_;
  const int64_t k_;
  std::vector<int64_t> order_;  // the input that stands at each place
  std::vector<float> size_;     // sqrt(H_kk), by place
  std::vector<float> gram_, weights_, pull_, nearest_;
  std::vector<float> largest_;  // by output
};

// The lower factor L of gram = L L', blockwise.
class Factor {
 public:
  Factor(const float* gram, int64_t k, int threads) : k_(k), l_(gram, gram + k * k) {
    for (int64_t begin = 0; begin < k_; begin += kBlock) {
      const int64_t end = std::min(begin + kBlock, k_);
      FactorDiagonal(begin, end);
      const int64_t tiles = CeilDivide(k_ - end, kRowTile);
      ParallelFor(threads, tiles, 1, [&](int64_t first, int64_t last) {
        for (int64_t r = end + first * kRowTile; r < std::min(end + last * kRowTile, k_); ++r) SolveRow(r, begin, end);
      });
      ParallelFor(threads, tiles, 1, [&](int64_t first, int64_t last) {
        for (int64_t tile = first; tile < last; ++tile) Update(end + tile * kRowTile, begin, end);
      });
    }
  }

  const float* row(int64_t i) const { return l_.data() + i * k_; }

 private:
  float* Row(int64_t i) { return l_.data() + i * k_; }

  void FactorDiagonal(int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t j = begin; j <= i; ++j) {
        double sum = Row(i)[j];
        for (int64_t t = begin; t < j; ++t) sum -= double{Row(i)[t]} * Row(j)[t];
        Row(i)[j] = static_cast<float>(i == j ? std::sqrt(std::max(sum, kLeastPivot)) : sum / Row(j)[j]);
      }
    }
  }
  void SolveRow(int64_t r, int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      float sum = Row(r)[j];
      for (int64_t t = begin; t < j; ++t) sum -= Row(r)[t] * Row(j)[t];
      Row(r)[j] = sum / Row(j)[j];
    }
  }
  // Rows [top, top + kRowTile) right of the block, up to their diagonal.
  void Update(int64_t top, int64_t begin, int64_t end) {
    const int64_t bottom = std::min(top + kRowTile, k_);
    MultiplyFloats({.m = bottom - top,
                    .k = end - begin,
                    .n = bottom - end,
                    .a = Row(top) + begin,
                    .a_leading = k_,
                    .b = Row(end) + begin,
                    .b_leading = k_,
                    .b_transposed = true,
                    .c = Row(top) + end,
                    .c_leading = k_,
                    .scale = -1,
                    .adds = true});
  }

  const int64_t k_;
  std::vector<float> l_;
};

// A tile of outputs, from the first guess to the last sweep.
class RowTile {
 public:
  RowTile(const ScaledProblem& problem, const Factor& factor, int64_t first, int64_t last)
      : p_(problem), factor_(factor), k_(problem.inputs()), first_(first), rows_(last - first) {}

  void Run(std::span<int8_t> offsets, std::span<double> nearest_losses, std::span<double> losses) {
    std::vector<float> nearest(p_.nearest(first_), p_.nearest(first_) + rows_ * k_);
    std::vector<float> planes = NearestPlanes();
    std::vector<float> nearest_slope = Slopes(nearest), slope = Slopes(planes);
    for (int64_t r = 0; r < rows_; ++r) {
      const double before = Loss(r, nearest, nearest_slope);
      nearest_losses[static_cast<size_t>(first_ + r)] = losses[static_cast<size_t>(first_ + r)] = before;
      if (Loss(r, planes, slope) >= before) {
        std::copy_n(nearest.data() + r * k_, k_, planes.data() + r * k_);
        std::copy_n(nearest_slope.data() + r * k_, k_, slope.data() + r * k_);
      }
      Descend(r, planes.data() + r * k_, slope.data() + r * k_);
    }
    slope = Slopes(planes);
    for (int64_t r = 0; r < rows_; ++r) Finish(r, planes, Loss(r, planes, slope), offsets, losses);
  }

 private:
  // Nothing is kept of a row that ended no better than it began: rounding errors of the sums could do that.
  void Finish(int64_t r, const std::vector<float>& integers, double loss, std::span<int8_t> offsets,
              std::span<double> losses) {
    const int64_t o = first_ + r;
    double& kept = losses[static_cast<size_t>(o)];
    const bool better = loss < kept;
    if (better) kept = loss;
    for (int64_t k = 0; k < k_; ++k) {
      const float offset = better ? integers[static_cast<size_t>(r * k_ + k)] - p_.nearest(o)[k] : 0;
      offsets[static_cast<size_t>(o * k_ + p_.OriginalInput(k))] = static_cast<int8_t>(offset);
    }
  }

  float Error(int64_t r, int64_t k, float integer) const {
    return integer * p_.Step(first_ + r, k) - p_.weights(first_ + r)[k];
  }

  // Half the gradient of J at these integers: H (u - w) - d.
  std::vector<float> Slopes(const std::vector<float>& integers) const {
    std::vector<float> errors(integers.size());
    for (int64_t i = 0; i < rows_ * k_; ++i) {
      errors[static_cast<size_t>(i)] = Error(i / k_, i % k_, integers[static_cast<size_t>(i)]);
    }
    std::vector<float> slopes(p_.pull(first_), p_.pull(first_) + rows_ * k_);
    for (float& slope : slopes) slope = -slope;
    MultiplyFloats({.m = rows_,
                    .k = k_,
                    .n = k_,
                    .a = errors.data(),
                    .a_leading = k_,
                    .b = p_.gram(),
                    .b_leading = k_,
                    .c = slopes.data(),
                    .c_leading = k_,
                    .adds = true});
    return slopes;
  }

  double Loss(int64_t r, const std::vector<float>& integers, const std::vector<float>& slopes) const {
    double loss = 0;
    for (int64_t k = 0; k < k_; ++k) {
      const auto at = static_cast<size_t>(r * k_ + k);
      loss += double{Error(r, k, integers[at])} * (double{slopes[at]} - p_.pull(first_ + r)[k]);
    }
    return loss;
  }

  // L z = d, then L' v = z: the least squares' answer, as a change of w.
  std::vector<float> BestChange() const {
    std::vector<float> v(p_.pull(first_), p_.pull(first_) + rows_ * k_);
    for (int64_t begin = 0; begin < k_; begin += kBlock) {
      const int64_t end = std::min(begin + kBlock, k_);
      Subtract(v, v, 0, begin, begin, end, true);
      for (int64_t r = 0; r < rows_; ++r) SolveForward(v.data() + r * k_, begin, end);
    }
    for (int64_t end = k_; end > 0;) {
      const int64_t begin = (end - 1) / kBlock * kBlock;
      Subtract(v, v, end, k_, begin, end, false);
      for (int64_t r = 0; r < rows_; ++r) SolveBackward(v.data() + r * k_, begin, end);
      end = begin;
    }
    return v;
  }

  // v[:, begin..end) -= x[:, from..to) times L between these columns: L(begin.., from..)' or L(from.., begin..).
  void Subtract(const std::vector<float>& x, std::vector<float>& v, int64_t from, int64_t to, int64_t begin,
                int64_t end, bool transposed) const {
    if (from == to) return;
    MultiplyFloats({.m = rows_,
                    .k = to - from,
                    .n = end - begin,
                    .a = x.data() + from,
                    .a_leading = k_,
                    .b = transposed ? factor_.row(begin) + from : factor_.row(from) + begin,
                    .b_leading = k_,
                    .b_transposed = transposed,
                    .c = v.data() + begin,
                    .c_leading = k_,
                    .scale = -1,
                    .adds = true});
  }
  void SolveForward(float* v, int64_t begin, int64_t end) const {
    for (int64_t j = begin; j < end; ++j) {
      float sum = v[j];
      for (int64_t t = begin; t < j; ++t) sum -= v[t] * factor_.row(j)[t];
      v[j] = sum / factor_.row(j)[j];
    }
  }
  void SolveBackward(float* v, int64_t begin, int64_t end) const {
    for (int64_t j = end; j-- > begin;) {
      v[j] /= factor_.row(j)[j];
      for (int64_t t = begin; t < j; ++t) v[t] -= v[j] * factor_.row(j)[t];
    }
  }

  // From the last input to the first: each takes the integer closest to where the sum of squares
  //   J = sum_j (L_jj (e_j - v_j) + sum_{i > j} L_ij (e_i - v_i))^2
  // has its least given those chosen before; e = u - w, v = BestChange().
  std::vector<float> NearestPlanes() const {
    const std::vector<float> best = BestChange();
    std::vector<float> integers(best.size()), off(best.size());
    for (int64_t end = k_; end > 0;) {
      const int64_t begin = (end - 1) / kBlock * kBlock;
      std::vector<float> sums(best.size(), 0.0f);
      Subtract(off, sums, end, k_, begin, end, false);
      for (int64_t r = 0; r < rows_; ++r) ChooseBlock(r, begin, end, best, sums, integers, off);
      end = begin;
    }
    return integers;
  }
  void ChooseBlock(int64_t r, int64_t begin, int64_t end, const std::vector<float>& best, std::vector<float>& sums,
                   std::vector<float>& integers, std::vector<float>& off) const {
    float* left = sums.data() + r * k_;  // -sum_{i > j} L_ij off_i
    for (int64_t j = end; j-- > begin;) {
      const auto at = static_cast<size_t>(r * k_ + j);
      const float wanted = best[at] + left[j] / factor_.row(j)[j] + p_.weights(first_ + r)[j];
      integers[at] = p_.Allowed(first_ + r, j, wanted / p_.Step(first_ + r, j));
      off[at] = Error(r, j, integers[at]) - best[at];
      for (int64_t t = begin; t < j; ++t) left[t] -= off[at] * factor_.row(j)[t];
    }
  }

  // Moves one integer at a time where that lowers J, until none does.
  void Descend(int64_t r, float* integers, float* slope) const {
    const int64_t o = first_ + r;
    for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
      bool moved = false;
      for (int64_t k = 0; k < k_; ++k) {
        const float* row = p_.gram() + k * k_;
        const float step = p_.Step(o, k);
        const float to = p_.Allowed(o, k, integers[k] - slope[k] / (row[k] * step));
        const float change = (to - integers[k]) * step;
        if (to == integers[k] || change * (2 * slope[k] + row[k] * change) >= 0) continue;
        integers[k] = to;
        moved = true;
        for (int64_t j = 0; j < k_; ++j) slope[j] += change * row[j];
      }
      if (!moved) return;
    }
  }

  const ScaledProblem& p_;
  const Factor& factor_;
  const int64_t k_, first_, rows_;
};

}  // namespace

Rounding RoundJointly(const RoundingProblem& problem) {
  const ScaledProblem scaled(problem);
  const Factor factor(scaled.gram(), problem.inputs, problem.threads);
  Rounding rounding;
  rounding.offsets.resize(static_cast<size_t>(problem.outputs * problem.inputs));
  std::vector<double> nearest(static_cast<size_t>(problem.outputs)), losses;
  losses.resize(nearest.size());
  ParallelFor(problem.threads, CeilDivide(problem.outputs, kRowTile), 1, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      RowTile(scaled, factor, tile * kRowTile, std::min((tile + 1) * kRowTile, problem.outputs))
          .Run(rounding.offsets, nearest, losses);
    }
  });
  rounding.nearest_loss = std::accumulate(nearest.begin(), nearest.end(), 0.0);
  rounding.loss = std::accumulate(losses.begin(), losses.end(), 0.0);
  return rounding;
}

}  // namespace octavo
