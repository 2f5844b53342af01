// Small Q/DQ graphs, run by the engine and by the generic kernels, for tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "graph/shape_inference.h"
#include "kernels/kernel.h"
#include "octavo/session.h"

namespace octavo {

class QuantizedGraph {
 public:
  explicit QuantizedGraph(Dims input, uint32_t seed = 1) : engine_(seed) {
    graph.opsets[""] = 19;
    x = graph.AddValue("x", DType::kFloat32, std::move(input));
    graph.inputs = {x};
  }

  ValueId Op(const std::string& op, std::vector<ValueId> inputs, std::map<std::string, Attribute> attributes = {},
             const std::string& domain = "") {
    const ValueId y = graph.AddValue(op);
    graph.AddNode(op, domain, op, std::move(inputs), {y}, std::move(attributes));
    return y;
  }
  ValueId Constant(Tensor tensor) { return graph.AddConstant("c", std::move(tensor)); }
  ValueId Scalar(float value) { return Constant(Tensor::Scalar<float>(value)); }
  ValueId Floats(const std::vector<float>& values) {
    return Constant(Tensor::FromVector<float>({static_cast<int64_t>(values.size())}, values));
  }
  Tensor Normal(Dims dims, float deviation = 1) {
    Tensor tensor = *Tensor::Create(DType::kFloat32, std::move(dims));
    std::normal_distribution<float> normal(0, deviation);
    for (float& v : tensor.mutable_values<float>()) v = normal(engine_);
    return tensor;
  }

  ValueId Q8(ValueId value, float scale, int zero = 128) {
    return Op("QuantizeLinear", {value, Scalar(scale), Constant(Tensor::Scalar<uint8_t>(static_cast<uint8_t>(zero)))});
  }
  ValueId D8(ValueId value, float scale, int zero = 128) {
    return Op("DequantizeLinear",
              {value, Scalar(scale), Constant(Tensor::Scalar<uint8_t>(static_cast<uint8_t>(zero)))});
  }
  // Through uint8 and back.
  ValueId Fake(ValueId value, float scale = 0.03f, int zero = 128) { return D8(Q8(value, scale, zero), scale, zero); }
  ValueId FakeSigned(ValueId value, float scale = 0.03f) {
    const ValueId zero = Constant(Tensor::Scalar<int8_t>(3));
    const ValueId q = Op("QuantizeLinear", {value, Scalar(scale), zero});
    return Op("DequantizeLinear", {q, Scalar(scale), zero});
  }
  // int8 weights with a scale per slice of `axis`.
  ValueId Weights(Dims dims, int64_t axis) {
    Tensor q = *Tensor::Create(DType::kInt8, dims);
    for (auto& v : q.mutable_values<int8_t>())
      v = static_cast<int8_t>(std::uniform_int_distribution<int>(-127, 127)(engine_));
    std::vector<float> scales;
    for (int64_t i = 0; i < dims[static_cast<size_t>(axis)]; ++i)
      scales.push_back(std::uniform_real_distribution<float>(0.001f, 0.01f)(engine_));
    return Op("DequantizeLinear", {Constant(std::move(q)), Floats(scales)}, {{"axis", axis}});
  }
  void Output(ValueId value) { graph.outputs.push_back(value); }

  Graph graph;
  ValueId x = kNoValue;

 private:
  std::mt19937 engine_;
};

struct Ran {
  std::vector<Tensor> outputs;
  PlanInfo plan;
};

inline Ran RunWith(const Graph& graph, const std::vector<Tensor>& inputs, const SessionOptions& options) {
  auto session = Session::Create(graph, options);
  EXPECT_TRUE(session.ok()) << session.status().message();
  if (!session.ok()) return {};
  auto outputs = session->Run(inputs);
  EXPECT_TRUE(outputs.ok()) << outputs.status().message();
  if (!outputs.ok()) return {};
  return {*std::move(outputs), session->plan()};
}

inline Ran RunSession(const Graph& graph, const Tensor& input, int threads = 2,
                      Precision precision = Precision::kFloat32) {
  SessionOptions options;
  options.threads = threads;
  options.precision = precision;
  return RunWith(graph, {input}, options);
}

// Equal types and shapes, and no element further apart than `tolerance`; NaN is near nothing.
inline void ExpectNear(const Tensor& actual, const Tensor& expected, float tolerance, const std::string& what) {
  ASSERT_EQ(actual.dtype(), expected.dtype()) << what;
  ASSERT_EQ(actual.dims(), expected.dims()) << what;
  const auto want = *ToFloats(expected), got = *ToFloats(actual);
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_LE(std::fabs(want[i] - got[i]), tolerance)
        << what << ", element " << i << ": " << got[i] << " for " << want[i];
  }
}

inline void ExpectSameBits(const std::vector<Tensor>& actual, const std::vector<Tensor>& expected,
                           const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t k = 0; k < expected.size(); ++k) {
    ASSERT_EQ(actual[k].dims(), expected[k].dims()) << what;
    EXPECT_EQ(std::memcmp(actual[k].data(), expected[k].data(), expected[k].bytes()), 0) << what << ", output " << k;
  }
}

// Runs with `share` of the multiply-accumulates on integers, with the same bits on every thread count where that is all
// of them, and equal to the float meaning within `tolerance`.
inline Ran ExpectIntegerOn(const QuantizedGraph& g, const std::vector<Tensor>& inputs, float tolerance,
                           double share = 1) {
  SessionOptions options;
  options.threads = 2;
  const Ran ran = RunWith(g.graph, inputs, options);
  if (ran.outputs.empty()) return ran;
  EXPECT_NEAR(ran.plan.int8_macs_share(), share, 1e-9);
  int64_t integer_macs = 0;
  for (const StepInfo& step : ran.plan.steps) integer_macs += step.precision == "int8" ? step.macs : 0;
  // The steps of a transposed convolution share its multiply-accumulates, rounded down.
  EXPECT_NEAR(static_cast<double>(integer_macs), static_cast<double>(ran.plan.int8_macs), 8);
  const auto expected = EvaluateGraph(g.graph, inputs);
  EXPECT_TRUE(expected.ok()) << expected.status().message();
  if (!expected.ok()) return ran;
  EXPECT_EQ(ran.outputs.size(), expected->size());
  for (size_t k = 0; k < ran.outputs.size(); ++k) {
    ExpectNear(ran.outputs[k], (*expected)[k], tolerance, "output " + std::to_string(k));
  }
  for (const int threads : {1, 3}) {
    options.threads = threads;
    const std::string what = std::to_string(threads) + " threads";
    const Ran again = RunWith(g.graph, inputs, options);
    if (share == 1) {
      ExpectSameBits(again.outputs, ran.outputs, what);
    } else {
      // Float sums may be split differently: twice the distance to the same reference.
      for (size_t k = 0; k < ran.outputs.size() && k < again.outputs.size(); ++k) {
        ExpectNear(again.outputs[k], ran.outputs[k], 2 * tolerance, what);
      }
    }
  }
  return ran;
}

inline Ran ExpectInteger(QuantizedGraph& g, float tolerance, double share = 1) {
  return ExpectIntegerOn(g, {g.Normal(g.graph.value(g.x).dims)}, tolerance, share);
}

// Sums of up to some hundred products of about 1: float32 rounding of the reference stays below this.
inline constexpr float kSums = 1e-4f;

}  // namespace octavo
