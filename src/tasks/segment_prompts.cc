#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "octavo/segment.h"

namespace octavo {
namespace {

std::string Describe(const Box& box) { return fmt::format("box {:g},{:g},{:g},{:g}", box.x0, box.y0, box.x1, box.y1); }

Result<Box> CheckBox(const Box& box, int width, int height, std::vector<std::string>* warnings) {
  const std::string picture = fmt::format("the picture is {}x{}", width, height);
  if (!std::isfinite(box.x0) || !std::isfinite(box.y0) || !std::isfinite(box.x1) || !std::isfinite(box.y1)) {
    return InvalidArgument(Describe(box) + " has a corner that is not a number");
  }
  if (box.x1 <= box.x0 || box.y1 <= box.y0) {
    return InvalidArgument(Describe(box) + " is inside out or empty: x0 < x1 and y0 < y1 are wanted");
  }
  if (box.x1 <= 0 || box.y1 <= 0 || box.x0 >= width || box.y0 >= height) {
    return InvalidArgument(Describe(box) + " lies wholly outside: " + picture);
  }
  const Box clamped{std::max(box.x0, 0.0), std::max(box.y0, 0.0), std::min<double>(box.x1, width),
                    std::min<double>(box.y1, height)};
  const bool changed = clamped.x0 != box.x0 || clamped.y0 != box.y0 || clamped.x1 != box.x1 || clamped.y1 != box.y1;
  if (changed && warnings != nullptr) {
    warnings->push_back(Describe(box) + " overlaps the edge: " + picture + "; it was cut to " + Describe(clamped));
  }
  return clamped;
}

Status CheckPoint(const Point& point, int width, int height) {
  const std::string name = fmt::format("point {:g},{:g},{}", point.x, point.y, point.label);
  if (point.label != 0 && point.label != 1) {
    return InvalidArgument(name + " has an unknown label: 1 is part of the thing, 0 is not");
  }
  if (!(point.x >= 0 && point.y >= 0 && point.x <= width && point.y <= height)) {
    return InvalidArgument(fmt::format("{} lies outside: the picture is {}x{}", name, width, height));
  }
  return {};
}

}  // namespace

Result<Prompt> CheckPrompt(const Prompt& prompt, int width, int height, std::vector<std::string>* warnings) {
  if (prompt.box.has_value() == !prompt.points.empty()) {
    return InvalidArgument("a prompt is either a box or points");
  }
  if (!prompt.box) {
    for (const Point& point : prompt.points) OCTAVO_RETURN_IF_ERROR(CheckPoint(point, width, height));
    return prompt;
  }
  OCTAVO_ASSIGN(const Box box, CheckBox(*prompt.box, width, height, warnings));
  return Prompt{box, {}};
}

}  // namespace octavo
