// Masks and prompts drawn on their picture.
#include <algorithm>
#include <array>
#include <cmath>
#include <new>

#include "octavo/segment.h"

namespace octavo {
namespace {

using Color = std::array<uint8_t, 3>;

// Told apart from one another by the colour-blind too (after Okabe and Ito), made somewhat brighter for photographs.
constexpr std::array<Color, 8> kMaskColors = {{{30, 144, 255},
                                               {255, 159, 28},
                                               {0, 190, 140},
                                               {233, 80, 160},
                                               {240, 228, 66},
                                               {86, 210, 245},
                                               {225, 87, 50},
                                               {160, 110, 240}}};
constexpr Color kInside = {40, 200, 80}, kOutside = {230, 50, 50}, kWhite = {255, 255, 255}, kBlack = {0, 0, 0};
constexpr int kTintPercent = 45;

void Blend(uint8_t* pixel, const Color& color, int percent) {
  for (size_t c = 0; c < 3; ++c) {
    pixel[c] = static_cast<uint8_t>((pixel[c] * (100 - percent) + color[c] * percent + 50) / 100);
  }
}

// Lines and discs grow with the picture, so that they are seen when it is scaled down to a screen.
int StrokeOf(const Image& image) { return std::clamp((std::max(image.width, image.height) + 200) / 320, 1, 24); }

void Tint(Image& picture, const Image& mask, const Color& color) {
  for (size_t i = 0; i < mask.pixels.size(); ++i) {
    if (mask.pixels[i] != 0) Blend(picture.pixels.data() + 3 * i, color, kTintPercent);
  }
}

void FillRow(Image& picture, int x0, int x1, int y, const Color& color) {
  if (y < 0 || y >= picture.height) return;
  for (int x = std::max(x0, 0); x <= std::min(x1, picture.width - 1); ++x) {
    std::copy(color.begin(), color.end(), picture.At(x, y));
  }
}

void FillRectangle(Image& picture, int x0, int y0, int x1, int y1, const Color& color) {
  for (int y = std::max(y0, 0); y <= std::min(y1, picture.height - 1); ++y) FillRow(picture, x0, x1, y, color);
}

void FillDisc(Image& picture, int center_x, int center_y, int radius, const Color& color) {
  for (int dy = -radius; dy <= radius; ++dy) {
    // A radius half a pixel longer makes small discs round instead of pointed.
    const double reach = std::sqrt((radius + 0.5) * (radius + 0.5) - dy * dy);
    const int half = static_cast<int>(reach);
    FillRow(picture, center_x - half, center_x + half, center_y + dy, color);
  }
}

// The mask's pixels within `stroke` of one outside it (by row or column). The picture's edge is no contour.
void DrawContour(Image& picture, const Image& mask, int stroke, const Color& color) {
  const auto inside = [&](int x, int y) {
    return x < 0 || y < 0 || x >= mask.width || y >= mask.height || *mask.At(x, y) != 0;
  };
  const auto on_contour = [&](int x, int y) {
    for (int d = 1; d <= stroke; ++d) {
      if (!inside(x - d, y) || !inside(x + d, y) || !inside(x, y - d) || !inside(x, y + d)) return true;
    }
    return false;
  };
  for (int y = 0; y < mask.height; ++y) {
    for (int x = 0; x < mask.width; ++x) {
      if (*mask.At(x, y) != 0 && on_contour(x, y)) std::copy(color.begin(), color.end(), picture.At(x, y));
    }
  }
}

void DrawFrame(Image& picture, int x0, int y0, int x1, int y1, int stroke, const Color& color) {
  FillRectangle(picture, x0, y0, x1, y0 + stroke - 1, color);
  FillRectangle(picture, x0, y1 - stroke + 1, x1, y1, color);
  FillRectangle(picture, x0, y0, x0 + stroke - 1, y1, color);
  FillRectangle(picture, x1 - stroke + 1, y0, x1, y1, color);
}

// White between two thin black lines, to be seen on any ground.
void DrawBox(Image& picture, const Box& box, int stroke) {
  const auto place = [](double value, int size) {
    return static_cast<int>(std::clamp(std::floor(value), 0.0, size - 1.0));
  };
  const int x0 = place(box.x0, picture.width), y0 = place(box.y0, picture.height);
  const int x1 = place(std::ceil(box.x1) - 1, picture.width), y1 = place(std::ceil(box.y1) - 1, picture.height);
  const int edge = (stroke + 1) / 2;
  DrawFrame(picture, x0 - edge, y0 - edge, x1 + edge, y1 + edge, stroke + 2 * edge, kBlack);
  DrawFrame(picture, x0, y0, x1, y1, stroke, kWhite);
}

void DrawPoint(Image& picture, const Point& point, int stroke) {
  const int x = static_cast<int>(std::clamp(std::floor(point.x), 0.0, picture.width - 1.0));
  const int y = static_cast<int>(std::clamp(std::floor(point.y), 0.0, picture.height - 1.0));
  FillDisc(picture, x, y, 5 * stroke + 1, kBlack);
  FillDisc(picture, x, y, 5 * stroke, kWhite);
  FillDisc(picture, x, y, 4 * stroke - 1, point.label == 1 ? kInside : kOutside);
}

}  // namespace

Result<Image> DrawOverlay(const Image& image, const std::vector<SegmentedMask>& masks,
                          const std::vector<Prompt>& prompts) {
  if (image.channels != 3 || image.empty() || image.pixels.size() != image.Offset(0, image.height)) {
    return InvalidArgument("an RGB picture is wanted to draw on");
  }
  for (const SegmentedMask& answer : masks) {
    const Image& mask = answer.mask;
    if (mask.channels != 1 || mask.width != image.width || mask.height != image.height ||
        mask.pixels.size() != mask.Offset(0, mask.height)) {
      return InvalidArgument("a mask to draw does not have the picture's size");
    }
  }
  try {
    Image picture = image;
    const int stroke = StrokeOf(picture);
    for (size_t i = 0; i < masks.size(); ++i) Tint(picture, masks[i].mask, kMaskColors[i % kMaskColors.size()]);
    for (size_t i = 0; i < masks.size(); ++i) {
      DrawContour(picture, masks[i].mask, stroke, kMaskColors[i % kMaskColors.size()]);
    }
    for (const Prompt& given : prompts) {
      OCTAVO_ASSIGN(const Prompt prompt, CheckPrompt(given, image.width, image.height, nullptr));
      if (prompt.box) DrawBox(picture, *prompt.box, stroke);
      for (const Point& point : prompt.points) DrawPoint(picture, point, stroke);
    }
    return picture;
  } catch (const std::bad_alloc&) {
    return IoError("there is not enough memory to draw on the picture");
  }
}

}  // namespace octavo
