#include "octavo/segment.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <memory>
#include <optional>

#include "command.h"
#include "console.h"
#include "engine_flags.h"
#include "model_files.h"
#include "segment_run.h"

namespace octavo::cli {
namespace {

constexpr size_t kMostLabels = 255;  // ids of a labelled 8-bit mask

struct SegmentFlags {
  std::string picture;
  std::string encoder, decoder;
  std::vector<std::string> boxes, points;
  std::vector<bool> order;  // as given: true for a box, false for a point
  bool each_point = false;
  std::string overlay, mask;
  EngineFlags engine;
  Report report;
};

// Comma-separated numbers, between `least` and N of them; missing ones keep their value in `numbers`.
template <size_t N>
bool ParseNumbers(const std::string& text, size_t least, std::array<double, N>& numbers) {
  const char* at = text.data();
  const char* const end = at + text.size();
  for (size_t i = 0; i < N; ++i) {
    const auto [next, error] = std::from_chars(at, end, numbers[i]);
    if (error != std::errc()) return false;
    if (next == end) return i + 1 >= least;
    if (*next != ',') return false;
    at = next + 1;
  }
  return false;
}

Result<Prompt> ParseBox(const std::string& text) {
  std::array<double, 4> v{};
  if (!ParseNumbers(text, 4, v)) {
    return InvalidArgument(fmt::format("--box {}: write it as x0,y0,x1,y1 in pixels of the picture", text));
  }
  Prompt prompt;
  prompt.box = Box{v[0], v[1], v[2], v[3]};
  return prompt;
}

Result<Point> ParsePoint(const std::string& text) {
  std::array<double, 3> v{0, 0, 1};
  if (!ParseNumbers(text, 2, v) || (v[2] != 0 && v[2] != 1)) {
    return InvalidArgument(
        fmt::format("--point {}: write it as x,y or x,y,label, in pixels of the picture; label 1 is on the thing, 0 is "
                    "off it",
                    text));
  }
  return Point{v[0], v[1], static_cast<int>(v[2])};
}

// Boxes and points in the order in which they were given; points next to each other make one prompt.
Result<std::vector<Prompt>> ParsePrompts(const SegmentFlags& flags) {
  std::vector<Prompt> prompts;
  size_t box = 0, point = 0;
  bool open = false;  // the last prompt takes further points
  for (const bool is_box : flags.order) {
    if (is_box) {
      OCTAVO_ASSIGN(Prompt prompt, ParseBox(flags.boxes[box++]));
      prompts.push_back(std::move(prompt));
      open = false;
      continue;
    }
    OCTAVO_ASSIGN(const Point parsed, ParsePoint(flags.points[point++]));
    if (!open) prompts.emplace_back();
    prompts.back().points.push_back(parsed);
    open = !flags.each_point;
  }
  if (prompts.empty()) {
    return InvalidArgument("no prompt: say what to segment with --box x0,y0,x1,y1 or --point x,y");
  }
  return prompts;
}

std::string Describe(const Prompt& prompt) {
  if (prompt.box)
    return fmt::format("box {:g},{:g},{:g},{:g}", prompt.box->x0, prompt.box->y0, prompt.box->x1, prompt.box->y1);
  std::string text = prompt.points.size() == 1 ? "point" : "points";
  for (const Point& point : prompt.points) {
    text += fmt::format(" {:g},{:g}{}", point.x, point.y, point.label == 0 ? "(off)" : "");
  }
  return text;
}

// x0, y0, x1, y1 of what is set, the last two exclusive; null when nothing is.
Json BoundingBox(const Image& mask) {
  int x0 = mask.width, y0 = mask.height, x1 = 0, y1 = 0;
  for (int y = 0; y < mask.height; ++y) {
    for (int x = 0; x < mask.width; ++x) {
      if (*mask.At(x, y) == 0) continue;
      x0 = std::min(x0, x);
      x1 = std::max(x1, x + 1);
      y0 = std::min(y0, y);
      y1 = std::max(y1, y + 1);
    }
  }
  return x1 > x0 ? Json{x0, y0, x1, y1} : Json(nullptr);
}

Result<SegmentAnswer> Compute(const SegmentFlags& flags, const Image& picture, const std::vector<Prompt>& prompts) {
  OCTAVO_ASSIGN(SegmentPair pair, SegmentPair::Open(flags.encoder, flags.decoder, flags.engine.ToOptions()));
  OCTAVO_RETURN_IF_ERROR(pair.Encode(picture));
  return pair.Answer(prompts);
}

// One prompt: its mask, 0 and 255. Several: 1 for the first prompt's mask, 2 for the second's, ...; later ones on top.
Image MaskPicture(const std::vector<SegmentedMask>& masks) {
  if (masks.size() == 1) return masks.front().mask;
  Image labels = MakeImage(masks.front().mask.width, masks.front().mask.height, 1);
  for (size_t id = 0; id < masks.size(); ++id) {
    const auto& pixels = masks[id].mask.pixels;
    for (size_t i = 0; i < pixels.size(); ++i) {
      if (pixels[i] != 0) labels.pixels[i] = static_cast<uint8_t>(id + 1);
    }
  }
  return labels;
}

double AreaShare(const SegmentedMask& mask) {
  return static_cast<double>(mask.area) / (static_cast<double>(mask.mask.width) * mask.mask.height);
}

void PrintAnswer(const Report& report, const std::vector<Prompt>& prompts, const SegmentAnswer& answer) {
  Table table("rlrr", {"#", "prompt", "predicted IoU", "area"});
  for (size_t i = 0; i < prompts.size(); ++i) {
    const SegmentedMask& mask = answer.segmentation.masks[i];
    table.AddRow({std::to_string(i + 1), Describe(prompts[i]), fmt::format("{:.3f}", mask.iou_prediction),
                  fmt::format("{:.1f} %", 100 * AreaShare(mask))});
  }
  table.Print(report.stream());
  report.Print("encoder {:.1f} ms, decoder {:.1f} ms\n", answer.encoder_ms, answer.decoder_ms);
}

Json AnswerJson(const SegmentFlags& flags, const Image& picture, const std::vector<Prompt>& prompts,
                const SegmentAnswer& answer) {
  Json masks = Json::array();
  for (size_t i = 0; i < prompts.size(); ++i) {
    const SegmentedMask& mask = answer.segmentation.masks[i];
    masks.push_back({{"prompt", PromptJson(prompts[i])},
                     {"iou_prediction", Finite(mask.iou_prediction)},
                     {"mask_index", mask.mask_index},
                     {"area", mask.area},
                     {"area_share", AreaShare(mask)},
                     {"bbox", BoundingBox(mask.mask)}});
  }
  return {{"picture", flags.picture},
          {"size", {picture.width, picture.height}},
          {"encoder", flags.encoder},
          {"decoder", flags.decoder},
          {"threads", flags.engine.thread_count()},
          {"precision", flags.engine.precision},
          {"prepare_ms", answer.prepare_ms},
          {"encoder_ms", answer.encoder_ms},
          {"decoder_ms", answer.decoder_ms},
          {"overlay", flags.overlay},
          {"mask", flags.mask.empty() ? Json(nullptr) : Json(flags.mask)},
          {"masks", masks}};
}

Status FillDefaults(SegmentFlags& flags) {
  if (flags.encoder.empty()) {
    OCTAVO_ASSIGN(flags.encoder, FindDataFile("models/efficientvit-sam-nano-encoder.onnx"));
  }
  if (flags.decoder.empty()) {
    OCTAVO_ASSIGN(flags.decoder, FindDataFile("models/efficientvit-sam-nano-decoder.onnx"));
  }
  if (flags.overlay.empty()) flags.overlay = Stem(flags.picture) + ".overlay.png";
  return {};
}

// Before any model is loaded, so that a slip costs no time. Warnings come later, from Predict.
Status CheckPrompts(const SegmentFlags& flags, const std::vector<Prompt>& prompts, const Image& picture) {
  if (!flags.mask.empty() && prompts.size() > kMostLabels) {
    return InvalidArgument(
        fmt::format("--mask holds at most {} prompts' masks, {} were given", kMostLabels, prompts.size()));
  }
  std::vector<std::string> warnings;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto checked = CheckPrompt(prompts[i], picture.width, picture.height, &warnings);
    if (!checked.ok()) return checked.status().WithPrefix(fmt::format("prompt {}: ", i + 1));
  }
  return {};
}

Result<ExitCode> Segment(SegmentFlags flags) {
  OCTAVO_ASSIGN(const std::vector<Prompt> prompts, ParsePrompts(flags));
  OCTAVO_ASSIGN(const Image picture, LoadImage(flags.picture));
  OCTAVO_RETURN_IF_ERROR(CheckPrompts(flags, prompts, picture));
  OCTAVO_RETURN_IF_ERROR(FillDefaults(flags));
  OCTAVO_ASSIGN(const SegmentAnswer answer, Compute(flags, picture, prompts));
  for (const std::string& warning : answer.segmentation.warnings) PrintWarning(warning);
  OCTAVO_ASSIGN(const Image overlay, DrawOverlay(picture, answer.segmentation.masks, prompts));
  OCTAVO_RETURN_IF_ERROR(SavePng(flags.overlay, overlay));
  if (!flags.mask.empty()) OCTAVO_RETURN_IF_ERROR(SavePng(flags.mask, MaskPicture(answer.segmentation.masks)));
  PrintAnswer(flags.report, prompts, answer);
  flags.report.Print("overlay: {}\n", flags.overlay);
  if (!flags.mask.empty()) flags.report.Print("mask: {}\n", flags.mask);
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson(AnswerJson(flags, picture, prompts, answer)));
  return kDone;
}

}  // namespace

