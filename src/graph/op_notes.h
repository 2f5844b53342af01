// What users are told about an op beside what its row in the op table says.
#pragma once

#include <string_view>

namespace octavo {

struct OpNote {
  std::string_view types;   // element types of its data
  std::string_view limits;  // what it does not do; may be empty
};

// Of an op of ai.onnx. Ops without a note of their own compute on floats and have no limits.
OpNote NoteOf(std::string_view op);

}  // namespace octavo
