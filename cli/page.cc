#include "page.h"

#include <array>
#include <random>

#include "web_files.h"

namespace octavo::cli {
namespace {

std::string Nonce() {
  std::random_device device;
  std::string text;
  for (int i = 0; i < 4; ++i) text += fmt::format("{:08x}", device());
  return text;
}

// JSON in which no "</script" and no "<!--" can appear.
std::string ForScript(const Json& data) {
  const std::string text = data.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string safe;
  safe.reserve(text.size());
  for (const char c : text) {
    if (c == '<') {
      safe += "\\u003c";
    } else {
      safe += c;
    }
  }
  return safe;
}

void Put(std::string& page, std::string_view mark, std::string_view text) {
  const size_t at = page.find(mark);
  if (at != std::string::npos) page.replace(at, mark.size(), text);
}

}  // namespace

std::string Page(std::string_view name, const Json& data, bool offline) {
  const std::string stem(name);
  std::string page(WebFile(stem + ".html"));
  const std::string nonce = Nonce();
  const std::string policy = fmt::format(
      "default-src 'none'; img-src data: blob:; style-src 'nonce-{0}'; script-src 'nonce-{0}'; base-uri 'none'; "
      "form-action 'none'{1}",
      nonce, offline ? "" : "; connect-src 'self'");
  for (size_t at = page.find("%NONCE%"); at != std::string::npos; at = page.find("%NONCE%")) {
    page.replace(at, 7, nonce);
  }
  Put(page, "%POLICY%", policy);
  Put(page, "/*STYLE*/", std::string(WebFile("common.css")) + std::string(WebFile(stem + ".css")));
  Put(page, "/*SCRIPT*/", std::string(WebFile("common.js")) + std::string(WebFile(stem + ".js")));
  Put(page, "/*DATA*/", ForScript(data));  // last: data may hold the marks
  return page;
}

}  // namespace octavo::cli