void AddSegmentCommand(CLI::App& app, Action& action) {
  CLI::App* command =
      AddSubcommand(app, "segment", "Cut things out of a picture: one mask per prompt, drawn over it",
                    {"octavo segment photo.jpg --box 60,20,420,300 -o overlay.png",
                     "octavo segment photo.jpg --point 210,140 --point 30,30,0 --mask mask.png",
                     "octavo segment photo.jpg --box 0,0,200,200 --box 200,0,400,200 --json -",
                     "octavo segment photo.jpg --point 210,140 --encoder l0_encoder.onnx --decoder l0_decoder.onnx"});
  auto flags = std::make_shared<SegmentFlags>();
  command->add_option("PICTURE", flags->picture, "JPEG or PNG")->required();
  CLI::Option* box =
      AddRepeatable(*command, "--box", flags->boxes,
                    "A prompt: the thing in this box, in pixels of the picture; repeatable. What hangs over the "
                    "picture's edge is cut off with a warning")
          ->type_name("x0,y0,x1,y1");
  CLI::Option* point = AddRepeatable(*command, "--point", flags->points,
                                     "A point on the thing (label 1, the default) or off it (label 0); points that "
                                     "follow each other make one prompt")
                           ->type_name("x,y[,label]");
  command->add_flag("--each-point", flags->each_point, "Make every --point a prompt of its own");
  command->add_option("--encoder", flags->encoder, "Image encoder (default: the embedded nano model)")
      ->type_name("E.onnx");
  command->add_option("--decoder", flags->decoder, "Mask decoder (default: the embedded nano model)")
      ->type_name("D.onnx");
  command
      ->add_option("-o,--overlay", flags->overlay,
                   "Picture with the masks drawn over it (default: PICTURE's name with .overlay.png, here)")
      ->type_name("overlay.png");
  command
      ->add_option("--mask", flags->mask,
                   "Write the mask too: 0 and 255 for one prompt; for several, each pixel is the number of its "
                   "prompt (1, 2, ...; the later one where masks overlap) or 0")
      ->type_name("mask.png");
  flags->engine.AddTo(*command);
  flags->report.AddFlag(*command);
  command->callback([=, &action] {
    for (const CLI::Option* option : command->parse_order()) {
      if (option == box || option == point) flags->order.push_back(option == box);
    }
    action = [=] { return Segment(*flags); };
  });
}

}  // namespace octavo::cli
