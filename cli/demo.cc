// What INT8 does to the masks of the embedded models, from calibration to pictures side by side.
#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <numeric>
#include <optional>

#include "calibration_run.h"
#include "command.h"
#include "console.h"
#include "data_flags.h"
#include "engine_flags.h"
#include "model_files.h"
#include "octavo/bench.h"
#include "octavo/calibrate.h"
#include "octavo/compare.h"
#include "octavo/onnx.h"
#include "octavo/quantize.h"
#include "octavo/remedies.h"
#include "octavo/segment.h"
#include "octavo/session.h"
#include "progress.h"
#include "report_document.h"
#include "report_subject.h"
#include "stopwatch.h"
#include "task_flags.h"

namespace octavo::cli {
namespace {

constexpr const char* kJudged = "samples/astronaut.png";
constexpr std::array<const char*, 3> kCalibrated = {"samples/chelsea.png", "samples/coffee.png", "samples/rocket.jpg"};
constexpr std::array<Box, 4> kBoxes = {
    {{150, 8, 292, 200}, {25, 150, 370, 511}, {280, 345, 511, 511}, {375, 5, 475, 290}}};
constexpr int kTimedRuns = 15;
constexpr int kGap = 8;  // pixels between pictures side by side

struct DemoFlags {
  std::string folder = "octavo-demo";
  int threads = 0;
  std::shared_ptr<Tuning> tuning;
  Report report;
};

// One encoder in one form.
struct Variant {
  std::string model, form;
  std::string path;
  std::unique_ptr<Session> session;
  Tensor embeddings;
  std::vector<SegmentedMask> masks;
  std::vector<double> times;
  std::vector<double> ious;  // of each box's mask, with FP32's
  double sqnr_db = kIdenticalDb, mean_iou = 1, worst_iou = 1;
};

// One encoder in all its forms, and how the last one came about.
struct Encoder {
  std::vector<Variant> variants;
  Graph prepared;
  Recipe recipe;
  std::string recipe_path;
  std::optional<Stats> stats;  // of what the recipe rewrites
};

Image Crop(const Image& image, int x, int y, int width, int height) {
  Image crop = MakeImage(width, height, image.channels);
  for (int row = 0; row < height; ++row) {
    std::copy_n(image.At(x, y + row), static_cast<size_t>(width) * static_cast<size_t>(image.channels),
                crop.At(0, row));
  }
  return crop;
}

// The whole picture and five crops of two thirds: the corners and the middle.
Status WriteCrops(const std::string& folder) {
  OCTAVO_RETURN_IF_ERROR(MakeFolder(folder));
  for (const char* name : kCalibrated) {
    OCTAVO_ASSIGN(const std::string path, FindDataFile(name));
    OCTAVO_ASSIGN(const Image image, LoadImage(path));
    const int w = image.width * 2 / 3, h = image.height * 2 / 3;
    const int right = image.width - w, bottom = image.height - h;
    const std::array<std::array<int, 4>, 6> crops = {{{0, 0, image.width, image.height},
                                                      {0, 0, w, h},
                                                      {right, 0, w, h},
                                                      {0, bottom, w, h},
                                                      {right, bottom, w, h},
                                                      {right / 2, bottom / 2, w, h}}};
    for (size_t i = 0; i < crops.size(); ++i) {
      const auto& c = crops[i];
      OCTAVO_RETURN_IF_ERROR(
          SavePng(fmt::format("{}/{}-{}.png", folder, Stem(path), i), Crop(image, c[0], c[1], c[2], c[3])));
    }
  }
  return {};
}

Result<std::unique_ptr<Session>> OpenSession(Graph graph, const DemoFlags& flags) {
  SessionOptions options;
  options.threads = flags.threads;
  options.tuning = flags.tuning;
  OCTAVO_ASSIGN(Session session, Session::Create(std::move(graph), options));
  return std::make_unique<Session>(std::move(session));
}

Result<Encoder> MakeVariants(const DemoFlags& flags, const std::string& model, const std::string& name,
                             const std::string& crops) {
  OCTAVO_ASSIGN(const std::string path, FindDataFile(name));
  OCTAVO_ASSIGN(Graph graph, LoadOnnx(path));
  OCTAVO_ASSIGN(const Dataset data, OpenDataset(crops, "sam", InputValues(graph)));
  OCTAVO_ASSIGN(const auto dims, FindInputDims(data));
  OCTAVO_ASSIGN(const Graph prepared, PrepareForQuantization(std::move(graph), dims));
  CalibrateOptions options;
  options.threads = flags.threads;
  std::optional<SweepProgress> calibrating(std::in_place, model + ": calibrating", "samples");
  options.progress = [&](size_t done, size_t total) { (*calibrating)(done, total); };
  OCTAVO_ASSIGN(const CalibrateReport report, Calibrate(prepared, data, options));
  calibrating.reset();

  Encoder encoder;
  std::vector<Variant>& variants = encoder.variants;
  variants.resize(3);
  variants[0].form = "FP32";
  variants[0].path = path;
  OCTAVO_ASSIGN(variants[0].session, OpenSession(prepared, flags));
  Policy naive;
  naive.preset = "tensorrt8-implicit";
  naive.estimator.estimator = Estimator::kEntropy;
  Policy careful;
  careful.estimator.estimator = Estimator::kMse;
  RemedyOptions remedies;
  remedies.threads = flags.threads;
  remedies.samples = 6;
  std::unique_ptr<Progress> trying;
  remedies.progress = [&](size_t done, size_t total, std::string_view) {
    if (trying == nullptr) {
      trying = std::make_unique<Progress>(model + ": trying remedies", static_cast<int64_t>(total), "remedies");
    }
    if (done > 0) trying->Step();
  };
  OCTAVO_ASSIGN(const Recipe naive_recipe, Decide(prepared, report.stats, naive));
  OCTAVO_ASSIGN(const RemedyOutcome outcome, DecideWithRemedies(prepared, report.stats, data, careful, remedies));
  trying.reset();
  const std::array<const Recipe*, 2> recipes = {&naive_recipe, &outcome.recipe};
  for (size_t i = 0; i < recipes.size(); ++i) {
    Variant& variant = variants[i + 1];
    variant.form = i == 0 ? "naive INT8" : "Octavo INT8";
    variant.path = fmt::format("{}/{}-{}.onnx", flags.folder, model, i == 0 ? "naive" : "octavo");
    OCTAVO_ASSIGN(Graph quantized, ApplyRecipe(prepared, *recipes[i]));
    OCTAVO_RETURN_IF_ERROR(SaveOnnx(quantized, variant.path));
    OCTAVO_ASSIGN(variant.session, OpenSession(std::move(quantized), flags));
  }
  for (Variant& variant : variants) variant.model = model;
  encoder.recipe_path = variants.back().path + ".recipe.json";
  OCTAVO_RETURN_IF_ERROR(SaveRecipe(outcome.recipe, encoder.recipe_path));
  OCTAVO_ASSIGN(encoder.stats, StatsForReport(prepared, outcome.recipe, &report.stats, &data, flags.threads));
  encoder.recipe = outcome.recipe;
  encoder.prepared = prepared;
  return encoder;
}

SegmentModel ModelOf(Session& session) {
  return {session.inputs(), session.output_names(),
          [&session](const std::map<std::string, Tensor>& inputs) { return session.Run(inputs); }};
}

Status Judge(const Image& picture, const std::vector<Prompt>& prompts, Session& decoder,
             std::vector<Variant>& variants) {
  for (Variant& variant : variants) {
    OCTAVO_ASSIGN(Segmenter segmenter, Segmenter::Create(ModelOf(*variant.session), ModelOf(decoder)));
    OCTAVO_RETURN_IF_ERROR(segmenter.Encode(picture));
    OCTAVO_ASSIGN(Segmentation answer, segmenter.Predict(prompts));
    OCTAVO_ASSIGN(variant.embeddings, segmenter.embeddings().Clone());
    variant.masks = std::move(answer.masks);
    OCTAVO_ASSIGN(const TensorDifference difference, Compare(variants[0].embeddings, variant.embeddings));
    variant.sqnr_db = difference.sqnr_db;
    variant.mean_iou = 0;
    for (size_t i = 0; i < variant.masks.size(); ++i) {
      OCTAVO_ASSIGN(const double iou, MaskIou(variants[0].masks[i].mask, variant.masks[i].mask));
      variant.mean_iou += iou / static_cast<double>(variant.masks.size());
      variant.worst_iou = std::min(variant.worst_iou, iou);
      variant.ious.push_back(iou);
    }
  }
  return {};
}

// In turns, so that a busy moment meets all alike.
Status Time(const Image& picture, std::vector<Variant>& variants) {
  OCTAVO_ASSIGN(const Tensor input, SamPreprocess(picture, static_cast<int>(variants[0].session->inputs()[0].dims[2])));
  const std::vector<Tensor> inputs{input};
  for (int run = 0; run < kTimedRuns; ++run) {
    for (Variant& variant : variants) {
      const Stopwatch stopwatch;
      OCTAVO_ASSIGN(const auto outputs, variant.session->Run(inputs));
      variant.times.push_back(stopwatch.Milliseconds());
    }
  }
  return {};
}

// What the report says of one encoder.
Result<Json> SubjectOf(const Encoder& encoder, const std::string& picture_path, const std::string& decoder_path,
                       const std::vector<Prompt>& prompts, Json& report) {
  std::vector<ReportForm> forms;
  std::vector<RunningForm> running;
  forms.reserve(encoder.variants.size());
  OCTAVO_ASSIGN(const Image picture, LoadImage(picture_path));
  const Session& first = *encoder.variants.front().session;
  OCTAVO_ASSIGN(const Tensor input, SamPreprocess(picture, static_cast<int>(first.inputs()[0].dims[2])));
  for (const Variant& variant : encoder.variants) {
    forms.emplace_back(variant.form, variant.path);
    running.push_back({&forms.back(), variant.session.get()});
  }
  OCTAVO_RETURN_IF_ERROR(TimeForms(running, {{first.inputs()[0].name, input}}));
  for (size_t i = 0; i < forms.size(); ++i) {
    const Variant& variant = encoder.variants[i];
    forms[i].milliseconds = variant.times;
    if (i == 0) continue;
    forms[i].score = variant.mean_iou;
    forms[i].sqnr_db = variant.sqnr_db;
    forms[i].scores = {variant.ious};
  }
  const Variant& octavo = encoder.variants.back();
  ReportSummary summary;
  summary.before = &forms.front();
  summary.after = &forms.back();
  summary.kept = octavo.mean_iou >= kKeptScore;
  summary.quality = fmt::format(
      "the masks of {} boxes in a picture that did not calibrate have a mean IoU of {:.3f} with FP32's, the worst "
      "{:.3f}; naive INT8 has {:.3f}, and {:g} counts as kept",
      prompts.size(), octavo.mean_iou, octavo.worst_iou, encoder.variants[1].mean_iou, kKeptScore);
  Json subject = {{"name", octavo.model}, {"summary", SummaryJson(summary)}};
  subject["score"] = {{"name", "mask IoU"}, {"unit", ""}, {"task", "segment"}};
  subject["samples"] = {std::filesystem::path(picture_path).filename().string()};
  subject["forms"] = Json::array();
  for (const ReportForm& form : forms) subject["forms"].push_back(FormJson(form));
  OCTAVO_RETURN_IF_ERROR(PutLayers({encoder.prepared, encoder.recipe, encoder.stats ? &*encoder.stats : nullptr,
                                    &forms.front(), &forms.back(), nullptr},
                                   subject));
  PutRecipe(encoder.recipe, encoder.recipe_path, subject);
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return octavo.ious[a] < octavo.ious[b]; });
  std::vector<ShownQuestion> questions;
  for (const size_t i : order) {
    ShownQuestion question{subject["samples"][0], picture_path, prompts[i], {}};
    for (const Variant& variant : encoder.variants) {
      question.masks.emplace_back(variant.form, variant.masks[i].mask);
    }
    questions.push_back(std::move(question));
  }
  OCTAVO_RETURN_IF_ERROR(PutPictures(questions, report, subject));
  TaskFlags task;
  task.task = "segment";
  task.decoder = decoder_path;
  subject["live"] = task.Live(encoder.variants.front().path, octavo.path);
  return subject;
}

