// `bench --profile`: a run step by step, against what this machine shows on the spot.
#pragma once

#include <string>
#include <vector>

#include "console.h"
#include "octavo/profile.h"

namespace octavo::cli {

// The `top` steps that take longest (0: all, in their order), and where a run's time goes.
void PrintProfile(const Report& report, const PlanInfo& plan, const ModelProfile& profile, const MachineLimits& limits,
                  int top);

Json ProfileJson(const PlanInfo& plan, const ModelProfile& profile, const MachineLimits& limits);

// Every run's steps as Chrome trace events, which Perfetto opens; the file appears whole or not at all.
Status WriteTrace(const std::string& path, const std::string& model, int threads, const PlanInfo& plan,
                  const std::vector<RunProfile>& runs);

}  // namespace octavo::cli
