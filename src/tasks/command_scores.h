// What a score command printed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "octavo/status.h"
#include "octavo/task.h"

namespace octavo {

// `names`: of the samples, each once. See CommandTask for the two forms. Errors: kBadFile that says what is wrong with
// the output, without the command's name.
Result<JointAgreement> ParseCommandScores(std::string_view output, const std::vector<std::string>& names);

}  // namespace octavo
