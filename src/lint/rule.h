// What a rule is made of: a row of LintRuleInfo, and a function that reports what it finds.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lint/quantized_graph.h"
#include "octavo/lint.h"

namespace octavo {

// Takes the findings of one rule.
class LintReporter {
 public:
  LintReporter(const Graph& graph, const LintRuleInfo& rule, std::string_view target,
               std::vector<LintFinding>& findings)
      : graph_(graph), rule_(rule), target_(target), findings_(findings) {}

  // `node` and `tensor` may be kNoNode and kNoValue.
  LintFinding& Add(NodeId node, ValueId tensor, std::string why) {
    LintFinding finding;
    finding.rule = rule_.id;
    finding.severity = rule_.SeverityFor(target_);
    finding.effect = rule_.EffectAt(target_);
    finding.why = std::move(why);
    finding.mend = rule_.mend;
    if (node != kNoNode) {
      finding.node = graph_.node(node).name;
      finding.op = graph_.node(node).op;
    }
    if (tensor != kNoValue) finding.tensor = graph_.value(tensor).name;
    findings_.push_back(std::move(finding));
    return findings_.back();
  }

 private:
  const Graph& graph_;
  const LintRuleInfo& rule_;
  const std::string_view target_;
  std::vector<LintFinding>& findings_;
};

struct LintContext {
  const QuantizedGraph& quantized;
  const Graph& graph;
  const LintOptions& options;
};

struct LintRule {
  LintRuleInfo info;
  void (*check)(const LintContext& context, LintReporter& reporter);
};

// What is wrong with options, or with a graph that Verify refuses.
Status CheckLintOptions(const Graph& graph, const LintOptions& options);

// One family per file, in the order of LintRules.
std::span<const LintRule> ScaleRules();      // scales, zero points and types of Q and DQ
std::span<const LintRule> AxisRules();       // scales per channel
std::span<const LintRule> PairRules();       // which Q stands before which DQ
std::span<const LintRule> OperandRules();    // what contractions read and make
std::span<const LintRule> PlacementRules();  // Q/DQ around sums, Concat, normalizations
std::span<const LintRule> AttentionRules();
std::span<const LintRule> FileRules();  // calibration caches, layer precisions, statistics

}  // namespace octavo
