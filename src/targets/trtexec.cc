#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/quote.h"
#include "octavo/tensorrt.h"
#include "targets/layer_precisions.h"
#include "targets/shell_words.h"

namespace octavo {
namespace {

// The script's folder, in scripts that are written here.
constexpr std::string_view kHere = "$here/";

Status CheckConstraints(const std::string& value) {
  if (value == "none" || value == "prefer" || value == "obey") return {};
  return InvalidArgument("--precisionConstraints is none, prefer or obey, not " + Quote(value));
}

class LineReader {
 public:
  Result<TrtexecLine> Read(const std::vector<std::string>& words) {
    // "exec", the program, variables and commands before it.
    const auto is_program = [](const std::string& w) { return w == "trtexec" || w.ends_with("/trtexec"); };
    const auto is_flag = [](const std::string& w) { return w.starts_with("-"); };
    const auto program = std::find_if(words.begin(), words.end(), is_program);
    const auto first = std::find_if(program == words.end() ? words.begin() : program, words.end(), is_flag);
    for (auto word = first; word != words.end(); ++word) OCTAVO_RETURN_IF_ERROR(Take(*word));
    OCTAVO_RETURN_IF_ERROR(CheckConstraints(line_.precision_constraints));
    const auto precisions = ParseLayerPrecisions(line_.layer_precisions);
    if (!precisions.ok()) return precisions.status().WithPrefix("--layerPrecisions: ");
    const auto types = ParseLayerOutputTypes(line_.layer_output_types);
    if (!types.ok()) return types.status().WithPrefix("--layerOutputTypes: ");
    return std::move(line_);
  }

 private:
  Status Take(const std::string& word) {
    const size_t equals = word.find('=');
    const std::string flag = word.substr(0, equals);
    if (flag == "--best") {
      line_.int8 = line_.fp16 = line_.bf16 = true;
      return {};
    }
    if (const auto text = texts_.find(flag); text != texts_.end()) {
      if (equals == std::string::npos) return InvalidArgument(flag + " has no value: trtexec wants " + flag + "=...");
      if (!seen_.insert(flag).second) return InvalidArgument(flag + " comes twice");
      const std::string_view value = std::string_view(word).substr(equals + 1);
      *text->second = value.starts_with(kHere) ? value.substr(kHere.size()) : value;
      return {};
    }
    if (const auto known = switches_.find(flag); known != switches_.end() && equals == std::string::npos) {
      *known->second = true;
    } else if (word != "$@") {  // a script's own arguments
      line_.ignored.push_back(word);
    }
    return {};
  }

  TrtexecLine line_;
  std::set<std::string> seen_;
  const std::map<std::string, bool*, std::less<>> switches_ = {
      {"--int8", &line_.int8}, {"--fp16", &line_.fp16}, {"--bf16", &line_.bf16}};
  const std::map<std::string, std::string*, std::less<>> texts_ = {
      {"--onnx", &line_.onnx},
      {"--calib", &line_.calib},
      {"--precisionConstraints", &line_.precision_constraints},
      {"--layerPrecisions", &line_.layer_precisions},
      {"--layerOutputTypes", &line_.layer_output_types}};
};

bool IsPlain(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
         std::string_view("-_=./,:+@%").find(c) != std::string::npos;
}

// `path` from the script's folder.
std::string ScriptPath(const std::string& flag, const std::string& path) {
  if (path.starts_with("/")) return ShellWord(flag + path);
  return flag + "\"$here\"/" + ShellWord(path);
}

}  // namespace

std::string VersionOf(const CalibrationCache& cache) {
  const auto version = VersionOfCacheHeader(cache.header);
  return (version.ok() ? *version : TensorRtVersion()).ToString();
}

Result<TrtexecLine> ParseTrtexec(std::string_view line) {
  OCTAVO_ASSIGN(const std::vector<std::string> words, SplitShellWords(line));
  return LineReader().Read(words);
}

std::vector<std::string> TrtexecArguments(const TrtexecLine& line) {
  std::vector<std::string> arguments;
  const auto add = [&](const std::string& flag, const std::string& value) {
    if (!value.empty()) arguments.push_back(flag + "=" + value);
  };
  add("--onnx", line.onnx);
  if (line.int8) arguments.emplace_back("--int8");
  if (line.fp16) arguments.emplace_back("--fp16");
  if (line.bf16) arguments.emplace_back("--bf16");
  add("--calib", line.calib);
  if (line.heeds_layers()) add("--precisionConstraints", line.precision_constraints);
  add("--layerPrecisions", line.layer_precisions);
  add("--layerOutputTypes", line.layer_output_types);
  return arguments;
}

std::string ShellWord(std::string_view argument) {
  if (!argument.empty() && std::all_of(argument.begin(), argument.end(), IsPlain)) return std::string(argument);
  std::string word = "'";
  for (const char c : argument) {
    if (c == '\'') {
      word += "'\\''";
    } else {
      word += c;
    }
  }
  return word + "'";
}

std::string FormatTrtexecScript(const TrtexecLine& line, const std::vector<std::string>& comments) {
  std::string text = "#!/bin/sh\n";
  for (std::string comment : comments) {
    std::replace_if(
        comment.begin(), comment.end(), [](unsigned char c) { return c < 0x20; }, ' ');
    text += "# " + comment + "\n";
  }
  text += "here=$(dirname -- \"$0\")\nexec trtexec";
  TrtexecLine rest = line;
  rest.onnx.clear();
  rest.calib.clear();
  if (!line.onnx.empty()) text += " \\\n  " + ScriptPath("--onnx=", line.onnx);
  if (!line.calib.empty()) text += " \\\n  " + ScriptPath("--calib=", line.calib);
  for (const std::string& argument : TrtexecArguments(rest)) text += " \\\n  " + ShellWord(argument);
  return text + " \\\n  \"$@\"\n";
}

}  // namespace octavo
