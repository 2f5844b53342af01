#include "targets/shell_words.h"

namespace octavo {
namespace {

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

class WordReader {
 public:
  explicit WordReader(std::string_view text) : text_(text) {}

  Result<std::vector<std::string>> Read() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (IsBlank(c)) {
        EndWord();
        ++at_;
      } else if (c == '#' && !in_word_) {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else {
        OCTAVO_RETURN_IF_ERROR(ReadPiece(c));
      }
    }
    EndWord();
    return std::move(words_);
  }

 private:
  void EndWord() {
    if (in_word_) words_.push_back(std::move(word_));
    word_.clear();
    in_word_ = false;
  }

  Status ReadPiece(char c) {
    if (c == '\\') {
      TakeEscaped();
      return {};
    }
    in_word_ = true;
    if (c == '\'') return ReadSingleQuoted();
    if (c == '"') return ReadDoubleQuoted();
    word_ += c;
    ++at_;
    return {};
  }

  // A backslash before a line break joins the lines.
  void TakeEscaped() {
    ++at_;
    if (text_.substr(at_, 2) == "\r\n") {
      at_ += 2;
    } else if (at_ < text_.size() && text_[at_] == '\n') {
      ++at_;
    } else {
      in_word_ = true;
      word_ += at_ < text_.size() ? text_[at_++] : '\\';
    }
  }

  Status ReadSingleQuoted() {
    const size_t end = text_.find('\'', at_ + 1);
    if (end == std::string_view::npos) return InvalidArgument("a single quote is never closed");
    word_ += text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return {};
  }

  Status ReadDoubleQuoted() {
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] == '"') {
        ++at_;
        return {};
      }
      // Inside of double quotes a backslash stands for itself but before these.
      const bool escapes = text_[at_] == '\\' && at_ + 1 < text_.size() &&
                           std::string_view("\"\\$`\n").find(text_[at_ + 1]) != std::string_view::npos;
      if (escapes) ++at_;
      if (!escapes || text_[at_] != '\n') word_ += text_[at_];
    }
    return InvalidArgument("a double quote is never closed");
  }

  std::string_view text_;
  size_t at_ = 0;
  bool in_word_ = false;
  std::string word_;
  std::vector<std::string> words_;
};

}  // namespace

Result<std::vector<std::string>> SplitShellWords(std::string_view text) { return WordReader(text).Read(); }

}  // namespace octavo