// Rows of pictures of one size.
Image SideBySide(const std::vector<std::vector<Image>>& rows) {
  const int w = rows[0][0].width, h = rows[0][0].height;
  const int columns = static_cast<int>(rows[0].size()), count = static_cast<int>(rows.size());
  Image sheet = MakeImage(columns * w + (columns - 1) * kGap, count * h + (count - 1) * kGap);
  std::fill(sheet.pixels.begin(), sheet.pixels.end(), uint8_t{255});
  for (int r = 0; r < count; ++r) {
    for (int c = 0; c < columns; ++c) {
      const Image& image = rows[static_cast<size_t>(r)][static_cast<size_t>(c)];
      for (int y = 0; y < h; ++y) {
        std::copy_n(image.At(0, y), static_cast<size_t>(w) * 3, sheet.At(c * (w + kGap), r * (h + kGap) + y));
      }
    }
  }
  return sheet;
}

void PrintVariants(const Report& report, const std::vector<Encoder>& models) {
  Table table("llrrrrr", {"encoder", "form", "mask IoU", "worst", "SQNR dB", "ms", "MB"});
  for (const Encoder& encoder : models) {
    for (const Variant& v : encoder.variants) {
      const bool same = v.sqnr_db >= kIdenticalDb;
      table.AddRow({v.model, v.form, fmt::format("{:.3f}", v.mean_iou), fmt::format("{:.3f}", v.worst_iou),
                    same ? "-" : fmt::format("{:.1f}", v.sqnr_db),
                    fmt::format("{:.1f}", SummarizeTimings(v.times).median),
                    fmt::format("{:.1f}", static_cast<double>(FileBytes(v.path)) / 1e6)});
    }
  }
  table.Print(report.stream());
}

