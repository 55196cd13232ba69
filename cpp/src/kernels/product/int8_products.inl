// SPDX-License-Identifier: MIT
// The products with weights of 8 bits, for inference. Int8Products is the Backend of the forward
// loop.
#pragma once
#include "kernels/product/float_products.inl"
#include "kernels/product/int8_rows.inl"

BPTT_KERNELS_BEGIN

// w_ih or w_hh.
struct Int8Matrix {
  Int8* numbers;          // [panel][neighbours of inputs][block in panel][gate][lane][input]
  float* scales;          // [block][gate][lane]
  std::int32_t* offsets;  // [block][gate][lane]: start of the sums of low bytes, which makes up for
                          // the 128 added to high bytes
};

template <class Cell>
struct Int8Weights {
  static constexpr int G = Cell::gates, NB = unit_blocks<Cell>;
  static constexpr Index L = lanes<float>;
  Int8Matrix ih, hh;
  float* bias;  // [block][sum][lane]
  static constexpr float* params = nullptr;
  std::size_t bytes;

  Int8Weights(void* buffer, const Dims& d) {
    Arena arena{buffer};
    const Index columns = blocks_of<float>(d.H) * G * L;
    const auto take = [&](Int8Matrix& m, Index K) {
      m.numbers = arena.take<Int8>(columns * padded_inputs(K));
      m.scales = arena.take<float>(columns), m.offsets = arena.take<std::int32_t>(columns);
    };
    take(ih, d.I), take(hh, d.H);
    bias = arena.take<float>(blocks_of<float>(d.H) * Cell::sums * L);
    bytes = arena.used;
  }

  // Packs the weights [K] of one unit, null: zeros, and returns their scale. The first neighbours
  // go to `to`, the next ones follow `step` apart. The sum of the numbers goes into `sum`.
  static float pack_unit(const float* w, Index K, Int8* to, Index step, std::int32_t& sum) {
    const float largest = w ? largest_of(w, K) : 0.0f;
    const bool zero = !(largest >= negligible);
    const F32 inverse = broadcast(zero ? 0.0f : weight_levels / largest);
    sum = 0;
    for (Index k = 0; k < padded_inputs(K); k += L) {
      I32 q{};
      if (k < K && !zero) q = rounded(load(w + k, smaller(L, K - k)) * inverse);
      for (Index i = k; i < smaller(k + L, padded_inputs(K)); ++i) {
        sum += q[i - k];
        to[i / neighbours * step + i % neighbours] = static_cast<Int8>(q[i - k]);
      }
    }
    return zero ? 0.0f : largest / weight_levels;
  }
  template <class Side>
  static void pack(const float* w, Index H, Index K, Range blocks, const Int8Matrix& m,
                   StopPoll& poll) {
    for (Index j = blocks.begin; j < blocks.end; ++j) {
      if (poll.stops(16, K, G * L)) return;
      const Index panel = j / NB * NB, V = smaller(NB, blocks_of<float>(H) - panel) * G;
      Int8* numbers = m.numbers + panel * G * L * padded_inputs(K);
      for (Index g = 0; g < G; ++g)
        for (Index l = 0; l < L; ++l) {
          const Index vector = (j - panel) * G + g, at = (j * G + g) * L + l, unit = j * L + l;
          Int8* to = numbers + (vector * L + l) * neighbours;
          std::int32_t sum;
          m.scales[at] = pack_unit(unit < H ? w + (Side::gates[g] * H + unit) * K : nullptr, K, to,
                                   V * L * neighbours, sum);
          m.offsets[at] = static_cast<std::int32_t>(-32768 * std::int64_t(sum));
        }
    }
  }
  void pack(const ForwardCall<float>& call, Range blocks, StopPoll& poll) const {
    const Dims& d = call.dims;
    pack<XSide<Cell>>(call.w_ih, d.H, d.I, blocks, ih, poll);
    pack<HSide<Cell>>(call.w_hh, d.H, d.H, blocks, hh, poll);
  }
};

// Rows of one operand.
struct RoundedRows {
  Byte* numbers;  // bytes_of_row(K) each
  float* scales;
  Index K;

  RoundedRows(Arena& arena, Index rows, Index inputs)
      : numbers(arena.take<Byte>(rows * bytes_of_row(inputs))),
        scales(arena.take<float>(rows)),
        K(inputs) {}
  void round(const float* from, Range r) const {
    for (Index i = r.begin; i < r.end; ++i)
      scales[i] = round_row(from + i * K, K, numbers + i * bytes_of_row(K));
  }
};

