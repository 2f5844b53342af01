#include "engine/integer_contraction.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/rounding.h"
#include "engine/layout.h"
#include "graph/quantization.h"
#include "kernels/fast_table.h"
#include "kernels/integer/depthwise.h"
#include "kernels/integer/plain_convolution.h"
#include "kernels/parts.h"

namespace octavo {

namespace {

// INT32 sums of a block and the padded pixels it reads stay well within a core's L2 (1 MB and up on servers).
constexpr int64_t kSumBytes = 192 << 10;
constexpr int64_t kSourceBytes = 192 << 10;
constexpr int64_t kMinChannels = 64;  // of a chunk of output channels

// The contraction's sizes, in one frame for one and two spatial axes.
struct Frame {
  int64_t batch = 1, in_rows = 1, in_columns = 1, out_rows = 1, out_columns = 1, in_channels = 1, out_channels = 1;
  WindowAxis row, column;
  bool flat = false;    // pixels of all images and rows behind each other: rows of one pixel
  bool copies = false;  // a block's source is padded, or cut out, into scratch

  int64_t window_rows(int64_t out) const { return (out - 1) * row.stride + (row.kernel - 1) * row.dilation + 1; }
  int64_t window_columns() const {
    return (out_columns - 1) * column.stride + (column.kernel - 1) * column.dilation + 1;
  }
  // Pixels in a row of a block's source.
  int64_t source_columns() const { return copies ? window_columns() : in_columns; }
};

bool IsDense(const PixelPlacement& p, const Frame& frame) {
  const int64_t c = frame.out_channels;
  return p.offset == 0 && p.column == c && (p.row == frame.out_columns * c || frame.out_rows == 1) &&
         (p.batch == frame.out_rows * frame.out_columns * c || frame.batch == 1);
}

Frame MakeFrame(const IntegerContractionSpec& spec) {
  Frame f;
  f.batch = spec.src_dims[0];
  f.in_channels = spec.src_dims[1];
  f.out_channels = spec.dst_dims[1];
  f.in_columns = spec.src_dims.back();
  f.out_columns = spec.dst_dims.back();
  f.column = spec.axes.back();
  if (spec.axes.size() == 2) {
    f.in_rows = spec.src_dims[2];
    f.out_rows = spec.dst_dims[2];
    f.row = spec.axes[0];
  } else {
    f.row.input = f.row.output = 1;
  }
  bool pointwise = true;
  for (const auto* axis : {&f.row, &f.column})
    pointwise &= axis->kernel == 1 && axis->stride == 1 && axis->pad_begin == 0 && axis->input == axis->output;
  bool dense = true;
  for (const auto& p : spec.operands) dense &= IsDense(p, f);
  for (const auto& p : spec.outputs) dense &= IsDense(p, f);
  if (pointwise && dense) {
    f.flat = true;
    f.out_rows = f.in_rows = f.batch * f.out_rows * f.out_columns;
    f.batch = f.in_columns = f.out_columns = 1;
    return f;
  }
  const bool inside = f.row.pad_begin == 0 && f.column.pad_begin == 0 && f.window_rows(f.out_rows) <= f.in_rows &&
                      f.window_columns() <= f.in_columns;
  f.copies = !inside;
  return f;
}

// How weights become int8 that the machine sums exactly: parts that add up to them, each of at most `limit`.
struct WeightSplit {
  int parts = 1, limit = 128;

