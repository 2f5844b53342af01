// What report.json holds, in the terminal; and the page of a report.json that lost its own.
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

#include "command.h"
#include "console.h"
#include "octavo/compare.h"
#include "octavo/segment.h"
#include "octavo/text_file.h"
#include "report_document.h"
#include "report_subject.h"
#include "terminal_pictures.h"

namespace octavo::cli {
namespace {

constexpr size_t kSparkline = 16;
constexpr size_t kMostPictures = 3;
constexpr int kPictureSide = 240;  // of each form's picture; three stand side by side

struct ReportCommandFlags {
  std::string path;
  std::string html;
  std::string pictures = "auto";
  int top = 20;
  Report report;
};

double NumberOf(const Json& object, const char* key, double fallback = std::nan("")) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : fallback;
}

std::string TextOf(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

const Json& ListOf(const Json& object, const char* key) {
  static const Json kEmpty = Json::array();
  const auto found = object.find(key);
  return found != object.end() && found->is_array() ? *found : kEmpty;
}

std::string Fixed(double number, int digits) {
  return std::isfinite(number) ? fmt::format("{:.{}f}", number, digits) : "-";
}

std::string Decibels(double number) {
  if (!std::isfinite(number)) return "-";
  return number >= kIdenticalDb ? "identical" : fmt::format("{:.1f}", number);
}

double MedianOf(const Json& form) {
  const auto times = form.find("milliseconds");
  return times != form.end() && times->is_object() ? NumberOf(*times, "median") : std::nan("");
}

// Counts on a logarithmic scale, in few columns.
std::string Sparkline(const Json& counts) {
  static constexpr std::array<const char*, 9> kBars = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::array<double, kSparkline> columns{};
  for (size_t i = 0; i < counts.size(); ++i) {
    columns[i * kSparkline / counts.size()] += std::max(0.0, counts[i].get<double>());
  }
  const double most = std::log1p(*std::max_element(columns.begin(), columns.end()));
  std::string text;
  for (const double column : columns) {
    const double share = most > 0 ? std::log1p(column) / most : 0;
    text += kBars[static_cast<size_t>(std::ceil(std::clamp(share, 0.0, 1.0) * 8))];
  }
  return text;
}

// Of the layer's first activation that has one.
std::string SparklineOf(const Json& layer, const Json& subject) {
  const auto tensors = subject.find("tensors");
  if (tensors == subject.end() || !tensors->is_object()) return "";
  for (const Json& operand : ListOf(layer, "operands")) {
    const auto tensor = tensors->find(TextOf(operand, "tensor"));
    if (tensor == tensors->end()) continue;
    const auto histogram = tensor->find("histogram");
    if (histogram != tensor->end() && histogram->is_object()) return Sparkline((*histogram)["counts"]);
  }
  return "";
}

void PrintForms(const Report& report, const Json& subject) {
  const auto score = subject.find("score");
  const std::string name = score != subject.end() && score->is_object() ? TextOf(*score, "name") : "score";
  Table table("lrrrrrrr", {"form", name, "at least", "SQNR dB", "ms", "faster", "INT8 MACs", "MB"});
  const double before = subject["forms"].empty() ? std::nan("") : MedianOf(subject["forms"][0]);
  for (const Json& form : subject["forms"]) {
    const double ms = MedianOf(form), share = NumberOf(form, "int8_macs_share"), bytes = NumberOf(form, "bytes");
    table.AddRow({TextOf(form, "name"), Fixed(NumberOf(form, "score"), 4), Fixed(NumberOf(form, "mean_bound"), 4),
                  Decibels(NumberOf(form, "sqnr_db")), Fixed(ms, 2),
                  std::isfinite(before / ms) ? fmt::format("{:.2f}x", before / ms) : "-",
                  std::isfinite(share) ? fmt::format("{:.1f} %", 100 * share) : "-",
                  std::isfinite(bytes) ? Fixed(bytes / 1e6, 1) : "-"});
  }
  table.Print(report.stream());
}

std::string TimesOf(const Json& layer) {
  const auto times = layer.find("ms");
  if (times == layer.end() || !times->is_object()) return "-";
  std::string text;
  for (const auto& [form, ms] : times->items()) {
    if (ms.is_number()) text += fmt::format("{}{:.3f}", text.empty() ? "" : " > ", ms.get<double>());
  }
  return text.empty() ? "-" : text;
}

std::string WhyOf(const Json& layer) {
  for (const char* key : {"reason", "why_float"}) {
    if (std::string text = TextOf(layer, key); !text.empty()) return text;
  }
  std::string text;
  for (const Json& remedy : ListOf(layer, "remedies")) {
    if (remedy.is_string()) text += (text.empty() ? "" : ", ") + remedy.get<std::string>();
  }
  return text;
}

void PrintLayers(const Report& report, const Json& subject, int top) {
  std::vector<const Json*> layers;
  for (const Json& layer : ListOf(subject, "layers")) layers.push_back(&layer);
  if (layers.empty()) return;
  std::stable_sort(layers.begin(), layers.end(), [](const Json* a, const Json* b) {
    return NumberOf(*a, "sensitivity", 0) > NumberOf(*b, "sensitivity", 0);
  });
  const size_t shown = top > 0 ? std::min(layers.size(), static_cast<size_t>(top)) : layers.size();
  Table table("lllrrrll", {"layer", "op", "in", "MMACs", "ms", "sensitivity", "values", "why"});
  for (size_t i = 0; i < shown; ++i) {
    const Json& layer = *layers[i];
    const double sensitivity = NumberOf(layer, "sensitivity");
    table.AddRow({TextOf(layer, "node"), TextOf(layer, "op"), TextOf(layer, "precision"),
                  Fixed(NumberOf(layer, "macs") / 1e6, 1), TimesOf(layer),
                  std::isfinite(sensitivity) ? fmt::format("{:.3g}", sensitivity) : "-", SparklineOf(layer, subject),
                  WhyOf(layer)});
  }
  table.Print(report.stream());
  const auto sensitivity = subject.find("sensitivity");
  const std::string what = sensitivity != subject.end() && sensitivity->is_object() ? TextOf(*sensitivity, "what") : "";
  if (!what.empty()) report.Print("sensitivity: {}\n", what);
  if (shown < layers.size()) report.Print("... {} layers more; --top 0 lists them all\n", layers.size() - shown);
}

Result<Image> ImageOf(const std::string& uri) {
  constexpr std::string_view kPrefix = "data:image/png;base64,";
  if (!uri.starts_with(kPrefix)) return BadFile("a picture of the report is no PNG");
  OCTAVO_ASSIGN(const std::vector<std::byte> bytes, FromBase64(std::string_view(uri).substr(kPrefix.size())));
  return DecodeImage(bytes, "a picture of the report");
}

// Every form's mask over the picture, side by side.
Result<Image> SheetOf(const Json& picture, const Json& report) {
  std::vector<Image> forms;
  for (const Json& mask : picture["masks"]) {
    OCTAVO_ASSIGN(Image answer, ImageOf(TextOf(mask, "image")));
    Image shown = answer;
    const auto images = report.find("images");
    const std::string id = TextOf(picture, "image");
    if (!id.empty() && images != report.end() && images->contains(id)) {
      OCTAVO_ASSIGN(shown, ImageOf(TextOf((*images)[id], "data")));
      if (shown.width != answer.width || shown.height != answer.height)
        return BadFile("a mask is not of its picture's size");
      Image grey = MakeImage(answer.width, answer.height, 1);
      for (size_t i = 0; i < grey.pixels.size(); ++i) grey.pixels[i] = answer.pixels[3 * i];
      OCTAVO_ASSIGN(shown, DrawOverlay(shown, {{std::move(grey), 0, 0, 0, 0}}, {}));
    }
    const int longer = std::max(shown.width, shown.height);
    OCTAVO_ASSIGN(shown, Resize(shown, std::max(1, shown.width * kPictureSide / longer),
                                std::max(1, shown.height * kPictureSide / longer)));
    forms.push_back(std::move(shown));
  }
  if (forms.empty()) return BadFile("a picture of the report has no masks");
  const int width = forms[0].width, height = forms[0].height, count = static_cast<int>(forms.size());
  Image sheet = MakeImage(width * count + 4 * (count - 1), height);
  for (int i = 0; i < count; ++i) {
    const Image& form = forms[static_cast<size_t>(i)];
    if (form.width != width || form.height != height) return BadFile("masks of one picture differ in size");
    for (int y = 0; y < height; ++y) {
      std::copy_n(form.At(0, y), static_cast<size_t>(width) * 3, sheet.At(i * (width + 4), y));
    }
  }
  return sheet;
}

Status PrintPictures(const Report& out, const Json& report, const Json& subject, PictureProtocol protocol) {
  size_t shown = 0;
  for (const Json& picture : ListOf(subject, "pictures")) {
    if (shown++ == kMostPictures) break;
    Table table("lrr", {TextOf(picture, "name"), "IoU", "pixels that differ"});
    for (const Json& mask : picture["masks"]) {
      const double different = NumberOf(mask, "different");
      table.AddRow({TextOf(mask, "form"), Fixed(NumberOf(mask, "iou"), 4),
                    std::isfinite(different) ? fmt::format("{:.2f} %", 100 * different) : "-"});
    }
    table.Print(out.stream());
    if (protocol == PictureProtocol::kNone) continue;
    OCTAVO_ASSIGN(const Image sheet, SheetOf(picture, report));
    OCTAVO_ASSIGN(const std::string sequence, PictureSequence(sheet, protocol));
    std::fwrite(sequence.data(), 1, sequence.size(), out.stream());
  }
  return {};
}

Result<ExitCode> RunReport(const ReportCommandFlags& flags) {
  OCTAVO_ASSIGN(const PictureProtocol protocol, ParsePictureProtocol(flags.pictures));
  OCTAVO_ASSIGN(const Json report, LoadReport(flags.path));
  if (!flags.html.empty()) OCTAVO_RETURN_IF_ERROR(SaveText(flags.html, ReportPage(report)));
  for (const Json& subject : report["subjects"]) {
    Table heading("l", {TextOf(subject, "name") + ": " + TextOf(subject["summary"], "sentence")});
    heading.Print(flags.report.stream());
    PrintForms(flags.report, subject);
    flags.report.Print("\n");
    PrintLayers(flags.report, subject, flags.top);
    flags.report.Print("\n");
    OCTAVO_RETURN_IF_ERROR(PrintPictures(flags.report, report, subject, protocol));
  }
  if (!flags.html.empty()) flags.report.Print("{}\n", flags.html);
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson(report));
  return kDone;
}

}  // namespace

void AddReportCommand(CLI::App& app, Action& action) {
  CLI::App* command = AddSubcommand(app, "report", "Show what a report.json holds, in the terminal or as a page",
                                    {"octavo report vit.int8.onnx.report", "octavo report report.json --top 0",
                                     "octavo report report.json --html page.html"});
  auto flags = std::make_shared<ReportCommandFlags>();
  command->add_option("REPORT", flags->path, "report.json, or the folder that holds it")->required();
  command->add_option("--top", flags->top, "Layers to list, most sensitive first; 0: all (default: 20)")
      ->type_name("N")
      ->check(CLI::Range(0, 1 << 30));
  command
      ->add_option("--pictures", flags->pictures,
                   "How to show pictures; auto: where the terminal is known to show them (default: auto)")
      ->type_name("auto|off|kitty|iterm|sixel");
  command->add_option("--html", flags->html, "Write the page of this report")->type_name("FILE.html");
  flags->report.AddFlag(*command);
  command->callback([=, &action] { action = [=] { return RunReport(*flags); }; });
}

}  // namespace octavo::cli