template <class Cell>
struct Int8Forward {
  static constexpr int G = Cell::gates, S = Cell::sums, NB = unit_blocks<Cell>;
  static constexpr Index L = lanes<float>, tile_rows = 8;
  const Int8Weights<Cell>& weights;
  Arena arena;
  const RoundedRows x, h;  // of a step, or of a projection
  const Index all;

  static Index rows(const Dims& d) { return larger(d.B, projected_rows); }
  static std::size_t scratch_bytes(const Dims& d) {
    Arena counted{nullptr};
    RoundedRows(counted, rows(d), d.I), RoundedRows(counted, rows(d), d.H);
    return static_cast<std::size_t>(counted.used);
  }
  Int8Forward(const ForwardCall<float>& call, const Int8Weights<Cell>& w, void* scratch)
      : weights(w),
        arena{scratch},
        x(arena, rows(call.dims), call.dims.I),
        h(arena, rows(call.dims), call.dims.H),
        all(blocks_of<float>(call.dims.H) * S * L) {}

  void prepare(const ForwardStep<float>& step) const {
    if (!step.sums) x.round(step.x, step.rows);
    h.round(step.operand, step.rows);
  }

  Index group_width(Index j, Index end, Index) const { return smaller(NB, end - j); }

  // Adds to the sums of `width` blocks from block j on their products with one row.
  template <class Side, int width>
  __attribute__((noinline)) static void add_tile(const RoundedRows& rows, Index row,
                                                 const Int8Matrix& m, Index j, float* sums) {
    constexpr int V = width * G;
    const Index at = j * G * L;
    I32 products[V];
    int8_sums<V>(rows.numbers + row * bytes_of_row(rows.K), rows.K,
                 m.numbers + at * padded_inputs(rows.K), m.offsets + at, products);
    const F32 scale = broadcast(rows.scales[row]);
    BPTT_UNROLL for (int n = 0; n < width; ++n) BPTT_UNROLL for (int g = 0; g < G; ++g) {
      float* sum = sums + (n * S + Side::first + g) * L;
      const F32 product = __builtin_convertvector(products[n * G + g], F32);
      store(sum, load(sum) + product * (load(m.scales + at + (n * G + g) * L) * scale));
    }
  }
  template <class Side>
  static void add(const RoundedRows& rows, Index row, const Int8Matrix& m, Index j, Index width,
                  float* sums) {
    static_int<NB>(width,
                   [&](auto nb) BPTT_INLINED { add_tile<Side, nb.value>(rows, row, m, j, sums); });
  }

  template <class Before, class F>
  void for_each_tile(const ForwardStep<float>& step, Range panel, const Before& before,
                     const F& f) const {
    const Index j = panel.begin, width = panel.end - panel.begin;
    alignas(64) float sums[tile_rows * NB * S * L];
    const Index row_size = width * S * L;
    for (Index row = step.rows.begin; row < step.rows.end; row += tile_rows) {
      const Range r{row, smaller(row + tile_rows, step.rows.end)};
      before(j, width, r);
      for (Index i = r.begin; i < r.end; ++i) {
        float* to = sums + (i - row) * row_size;
        __builtin_memcpy(to, step.sums ? step.sums + i * all + j * S * L : weights.bias + j * S * L,
                         static_cast<std::size_t>(row_size) * sizeof(float));
        if (!step.sums) add<XSide<Cell>>(x, i, weights.ih, j, width, to);
        add<HSide<Cell>>(h, i, weights.hh, j, width, to);
      }
      f(j, width, r, static_cast<const float*>(sums), row_size);
    }
  }

  bool projects() const { return true; }
  void prepare_projection(const float* from, const float*, Index n) const { x.round(from, {0, n}); }
  // In inference a projection never has h.
  void project(const float*, const float*, Index n, Index j, Index width, float* out) const {
    for (Index row = 0; row < n; ++row) {
      float* to = out + row * all + j * S * L;
      __builtin_memcpy(to, weights.bias + j * S * L,
                       static_cast<std::size_t>(width * S * L) * sizeof(float));
      add<XSide<Cell>>(x, row, weights.ih, j, width, to);
    }
  }
};

// The memory of a tape has a layout, though no call keeps one.
template <class Cell_>
struct Int8Products : FloatProducts<float, Cell_> {
  using Weights = Int8Weights<Cell_>;
  using Forward = Int8Forward<Cell_>;
  static constexpr bool takes_rows = false;

  template <class Tape>
  static void pack_columns(const ForwardCall<float>&, const Tape&, Range, Range, StopPoll&) {}
};

BPTT_KERNELS_END
