#include "graph/infer_contraction.h"

#include <algorithm>
#include <array>

#include "graph/infer_dims.h"
#include "graph/infer_rules.h"

namespace octavo {
namespace {

// "ab...c": letters before the ellipsis, whether there is one, letters after it.
struct Term {
  std::string before, after;
  bool ellipsis = false;
};

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

Result<Term> ParseTerm(const std::string& text) {
  Term term;
  for (size_t i = 0; i < text.size(); ++i) {
    if (IsLetter(text[i])) {
      (term.ellipsis ? term.after : term.before) += text[i];
    } else if (text.compare(i, 3, "...") == 0 && !term.ellipsis) {
      term.ellipsis = true;
      i += 2;
    } else {
      return InvalidArgument("equation term '" + text + "' is malformed");
    }
  }
  return term;
}

std::vector<std::string> SplitAt(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

struct Equation {
  std::vector<Term> operands;
  Term output;
};

// The output that an equation without "->" means: the ellipsis, then the letters that occur once, in order.
Term ImplicitOutput(const std::vector<Term>& operands) {
  std::array<int, 128> times{};
  Term output;
  for (const Term& term : operands) {
    output.ellipsis |= term.ellipsis;
    for (const char c : term.before + term.after) ++times[static_cast<unsigned char>(c)];
  }
  for (size_t c = 0; c < times.size(); ++c) {
    if (times[c] == 1) (output.ellipsis ? output.after : output.before) += static_cast<char>(c);
  }
  return output;
}

Result<Equation> ParseEquation(std::string text) {
  std::erase(text, ' ');
  const size_t arrow = text.find("->");
  Equation equation;
  for (const std::string& term : SplitAt(text.substr(0, arrow), ',')) {
    OCTAVO_ASSIGN(Term parsed, ParseTerm(term));
    equation.operands.push_back(std::move(parsed));
  }
  if (arrow == std::string::npos) {
    equation.output = ImplicitOutput(equation.operands);
  } else {
    OCTAVO_ASSIGN(equation.output, ParseTerm(text.substr(arrow + 2)));
  }
  return equation;
}

// Numbers labels as they come up. The ellipsis' dimensions are numbered from the last: 0 is the innermost.
class Labels {
 public:
  Labels() { letters_.fill(kNone); }

  bool HasLetter(char c) const { return letters_[static_cast<unsigned char>(c)] != kNone; }
  size_t Letter(char c) {
    size_t& label = letters_[static_cast<unsigned char>(c)];
    if (label == kNone) label = New();
    return label;
  }
  size_t Ellipsis(size_t from_last) {
    while (ellipsis_.size() <= from_last) ellipsis_.push_back(New());
    return ellipsis_[from_last];
  }
  size_t ellipsis_rank() const { return ellipsis_.size(); }
  Dims& sizes() { return sizes_; }

 private:
  static constexpr size_t kNone = static_cast<size_t>(-1);
  size_t New() {
    sizes_.push_back(1);
    return sizes_.size() - 1;
  }
  std::array<size_t, 128> letters_{};
  std::vector<size_t> ellipsis_;
  Dims sizes_;
};

Result<std::vector<size_t>> LabelOperand(const Term& term, const Dims& dims, Labels& labels) {
  const size_t letters = term.before.size() + term.after.size();
  if (term.ellipsis ? dims.size() < letters : dims.size() != letters) {
    return InvalidArgument("equation term '" + term.before + (term.ellipsis ? "..." : "") + term.after +
                           "' does not fit an operand of " + ToString(dims));
  }
  std::vector<size_t> operand;
  for (const char c : term.before) operand.push_back(labels.Letter(c));
  for (size_t i = dims.size() - letters; i-- > 0;) operand.push_back(labels.Ellipsis(i));
  for (const char c : term.after) operand.push_back(labels.Letter(c));
  for (size_t d = 0; d < dims.size(); ++d) {
    int64_t& size = labels.sizes()[operand[d]];
    if (dims[d] == 1 || dims[d] == size) continue;
    if (size != 1) {
      return InvalidArgument("dimensions of " + std::to_string(size) + " and " + std::to_string(dims[d]) +
                             " share a label");
    }
    size = dims[d];
  }
  return operand;
}

Result<std::vector<size_t>> LabelOutput(const Term& term, Labels& labels) {
  if (!term.ellipsis && labels.ellipsis_rank() > 0) {
    return InvalidArgument("its equation drops the dimensions under the ellipsis");
  }
  const std::string letters = term.before + term.after;
  for (size_t i = 0; i < letters.size(); ++i) {
    if (!labels.HasLetter(letters[i]) || letters.find(letters[i], i + 1) != std::string::npos) {
      return InvalidArgument("output label '" + std::string(1, letters[i]) + "' is in no operand, or stands twice");
    }
  }
  std::vector<size_t> output;
  for (const char c : term.before) output.push_back(labels.Letter(c));
  for (size_t i = labels.ellipsis_rank(); i-- > 0;) output.push_back(labels.Ellipsis(i));
  for (const char c : term.after) output.push_back(labels.Letter(c));
  return output;
}

Status ContractionMismatch(const Dims& a, const Dims& b) {
  return InvalidArgument("matrices of " + ToString(a) + " and " + ToString(b) + " do not multiply");
}

}  // namespace

Result<EinsumPlan> ResolveEinsum(const std::string& text, std::span<const Dims> operands) {
  OCTAVO_ASSIGN(const Equation equation, ParseEquation(text));
  if (equation.operands.size() != operands.size()) {
    return InvalidArgument("its equation has " + std::to_string(equation.operands.size()) + " terms for " +
                           std::to_string(operands.size()) + " inputs");
  }
  Labels labels;
  EinsumPlan plan;
  for (size_t i = 0; i < operands.size(); ++i) {
    OCTAVO_ASSIGN(std::vector<size_t> operand, LabelOperand(equation.operands[i], operands[i], labels));
    plan.operands.push_back(std::move(operand));
  }
  OCTAVO_ASSIGN(plan.output, LabelOutput(equation.output, labels));
  plan.sizes = labels.sizes();
  // A dimension of 1 is broadcast, but a repeated label within one operand is a diagonal and must really agree.
  for (size_t i = 0; i < operands.size(); ++i) {
    for (size_t d = 0; d < operands[i].size(); ++d) {
      const size_t label = plan.operands[i][d];
      if (std::count(plan.operands[i].begin(), plan.operands[i].end(), label) > 1 &&
          operands[i][d] != plan.sizes[label]) {
        return InvalidArgument("a repeated label in '" + text + "' meets dimensions of different size");
      }
    }
  }
  return plan;
}

Inferred InferEinsum(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckSameDType(inputs));
  std::vector<Dims> operands;
  for (const InferInput& input : inputs) operands.push_back(input.dims);
  OCTAVO_ASSIGN(const EinsumPlan plan, ResolveEinsum(node.String("equation", ""), operands));
  Dims dims;
  for (const size_t label : plan.output) dims.push_back(plan.sizes[label]);
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferMatMul(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckSameDType(inputs));
  OCTAVO_RETURN_IF_ERROR(CheckRank(inputs[0], 1, "A"));
  OCTAVO_RETURN_IF_ERROR(CheckRank(inputs[1], 1, "B"));
  Dims a = inputs[0].dims;
  Dims b = inputs[1].dims;
  const bool row = a.size() == 1;
  const bool column = b.size() == 1;
  if (row) a.insert(a.begin(), 1);
  if (column) b.push_back(1);
  if (a.back() != b[b.size() - 2]) return ContractionMismatch(inputs[0].dims, inputs[1].dims);
  OCTAVO_ASSIGN(Dims dims, Broadcast({a.begin(), a.end() - 2}, {b.begin(), b.end() - 2}));
  if (!row) dims.push_back(a[a.size() - 2]);
  if (!column) dims.push_back(b.back());
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferGemm(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckSameDType(inputs));
  Dims a = inputs[0].dims;
  Dims b = inputs[1].dims;
  if (a.size() != 2 || b.size() != 2) return ContractionMismatch(a, b);
  if (node.Int("transA", 0) != 0) std::swap(a[0], a[1]);
  if (node.Int("transB", 0) != 0) std::swap(b[0], b[1]);
  if (a[1] != b[0]) return ContractionMismatch(a, b);
  const Dims dims = {a[0], b[1]};
  if (InputAt(inputs, 2).present) OCTAVO_RETURN_IF_ERROR(CheckBroadcastsTo(inputs[2].dims, dims, "C"));
  return OneOutput(inputs[0].dtype, dims);
}

}  // namespace octavo
