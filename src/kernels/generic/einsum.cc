// Einsum: every label of the equation is a loop with one stride per operand; labels that the output lacks are summed.
#include <algorithm>

#include "graph/infer_contraction.h"
#include "kernels/generic/contraction.h"
#include "kernels/generic/product.h"

namespace octavo {
namespace {

constexpr size_t kMaxOperands = 8;

// A loop; strides are 0 for operands without the label or of size 1 there, and summed where a label repeats.
struct Label {
  int64_t size = 1;
  std::array<int64_t, kMaxOperands> input_steps{};
  int64_t output_step = 0;
  bool in_output = false;
};

// The labels of the output in its order, then the summed ones.
Result<std::vector<Label>> ListLabels(const EinsumPlan& plan, std::span<const Operand> inputs, const Operand& output) {
  std::vector<Label> labels(plan.sizes.size());
  for (size_t l = 0; l < labels.size(); ++l) labels[l].size = plan.sizes[l];
  for (size_t i = 0; i < inputs.size(); ++i) {
    for (size_t d = 0; d < inputs[i].dims.size(); ++d) {
      if (inputs[i].dims[d] != 1) labels[plan.operands[i][d]].input_steps[i] += inputs[i].strides[d];
    }
  }
  std::vector<Label> ordered;
  for (size_t d = 0; d < plan.output.size(); ++d) {
    Label& label = labels[plan.output[d]];
    label.in_output = true;
    label.output_step = output.strides[d];
    ordered.push_back(label);
  }
  for (const Label& label : labels) {
    if (!label.in_output) ordered.push_back(label);
  }
  if (ordered.size() > kMaxRank) return Unsupported("the equation has too many labels");
  return ordered;
}

// The largest output label that operand `absent_from` does not have; null when there is none.
const Label* LargestWithout(const std::vector<Label>& labels, size_t absent_from) {
  const Label* best = nullptr;
  for (const Label& label : labels) {
    if (!label.in_output || label.input_steps[absent_from] != 0 || label.input_steps[1 - absent_from] == 0) continue;
    if (best == nullptr || label.size > best->size) best = &label;
  }
  return best;
}

// Two operands with one summed label are a batch of matrix products.
bool IsMatrixProduct(const std::vector<Label>& labels, size_t operands) {
  return operands == 2 && std::count_if(labels.begin(), labels.end(), [](const Label& l) { return !l.in_output; }) == 1;
}

MatrixProduct AsMatrixProduct(const std::vector<Label>& labels) {
  const Label* row = LargestWithout(labels, 1);
  const Label* column = LargestWithout(labels, 0);
  MatrixProduct product;
  Dims batch;
  std::array<Dims, 3> strides;
  for (const Label& label : labels) {
    if (&label == row) {
      product.rows = label.size;
      product.a_row = label.input_steps[0];
      product.y_row = label.output_step;
    } else if (&label == column) {
      product.columns = label.size;
      product.b_column = label.input_steps[1];
      product.y_column = label.output_step;
    } else if (!label.in_output) {
      product.depth = label.size;
      product.a_depth = label.input_steps[0];
      product.b_depth = label.input_steps[1];
    } else {
      batch.push_back(label.size);
      strides[0].push_back(label.input_steps[0]);
      strides[1].push_back(label.input_steps[1]);
      strides[2].push_back(label.output_step);
    }
  }
  product.batch = StridedLoop<3>(batch, strides);
  return product;
}

using EinsumLoop = StridedLoop<kMaxOperands + 1>;  // the operands, then the output

EinsumLoop LoopOver(const std::vector<Label>& labels, bool in_output) {
  Dims dims;
  std::array<Dims, kMaxOperands + 1> strides;
  for (const Label& label : labels) {
    if (label.in_output != in_output) continue;
    dims.push_back(label.size);
    for (size_t i = 0; i < kMaxOperands; ++i) strides[i].push_back(label.input_steps[i]);
    strides[kMaxOperands].push_back(label.output_step);
  }
  return EinsumLoop(dims, strides);
}

// Any number of operands: the sum of products, element by element.
template <typename T>
BoundKernel BindSumOfProducts(const std::vector<Label>& labels, size_t operands, int threads) {
  BoundKernel kernel;
  kernel.run = [kept = LoopOver(labels, true), summed = LoopOver(labels, false), operands,
                threads](const KernelArgs& args) {
    using Acc = ProductAccumulator<T>;
    T* y = static_cast<T*>(args.outputs[0]);
    ParallelFor(threads, kept.count(), std::max<int64_t>(1, 16384 / std::max<int64_t>(1, summed.count())),
                [&](int64_t begin, int64_t end) {
                  kept.ForEachIn(begin, end, [&](const auto& base) {
                    Acc sum = 0;
                    summed.ForEach([&](const auto& at) {
                      Acc product = 1;
                      for (size_t i = 0; i < operands; ++i) {
                        product *= static_cast<Acc>(Load(static_cast<const T*>(args.inputs[i])[base[i] + at[i]]));
                      }
                      sum += product;
                    });
                    y[base[kMaxOperands]] = Store<T>(sum);
                  });
                });
    return Status();
  };
  return kernel;
}

}  // namespace

Result<BoundKernel> BindEinsum(const BindContext& context) {
  const auto in = context.inputs;
  const Operand& output = context.outputs[0];
  if (in.size() > kMaxOperands) return Unsupported("more than " + std::to_string(kMaxOperands) + " operands");
  std::vector<Dims> dims;
  for (const Operand& input : in) dims.push_back(input.dims);
  OCTAVO_ASSIGN(const EinsumPlan plan, ResolveEinsum(context.node.String("equation", ""), dims));
  OCTAVO_ASSIGN(const std::vector<Label> labels, ListLabels(plan, in, output));
  using EinsumTypes = decltype(Join(FloatTypes(), Types<int32_t, int64_t>()));
  return ForDType(EinsumTypes(), output.dtype, [&]<typename T>(std::type_identity<T>) {
    if (IsMatrixProduct(labels, in.size())) {
      return Result<BoundKernel>(BindProduct<T>(AsMatrixProduct(labels), context.threads));
    }
    return Result<BoundKernel>(BindSumOfProducts<T>(labels, in.size(), context.threads));
  });
}

}  // namespace octavo