  explicit WeightSplit(const std::vector<int16_t>& weights) {
    const bool exact = OneDnnSumsExactly();
    int low = 0, high = 0;
    for (const int16_t w : weights) {
      low = std::min<int>(low, w);
      high = std::max<int>(high, w);
    }
    if (exact && low >= -128 && high <= 127) return;
    limit = exact ? 127 : 64;
    parts = std::max(1, static_cast<int>(CeilDivide(std::max(-low, high), limit)));
  }
};

Result<std::vector<Tensor>> SplitWeights(const IntegerWeights& weights, const WeightSplit& by, int64_t first,
                                         int64_t count) {
  Dims dims = weights.dims;
  const int64_t per_channel = ElementCount(dims) / dims[0];
  dims[0] = count;
  const int16_t* from = weights.values.data() + first * per_channel;
  std::vector<Tensor> split;
  for (int part = 0; part < by.parts; ++part) {
    OCTAVO_ASSIGN(Tensor piece, Tensor::Create(DType::kInt8, dims));
    split.push_back(std::move(piece));
  }
  for (int64_t i = 0; i < count * per_channel; ++i) {
    int rest = from[i];
    for (auto& piece : split) {
      const int taken = std::clamp(rest, -by.limit, by.limit);
      piece.mutable_values<int8_t>()[static_cast<size_t>(i)] = static_cast<int8_t>(taken);
      rest -= taken;
    }
  }
  return split;
}

// compensation[c] = -zero_point * sum of the channel's weights, and a bound on every sum.
Status Compensate(const IntegerContractionSpec& spec, Epilogue& epilogue) {
  const int64_t channels = spec.weights.dims[0];
  const int64_t per_channel = ElementCount(spec.weights.dims) / channels;
  epilogue.compensation.resize(static_cast<size_t>(channels));
  for (int64_t c = 0; c < channels; ++c) {
    int64_t sum = 0, magnitude = 0;
    for (int64_t i = 0; i < per_channel; ++i) {
      const int64_t w = spec.weights.values[static_cast<size_t>(c * per_channel + i)];
      sum += w;
      magnitude += std::abs(w);
    }
    // |sum of x w| and |sum of (x - z) w| are at most 255 times the sum of |w|.
    if (magnitude > std::numeric_limits<int32_t>::max() / 255) {
      return Unsupported(fmt::format("sums of {} products may not fit 32 bits", per_channel));
    }
    epilogue.compensation[static_cast<size_t>(c)] = static_cast<int32_t>(-sum * spec.src_zero_point);
  }
  for (const float m : epilogue.multiplier) {
    if (!IsUsableScale(m)) return Unsupported(fmt::format("the product of its scales is {}", m));
  }
  return {};
}

class Contraction {
 public:
  Contraction(IntegerContractionSpec spec) : spec_(std::move(spec)), frame_(MakeFrame(spec_)) {}

  Status Build(OneDnnBuilder& onednn) {
    OCTAVO_RETURN_IF_ERROR(Compensate(spec_, spec_.epilogue));
    depthwise_ = spec_.groups > 1 && spec_.groups == frame_.in_channels && frame_.in_channels == frame_.out_channels &&
                 frame_.row.kernel * frame_.column.kernel <= kMaxDepthwiseTaps;
    ChooseBlocks();
    if (depthwise_) {
      PackDepthwiseWeights();
    } else if (Status status = BuildPrimitives(onednn); !status.ok()) {
      if (status.code() != ErrorCode::kUnsupported) return status;
      PackPlainWeights();
    }
    PlaceScratch();
    spec_.weights.values = {};
    return {};
  }

  size_t scratch_bytes() const { return static_cast<size_t>(thread_scratch_ * spec_.threads); }
  std::string implementation() const {
    if (depthwise_) return fmt::format("depthwise {}", FastKernelIsa());
    if (!plain_weights_.empty()) return "plain";
    return parts_ == 1 ? main_->implementation : fmt::format("{} x{}", main_->implementation, parts_);
  }

  Status Run(const KernelArgs& args) const {
    const int64_t row_blocks = frame_.batch * CeilDivide(frame_.out_rows, rows_per_block_);
    const int64_t count = row_blocks * (frame_.out_channels / chunk_channels_);
    return TryForParts(spec_.threads, count, 1, "an integer kernel", [&](int part, int64_t begin, int64_t end) {
      // Chunks of channels outside: their weights stay in cache while rows pass.
      for (int64_t b = begin; b < end; ++b) {
        OCTAVO_RETURN_IF_ERROR(RunBlock(args, part, b % row_blocks, b / row_blocks));
      }
      return Status();
    });
  }

 private:
  void ChooseBlocks() {
    chunk_channels_ = frame_.out_channels;
    if (!depthwise_ && spec_.groups == 1) {
      // At least this many pixels a block, for the weights' sake.
      const int64_t pixels = std::max<int64_t>(frame_.out_columns, std::min<int64_t>(64, frame_.flat ? 64 : 1));
      while (chunk_channels_ % 32 == 0 && chunk_channels_ > kMinChannels &&
             pixels * chunk_channels_ * 4 > kSumBytes * 2) {
        chunk_channels_ /= 2;
      }
    }
    ChooseRows();
    if (depthwise_ || spec_.groups > 1 || !frame_.flat) return;
    // Few rows do not come out even in blocks of 16. Parts of the channels do, where the source that each thread then
    // reads whole is not larger than what it writes, and each part's weights stay with one thread.
    const int64_t share = CeilDivide(CeilDivide(frame_.out_rows, rows_per_block_), spec_.threads) * rows_per_block_;
    const bool uneven = share * spec_.threads > frame_.out_rows + frame_.out_rows / 16;
    if (!uneven || chunk_channels_ != frame_.out_channels || chunk_channels_ % (32 * spec_.threads) != 0 ||
        chunk_channels_ / spec_.threads < kMinChannels || frame_.in_channels > frame_.out_channels) {
      return;
    }
    chunk_channels_ /= spec_.threads;
    ChooseRows();
  }

