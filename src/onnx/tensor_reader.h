// TensorProto -> Tensor.
#pragma once

#include "octavo/tensor.h"
#include "onnx.pb.h"
#include "onnx/external_data.h"

namespace octavo {

// Consumes `proto`: large raw data moves into the tensor without a copy.
// Errors do not name the tensor, the caller does: kBadFile for data that does not fit type and shape, kUnsupported for
// element types that Octavo does not have.
Result<Tensor> ReadTensor(onnx::TensorProto proto, ExternalData& external);

}  // namespace octavo
