#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl.h>
#include <google/protobuf/stubs/logging.h>

#include <climits>
#include <exception>
#include <mutex>
#include <new>

#include "base/file.h"
#include "base/quote.h"
#include "octavo/onnx.h"
#include "onnx.pb.h"
#include "onnx/graph_reader.h"

namespace octavo {
namespace {

namespace io = google::protobuf::io;

// Deeper nesting than any model has (a subgraph takes four messages), well within the stack.
constexpr int kMaxNesting = 100;
// Read at a time; protobuf's own 8 KiB cost a system call each.
constexpr int kBlockBytes = 1 << 20;

// Protobuf prints what it finds wrong; a library must not.
void SilenceProtobuf() {
  static std::once_flag once;
  std::call_once(once, [] { google::protobuf::SetLogHandler(nullptr); });
}

Status CheckSize(int64_t bytes) {
  if (bytes <= INT_MAX) return {};
  return Unsupported("it holds " + std::to_string(bytes) +
                     " bytes, and a protobuf file ends at 2 GiB; export it with its weights as external data "
                     "(onnx.save with save_as_external_data=True)");
}

Result<Graph> Parse(io::CodedInputStream& stream, const std::string& folder, const LoadOptions& options) {
  stream.SetTotalBytesLimit(INT_MAX);
  stream.SetRecursionLimit(kMaxNesting);
  onnx::ModelProto model;
  if (!model.ParseFromCodedStream(&stream) || !stream.ConsumedEntireMessage()) {
    return BadFile("it is not an ONNX model, or is truncated or damaged");
  }
  return GraphReader(model, folder, options).Read();
}

// Runs `parse`, turning what third parties throw into errors.
template <typename Fn>
Result<Graph> Guarded(Fn parse) {
  try {
    SilenceProtobuf();
    return parse();
  } catch (const std::bad_alloc&) {
    return IoError("out of memory while reading an ONNX model");
  } catch (const std::exception& error) {
    return InternalError("reading an ONNX model threw: " + std::string(error.what()));
  }
}

Result<Graph> Load(const std::string& path, const LoadOptions& options) {
  OCTAVO_ASSIGN(const FileDescriptor file, OpenForReading(path));
  OCTAVO_ASSIGN(const int64_t size, RegularFileSize(file, path));
  OCTAVO_RETURN_IF_ERROR(CheckSize(size).WithPrefix(path + ": "));
  // Streamed, so that the file's bytes and the tensors never lie in memory together.
  io::FileInputStream bytes(file.get(), kBlockBytes);
  io::CodedInputStream stream(&bytes);
  auto graph = Parse(stream, FolderOf(path), options);
  if (bytes.GetErrno() != 0) return SystemError("read", path, bytes.GetErrno());
  if (!graph.ok()) return graph.status().WithPrefix(path + ": ");
  graph->source = path;
  return graph;
}

}  // namespace

Result<Graph> LoadOnnx(const std::string& path, const LoadOptions& options) {
  return Guarded([&] { return Load(path, options); });
}

Result<Graph> ParseOnnx(std::span<const std::byte> bytes, const std::string& folder, const LoadOptions& options) {
  return Guarded([&]() -> Result<Graph> {
    OCTAVO_RETURN_IF_ERROR(CheckSize(static_cast<int64_t>(bytes.size())));
    io::CodedInputStream stream(reinterpret_cast<const uint8_t*>(bytes.data()), static_cast<int>(bytes.size()));
    return Parse(stream, folder, options);
  });
}

}  // namespace octavo