  void ChooseRows() {
    const int64_t row_bytes = std::max<int64_t>(1, frame_.out_columns * 4 * chunk_channels_);
    const int64_t source_row = std::max<int64_t>(1, frame_.row.stride * frame_.source_columns() * frame_.in_channels);
    int64_t rows = std::max<int64_t>(1, std::min(kSumBytes / row_bytes, kSourceBytes / source_row));
    rows = std::min(rows, frame_.out_rows);
    // Blocks of nearly equal size, a multiple of the threads where there is more than one block for each.
    int64_t blocks = CeilDivide(frame_.out_rows, rows);
    if (frame_.batch == 1 && frame_.out_rows >= spec_.threads) blocks = RoundUp(blocks, spec_.threads);
    rows_per_block_ = CeilDivide(frame_.out_rows, blocks);
    // Matrix kernels work on tiles of 16 rows.
    if (frame_.flat && rows_per_block_ > 16) rows_per_block_ = RoundUp(rows_per_block_, 16);
    rows_per_block_ = std::min(rows_per_block_, frame_.out_rows);
  }

  void PackDepthwiseWeights() {
    const int64_t taps = frame_.row.kernel * frame_.column.kernel, channels = frame_.out_channels;
    std::vector<int16_t> by_tap(static_cast<size_t>(taps * channels));
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t t = 0; t < taps; ++t)
        by_tap[static_cast<size_t>(t * channels + c)] = spec_.weights.values[static_cast<size_t>(c * taps + t)];
    }
    depthwise_weights_ = PackDepthwise(by_tap, taps, channels);
    parts_ = spec_.epilogue.parts = 1;
  }

  // Every channel in one chunk, in one part: 16-bit weights need no splitting.
  void PackPlainWeights() {
    main_ = last_ = nullptr;
    parts_ = spec_.epilogue.parts = 1;
    chunk_channels_ = frame_.out_channels;
    plain_weights_ = PackPlainConvolution(spec_.weights.values, frame_.out_channels, frame_.in_channels / spec_.groups,
                                          frame_.row.kernel * frame_.column.kernel, spec_.groups);
  }

  Result<std::shared_ptr<IntegerPrimitive>> BuildPrimitive(OneDnnBuilder& onednn, int64_t rows,
                                                           const std::vector<Tensor>& weights) const {
    IntegerConvolutionSpec s;
    s.groups = spec_.groups;
    s.threads = spec_.threads;
    s.weights = weights;
    const auto axis = [&](const WindowAxis& a) {
      s.geometry.kernel.push_back(a.kernel);
      s.geometry.strides.push_back(a.stride);
      s.geometry.dilations.push_back(a.dilation);
      s.geometry.pads_begin.push_back(0);
      s.geometry.pads_end.push_back(0);
    };
    if (frame_.flat) {
      axis(WindowAxis());
      s.src_dims = {1, frame_.in_channels, rows};
      s.dst_dims = {1, chunk_channels_, rows};
      for (auto& w : s.weights) w = w.Reshaped({w.dims()[0], w.dims()[1], 1});
    } else {
      axis(frame_.row);
      axis(frame_.column);
      s.src_dims = {1, frame_.in_channels, frame_.window_rows(rows), frame_.source_columns()};
      s.dst_dims = {1, chunk_channels_, rows, frame_.out_columns};
      if (spec_.axes.size() == 1) {
        for (auto& w : s.weights) w = w.Reshaped({w.dims()[0], w.dims()[1], 1, w.dims()[2]});
      }
    }
    return onednn.IntegerConvolution(s);
  }

