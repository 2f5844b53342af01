// The state of a calibration between samples, as a file from which it goes on.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "octavo/stats.h"

namespace octavo {

struct Checkpoint {
  // What must be equal for a run to go on.
  std::string fingerprint;  // of the model
  uint64_t data = 0;        // of the samples' names, sizes and times
  std::string settings;     // everything else

  uint64_t samples = 0;                                   // in the data
  std::vector<uint8_t> done;                              // of this sweep: one byte a sample, 0 or 1
  std::vector<std::pair<uint64_t, std::string>> skipped;  // sample and reason
  std::vector<std::vector<std::byte>> kept;               // statistics of earlier sweeps, as files
  Stats current;                                          // of this sweep's tensors
};

Status SaveCheckpoint(const std::string& path, const Checkpoint& checkpoint);
// Errors: kNotFound, kBadFile.
Result<Checkpoint> LoadCheckpoint(const std::string& path);

}  // namespace octavo
