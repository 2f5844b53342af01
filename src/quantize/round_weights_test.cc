#include "quantize/round_weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "octavo/quantize.h"

namespace octavo {
namespace {

// Operands whose inputs all share a common part, weights at random, and the operand as it arrives.
struct RandomLayer {
  int64_t outputs, inputs, rows;
  std::vector<float> weights, scales, wanted, seen;
  std::vector<double> gram, pull;

  RandomLayer(int64_t output_count, int64_t input_count, int64_t row_count, float noise, unsigned seed = 1)
      : outputs(output_count), inputs(input_count), rows(row_count) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < outputs * inputs; ++i) weights.push_back(normal(random));
    for (int64_t o = 0; o < outputs; ++o) {
      float largest = 0;
      for (int64_t i = 0; i < inputs; ++i) largest = std::max(largest, std::abs(weights[At(o * inputs + i)]));
      scales.push_back(largest / 7);  // coarse: 4 bits
    }
    for (int64_t r = 0; r < rows; ++r) {
      const float common = normal(random);
      for (int64_t i = 0; i < inputs; ++i) {
        wanted.push_back(common + 0.5f * normal(random));
        seen.push_back(wanted.back() + noise * normal(random));
      }
    }
    Sum();
  }

  static size_t At(int64_t i) { return static_cast<size_t>(i); }

  void Sum() {
    gram.assign(At(inputs * inputs), 0);
    pull.assign(At(outputs * inputs), 0);
    for (int64_t r = 0; r < rows; ++r) {
      const float* x = seen.data() + r * inputs;
      for (int64_t i = 0; i < inputs; ++i) {
        for (int64_t j = 0; j < inputs; ++j)
          gram[At(i * inputs + j)] += double{x[i]} * x[j] / static_cast<double>(rows);
      }
      for (int64_t o = 0; o < outputs; ++o) {
        double missing = 0;
        for (int64_t i = 0; i < inputs; ++i) {
          missing += double{weights[At(o * inputs + i)]} * (wanted[At(r * inputs + i)] - x[i]);
        }
        for (int64_t i = 0; i < inputs; ++i) pull[At(o * inputs + i)] += missing * x[i] / static_cast<double>(rows);
      }
    }
  }

  Rounding Round(double ridge, int threads = 1) const {
    return RoundJointly({outputs, inputs, weights, scales, gram, pull, ridge, threads});
  }

  // E[(w x - u x^)^2] summed over outputs, by its definition.
  double Noise(const std::vector<int8_t>& offsets) const {
    double noise = 0;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t o = 0; o < outputs; ++o) {
        double difference = 0;
        for (int64_t i = 0; i < inputs; ++i) {
          const size_t at = At(o * inputs + i), in = At(r * inputs + i);
          const double u = double{scales[At(o)]} * (std::nearbyint(weights[at] / scales[At(o)]) + offsets[at]);
          difference += double{weights[at]} * wanted[in] - u * seen[in];
        }
        noise += difference * difference / static_cast<double>(rows);
      }
    }
    return noise;
  }
  double NearestNoise() const { return Noise(std::vector<int8_t>(weights.size(), 0)); }
};

// 32 inputs of variance 1.25 with correlation 1 / 1.25: rounding errors at random, each step^2 / 12, cost
// step^2 / 12 * 32 * 1.25 per output. Errors whose sum vanishes cost only the part that is not common, a fifth of that:
// 7 dB. Half of it in dB must be found, for 32 choices cannot do everything.
TEST(RoundJointly, BeatsRoundingToNearestWhereInputsGoTogether) {
  const RandomLayer layer(16, 32, 2000, 0);
  const Rounding rounding = layer.Round(0);
  EXPECT_LT(layer.Noise(rounding.offsets), layer.NearestNoise() / std::pow(10, 0.35));
}

// What it says of itself is what it does.
TEST(RoundJointly, LossIsTheNoise) {
  const RandomLayer layer(7, 100, 500, 0.3f);
  const Rounding rounding = layer.Round(0);
  const double gained = layer.NearestNoise() - layer.Noise(rounding.offsets);
  // Sums of 100 float products, each off by 2^-24 of the largest: far below 0.1 %.
  EXPECT_NEAR(rounding.nearest_loss - rounding.loss, gained, 1e-3 * gained);
  EXPECT_GT(gained, 0);
}

// x^ = x / 2: weights twice as large would give the same results. Two steps of seven is as far as they may go.
TEST(RoundJointly, MakesUpForWhatIsMissing) {
  RandomLayer layer(4, 16, 1000, 0);
  for (float& x : layer.seen) x *= 0.5f;
  layer.Sum();
  const double gain = layer.NearestNoise() / layer.Noise(layer.Round(0).offsets);
  EXPECT_GT(gain, 1.5);
}

TEST(RoundJointly, IsNeverWorse) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    const RandomLayer layer(5, 1 + seed * 13, seed % 2 == 0 ? 4 : 300, seed % 3 == 0 ? 0.0f : 0.2f, seed);
    const Rounding rounding = layer.Round(0.01);
    EXPECT_LE(rounding.loss, rounding.nearest_loss) << seed;
    for (const int8_t offset : rounding.offsets) EXPECT_LE(std::abs(offset), kMaxRoundingOffset);
  }
}

// No integer grows past the largest that rounding to nearest makes, so that 7-bit weights stay 7 bits.
TEST(RoundJointly, KeepsTheRange) {
  RandomLayer layer(8, 24, 200, 0);
  for (float& x : layer.seen) x *= 0.5f;
  layer.Sum();
  const Rounding rounding = layer.Round(0);
  for (size_t i = 0; i < layer.weights.size(); ++i) {
    const float q = std::nearbyint(layer.weights[i] / layer.scales[i / 24]) + static_cast<float>(rounding.offsets[i]);
    EXPECT_LE(std::abs(q), 7.0f);
  }
}

TEST(RoundJointly, SilentInputsStayNearest) {
  RandomLayer layer(4, 8, 100, 0);
  for (float& x : layer.wanted) x = 0;
  layer.seen = layer.wanted;
  layer.Sum();
  const Rounding rounding = layer.Round(0.01);
  EXPECT_EQ(rounding.offsets, std::vector<int8_t>(32, 0));
  EXPECT_EQ(rounding.loss, rounding.nearest_loss);
}

TEST(RoundJointly, EqualBitsOnAnyThreads) {
  const RandomLayer layer(200, 150, 300, 0.1f);
  const Rounding one = layer.Round(0.01, 1);
  for (const int threads : {2, 3, 5}) {
    const Rounding many = layer.Round(0.01, threads);
    EXPECT_EQ(many.offsets, one.offsets);
    EXPECT_EQ(many.loss, one.loss);
  }
}

}  // namespace
}  // namespace octavo