  Status BuildPrimitives(OneDnnBuilder& onednn) {
    const WeightSplit by(spec_.weights.values);
    parts_ = spec_.epilogue.parts = by.parts;
    std::vector<Tensor> sets;
    for (int64_t c = 0; c < frame_.out_channels; c += chunk_channels_) {
      OCTAVO_ASSIGN(const std::vector<Tensor> split, SplitWeights(spec_.weights, by, c, chunk_channels_));
      sets.insert(sets.end(), split.begin(), split.end());
    }
    OCTAVO_ASSIGN(main_, BuildPrimitive(onednn, rows_per_block_, sets));
    const int64_t rest = frame_.out_rows % rows_per_block_;
    if (rest == 0) return {};
    OCTAVO_ASSIGN(last_, BuildPrimitive(onednn, rest, sets));
    return {};
  }

  void PlaceScratch() {
    const int64_t pixels = rows_per_block_ * frame_.out_columns;
    part_elements_ = RoundUp(pixels * chunk_channels_, 16);
    const int64_t sums = part_elements_ * 4 * parts_;
    const int64_t floats = RoundUp(EpilogueScratch(chunk_channels_) * 4, 64);
    const int64_t source =
        frame_.copies ? RoundUp(frame_.window_rows(rows_per_block_) * frame_.source_columns() * frame_.in_channels, 64)
                      : 0;
    int64_t primitive = 0;
    for (const auto& p : {main_, last_}) {
      if (p) primitive = std::max(primitive, static_cast<int64_t>(p->scratch_bytes));
    }
    float_offset_ = sums;
    source_offset_ = float_offset_ + floats;
    primitive_offset_ = source_offset_ + source;
    thread_scratch_ = RoundUp(primitive_offset_ + primitive, 64) + 64;
  }

  // Rows [first, first + rows) of the padded image, counted from -pad_begin.
  void CopySource(const uint8_t* image, int64_t first, int64_t rows, uint8_t* to) const {
    const int64_t c = frame_.in_channels, columns = frame_.source_columns();
    const int64_t left = std::min(columns, std::max<int64_t>(0, frame_.column.pad_begin));
    const int64_t middle = std::clamp<int64_t>(frame_.in_columns, 0, columns - left);
    const int zero = spec_.src_zero_point;
    for (int64_t r = first; r < first + rows; ++r, to += columns * c) {
      const int64_t y = r - frame_.row.pad_begin;
      if (y < 0 || y >= frame_.in_rows) {
        std::memset(to, zero, static_cast<size_t>(columns * c));
        continue;
      }
      std::memset(to, zero, static_cast<size_t>(left * c));
      std::memcpy(to + left * c, image + y * frame_.in_columns * c, static_cast<size_t>(middle * c));
      std::memset(to + (left + middle) * c, zero, static_cast<size_t>((columns - left - middle) * c));
    }
  }

  Status RunBlock(const KernelArgs& args, int thread, int64_t block, int64_t chunk) const {
    auto* scratch = static_cast<std::byte*>(args.scratch) + thread * thread_scratch_;
    const int64_t per_image = CeilDivide(frame_.out_rows, rows_per_block_);
    const int64_t n = block / per_image, row = block % per_image * rows_per_block_;
    const int64_t rows = std::min(rows_per_block_, frame_.out_rows - row);
    const auto* image =
        static_cast<const uint8_t*>(args.inputs[0]) + n * frame_.in_rows * frame_.in_columns * frame_.in_channels;
    const uint8_t* src = image + row * frame_.row.stride * frame_.in_columns * frame_.in_channels;
    if (frame_.copies) {
      auto* copy = reinterpret_cast<uint8_t*>(scratch + source_offset_);
      CopySource(image, row * frame_.row.stride, frame_.window_rows(rows), copy);
      src = copy;
    }
    auto* sums = reinterpret_cast<int32_t*>(scratch);
    if (depthwise_) {
      RunDepthwise({WindowOver(src, rows, sums), depthwise_weights_.data()});
    } else if (!plain_weights_.empty()) {
      RunPlainConvolution({WindowOver(src, rows, sums), frame_.out_channels, spec_.groups, plain_weights_.data()});
    } else {
      const auto& primitive = rows == rows_per_block_ ? main_ : last_;
      for (int part = 0; part < parts_; ++part) {
        OCTAVO_RETURN_IF_ERROR(primitive->Run(thread, static_cast<size_t>(chunk * parts_ + part), src,
                                              sums + part * part_elements_, scratch + primitive_offset_));
      }
    }
    Finish(args, n, row, rows, chunk * chunk_channels_, sums, reinterpret_cast<float*>(scratch + float_offset_));
    return {};
  }

