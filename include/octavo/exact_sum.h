// Sums that do not depend on the order of their terms: fixed-point numbers wide enough to round nothing.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

namespace octavo {

// A two's complement number of kWords * 64 bits in units of 2^kLowestBit. Exact for terms that are multiples of
// that unit while the sum stays below 2^(kWords * 64 - 1 + kLowestBit).
template <int kWords, int kLowestBit>
class ExactSum {
 public:
  using Words = std::array<uint64_t, kWords>;  // least significant first

  ExactSum() = default;
  explicit ExactSum(const Words& words) : words_(words) {}

  // `term` must be finite; what lies below the unit is cut off.
  void Add(double term) {
    if (term == 0) return;
    int exponent = 0;
    const double fraction = std::frexp(std::abs(term), &exponent);  // in [1/2, 1)
    auto bits = static_cast<uint64_t>(std::ldexp(fraction, 53));    // 53 bits, times 2^(exponent - 53)
    int place = exponent - 53 - kLowestBit;
    if (place < 0) {
      bits = place > -64 ? bits >> -place : 0;
      place = 0;
    }
    Words shifted{};
    const auto word = static_cast<size_t>(place / 64);
    const int shift = place % 64;
    if (word < kWords) shifted[word] = bits << shift;
    if (shift > 0 && word + 1 < kWords) shifted[word + 1] = bits >> (64 - shift);
    AddWords(shifted, term < 0);
  }

  void Add(const ExactSum& other) { AddWords(other.words_, false); }

  // The nearest double; ties to even.
  double value() const {
    const bool negative = (words_[kWords - 1] >> 63) != 0;
    Words magnitude = words_;
    if (negative) {
      magnitude = {};
      ExactSum negated(magnitude);
      negated.AddWords(words_, true);
      magnitude = negated.words_;
    }
    int top = kWords - 1;
    while (top > 0 && magnitude[static_cast<size_t>(top)] == 0) --top;
    // The 64 bits from the highest one that is set; a bit below them that is set makes the last one odd, so that the
    // conversion to double sees that it is no tie.
    const int zeros = std::countl_zero(magnitude[static_cast<size_t>(top)]);
    if (zeros == 64) return 0;
    uint64_t high = magnitude[static_cast<size_t>(top)] << zeros;
    bool sticky = false;
    if (top > 0) {
      const uint64_t below = magnitude[static_cast<size_t>(top) - 1];
      if (zeros > 0) high |= below >> (64 - zeros);
      sticky = (below << zeros) != 0;
      for (int i = 0; i + 1 < top; ++i) sticky |= magnitude[static_cast<size_t>(i)] != 0;
    }
    const double rounded = static_cast<double>(high | (sticky ? 1 : 0));
    const double value = std::ldexp(rounded, 64 * top - zeros + kLowestBit);
    return negative ? -value : value;
  }

  const Words& words() const { return words_; }
  bool operator==(const ExactSum&) const = default;

 private:
  // Adds `other`, or subtracts it, modulo 2^(64 kWords).
  void AddWords(const Words& other, bool subtract) {
    uint64_t carry = subtract ? 1 : 0;
    for (size_t i = 0; i < kWords; ++i) {
      const uint64_t term = subtract ? ~other[i] : other[i];
      const uint64_t partial = words_[i] + term;
      const uint64_t sum = partial + carry;
      carry = (partial < term || sum < partial) ? 1 : 0;
      words_[i] = sum;
    }
  }

  Words words_{};
};

// Of floats: multiples of 2^-149 below 2^128, at most 2^40 of them in a sample, 2^64 samples: 2^232 < 2^234.
using ValueSum = ExactSum<6, -149>;
// Of their squares: multiples of 2^-298 below 2^256; the sum of 2^40 of them in each of 2^45 samples: 2^341.
using SquareSum = ExactSum<10, -298>;

}  // namespace octavo
