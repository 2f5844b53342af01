// Errors as values. Octavo's library never throws across its API, prints, or aborts: what can fail
// returns a Status or a Result<T>, whose message names the file, the node and, where there is one, the remedy.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace octavo {

enum class ErrorCode {
  kInvalidArgument,  // the caller's values are off: a wrong shape, an unknown name
  kBadFile,          // a file from outside is damaged, truncated or hostile
  kUnsupported,      // valid, but Octavo does not do it (yet)
  kNotFound,         // a file, a tensor or a node that is not there
  kIo,               // reading or writing failed
  kInternal,         // a bug of ours; the message says where
};

// Success, or an error code with a message. A successful Status owns no memory. Thread compatible.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(ErrorCode code, std::string message) : error_(std::make_unique<Error>(Error{code, std::move(message)})) {}
  Status(const Status& other) : error_(other.error_ ? std::make_unique<Error>(*other.error_) : nullptr) {}
  Status& operator=(const Status& other) {
    error_ = other.error_ ? std::make_unique<Error>(*other.error_) : nullptr;
    return *this;
  }
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;

  bool ok() const { return error_ == nullptr; }
  // Only for errors.
  ErrorCode code() const { return error_->code; }
  // Empty on success. One line, no trailing newline.
  const std::string& message() const {
    static const std::string kEmpty;
    return error_ ? error_->message : kEmpty;
  }
  // The same error with `prefix` before its message ("file.onnx: ").
  Status WithPrefix(const std::string& prefix) const { return ok() ? Status() : Status(code(), prefix + message()); }

 private:
  struct Error {
    ErrorCode code;
    std::string message;
  };
  std::unique_ptr<Error> error_;
};

inline Status InvalidArgument(std::string message) { return {ErrorCode::kInvalidArgument, std::move(message)}; }
inline Status BadFile(std::string message) { return {ErrorCode::kBadFile, std::move(message)}; }
inline Status Unsupported(std::string message) { return {ErrorCode::kUnsupported, std::move(message)}; }
inline Status NotFound(std::string message) { return {ErrorCode::kNotFound, std::move(message)}; }
inline Status IoError(std::string message) { return {ErrorCode::kIo, std::move(message)}; }
inline Status InternalError(std::string message) { return {ErrorCode::kInternal, std::move(message)}; }

// A value or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT: implicit by design
  Result(Status status) : status_(std::move(status)) {  // NOLINT: implicit by design
    if (status_.ok()) status_ = InternalError("a Result was made from a successful Status");
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  // Only when ok().
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return *std::move(value_); }
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace octavo

// Leave the enclosing function when `expression` (a Status) is an error.
#define OCTAVO_RETURN_IF_ERROR(expression)           \
  do {                                               \
    ::octavo::Status octavo_status_ = (expression);  \
    if (!octavo_status_.ok()) return octavo_status_; \
  } while (false)

#define OCTAVO_CONCAT_INNER_(a, b) a##b
#define OCTAVO_CONCAT_(a, b) OCTAVO_CONCAT_INNER_(a, b)
// `OCTAVO_ASSIGN(auto x, F());` — x is F's value, or the enclosing function returns F's error.
#define OCTAVO_ASSIGN(lhs, expression) OCTAVO_ASSIGN_IMPL_(OCTAVO_CONCAT_(octavo_result_, __LINE__), lhs, expression)
#define OCTAVO_ASSIGN_IMPL_(result, lhs, expression) \
  auto result = (expression);                        \
  if (!result.ok()) return result.status();          \
  lhs = std::move(result).value()