  SlidingWindow WindowOver(const uint8_t* src, int64_t rows, int32_t* sums) const {
    SlidingWindow w;
    w.src = src;
    w.row_stride = frame_.source_columns() * frame_.in_channels;
    w.in_channels = frame_.in_channels;
    w.out_rows = rows;
    w.out_columns = frame_.out_columns;
    w.kernel_rows = frame_.row.kernel;
    w.kernel_columns = frame_.column.kernel;
    w.stride_rows = frame_.row.stride;
    w.stride_columns = frame_.column.stride;
    w.dilation_rows = frame_.row.dilation;
    w.dilation_columns = frame_.column.dilation;
    w.dst = sums;
    return w;
  }

  // Where the block's first pixel and channel lie.
  static int64_t Locate(const PixelPlacement& p, int64_t n, int64_t row, int64_t channel) {
    return p.offset + n * p.batch + row * p.row + channel;
  }

  void Finish(const KernelArgs& args, int64_t n, int64_t row, int64_t rows, int64_t channel, const int32_t* sums,
              float* floats) const {
    const Epilogue& epilogue = spec_.epilogue;
    EpilogueBlock b;
    b.accumulator_stride = b.channels = chunk_channels_;
    b.channel_begin = channel;
    b.part_stride = part_elements_;
    // Whole blocks where pixels follow each other in memory, else row by row.
    bool whole = true;
    for (const auto& p : spec_.outputs) whole &= p.row == frame_.out_columns * p.column;
    for (const auto& p : spec_.operands) whole &= p.row == frame_.out_columns * p.column;
    const int64_t step = whole || frame_.flat ? rows : 1;
    for (int64_t r = 0; r < rows; r += step) {
      b.accumulators = sums + r * frame_.out_columns * chunk_channels_;
      b.pixels = step * frame_.out_columns;
      for (size_t i = 0; i < spec_.operands.size(); ++i) {
        const auto place = PlaceOf(spec_.operands[i]);
        b.operands[i] = static_cast<const char*>(args.inputs[1 + i]) +
                        Locate(place, n, row + r, channel) * static_cast<int64_t>(SizeOf(epilogue.operands[i].dtype));
        b.operand_strides[i] = place.column;
      }
      for (size_t i = 0; i < spec_.outputs.size(); ++i) {
        const auto place = PlaceOf(spec_.outputs[i]);
        b.outputs[i] = static_cast<char*>(args.outputs[i]) +
                       Locate(place, n, row + r, channel) * static_cast<int64_t>(SizeOf(epilogue.outputs[i].dtype));
        b.output_strides[i] = place.column;
      }
      RunEpilogue(epilogue, b, floats);
    }
  }

  // In the flat frame every row is one pixel.
  PixelPlacement PlaceOf(const PixelPlacement& p) const {
    return frame_.flat ? PixelPlacement{0, 0, frame_.out_channels, frame_.out_channels} : p;
  }

  IntegerContractionSpec spec_;
  const Frame frame_;
  bool depthwise_ = false;
  int parts_ = 1;
  int64_t rows_per_block_ = 1, chunk_channels_ = 1;
  std::vector<int16_t> depthwise_weights_, plain_weights_;
  std::shared_ptr<IntegerPrimitive> main_, last_;
  // Scratch of one thread: sums, floats of the epilogue, padded source, the primitive's own.
  int64_t part_elements_ = 0, float_offset_ = 0, source_offset_ = 0, primitive_offset_ = 0, thread_scratch_ = 0;
};

}  // namespace

PixelPlacement DensePlacement(const Dims& dims) {
  const int64_t c = dims[1], columns = dims.back(), rows = dims.size() == 4 ? dims[2] : 1;
  return {0, rows * columns * c, columns * c, c};
}

Result<IntegerKernel> BuildIntegerContraction(IntegerContractionSpec spec, OneDnnBuilder& onednn) {
  if (spec.axes.empty() || spec.axes.size() > 2) return Unsupported("integer convolutions have 1 or 2 spatial axes");
  auto contraction = std::make_shared<Contraction>(std::move(spec));
  OCTAVO_RETURN_IF_ERROR(contraction->Build(onednn));
  IntegerKernel result;
  result.implementation = contraction->implementation();
  result.kernel = KernelOf(std::move(contraction));
  return result;
}

}  // namespace octavo
