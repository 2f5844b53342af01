// Runs ONNX's backend node tests: folders with model.onnx and test_data_set_*/{input,output}_*.pb.
//
//   octavo_node_cases ENGINE FOLDER...    ENGINE: octavo (Session) or reference (RunReference)
//
// Prints "start FOLDER" and then "RESULT<tab>FOLDER<tab>passed|failed|unsupported<tab>what" per folder, so that whoever
// reads knows which case ended the process. Exit code 0 whatever the results; node_tests_test.py judges them.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <vector>

#include "octavo/onnx.h"
#include "octavo/reference.h"
#include "octavo/session.h"
#include "onnx.pb.h"
#include "onnx/external_data.h"
#include "onnx/tensor_reader.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

// Those of ONNX's own runner (onnx/backend/test/runner: assert_allclose).
constexpr double kRelative = 1e-3, kAbsolute = 1e-7;

Result<Tensor> ReadTensorFile(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  onnx::TensorProto proto;
  if (!stream || !proto.ParseFromIstream(&stream)) return BadFile(path.string() + " is no tensor");
  ExternalData none("");
  return ReadTensor(std::move(proto), none);
}

// PREFIX_0.pb, PREFIX_1.pb, ... of a data set.
Result<std::vector<Tensor>> ReadTensors(const fs::path& folder, const std::string& prefix) {
  std::vector<Tensor> tensors;
  for (int i = 0; fs::exists(folder / fmt::format("{}_{}.pb", prefix, i)); ++i) {
    OCTAVO_ASSIGN(Tensor tensor, ReadTensorFile(folder / fmt::format("{}_{}.pb", prefix, i)));
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

bool IsFloat(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat64 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

std::vector<double> ToDoubles(const Tensor& tensor) {
  if (tensor.dtype() == DType::kFloat64) {
    const auto values = tensor.values<double>();
    return {values.begin(), values.end()};
  }
  const auto floats = ToFloats(tensor);
  return floats.ok() ? std::vector<double>(floats->begin(), floats->end()) : std::vector<double>();
}

bool IsClose(double actual, double expected) {
  if (std::isnan(expected)) return std::isnan(actual);
  if (std::isinf(expected)) return actual == expected;
  return std::abs(actual - expected) <= kAbsolute + kRelative * std::abs(expected);  // false for NaN
}

std::string Form(const Tensor& tensor) { return fmt::format("{} {}", NameOf(tensor.dtype()), ToString(tensor.dims())); }

// What is wrong with `actual`, or "".
std::string Difference(const Tensor& actual, const Tensor& expected) {
  if (actual.dtype() != expected.dtype() || actual.dims() != expected.dims()) {
    return fmt::format("it is {}, not {}", Form(actual), Form(expected));
  }
  if (!IsFloat(expected.dtype())) {
    const auto *a = static_cast<const std::byte*>(actual.data()), *e = static_cast<const std::byte*>(expected.data());
    const size_t size = SizeOf(expected.dtype());
    const auto where = std::mismatch(a, a + actual.bytes(), e).first - a;
    if (static_cast<size_t>(where) == actual.bytes()) return "";
    return fmt::format("element {} differs", static_cast<size_t>(where) / size);
  }
  const std::vector<double> a = ToDoubles(actual), e = ToDoubles(expected);
  size_t wrong = 0, first = 0;
  for (size_t i = e.size(); i-- > 0;) {
    if (IsClose(a[i], e[i])) continue;
    ++wrong;
    first = i;
  }
  if (wrong == 0) return "";
  return fmt::format("{} of {} elements differ: element {} is {}, not {}", wrong, e.size(), first, a[first], e[first]);
}

// The data keeps bfloat16 in the bits of uint16.
Tensor AsDeclared(Tensor tensor, DType declared) {
  if (tensor.dtype() != DType::kUInt16 || declared != DType::kBFloat16) return tensor;
  auto owner = std::make_shared<Tensor>(tensor);
  return Tensor::Wrap(declared, tensor.dims(), owner->mutable_data(), owner);
}

Result<std::vector<Tensor>> Run(const Graph& graph, bool reference, const std::vector<Tensor>& inputs) {
  if (reference) {
    std::map<std::string, Tensor> named;
    for (size_t i = 0; i < inputs.size(); ++i) named[graph.value(graph.inputs[i]).name] = inputs[i];
    return RunReference(graph, named);
  }
  SessionOptions options;
  options.threads = 1;
  OCTAVO_ASSIGN(Session session, Session::Create(graph, options));
  return session.Run(std::span<const Tensor>(inputs));
}

// "" when every data set passes. An error says what Octavo does not do, or has done wrong.
Result<std::string> RunCase(const fs::path& folder, bool reference) {
  OCTAVO_ASSIGN(const Graph graph, LoadOnnx((folder / "model.onnx").string()));
  for (int set = 0; fs::exists(folder / fmt::format("test_data_set_{}", set)); ++set) {
    const fs::path data = folder / fmt::format("test_data_set_{}", set);
    OCTAVO_ASSIGN(const std::vector<Tensor> given, ReadTensors(data, "input"));
    OCTAVO_ASSIGN(const std::vector<Tensor> expected, ReadTensors(data, "output"));
    // In the order of the graph's inputs, as ONNX's runner hands them over; names in the files are not always set.
    std::vector<Tensor> inputs;
    for (size_t i = 0; i < std::min(given.size(), graph.inputs.size()); ++i) {
      inputs.push_back(AsDeclared(given[i], graph.value(graph.inputs[i]).dtype));
    }
    OCTAVO_ASSIGN(const std::vector<Tensor> outputs, Run(graph, reference, inputs));
    if (outputs.size() != expected.size()) return fmt::format("{} outputs, not {}", outputs.size(), expected.size());
    for (size_t i = 0; i < outputs.size(); ++i) {
      const std::string wrong = Difference(outputs[i], AsDeclared(expected[i], outputs[i].dtype()));
      if (!wrong.empty()) return fmt::format("output {}: {}", i, wrong);
    }
  }
  return std::string();
}

void Report(const std::string& folder, bool reference) {
  std::printf("start\t%s\n", folder.c_str());
  std::fflush(stdout);
  const Result<std::string> wrong = RunCase(folder, reference);
  const bool unsupported = !wrong.ok() && wrong.status().code() == ErrorCode::kUnsupported;
  const bool passed = wrong.ok() && wrong->empty();
  const std::string text = wrong.ok() ? *wrong : wrong.status().message();
  std::printf("result\t%s\t%s\t%s\n", folder.c_str(),
              passed        ? "passed"
              : unsupported ? "unsupported"
                            : "failed",
              text.c_str());
  std::fflush(stdout);
}

}  // namespace
}  // namespace octavo

int main(int argc, char** argv) {
  if (argc < 3 || (std::string(argv[1]) != "octavo" && std::string(argv[1]) != "reference")) {
    std::fprintf(stderr, "usage: octavo_node_cases octavo|reference FOLDER...\n");
    return 2;
  }
  for (int i = 2; i < argc; ++i) octavo::Report(argv[i], std::string(argv[1]) == "reference");
  return 0;
}
