#include <memory>

#include "command.h"
#include "octavo/onnx.h"

namespace octavo::cli {
namespace {

struct ResaveFlags {
  std::string in, out;
  SaveOptions save;
};

Result<ExitCode> Resave(const ResaveFlags& flags) {
  OCTAVO_ASSIGN(const Graph graph, LoadOnnx(flags.in));
  OCTAVO_RETURN_IF_ERROR(SaveOnnx(graph, flags.out, flags.save));
  return kDone;
}

}  // namespace

// Hidden: it shows that loading and saving lose nothing.
void AddResaveCommand(CLI::App& app, Action& action) {
  CLI::App* command = AddSubcommand(app, "resave", "Load a model and write it again",
                                    {"octavo resave model.onnx copy.onnx --external-data"});
  command->group("");
  auto flags = std::make_shared<ResaveFlags>();
  command->add_option("IN", flags->in, "Model to read")->required();
  command->add_option("OUT", flags->out, "Where to write it")->required();
  command->add_flag("--external-data", flags->save.external_data, "Put weights into OUT.data");
  command->callback([=, &action] { action = [=] { return Resave(*flags); }; });
}

}  // namespace octavo::cli
