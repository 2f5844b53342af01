// Kernels chosen by measurement. Where several kernels give the same bits - sums of integers are exact in any order -
// the fastest on this machine is found by timing them once, and may be kept in a file.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "octavo/status.h"

namespace octavo {

// What was measured so far. Sessions ask while they plan; what they ask for the first time is timed on the planning
// thread, a few milliseconds per candidate. A kernel is a candidate only where its sums are exact; before its first
// use, timed or named by a file, it computes a block between guards and is dropped when a bit of the sums differs or a
// byte beside them is written. So a choice changes speed and never results; kernels that compute in float are not
// chosen this way.
//
// The file is text, one choice a line, for any number of machines: CPU, instruction set and version of oneDNN, the
// node's sizes and the number of threads, the kernel's name. A name that this machine has no kernel for is measured
// anew. Thread safe.
class Tuning {
 public:
  static constexpr int64_t kMaxFileBytes = int64_t{4} << 20;

  // Kept in memory only.
  Tuning() = default;
  // With the choices of `path`, if it is there. Errors: kBadFile for a file that is no tuning cache (by line), or is
  // larger than kMaxFileBytes; it is left as it is.
  static Result<std::shared_ptr<Tuning>> Open(const std::string& path);

  // The kernel chosen for a key on this machine; empty when there is none yet. Keys and names are single lines of
  // printable ASCII.
  std::string Find(const std::string& key) const;
  void Put(const std::string& key, const std::string& kernel);
  // Writes what was put since the last time to the file, whole or not at all, with what other processes wrote there
  // meanwhile. Nothing to do without a file or without news. Error: kIo.
  Status Save();

  size_t size() const;   // choices known, for this machine and others
  int measured() const;  // choices put since it was opened

  // "Intel(R) Xeon(R) Processor 6-143-8, avx512_core_amx, onednn 2.6.3".
  static std::string Machine();

 private:
  using Choices = std::map<std::string, std::string>;  // "machine \t key" -> kernel
  static Result<Choices> Read(const std::string& path);

  mutable std::mutex mutex_;
  Choices choices_;
  std::string path_;
  bool is_new_ = false;
  int measured_ = 0;
};

}  // namespace octavo
