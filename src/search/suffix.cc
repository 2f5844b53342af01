#include "search/suffix.h"

#include <algorithm>

#include "base/quote.h"

namespace octavo {
namespace {

// Values behind these are made again from what they were made of: the part quantizes by itself, as the whole does.
bool IsConversion(const Node& node) {
  return node.Is("QuantizeLinear") || node.Is("DequantizeLinear") || node.Is("Cast");
}

class Cutter {
 public:
  explicit Cutter(const Graph& whole) : whole_(whole), taken_(whole.nodes.size()) {}

  void Take(NodeId id) { taken_[static_cast<size_t>(id)] = true; }
  bool Takes(NodeId id) const { return taken_[static_cast<size_t>(id)]; }

  void TakeDependents() {
    std::vector<bool> changed(whole_.values.size());
    for (size_t n = 0; n < whole_.nodes.size(); ++n) {
      const Node& node = whole_.nodes[n];
      if (node.removed) continue;
      const bool depends = std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId input) {
        return input != kNoValue && changed[static_cast<size_t>(input)];
      });
      if (depends) taken_[n] = true;
      if (!taken_[n]) continue;
      for (const ValueId output : node.outputs) {
        if (output != kNoValue) changed[static_cast<size_t>(output)] = true;
      }
    }
  }

  Result<GraphPart> Run(const std::vector<ValueId>& wanted, std::vector<size_t> outputs) {
    for (size_t n = 0; n < whole_.nodes.size(); ++n) {
      if (taken_[n]) TakeConversions(whole_.nodes[n]);
    }
    GraphPart part;
    part.graph = whole_;
    part.outputs = std::move(outputs);
    for (size_t n = 0; n < whole_.nodes.size(); ++n) {
      if (!taken_[n]) part.graph.RemoveNode(static_cast<NodeId>(n));
    }
    part.graph.inputs.clear();
    std::vector<bool> listed(whole_.values.size());
    for (size_t n = 0; n < whole_.nodes.size(); ++n) {
      if (taken_[n]) ListInputs(whole_.nodes[n], part, listed);
    }
    part.graph.outputs = wanted;
    OCTAVO_RETURN_IF_ERROR(part.graph.Sort());
    part.graph.CompactValues();
    OCTAVO_RETURN_IF_ERROR(Verify(part.graph));
    return part;
  }

 private:
  void TakeConversions(const Node& node) {
    for (const ValueId input : node.inputs) {
      const NodeId made = input == kNoValue ? kNoNode : whole_.value(input).producer;
      if (made == kNoNode || taken_[static_cast<size_t>(made)] || !IsConversion(whole_.node(made))) continue;
      Take(made);
      TakeConversions(whole_.node(made));
    }
  }

  void ListInputs(const Node& node, GraphPart& part, std::vector<bool>& listed) const {
    for (const ValueId input : node.inputs) {
      if (input == kNoValue || whole_.value(input).is_constant() || listed[static_cast<size_t>(input)]) continue;
      const NodeId made = whole_.value(input).producer;
      if (made != kNoNode && taken_[static_cast<size_t>(made)]) continue;
      listed[static_cast<size_t>(input)] = true;
      part.graph.inputs.push_back(input);
      part.boundary.push_back(whole_.value(input).name);
    }
  }

  const Graph& whole_;
  std::vector<bool> taken_;
};

}  // namespace

Result<GraphPart> CutSuffix(const Graph& whole, const std::set<std::string, std::less<>>& roots) {
  Cutter cutter(whole);
  size_t found = 0;
  for (size_t n = 0; n < whole.nodes.size(); ++n) {
    if (whole.nodes[n].removed || roots.count(whole.nodes[n].name) == 0) continue;
    cutter.Take(static_cast<NodeId>(n));
    ++found;
  }
  if (found != roots.size()) return NotFound("the graph lacks a node that is to be cut at");
  cutter.TakeDependents();
  std::vector<ValueId> wanted;
  std::vector<size_t> outputs;
  for (size_t i = 0; i < whole.outputs.size(); ++i) {
    const NodeId made = whole.value(whole.outputs[i]).producer;
    if (made == kNoNode || !cutter.Takes(made)) continue;
    wanted.push_back(whole.outputs[i]);
    outputs.push_back(i);
  }
  if (wanted.empty()) return InvalidArgument("no output depends on " + Quote(*roots.begin()));
  return cutter.Run(wanted, std::move(outputs));
}

Result<GraphPart> CutNode(const Graph& whole, const std::string& node) {
  for (size_t n = 0; n < whole.nodes.size(); ++n) {
    if (whole.nodes[n].removed || whole.nodes[n].name != node) continue;
    Cutter cutter(whole);
    cutter.Take(static_cast<NodeId>(n));
    return cutter.Run({whole.nodes[n].output(0)}, {});
  }
  return NotFound("the graph has no node " + Quote(node));
}

}  // namespace octavo