Json VariantsJson(const std::vector<Encoder>& models) {
  Json rows = Json::array();
  for (const Encoder& encoder : models) {
    for (const Variant& v : encoder.variants) {
      rows.push_back({{"encoder", v.model},
                      {"form", v.form},
                      {"file", v.path},
                      {"mask_iou", v.mean_iou},
                      {"worst_mask_iou", v.worst_iou},
                      {"sqnr_db", v.sqnr_db},
                      {"median_ms", SummarizeTimings(v.times).median},
                      {"int8_macs_share", v.session->plan().int8_macs_share()},
                      {"bytes", FileBytes(v.path)}});
    }
  }
  return rows;
}

Result<ExitCode> RunDemo(const DemoFlags& flags) {
  const Stopwatch stopwatch;
  OCTAVO_RETURN_IF_ERROR(MakeFolder(flags.folder));
  const std::string crops = flags.folder + "/calibration";
  OCTAVO_RETURN_IF_ERROR(WriteCrops(crops));
  OCTAVO_ASSIGN(const std::string picture_path, FindDataFile(kJudged));
  OCTAVO_ASSIGN(const Image picture, LoadImage(picture_path));
  std::vector<Prompt> prompts(kBoxes.size());
  for (size_t i = 0; i < prompts.size(); ++i) prompts[i].box = kBoxes[i];
  OCTAVO_ASSIGN(const std::string decoder_path, FindDataFile("models/efficientvit-sam-nano-decoder.onnx"));
  OCTAVO_ASSIGN(Graph decoder_graph, LoadOnnx(decoder_path));
  OCTAVO_ASSIGN(const auto decoder, OpenSession(std::move(decoder_graph), flags));

  const std::array<std::pair<const char*, const char*>, 2> encoders = {
      {{"plain", "models/efficientvit-sam-nano-encoder.onnx"},
       {"hard", "models/efficientvit-sam-nano-hard-encoder.onnx"}}};
  std::vector<Encoder> models;
  std::vector<std::vector<Image>> pictures;
  for (const auto& [model, path] : encoders) {
    OCTAVO_ASSIGN(Encoder encoder, MakeVariants(flags, model, path, crops));
    OCTAVO_RETURN_IF_ERROR(Judge(picture, prompts, *decoder, encoder.variants));
    OCTAVO_RETURN_IF_ERROR(Time(picture, encoder.variants));
    std::vector<Image> row;
    for (const Variant& variant : encoder.variants) {
      OCTAVO_ASSIGN(Image overlay, DrawOverlay(picture, variant.masks, prompts));
      row.push_back(std::move(overlay));
    }
    pictures.push_back(std::move(row));
    models.push_back(std::move(encoder));
  }
  const std::string sheet = flags.folder + "/overlays.png";
  OCTAVO_RETURN_IF_ERROR(SavePng(sheet, SideBySide(pictures)));
  flags.report.Print(
      "Calibrated on crops of three pictures, judged on a fourth; the masks of {} boxes against FP32's\n\n",
      prompts.size());
  PrintVariants(flags.report, models);
  flags.report.Print(
      "\nTop: the plain encoder; bottom: the same function with outlier channels.\n"
      "Left to right: FP32, naive INT8 (as TensorRT 8 by itself), Octavo INT8\n{}\n",
      sheet);
  Json report = StartReport("demo", flags.threads, stopwatch.Milliseconds() / 1000);
  for (const Encoder& encoder : models) {
    OCTAVO_ASSIGN(Json subject, SubjectOf(encoder, picture_path, decoder_path, prompts, report));
    report["subjects"].push_back(std::move(subject));
  }
  OCTAVO_RETURN_IF_ERROR(WriteReport(report, flags.folder));
  flags.report.Print("{}/report.html\n", flags.folder);
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson(
      {{"overlays", sheet}, {"report", flags.folder + "/report.html"}, {"results", VariantsJson(models)}}));
  return kDone;
}

}  // namespace

void AddDemoCommand(CLI::App& app, Action& action) {
  CLI::App* command = AddSubcommand(
      app, "demo",
      "Quantize the embedded encoders, and show what becomes of their masks in FP32, naive INT8 and Octavo's",
      {"octavo demo", "octavo demo -o /tmp/demo --json -"});
  auto flags = std::make_shared<DemoFlags>();
  command->add_option("-o,--output", flags->folder, "Folder for calibration crops, models and pictures")
      ->type_name("DIR")
      ->capture_default_str();
  command->add_option("--threads", flags->threads, "Threads to compute with; 0: every core")
      ->check(CLI::Range(0, 1024))
      ->type_name("N");
  AddTuningFlags(*command, flags->tuning);
  AddIsaFlag(*command);
  flags->report.AddFlag(*command);
  command->callback([=, &action] { action = [=] { return RunDemo(*flags); }; });
}

}  // namespace octavo::cli
