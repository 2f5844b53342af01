// The generic kernels, one table per family. The registry (src/kernels/kernel.cc) joins them.
#pragma once

#include <span>
#include <string_view>

#include "kernels/kernel.h"

namespace octavo {

struct GenericKernelRow {
  std::string_view domain;
  std::string_view op;
  BindFn bind;
};

std::span<const GenericKernelRow> MovementKernels();            // movement*.cc: copies, views, Gather, Pad, Cast, ...
std::span<const GenericKernelRow> ResizeKernels();              // movement_resize.cc
std::span<const GenericKernelRow> SelectionKernels();           // NonZero, TopK, Trilu, OneHot, ...
std::span<const GenericKernelRow> ScatterKernels();             // ScatterElements, ScatterND
std::span<const GenericKernelRow> ArithmeticKernels();          // elementwise, with broadcasting
std::span<const GenericKernelRow> ActivationKernels();          // the rarer elementwise functions
std::span<const GenericKernelRow> ReductionKernels();           // ReduceX, ArgMax, Softmax, pooling
std::span<const GenericKernelRow> LayerNormalizationKernels();  // Layer-, Instance-, Group-, BatchNormalization
std::span<const GenericKernelRow> NormalizationKernels();       // Hardmax, LpNormalization, LRN, CumSum, Det, ...
std::span<const GenericKernelRow> LossKernels();                // NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss
std::span<const GenericKernelRow> ContractionKernels();         // Conv, ConvTranspose, MatMul, Gemm, Einsum
std::span<const GenericKernelRow> QuantizeKernels();            // QuantizeLinear, DequantizeLinear
std::span<const GenericKernelRow> IntegerKernels();             // MatMulInteger, QLinearConv, ...
std::span<const GenericKernelRow> SignalKernels();              // windows, DFT, STFT, MelWeightMatrix
std::span<const GenericKernelRow> GridKernels();                // GridSample, AffineGrid
std::span<const GenericKernelRow> SamplingKernels();            // RoiAlign, DeformConv, Col2Im, NonMaxSuppression
std::span<const GenericKernelRow> FusedKernels();               // the ops of domain "octavo"

}  // namespace octavo
