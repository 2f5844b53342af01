#include "quantize_page.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "model_files.h"
#include "report_document.h"
#include "report_subject.h"
#include "verdict_text.h"

namespace octavo::cli {
namespace {

// The model as TensorRT 8 quantizes by itself.
Result<std::unique_ptr<Session>> OpenNaive(const QuantizePage& page) {
  Policy naive;
  naive.preset = "tensorrt8-implicit";
  naive.estimator.estimator = Estimator::kEntropy;
  OCTAVO_ASSIGN(const Recipe recipe, Decide(page.prepared, *page.stats, naive));
  OCTAVO_ASSIGN(const Graph graph, ApplyRecipe(page.prepared, recipe));
  return OpenForm(graph, page.threads);
}

// A sample to time with; nothing where there is none.
Result<std::map<std::string, Tensor>> SampleOf(const QuantizePage& page) {
  if (page.judge != nullptr) return page.judge->Inputs(0);
  if (page.judging != nullptr) return page.judging->Load(0);
  if (page.data != nullptr) return page.data->Load(0);
  std::map<std::string, Tensor> inputs;
  for (const Value& input : InputValues(page.prepared)) {
    OCTAVO_ASSIGN(inputs[input.name], MakeRandomInput(input.dtype, input.dims, kSplitSeed));
  }
  return inputs;
}

ReportSummary Summarize(const QuantizePage& page, const ReportForm& before, const ReportForm& after) {
  const QuantizeOutcome& outcome = page.outcome;
  ReportSummary summary;
  summary.before = &before;
  summary.after = &after;
  if (!outcome.verdict) {
    summary.verdict = "Not judged";
    if (outcome.scores.empty()) {
      summary.quality = "no samples were there to measure on";
    } else {
      summary.quality = fmt::format(
          "the outputs are {:.1f} dB from float over {} samples; name a --task to have the "
          "picture judged",
          after.sqnr_db.value_or(0), outcome.samples);
    }
    return summary;
  }
  const Verdict& v = *outcome.verdict;
  const std::string found = fmt::format("{} {:.4f}{}", outcome.score_name, v.score.mean,
                                        v.mean_bound ? fmt::format(" ({})", BoundText(v.mean_bound)) : "");
  const std::string asked =
      fmt::format(" over {} questions about {} samples that did not calibrate", v.score.count, v.scores.size());
  if (outcome.kept) {
    summary.kept = outcome.kept->outcome.met;
    summary.quality = fmt::format("{}{}; the goal was {:g}", found, asked, outcome.kept->goal.mean);
  } else {
    summary.kept = v.score.mean >= kKeptScore;
    summary.quality = fmt::format("{}{}; no goal was stated, {:g} counts as kept", found, asked, kKeptScore);
  }
  return summary;
}

Json OutputsJson(const QuantizeOutcome& outcome) {
  Json outputs = Json::array();
  for (const OutputScore& score : outcome.scores) {
    const TensorDifference& d = score.difference;
    outputs.push_back({{"name", score.name},
                       {"sqnr_db", Finite(d.sqnr_db)},
                       {"min_sqnr_db", Finite(d.min_sqnr_db)},
                       {"cosine", Finite(d.cosine)},
                       {"max_abs_error", Finite(d.max_abs_error)}});
  }
  return outputs;
}

// The mixtures that --keep judged.
Json FrontJson(const KeepResult& kept) {
  Json front = Json::parse(FormatKeepOutcome(kept.outcome, kept.goal));
  const auto& walked = kept.outcome.walked;
  const auto is_chosen = [&](const FrontPoint& point) { return point.score.mean == kept.outcome.verdict.score.mean; };
  const auto chosen = std::find_if(walked.rbegin(), walked.rend(), is_chosen);
  if (chosen != walked.rend()) front["chosen"] = static_cast<size_t>(walked.rend() - chosen) - 1;
  front.erase("blame");
  return front;
}

LayerSensitivities FromBlame(const std::vector<Blame>& blame) {
  LayerSensitivities sensitivities;
  sensitivities.what = "share of the output's noise that is gone with this layer in float";
  for (const Blame& entry : blame) {
    sensitivities.of[entry.node] = std::max(entry.noise_share, 0.0);
    sensitivities.reasons[entry.node] = entry.reason;
    sensitivities.figures[entry.node] = {{"noise share", Finite(entry.noise_share)},
                                         {"ms saved by INT8", Finite(entry.milliseconds_saved)}};
  }
  return sensitivities;
}

}  // namespace

Status WriteQuantizePage(const QuantizePage& page, const std::string& folder) {
  Json report = StartReport("quantize", page.threads, page.seconds);
  ReportForm fp32(kFp32Form, page.names.model), naive(kNaiveForm), octavo(kOctavoForm, page.names.output);
  OCTAVO_ASSIGN(const auto fp32_session, OpenForm(page.prepared, page.threads));
  OCTAVO_ASSIGN(const auto octavo_session, OpenForm(page.quantized, page.threads));
  std::unique_ptr<Session> naive_session;
  // A program that somebody else wrote is not run for what nobody asked for.
  const bool judges_freely = page.judge != nullptr && page.judge->task().name() != "command";
  if (judges_freely && page.stats != nullptr) {
    auto opened = OpenNaive(page);
    if (opened.ok()) {
      naive_session = std::move(opened).value();
    } else {
      report["notes"].push_back("there is no naive INT8 to compare with: " + opened.status().message());
    }
  }
  std::vector<RunningForm> running = {{&fp32, fp32_session.get()}};
  if (naive_session != nullptr) running.push_back({&naive, naive_session.get()});
  running.push_back({&octavo, octavo_session.get()});
  OCTAVO_ASSIGN(const auto inputs, SampleOf(page));
  OCTAVO_RETURN_IF_ERROR(TimeForms(running, inputs));

  Json subject = {{"name", Stem(page.names.model)}};
  if (page.outcome.verdict) {
    octavo.Take(*page.outcome.verdict);
    if (naive_session != nullptr) {
      OCTAVO_ASSIGN(const Verdict verdict, page.judge->Score(*naive_session));
      naive.Take(verdict);
    }
  } else if (!page.outcome.scores.empty()) {
    octavo.sqnr_db = kIdenticalDb;
    for (const OutputScore& score : page.outcome.scores) {
      octavo.sqnr_db = std::min(*octavo.sqnr_db, score.difference.sqnr_db);
    }
    for (const double decibels : page.outcome.sample_sqnr_db) octavo.scores.push_back({decibels});
  }
  subject["summary"] = SummaryJson(Summarize(page, fp32, octavo));
  subject["score"] = {{"name", page.outcome.verdict ? page.outcome.score_name : "SQNR"},
                      {"unit", page.outcome.verdict ? "" : "dB"},
                      {"task", page.outcome.verdict ? page.names.task : ""},
                      {"goal", page.outcome.kept ? Json(page.outcome.kept->goal.mean) : Json()},
                      {"note", page.outcome.note}};
  subject["samples"] = page.outcome.sample_names;
  if (page.judge != nullptr) {
    subject["samples"] = Json::array();
    const bool by_sample = page.judge->units() == page.judge->size();
    for (size_t i = 0; by_sample && i < page.judge->size(); ++i) {
      subject["samples"].push_back(page.judge->samples().name(i));
    }
  }
  subject["forms"] = Json::array();
  for (const RunningForm& form : running) subject["forms"].push_back(FormJson(*form.form));
  subject["outputs"] = OutputsJson(page.outcome);
  if (page.outcome.kept) subject["front"] = FrontJson(*page.outcome.kept);

  std::optional<Stats> made;
  const Stats* stats = page.rewritten_stats;
  if (stats == nullptr) {
    OCTAVO_ASSIGN(made, StatsForReport(page.prepared, page.recipe, page.stats, page.data, page.threads));
    if (made) stats = &*made;
  }
  LayerSensitivities blame;
  if (page.outcome.kept) blame = FromBlame(page.outcome.kept->outcome.blame);
  const LayerSources layers{page.prepared, page.recipe, stats, &fp32, &octavo, page.outcome.kept ? &blame : nullptr};
  OCTAVO_RETURN_IF_ERROR(PutLayers(layers, subject));
  PutRecipe(page.recipe, page.names.recipe, subject);
  if (page.judge != nullptr && page.outcome.verdict) {
    running.erase(running.begin());
    OCTAVO_RETURN_IF_ERROR(PutWorstPictures(*page.judge, octavo.scores, running, report, subject));
  }
  subject["live"] = page.live;
  report["subjects"].push_back(std::move(subject));
  return WriteReport(report, folder);
}

}  // namespace octavo::cli
