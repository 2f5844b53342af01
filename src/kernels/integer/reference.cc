#include "kernels/integer/reference.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace octavo {
namespace {

float Clamp(float x, float low, float high) {
  // Written so that NaN stays NaN, as the vector kernels have it.
  x = low > x ? low : x;
  return high < x ? high : x;
}

float PowerOfTwo(int32_t exponent) { return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23); }

// x = n ln 2 + r, a polynomial in r, 2^n in two factors.
float Exp(float x) {
  const float clamped = Clamp(x, -110.0f, 90.0f);
  const float n = std::nearbyint(clamped * 1.44269504088896341f);
  float r = std::fma(-n, 0.693359375f, clamped);
  r = std::fma(-n, -2.12194440e-4f, r);
  float p = std::fma(1.9875691500e-4f, r, 1.3981999507e-3f);
  p = std::fma(p, r, 8.3334519073e-3f);
  p = std::fma(p, r, 4.1665795894e-2f);
  p = std::fma(p, r, 1.6666665459e-1f);
  p = std::fma(p, r, 5.0000001201e-1f);
  p = std::fma(p * r, r, r) + 1.0f;
  const auto whole = static_cast<int32_t>(n);
  const int32_t half = whole >> 1;
  return p * PowerOfTwo(half) * PowerOfTwo(whole - half);
}

float Erf(float input) {
  const float x = Clamp(input, -4.0f, 4.0f), s = x * x;
  float p = std::fma(s, -2.72614225801306e-10f, 2.77068142495902e-08f);
  for (const float c : {-2.10102402082508e-06f, -5.69250639462346e-05f, -7.34990630326855e-04f, -2.95459980854025e-03f,
                        -1.60960333262415e-02f}) {
    p = std::fma(p, s, c);
  }
  float q = std::fma(s, -1.45660718464996e-05f, -2.13374055278905e-04f);
  for (const float c : {-1.68282697438203e-03f, -7.37332916720468e-03f, -1.42647390514189e-02f}) q = std::fma(q, s, c);
  return x * p / q;
}

float Tanh(float input) {
  const float x = Clamp(input, -7.90531110763549805f, 7.90531110763549805f), s = x * x;
  float p = std::fma(s, -2.76076847742355e-16f, 2.00018790482477e-13f);
  for (const float c : {-8.60467152213735e-11f, 5.12229709037114e-08f, 1.48572235717979e-05f, 6.37261928875436e-04f,
                        4.89352455891786e-03f}) {
    p = std::fma(p, s, c);
  }
  float q = std::fma(s, 1.19825839466702e-06f, 1.18534705686654e-04f);
  for (const float c : {2.26843463243900e-03f, 4.89352518554385e-03f}) q = std::fma(q, s, c);
  return x * p / q;
}

float Gelu(float x) {
  const float half = x * 0.5f;
  return std::fma(half, Erf(x * 0.70710678118654752440f), half);
}

float GeluTanh(float x) {
  constexpr float kTwoSqrt2OverPi = 1.59576912160573071175f;
  const float slope = std::fma(x * x, 0.044715f * kTwoSqrt2OverPi, kTwoSqrt2OverPi);
  return x / (1.0f + Exp(-(x * slope)));
}

float HardSwish(float x) { return x * Clamp(std::fma(x, 1.0f / 6, 0.5f), 0.0f, 1.0f); }

float Bound(const Graph& graph, const Node& node, size_t input, const char* attribute, float fallback) {
  if (!node.has_input(input)) return node.Float(attribute, fallback);
  return graph.value(node.input(input)).constant.values<float>()[0];
}

// n as float(high) * 2^16 + float(low), low in [-2^15, 2^15).
float RoundWhole(int64_t n) {
  const int64_t high = (n + 32768) >> 16, low = n - high * 65536;
  return std::fma(static_cast<float>(high), 65536.0f, static_cast<float>(low));
}

}  // namespace

int32_t ReferenceQuantize(float value, float scale, int32_t zero_point, bool is_signed) {
  const int32_t low = is_signed ? -128 : 0;
  float t = value / scale;
  const auto first = static_cast<float>(low - zero_point), last = static_cast<float>(low + 255 - zero_point);
  t = t > first ? t : first;
  t = t < last ? t : last;
  return static_cast<int32_t>(std::nearbyint(t)) + zero_point;
}

