#include "octavo/tuning.h"

#include <cpuid.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/file.h"
#include "base/quote.h"
#include "base/text_lines.h"
#include "engine/onednn.h"
#include "octavo/text_file.h"

namespace octavo {
namespace {

constexpr std::string_view kHeader = "octavo tuning cache 1";
constexpr size_t kMaxLine = 1024;

// The processor's name and family-model-stepping, as cpuid tells them.
std::string CpuModel() {
  std::array<unsigned, 12> words{};
  unsigned a = 0, b = 0, c = 0, d = 0;
  for (unsigned i = 0; i < 3; ++i) {
    if (__get_cpuid(0x80000002u + i, &a, &b, &c, &d) == 0) break;
    const std::array<unsigned, 4> part{a, b, c, d};
    std::copy(part.begin(), part.end(), words.begin() + i * 4);
  }
  std::string name(reinterpret_cast<const char*>(words.data()), sizeof words);
  name.resize(std::min(name.size(), name.find('\0')));
  for (char& letter : name) {
    if (letter < ' ' || letter > '~') letter = '?';
  }
  unsigned signature = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) != 0) signature = a;
  unsigned family = signature >> 8 & 0xf, model = signature >> 4 & 0xf;
  if (family == 0xf || family == 6) model += (signature >> 16 & 0xf) << 4;
  if (family == 0xf) family += signature >> 20 & 0xff;
  return fmt::format("{} {}-{}-{}", Trim(name), family, model, signature & 0xf);
}

bool IsPrintable(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

}  // namespace

std::string Tuning::Machine() {
  static const std::string cpu = CpuModel();
  return fmt::format("{}, {}, onednn {}", cpu, OneDnnIsa(), OneDnnVersion());
}

Result<Tuning::Choices> Tuning::Read(const std::string& path) {
  OCTAVO_ASSIGN(const std::vector<std::byte> bytes, ReadFile(path, kMaxFileBytes));
  const auto lines = SplitLines({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  const auto bad = [&](size_t line, const std::string& what) {
    return BadFile(fmt::format("{}: line {}: {}; delete the file, or name another for --tuning-cache", Quote(path),
                               line + 1, what));
  };
  if (lines.empty() || lines[0] != kHeader) return bad(0, "this is no tuning cache of this version");
  Choices choices;
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::string_view line = lines[i];
    if (line.size() > kMaxLine) return bad(i, "the line is too long");
    const size_t first = line.find('\t'), second = line.rfind('\t');
    if (first == std::string_view::npos || first == second) return bad(i, "a choice has three fields");
    const std::string_view machine = line.substr(0, first), key = line.substr(first + 1, second - first - 1),
                           kernel = line.substr(second + 1);
    if (!IsPrintable(machine) || !IsPrintable(key) || !IsPrintable(kernel)) {
      return bad(i, "the fields must be printable ASCII, separated by TABs");
    }
    choices.insert_or_assign(std::string(line.substr(0, second)), std::string(kernel));
  }
  return choices;
}

Result<std::shared_ptr<Tuning>> Tuning::Open(const std::string& path) {
  auto tuning = std::make_shared<Tuning>();
  tuning->path_ = path;
  auto choices = Read(path);
  if (choices.ok()) {
    tuning->choices_ = *std::move(choices);
  } else if (choices.status().code() != ErrorCode::kNotFound) {
    return choices.status();
  }
  return tuning;
}

std::string Tuning::Find(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = choices_.find(Machine() + '\t' + key);
  return found == choices_.end() ? "" : found->second;
}

void Tuning::Put(const std::string& key, const std::string& kernel) {
  const std::lock_guard lock(mutex_);
  choices_.insert_or_assign(Machine() + '\t' + key, kernel);
  is_new_ = true;
  ++measured_;
}

Status Tuning::Save() {
  const std::lock_guard lock(mutex_);
  if (path_.empty() || !is_new_) return {};
  auto others = Read(path_);
  if (others.ok()) {
    choices_.merge(*others);
  } else if (others.status().code() != ErrorCode::kNotFound) {
    return others.status();
  }
  std::string text(kHeader);
  text += '\n';
  for (const auto& [where, kernel] : choices_) text += where + '\t' + kernel + '\n';
  if (static_cast<int64_t>(text.size()) > kMaxFileBytes) {
    return IoError(
        fmt::format("{}: the tuning cache has grown past {} MB; delete it", Quote(path_), kMaxFileBytes >> 20));
  }
  OCTAVO_RETURN_IF_ERROR(SaveText(path_, text));
  is_new_ = false;
  return {};
}

size_t Tuning::size() const {
  const std::lock_guard lock(mutex_);
  return choices_.size();
}

int Tuning::measured() const {
  const std::lock_guard lock(mutex_);
  return measured_;
}

}  // namespace octavo
