// Einsum: every label of the equation is a loop with one stride per operand; labels that the output lacks are summed.
#include <algorithm>
#include <cctype>
#include <map>

#include "kernels/generic/contraction.h"
#include "kernels/generic/product.h"

namespace octavo {
namespace {

constexpr size_t kMaxOperands = 8;

// A term of the equation as labels: letters, and kEllipsis + i for the i-th dimension (from the last) of "...".
constexpr int kEllipsis = 256;
using Term = std::vector<int>;

struct Equation {
  std::vector<Term> inputs;
  Term output;
};

// `rank` says how many dimensions "..." stands for.
Result<Term> ParseTerm(const std::string& text, size_t rank) {
  const size_t dots = text.find("...");
  const size_t letters = text.size() - (dots == std::string::npos ? 0 : 3);
  if (dots == std::string::npos ? letters != rank : letters > rank) {
    return InvalidArgument("term '" + text + "' does not fit an operand of rank " + std::to_string(rank));
  }
  Term term;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i == dots) {
      for (size_t left = rank - letters; left-- > 0;) term.push_back(kEllipsis + static_cast<int>(left));
      i += 2;
    } else if (std::isalpha(static_cast<unsigned char>(text[i])) != 0) {
      term.push_back(text[i]);
    } else {
      return InvalidArgument("term '" + text + "' has a character that is not a letter");
    }
  }
  return term;
}

std::vector<std::string> SplitAtCommas(const std::string& text) {
  std::vector<std::string> parts(1);
  for (char c : text) {
    if (c == ',') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// Without "->": the dimensions of "...", then the letters that occur once, in the order of their codes.
Term ImplicitOutput(const std::vector<Term>& inputs) {
  std::map<int, int> uses;
  for (const Term& term : inputs) {
    for (int label : term) ++uses[label];
  }
  Term output;
  for (auto use = uses.rbegin(); use != uses.rend(); ++use) {
    if (use->first >= kEllipsis) output.push_back(use->first);
  }
  for (const auto& [label, count] : uses) {
    if (label < kEllipsis && count == 1) output.push_back(label);
  }
  return output;
}

Result<Equation> ParseEquation(std::string text, std::span<const Operand> inputs, size_t output_rank) {
  std::erase(text, ' ');
  const size_t arrow = text.find("->");
  const std::vector<std::string> terms = SplitAtCommas(text.substr(0, arrow));
  if (terms.size() != inputs.size()) return InvalidArgument("the equation has another number of operands");
  Equation equation;
  for (size_t i = 0; i < terms.size(); ++i) {
    OCTAVO_ASSIGN(Term term, ParseTerm(terms[i], inputs[i].dims.size()));
    equation.inputs.push_back(std::move(term));
  }
  if (arrow == std::string::npos) {
    equation.output = ImplicitOutput(equation.inputs);
    return equation;
  }
  OCTAVO_ASSIGN(equation.output, ParseTerm(text.substr(arrow + 2), output_rank));
  return equation;
}

// A loop; strides are 0 for operands without the label or of size 1 there, and summed where a label repeats.
struct Label {
  int64_t size = 1;
  std::array<int64_t, kMaxOperands> input_steps{};
  int64_t output_step = 0;
  bool in_output = false;
};

Result<std::vector<Label>> MakeLabels(const Equation& equation, std::span<const Operand> inputs,
                                      const Operand& output) {
  std::map<int, Label> labels;
  for (size_t i = 0; i < inputs.size(); ++i) {
    for (size_t d = 0; d < equation.inputs[i].size(); ++d) {
      Label& label = labels[equation.inputs[i][d]];
      const int64_t size = inputs[i].dims[d];
      if (label.size != 1 && size != 1 && label.size != size) return InvalidArgument("the sizes of a label differ");
      if (size != 1) label.size = size;
      label.input_steps[i] += size == 1 ? 0 : inputs[i].strides[d];
    }
  }
  if (equation.output.size() != output.dims.size()) return InvalidArgument("the output's rank is another");
  for (size_t d = 0; d < output.dims.size(); ++d) {
    const auto found = labels.find(equation.output[d]);
    if (found == labels.end()) return InvalidArgument("an output label is in no operand");
    if (found->second.in_output) return InvalidArgument("an output label repeats");
    if (found->second.size != output.dims[d]) return InvalidArgument("the output's shape does not fit the operands");
    found->second.in_output = true;
    found->second.output_step = output.strides[d];
  }
  std::vector<Label> result(equation.output.size());
  for (size_t d = 0; d < equation.output.size(); ++d) result[d] = labels[equation.output[d]];
  for (const auto& [name, label] : labels) {
    if (!label.in_output) result.push_back(label);
  }
  if (result.size() > kMaxRank) return Unsupported("the equation has too many labels");
  return result;
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
  for (const Operand& input : in) {
    if (input.dtype != output.dtype) return InvalidArgument("the operands differ in type");
  }
  OCTAVO_ASSIGN(const Equation equation, ParseEquation(context.node.String("equation", ""), in, output.dims.size()));
  OCTAVO_ASSIGN(const std::vector<Label> labels, MakeLabels(equation, in, output));
  using EinsumTypes = decltype(Join(FloatTypes(), Types<int32_t, int64_t>()));
  return ForDType(EinsumTypes(), output.dtype, [&]<typename T>(std::type_identity<T>) {
    if (IsMatrixProduct(labels, in.size())) {
      return Result<BoundKernel>(BindProduct<T>(AsMatrixProduct(labels), context.threads));
    }
    return Result<BoundKernel>(BindSumOfProducts<T>(labels, in.size(), context.threads));
  });
}

}  // namespace octavo
