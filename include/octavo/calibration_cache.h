// TensorRT's calibration cache: the text file that implicit INT8 reads its scales from.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "octavo/status.h"

namespace octavo {

// The first line, "TRT-8601-EntropyCalibration2" (version, algorithm), then one "tensor: 3c010a14" per line: the scale,
// a float32 in big-endian hex, which stands for the range [-127 scale, 127 scale].
struct CalibrationCache {
  // trtexec reads with an entropy calibrator and refuses tables of another algorithm, so this is what is written.
  std::string header = "TRT-8601-EntropyCalibration2";
  std::map<std::string, float> scales;  // by tensor; normal and positive
};

// Every byte is hostile. Names end at a line's last colon. Errors (kBadFile) name `source` and the line: no header, no
// colon, not hex, a tensor twice, a scale that is NaN, infinite, negative, zero or subnormal, control characters.
Result<CalibrationCache> ParseCalibrationCache(std::string_view text, const std::string& source);
Result<CalibrationCache> LoadCalibrationCache(const std::string& path);

std::string FormatCalibrationCache(const CalibrationCache& cache);
// Whole or not at all. Error: kInvalidArgument for a name that the format cannot hold (line breaks).
Status SaveCalibrationCache(const CalibrationCache& cache, const std::string& path);

}  // namespace octavo
