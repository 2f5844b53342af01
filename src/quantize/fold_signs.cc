#include "quantize/fold_signs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "octavo/session.h"
#include "quantize/scale_flow.h"

namespace octavo {
namespace {

// What the two operands' ranges must shrink to, multiplied: 0.9 is 0.9 dB.
constexpr double kMostShare = 0.9;

// Of all elements whose sign is one variable's.
struct SignMoments {
  double low = std::numeric_limits<double>::infinity(), high = -low, sum = 0;
};

// A quantized operand of a product: which variable gives each element its sign.
struct SignedOperand {
  ValueId tensor = kNoValue;
  ScaleLabels variables;  // ids are variables, or -1 where the sign is fixed
  std::map<int, SignMoments> moments;

  void Add(const TensorView& view) {
    const auto* data = static_cast<const float*>(view.data);
    Dims index(view.dims.size(), 0);
    for (int64_t left = ElementCount(view.dims); left > 0; --left) {
      int64_t offset = 0;
      size_t at = 0;
      for (size_t d = 0; d < index.size(); ++d) {
        offset += index[d] * view.strides[d];
        at = at * static_cast<size_t>(variables.dims[d]) + static_cast<size_t>(variables.dims[d] > 1 ? index[d] : 0);
      }
      SignMoments& channel = moments[variables.ids[at]];
      const double value = data[offset];
      channel.low = std::min(channel.low, value);
      channel.high = std::max(channel.high, value);
      channel.sum += value;
      for (size_t d = index.size(); d-- > 0;) {
        if (++index[d] < view.dims[d]) break;
        index[d] = 0;
      }
    }
  }

  // The range with 0, where the variables `flipped` have turned.
  double Range(const std::set<int>& flipped) const {
    double low = 0, high = 0;
    for (const auto& [variable, channel] : moments) {
      const bool turned = flipped.count(variable) > 0;
      low = std::min(low, turned ? -channel.high : channel.low);
      high = std::max(high, turned ? -channel.low : channel.high);
    }
    return high - low;
  }

  std::set<int> Negative() const {
    std::set<int> negative;
    for (const auto& [variable, channel] : moments) {
      if (variable >= 0 && channel.sum < 0) negative.insert(variable);
    }
    return negative;
  }
};

class SignFolder {
 public:
  SignFolder(const Graph& graph, const Recipe& recipe, ScaleFlow& flow) : graph_(graph), flow_(flow) {
    for (const ActivationRecipe& entry : recipe.activations) quantized_.insert(entry.tensor);
    for (const Node& node : graph.nodes) {
      if (!node.removed && node.Is("MatMul")) AddProduct(node);
    }
  }

  bool empty() const { return products_.empty(); }

  Status Measure(const Dataset& data, size_t samples, int threads) {
    SessionOptions options;
    options.threads = threads;
    std::vector<SignedOperand*> watched;
    for (auto& [tensor, operand] : operands_) {
      options.watched.push_back(graph_.value(tensor).name);
      watched.push_back(&operand);
    }
    options.watch = [&](size_t index, const TensorView& view) { watched[index]->Add(view); };
    OCTAVO_ASSIGN(Session session, Session::Create(graph_, options));
    for (size_t i = 0, used = 0; i < data.size() && used < samples; ++i) {
      const auto inputs = data.Load(i);
      if (!inputs.ok()) continue;  // calibration has reported it
      OCTAVO_RETURN_IF_ERROR(session.Run(*inputs).status());
      ++used;
    }
    return {};
  }

  // The variables whose signs turn.
  std::set<int> Choose() const {
    std::set<int> turned;
    for (const auto& [a, b] : products_) {
      const SignedOperand &left = operands_.at(a), &right = operands_.at(b);
      const double before = left.Range(turned) * right.Range(turned);
      double least = kMostShare * before;
      std::set<int> best = turned;
      for (const SignedOperand* leader : {&left, &right}) {
        std::set<int> candidate = turned;
        for (const int variable : leader->Negative()) candidate.insert(variable);
        const double found = left.Range(candidate) * right.Range(candidate);
        if (found >= least) continue;
        least = found;
        best = std::move(candidate);
      }
      turned = std::move(best);
    }
    return turned;
  }

 private:
  void AddProduct(const Node& node) {
    const ValueId a = node.input(0), b = node.input(1);
    if (graph_.value(a).is_constant() || graph_.value(b).is_constant()) return;
    if (quantized_.count(graph_.value(a).name) == 0 || quantized_.count(graph_.value(b).name) == 0) return;
    if (!AddOperand(a) || !AddOperand(b)) return;
    products_.emplace_back(a, b);
  }

  bool AddOperand(ValueId tensor) {
    SignedOperand operand{tensor, flow_.labels[static_cast<size_t>(tensor)], {}};
    bool is_free = false;
    for (int& id : operand.variables.ids) {
      const ScaleSum sum = flow_.algebra.Resolve(id);
      id = sum.size() == 1 && std::abs(sum[0].second) == 1 ? sum[0].first : -1;
      is_free |= id >= 0;
    }
    if (is_free) operands_.emplace(tensor, std::move(operand));
    return is_free;
  }

  const Graph& graph_;
  ScaleFlow& flow_;
  std::set<std::string> quantized_;
  std::map<ValueId, SignedOperand> operands_;
  std::vector<std::pair<ValueId, ValueId>> products_;
};

}  // namespace

Result<std::vector<RescaleRecipe>> FoldSigns(const Graph& graph, const Dataset& data, const Recipe& recipe,
                                             size_t samples, int threads) {
  ScaleFlowOptions options;
  options.multipliers = false;
  options.signs = true;
  OCTAVO_ASSIGN(ScaleFlow flow, SolveScaleFlow(graph, options));
  SignFolder folder(graph, recipe, flow);
  if (folder.empty()) return std::vector<RescaleRecipe>{};
  OCTAVO_RETURN_IF_ERROR(folder.Measure(data, samples, threads));
  const std::set<int> turned = folder.Choose();
  if (turned.empty()) return std::vector<RescaleRecipe>{};
  std::vector<double> odd(static_cast<size_t>(flow.algebra.variables()), 0.0);
  for (const int variable : turned) odd[static_cast<size_t>(variable)] = 1;
  return MakeSignRewrites(graph, flow, odd);
}

}  // namespace octavo
