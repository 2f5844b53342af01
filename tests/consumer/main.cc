// Loads an encoder, runs it on a grey picture, and checks that an embedding comes out.
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>

#include "octavo/onnx.h"
#include "octavo/session.h"
#include "octavo/version.h"

namespace {

int Fail(const std::string& message) {
  std::fprintf(stderr, "consumer: %s\n", message.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return Fail("usage: consumer ENCODER.onnx");
  auto graph = octavo::LoadOnnx(argv[1]);
  if (!graph.ok()) return Fail(graph.status().message());
  auto session = octavo::Session::Create(std::move(graph).value());
  if (!session.ok()) return Fail(session.status().message());
  auto picture = octavo::Tensor::Zeros(octavo::DType::kFloat32, {1, 3, 256, 256});
  if (!picture.ok()) return Fail(picture.status().message());
  auto outputs = session->Run({{"input_image", *picture}});
  if (!outputs.ok()) return Fail(outputs.status().message());
  if (outputs->size() != 1) return Fail("one output was expected");

  const octavo::Tensor& embedding = outputs->front();
  std::printf("octavo %s: %s %s\n", octavo::kVersion, session->output_names().front().c_str(),
              octavo::ToString(embedding.dims()).c_str());
  if (embedding.dims() != octavo::Dims{1, 128, 32, 32}) return Fail("the shape is wrong");
  double energy = 0;
  for (float value : embedding.values<float>()) energy += static_cast<double>(value) * value;
  if (!std::isfinite(energy) || energy == 0) return Fail("the embedding is empty or not finite");
  return 0;
}