float ReferenceDequantize(int32_t q, float scale, int32_t zero_point) {
  return static_cast<float>(q - zero_point) * scale;
}

Result<float> ReferenceUnary(const Graph& graph, const Node& node, float x) {
  if (node.op == "Relu") return 0.0f > x ? 0.0f : x;
  if (node.op == "LeakyRelu") return x < 0 ? node.Float("alpha", 0.01f) * x : x;
  if (node.op == "Sigmoid") return 1.0f / (1.0f + Exp(-x));
  if (node.op == "Silu") return x / (1.0f + Exp(-(node.Float("alpha", 1.0f) * x)));
  if (node.op == "Tanh") return Tanh(x);
  if (node.op == "Abs") return std::fabs(x);
  if (node.op == "Sqrt") return std::sqrt(x);
  if (node.op == "HardSwish") return HardSwish(x);
  if (node.op == "Gelu") return node.String("approximate", "none") == "tanh" ? GeluTanh(x) : Gelu(x);
  if (node.op == "Clip") {
    constexpr float kMax = std::numeric_limits<float>::max();
    return Clamp(x, Bound(graph, node, 1, "min", -kMax), Bound(graph, node, 2, "max", kMax));
  }
  return Unsupported(node.op + " has no reference");
}

std::vector<int64_t> ReferenceConvolution::Sums(const std::vector<uint8_t>& x,
                                                const std::vector<int16_t>& weights) const {
  const int64_t in_group = in_channels / groups, out_group = out_channels / groups;
  std::vector<int64_t> sums;
  sums.reserve(static_cast<size_t>(batch * out_rows * out_columns * out_channels));
  for (int64_t n = 0; n < batch; ++n) {
    for (int64_t oy = 0; oy < out_rows; ++oy) {
      for (int64_t ox = 0; ox < out_columns; ++ox) {
        for (int64_t o = 0; o < out_channels; ++o) {
          int64_t sum = 0;
          for (int64_t i = 0; i < in_group; ++i) {
            for (int64_t ky = 0; ky < kernel_rows; ++ky) {
              for (int64_t kx = 0; kx < kernel_columns; ++kx) {
                const int64_t y = oy * stride_rows + ky * dilation_rows - pad_top;
                const int64_t c = ox * stride_columns + kx * dilation_columns - pad_left;
                if (y < 0 || y >= in_rows || c < 0 || c >= in_columns) continue;
                const int64_t at = ((n * in_rows + y) * in_columns + c) * in_channels + o / out_group * in_group + i;
                const int64_t w = ((o * in_group + i) * kernel_rows + ky) * kernel_columns + kx;
                sum += (int64_t{x[static_cast<size_t>(at)]} - zero_point) * weights[static_cast<size_t>(w)];
              }
            }
          }
          sums.push_back(sum);
        }
      }
    }
  }
  return sums;
}

std::vector<float> ReferenceLinearAttention::Run(const std::vector<int32_t>& q, const std::vector<int32_t>& k,
                                                 const std::vector<int32_t>& v) const {
  // Keys times values, and in the last column keys times 1.
  const int64_t columns = width + 1;
  std::vector<int64_t> state(static_cast<size_t>(depth * columns), 0);
  for (int64_t t = 0; t < keys; ++t) {
    for (int64_t c = 0; c < depth; ++c) {
      for (int64_t e = 0; e < columns; ++e) {
        const int64_t value = e == width ? 1 : v[static_cast<size_t>(t * width + e)];
        state[static_cast<size_t>(c * columns + e)] += k[static_cast<size_t>(t * depth + c)] * value;
      }
    }
  }
  const auto sum = [&](int64_t t, int64_t e) {
    int64_t total = 0;
    for (int64_t c = 0; c < depth; ++c) {
      total += q[static_cast<size_t>(t * depth + c)] * state[static_cast<size_t>(c * columns + e)];
    }
    return RoundWhole(total);
  };
  std::vector<float> result;
  for (int64_t t = 0; t < queries; ++t) {
    const float multiplier = value_scale / (sum(t, width) + epsilon);
    for (int64_t e = 0; e < width; ++e) result.push_back(sum(t, e) * multiplier);
  }
  return result;
}

}  // namespace octavo
