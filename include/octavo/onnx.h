// ONNX files in and out.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "octavo/graph.h"

namespace octavo {

struct LoadOptions {
  // Ops that Octavo does not have come as they are, control flow without its branches (what these read from outside is
  // among the node's inputs): for those who look at the graph and neither run nor save it.
  bool any_op = false;
};

// Reads an ONNX model: typed and raw initializers, external data beside the file, Constant nodes (which become
// constants), float16/bfloat16/integer types. Shapes stay as the file declares them; use BindShapes or Session to
// make them concrete.
// Every byte is treated as hostile: sizes are checked before use, external data must lie inside the model's folder
// (no absolute path, no "..", no symlink that leaves it) and be as long as stated.
// Errors: kNotFound/kIo (the file), kBadFile (not ONNX, truncated, a missing initializer, a cycle, a name that nothing
// makes or that two make; nodes may come in any order), kUnsupported (one message that lists every unsupported op with
// its nodes; control flow; sequences).
Result<Graph> LoadOnnx(const std::string& path, const LoadOptions& options = {});
// The same from memory. `folder` is where external data is looked for; empty: external data is an error.
Result<Graph> ParseOnnx(std::span<const std::byte> bytes, const std::string& folder, const LoadOptions& options = {});

struct SaveOptions {
  // Tensors of at least this many bytes go to one external file beside the model ("<name>.data") when the model
  // would pass protobuf's limit of 2 GiB, or when `external_data` asks for it.
  bool external_data = false;
  int64_t external_threshold = 1024;
};

// Writes `graph` as ONNX. Octavo's fused ops must have been expanded before: they are an error here.
// The file appears whole or not at all (temporary file, fsync, rename). Loading what was saved gives an equal graph.
Status SaveOnnx(const Graph& graph, const std::string& path, const SaveOptions& options = {});

}  // namespace octavo
