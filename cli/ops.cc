#include "octavo/ops.h"

#include <fmt/format.h>

#include <memory>

#include "command.h"
#include "console.h"

namespace octavo::cli {
namespace {

struct OpsFlags {
  bool markdown = false;
};

Result<ExitCode> ListOps(const OpsFlags& flags) {
  if (flags.markdown) {
    fmt::print("| op | opsets | kind | types | INT8 | notes |\n|---|---|---|---|---|---|\n");
    for (const SupportedOp& op : SupportedOps()) {
      std::string notes(op.limits);
      if (op.shape_by_value) notes += std::string(notes.empty() ? "" : "; ") + "shape by value";
      fmt::print("| {} | {} to 21 | {} | {} | {} | {} |\n", op.op, op.since, op.kind, op.types,
                 op.quantizable ? "yes" : "", notes);
    }
    return kDone;
  }
  Table table("lrlll", {"op", "from opset", "kind", "types", "limits"});
  for (const SupportedOp& op : SupportedOps()) {
    table.AddRow({std::string(op.op), std::to_string(op.since), std::string(op.kind), std::string(op.types),
                  std::string(op.limits)});
  }
  table.Print(stdout);
  return kDone;
}

}  // namespace

// Hidden: tools/make_ops_doc.py makes docs/ops.md of it.
void AddOpsCommand(CLI::App& app, Action& action) {
  CLI::App* command = AddSubcommand(app, "ops", "List the ops that Octavo runs", {"octavo ops --markdown"});
  command->group("");
  auto flags = std::make_shared<OpsFlags>();
  command->add_flag("--markdown", flags->markdown, "As a table of docs/ops.md");
  command->callback([=, &action] { action = [=] { return ListOps(*flags); }; });
}

}  // namespace octavo::cli
