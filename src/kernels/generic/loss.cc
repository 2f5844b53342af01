// NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: -score[label] * weight[label], as it is, summed, or averaged
// by the weights. Sums are taken in double.
#include <cmath>

#include "kernels/generic/elements.h"
#include "kernels/generic/movement.h"
#include "kernels/generic/rows.h"
#include "kernels/strided.h"

namespace octavo {
namespace {

using InferArgs = std::span<const InferInput>;

enum class Reduction : uint8_t { kNone, kSum, kMean };

struct Loss {
  StridedLoop<4> samples;  // over (N, d...): scores, labels, loss, log probabilities
  int64_t classes = 0;
  int64_t class_step = 0, weight_step = 0, probability_step = 0;
  bool wide_labels = true, has_weights = false, has_loss = true, has_probabilities = false;
  bool ignores = false;
  int64_t ignored = 0;
  Reduction reduction = Reduction::kMean;
};

Dims WithoutChannels(Dims values) {
  values.erase(values.begin() + 1);
  return values;
}

Loss ReadLoss(const BindContext& context) {
  const Operand &x = context.inputs[0], &labels = context.inputs[1];
  const std::string reduction = context.node.String("reduction", "mean");
  Loss loss;
  loss.reduction = reduction == "none" ? Reduction::kNone : reduction == "sum" ? Reduction::kSum : Reduction::kMean;
  loss.has_loss = context.outputs[0].present;
  loss.has_probabilities = context.outputs.size() > 1 && context.outputs[1].present;
  const Dims dims = WithoutChannels(x.dims), none(dims.size(), 0);
  loss.samples =
      StridedLoop<4>(dims, {WithoutChannels(x.strides), labels.strides,
                            loss.reduction == Reduction::kNone && loss.has_loss ? context.outputs[0].strides : none,
                            loss.has_probabilities ? WithoutChannels(context.outputs[1].strides) : none});
  loss.classes = x.dims[1];
  loss.class_step = x.strides[1];
  if (loss.has_probabilities) loss.probability_step = context.outputs[1].strides[1];
  loss.has_weights = context.inputs.size() > 2 && context.inputs[2].present;
  if (loss.has_weights) loss.weight_step = context.inputs[2].strides[0];
  loss.wide_labels = labels.dtype == DType::kInt64;
  loss.ignores = context.node.Has("ignore_index");
  loss.ignored = context.node.Int("ignore_index", 0);
  return loss;
}

// log of the sum of exp over the classes of a sample.
template <typename T>
double LogSumExp(const Loss& loss, const T* x) {
  double largest = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t c = 0; c < loss.classes; ++c) {
    const auto score = static_cast<double>(Load(x[c * loss.class_step]));
    largest = largest > score || largest != largest ? largest : score;
  }
  for (int64_t c = 0; c < loss.classes; ++c) {
    sum += std::exp(static_cast<double>(Load(x[c * loss.class_step])) - largest);
  }
  return largest + std::log(sum);
}

// kSoftmax: scores are normalized first.
template <typename T, bool kSoftmax>
Status RunLoss(const Loss& loss, const KernelArgs& args) {
  const T* x = static_cast<const T*>(args.inputs[0]);
  T* y = static_cast<T*>(args.outputs[0]);
  double total = 0, weights = 0;
  Status status;
  loss.samples.ForEach([&](const auto& at) {
    const T* scores = x + at[0];
    const double shift = kSoftmax ? LogSumExp(loss, scores) : 0.0;
    if (kSoftmax && loss.has_probabilities) {
      T* probabilities = static_cast<T*>(args.outputs[1]) + at[3];
      for (int64_t c = 0; c < loss.classes; ++c) {
        probabilities[c * loss.probability_step] =
            Store<T>(static_cast<double>(Load(scores[c * loss.class_step])) - shift);
      }
    }
    const int64_t label = loss.wide_labels ? static_cast<const int64_t*>(args.inputs[1])[at[1]]
                                           : static_cast<const int32_t*>(args.inputs[1])[at[1]];
    double weight = 0, value = 0;
    if (!loss.ignores || label != loss.ignored) {
      if (label < 0 || label >= loss.classes) {
        status = InvalidArgument("label " + std::to_string(label) + " is none of " + std::to_string(loss.classes) +
                                 " classes");
        return;
      }
      weight = loss.has_weights
                   ? static_cast<double>(Load(static_cast<const T*>(args.inputs[2])[label * loss.weight_step]))
                   : 1.0;
      value = (shift - static_cast<double>(Load(scores[label * loss.class_step]))) * weight;
    }
    total += value;
    weights += weight;
    if (loss.reduction == Reduction::kNone && loss.has_loss) y[at[2]] = Store<T>(value);
  });
  if (!status.ok()) return status;
  if (loss.reduction != Reduction::kNone && loss.has_loss) {
    *y = Store<T>(loss.reduction == Reduction::kMean ? total / weights : total);
  }
  return {};
}

template <bool kSoftmax>
Result<BoundKernel> BindLoss(const BindContext& context, InferArgs) {
  const Loss loss = ReadLoss(context);
  return ForDType(FloatTypes(), context.inputs[0].dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [loss](const KernelArgs& args) { return RunLoss<T, kSoftmax>(loss, args); };
    return Result<BoundKernel>(std::move(kernel));
  });
}

}  // namespace

std::span<const GenericKernelRow> LossKernels() {
  static constexpr GenericKernelRow kRows[] = {
      {"", "NegativeLogLikelihoodLoss", BindChecked<BindLoss<false>>},
      {"", "SoftmaxCrossEntropyLoss", BindChecked<BindLoss<true>>},
  };
  return kRows;
}

}  // namespace octavo
