// The `octavo` command: reads the command line, runs one subcommand, turns what went wrong into one line.
#include <unistd.h>

#include <cstdlib>
#include <dnnl.hpp>
#include <exception>
#include <vector>

#include "command.h"
#include "console.h"
#include "octavo/edit_distance.h"
#include "octavo/session.h"
#include "octavo/version.h"
#include "report_document.h"

namespace octavo::cli {
namespace {

std::string VersionText() {
  const dnnl_version_t* dnnl = dnnl_version();
  return fmt::format("octavo {} (ISA in use: {}; oneDNN {}.{}.{})", kVersion, IsaInUse(), dnnl->major, dnnl->minor,
                     dnnl->patch);
}

// The candidate nearest to `word`, or "" when none is near.
std::string Nearest(const std::string& word, const std::vector<std::string>& candidates) {
  std::string nearest;
  size_t best = word.size() / 2 + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(word, candidate);
    if (distance < best) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

const CLI::App& ChosenCommand(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app : *chosen.front();
}

std::vector<std::string> FlagNames(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::vector<std::string> CommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App* c) { return !c->get_group().empty(); })) {
    names.push_back(command->get_name());
  }
  return names;
}

std::string DescribeExtra(const CLI::App& app, const std::string& word) {
  const CLI::App& command = ChosenCommand(app);
  const bool is_flag = word.size() > 1 && word.front() == '-';
  std::string text;
  std::string nearest;
  if (is_flag) {
    text = fmt::format("unknown flag '{}'", word);
    nearest = Nearest(word.substr(0, word.find('=')), FlagNames(command));
  } else if (&command == &app) {
    text = fmt::format("unknown command '{}'", word);
    nearest = Nearest(word, CommandNames(app));
  } else {
    text = fmt::format("'{}' was not expected here", word);
  }
  return nearest.empty() ? text : fmt::format("{}; did you mean '{}'?", text, nearest);
}

int FailUsage(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = ChosenCommand(app);
  const std::string name = &command == &app ? "octavo" : "octavo " + command.get_name();
  std::string text = error.what();
  // remaining() pairs each word that no option took with nothing that says which command refused it.
  const std::vector<std::string> extras = app.remaining(true);
  if (!extras.empty()) text = DescribeExtra(app, extras.front());
  while (!text.empty() && (text.back() == '.' || text.back() == '\n')) text.pop_back();
  PrintError(fmt::format("{} (see '{} --help')", text, name));
  return kBadInput;
}

int Execute(const Action& action) {
  Result<ExitCode> result = InternalError("");
  try {
    result = action();
  } catch (const std::bad_alloc&) {
    result = IoError("out of memory");
  } catch (const std::exception& error) {
    result = InternalError(error.what());
  }
  if (!result.ok()) {
    PrintError(result.status().message());
    return kBadInput;
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    PrintError("cannot write to standard output");
    return kBadInput;
  }
  return *result;
}

int Main(int argc, char** argv) {
  CLI::App app("Octavo runs vision models from ONNX files on this CPU.", "octavo");
  app.set_version_flag("--version", VersionText, "Version, instruction set in use, version of oneDNN");
  app.footer("'octavo COMMAND --help' shows a command's flags and examples.");
  app.require_subcommand(0, 1);
  Action action;
  AddDemoCommand(app, action);
  AddSegmentCommand(app, action);
  AddRunCommand(app, action);
  AddInspectCommand(app, action);
  AddBenchCommand(app, action);
  AddCompareCommand(app, action);
  AddJudgeCommand(app, action);
  AddCalibrateCommand(app, action);
  AddStatsCommand(app, action);
  AddCheckFp16Command(app, action);
  AddSensitivityCommand(app, action);
  AddQuantizeCommand(app, action);
  AddReportCommand(app, action);
  AddLintCommand(app, action);
  AddExportCommand(app, action);
  AddResaveCommand(app, action);
  AddOpsCommand(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    return FailUsage(app, error);
  }
  if (!action) {
    fmt::print(stderr, "{}", app.help());
    return kBadInput;
  }
  return Execute(action);
}

}  // namespace

CLI::App* AddSubcommand(CLI::App& app, const std::string& name, const std::string& description,
                        const std::vector<std::string>& examples) {
  CLI::App* command = app.add_subcommand(name, description);
  std::string footer = "EXAMPLES";
  for (const std::string& example : examples) footer += "\n  " + example;
  command->footer(footer);
  command
      ->add_option_function<std::string>(
          "--log", [](const std::string& form) { SetLogsJson(form == "json"); },
          "How progress, warnings and errors are told on standard error (default: text)")
      ->type_name("text|json")
      ->check(CLI::IsMember({"text", "json"}))
      ->trigger_on_parse();
  return command;
}

// OpenMP's threads wait for each other spinning, by default for so long that a busy machine hands each its turn only to
// spin: beside two compilers a run took 20 times as long as alone. libgomp reads its environment before main, so the
// program starts itself again with a shorter wait, unless the user chose one.
void LimitSpinning(char** argv) {
  constexpr char kSpinCount[] = "GOMP_SPINCOUNT";
  if (std::getenv(kSpinCount) != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  if (setenv(kSpinCount, "10000", 1) == 0) execv("/proc/self/exe", argv);
}

}  // namespace octavo::cli

int main(int argc, char** argv) {
  octavo::cli::LimitSpinning(argv);
  octavo::cli::RememberCommandLine(argc, argv);
  try {
    return octavo::cli::Main(argc, argv);
  } catch (const std::exception& error) {
    octavo::cli::PrintError(error.what());
    return octavo::cli::kBadInput;
  }
}
