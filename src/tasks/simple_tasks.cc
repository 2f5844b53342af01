#include <algorithm>
#include <cmath>
#include <map>

#include "octavo/task.h"

namespace octavo {
namespace {

// What the FP32 model gave, by sample.
class LearnedOutputs {
 public:
  Status Learn(size_t sample, std::span<const Tensor> outputs) {
    if (outputs.empty()) return InvalidArgument("the model gave no output");
    std::vector<Tensor>& kept = outputs_[sample];
    for (const Tensor& output : outputs) {
      OCTAVO_ASSIGN(Tensor copy, output.Clone());
      kept.push_back(std::move(copy));
    }
    return {};
  }
  Result<std::span<const Tensor>> Of(size_t sample) const {
    const auto found = outputs_.find(sample);
    if (found == outputs_.end()) return InvalidArgument("sample " + std::to_string(sample) + " was not learnt");
    return std::span<const Tensor>(found->second);
  }

 private:
  std::map<size_t, std::vector<Tensor>> outputs_;
};

class TensorTask : public Task {
 public:
  std::string_view name() const override { return "tensor"; }
  std::string_view score_name() const override { return "signal share"; }
  Status Learn(size_t sample, std::span<const Tensor> outputs) override { return learned_.Learn(sample, outputs); }
  Result<Agreement> Judge(size_t sample, std::span<const Tensor> outputs) override {
    OCTAVO_ASSIGN(const std::span<const Tensor> expected, learned_.Of(sample));
    OCTAVO_ASSIGN(const TensorAgreement agreement, AgreeOnTensors(expected, outputs));
    return Agreement{{agreement.score}, {}, {}};
  }

 private:
  LearnedOutputs learned_;
};

class HeatmapTask : public Task {
 public:
  explicit HeatmapTask(size_t output) : output_(output) {}
  std::string_view name() const override { return "heatmap"; }
  std::string_view score_name() const override { return "map agreement"; }
  Status Learn(size_t sample, std::span<const Tensor> outputs) override {
    if (output_ >= outputs.size()) return InvalidArgument("the model gave no map");
    return learned_.Learn(sample, outputs.subspan(output_, 1));
  }
  Result<Agreement> Judge(size_t sample, std::span<const Tensor> outputs) override {
    OCTAVO_ASSIGN(const std::span<const Tensor> expected, learned_.Of(sample));
    if (output_ >= outputs.size()) return InvalidArgument("the candidate gave no map");
    OCTAVO_ASSIGN(const HeatmapAgreement agreement, AgreeOnHeatmap(expected[0], outputs[output_]));
    return Agreement{{agreement.score}, {}, {}};
  }

  // The map in the reference's range: black is its least value, white its largest.
  Result<std::optional<ShownAnswer>> Show(size_t sample, std::span<const Tensor> outputs) override {
    OCTAVO_ASSIGN(const std::span<const Tensor> expected, learned_.Of(sample));
    if (output_ >= outputs.size()) return InvalidArgument("the candidate gave no map");
    const Tensor& map = outputs[output_];
    const Dims& dims = map.dims();
    const bool is_plane = map.dtype() == DType::kFloat32 && expected[0].dtype() == DType::kFloat32 &&
                          dims == expected[0].dims() && dims.size() >= 2 && map.size() > 0 &&
                          dims[dims.size() - 1] * dims[dims.size() - 2] == map.size() &&
                          dims[dims.size() - 1] <= kMaxImageSide && dims[dims.size() - 2] <= kMaxImageSide;
    if (!is_plane) return std::optional<ShownAnswer>();
    const auto reference = expected[0].values<float>();
    const auto [low, high] = std::minmax_element(reference.begin(), reference.end());
    const float scale = *high > *low ? 255 / (*high - *low) : 0;
    ShownAnswer shown;
    shown.masks.push_back(
        MakeImage(static_cast<int>(dims[dims.size() - 1]), static_cast<int>(dims[dims.size() - 2]), 1));
    std::vector<uint8_t>& pixels = shown.masks[0].pixels;
    const auto values = map.values<float>();
    for (size_t i = 0; i < pixels.size(); ++i) {
      const float level = (values[i] - *low) * scale;
      pixels[i] = level > 0 ? static_cast<uint8_t>(std::lround(std::min(level, 255.0f))) : uint8_t{0};  // NaN: black
    }
    return std::optional(std::move(shown));
  }

 private:
  const size_t output_;
  LearnedOutputs learned_;
};

}  // namespace

std::unique_ptr<Task> MakeTensorTask() { return std::make_unique<TensorTask>(); }
std::unique_ptr<Task> MakeHeatmapTask(size_t output) { return std::make_unique<HeatmapTask>(output); }

}  // namespace octavo
