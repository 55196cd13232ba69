// SPDX-License-Identifier: MIT
// The products of the backward pass in the precision of the results.
#pragma once
#include "kernels/callback.inl"
#include "kernels/product/pieces.inl"
#include "kernels/product/row_runs.inl"
#include "kernels/time/tape.inl"

BPTT_KERNELS_BEGIN

// out[MR][Panels*NV][lane] = gradients of G sums out of S, times `Panels` panels of NV column
// blocks. S is 0 where cells of many sums share a tile: `dsums_row` is S * lanes at run time. A
// narrow panel is summed in several chains, so that enough sums do not depend on each other.
template <class T, int G, int S, int MR, int Panels, int NV>
__attribute__((noinline)) void product_tile(const T* dsums, Index dsums_row, Index block_stride,
                                            Index blocks, const T* w, bool more, T* out,
                                            Ahead ahead) {
  constexpr Index L = lanes<T>;
  if constexpr (S > 0) dsums_row = S * L;
  constexpr int chains = Panels > 1 || NV > 2 ? 1 : NV == 1 && G * L % 4 == 0 ? 4 : 2;
  constexpr Index row = NV * L;
  const Index panel = chains > 1 ? row : blocks * G * L * row;
  Tile<T, MR, Panels * chains * NV> acc;
  if (chains == 1 && more) {
    BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < Panels * NV; ++v)
        acc[r][v] = load(out + (r * Panels * NV + v) * L);
  } else {
    clear<T, MR, Panels * chains * NV>(acc);
  }
  for (Index j = 0; j < blocks; ++j)
    multiply_add_ahead<T, MR, Panels * chains, NV, 1, 0, 1>(
        acc, dsums + j * block_stride, dsums_row, chains > 1 ? 1 : 0, chains, w + j * G * L * row,
        panel, chains * row, G * L / chains, ahead);
  BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < Panels * NV; ++v) {
    Native<T> sum = acc[r][v];
    if constexpr (chains == 2) sum += acc[r][NV + v];
    if constexpr (chains == 4)
      sum = (sum + acc[r][NV + v]) + (acc[r][2 * NV + v] + acc[r][3 * NV + v]);
    store(out + (r * Panels * NV + v) * L, sum);
  }
}

// The same for n rows, at most max_rows, and `width` column blocks of one panel or two.
template <class T, int G, int S, class N>
BPTT_SHARED void product_of_rows(N n, Index width, const T* dsums, Index dsums_row,
                                 Index block_stride, Index blocks, const T* w, bool more, T* out,
                                 Ahead ahead) {
  static_int<max_rows>(n, [&](auto mr) BPTT_INLINED {
    if constexpr (mr.value <= few_rows) {
      if (width > column_blocks)
        return product_tile<T, G, S, mr.value, 2, column_blocks>(dsums, dsums_row, block_stride,
                                                                 blocks, w, more, out, ahead);
    }
    static_int<column_blocks>(width, [&](auto nv) BPTT_INLINED {
      product_tile<T, G, S, mr.value, 1, nv.value>(dsums, dsums_row, block_stride, blocks, w, more,
                                                   out, ahead);
    });
  });
}

// dw[r, ...] += sum over the rows of all runs of left[row, n + r] * dsums[row, ...]
template <class T, int G, int S, int MR, int NB>
__attribute__((noinline)) void weights_tile(const RowRuns<T>& runs, Index left_row, Index n,
                                            const T* dsums, Index dsums_row, Index block_stride,
                                            T* dw) {
  constexpr Index L = lanes<T>;
  if constexpr (S > 0) dsums_row = S * L;
  prefetch_for_writing(dw, sizeof(T) * MR * NB * G * L);
  Tile<T, MR, NB * G> acc;
  clear<T, MR, NB * G>(acc);
  for (int i = 0; i < runs.count; ++i)
    multiply_add<T, MR, NB, 1, G, 0, G>(acc, runs.run[i].left + n, 1, 0, left_row,
                                        dsums + runs.run[i].row * dsums_row, block_stride,
                                        dsums_row, runs.run[i].rows, NothingAhead());
  // Added at the end, not loaded as the start, where the sums would wait for memory.
  BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < NB * G; ++v) {
    T* p = dw + (r * NB * G + v) * L;
    store(p, load(p) + acc[r][v]);
  }
}

// The products of the backward pass, for cells with any number of sums.
template <class T>
struct FloatGradients {
  static constexpr Index L = lanes<T>;
  const Rows& rows;
  const Caches caches;
  const T* dsums;         // [block][chunk_rows][sum][lane]
  const Index dsums_row;  // elements of [sum][lane]
  T* copies[2];           // of x and of h, in this rank's group: see copy_rows
  const Index blocks;
  StopPoll& poll;

  static Index copy_size(Index N) {
    return copied(N) ? ceil_div(N, cached_inputs) * sum_rows * copy_row : 0;
  }
  // For one group.
  static Index copies_size(const Dims& d) { return copy_size(d.I) + copy_size(d.U); }
  static std::size_t scratch_bytes(const Dims& d, const Rows& r) {
    return static_cast<std::size_t>(r.groups * copies_size(d)) * sizeof(T);
  }
  FloatGradients(const Dims& d, const Rows& r, const T* sums, Index sums_row, void* scratch,
                 int group, StopPoll& p)
      : rows(r),
        caches(d.caches),
        dsums(sums),
        dsums_row(sums_row),
        copies{static_cast<T*>(scratch) + group * copies_size(d),
               static_cast<T*>(scratch) + group * copies_size(d) + copy_size(d.I)},
        blocks(blocks_of<T>(d.H)),
        poll(p) {}

  // Inputs of the left operand that are copied together, and, as long as all their rows stay in the
  // second cache, multiplied by one panel after the other.
  static constexpr Index cached_inputs = 2048 / Index(sizeof(T));
  Index inputs_at_once(Index n_rows) const {
    const Index most = caches.second / 4 / (n_rows * Index(sizeof(T)));
    return larger(smaller(most, cached_inputs) / max_rows, 1) * max_rows;
  }
  // A tile of dw reads columns of the left operand. Rows a multiple of 2 KiB apart share a few sets
  // of a cache, and each long row needs a page of its own: such rows are copied first, to [group of
  // cached_inputs][row][input].
  static bool copied(Index N) { return N * Index(sizeof(T)) % 2048 == 0 || N > cached_inputs; }
  static constexpr Index copy_row = cached_inputs + 64 / Index(sizeof(T));

  // Copies inputs n of the rows of all runs; n lies within one group of cached_inputs. Ranks that
  // share the inputs share the copy too.
  RowRuns<T> copy_rows(int operand, const RowRuns<T>& runs, Index N, Range n) const {
    RowRuns<T> result = runs;
    T* to = copies[operand] + n.begin / cached_inputs * sum_rows * copy_row;
    for (int i = 0; i < runs.count; ++i) {
      result.run[i].left = to;
      for (Index r = 0; r < runs.run[i].rows; ++r, to += copy_row)
        __builtin_memcpy(to + n.begin % cached_inputs, runs.run[i].left + r * N + n.begin,
                         static_cast<std::size_t>(n.end - n.begin) * sizeof(T));
    }
    return result;
  }

  // See FloatBackward::for_each_tile; of the G sums from number `sum` on.
  template <int G, int S, class F>
  void for_each_product(Index sum, Range r, const T* w, Index K, Range c, const F& f) const {
    constexpr Index inputs = G * L, element = Index(sizeof(T));  // inputs: of a block of dsums
    constexpr Index wide = 2 * column_blocks;
    alignas(64) T tile[piece_sums * column_blocks * L];
    const Index n_rows = r.end - r.begin, block_stride = rows.chunk_rows * dsums_row;
    const Cut cut =
        cut_product(caches, blocks * inputs, column_blocks * L * element, n_rows, element);
    const Index full = K / (column_blocks * L) * column_blocks;
    for (Index first = c.begin, last; first < c.end; first = last) {
      Index width = smaller(column_blocks, c.end - first);
      if (n_rows <= few_rows && first + wide <= smaller(full, c.end)) width = wide;
      last = first + width;
      if (width == column_blocks)
        last += smaller(cut.panels - 1, (c.end - last) / column_blocks) * column_blocks;
      const Index row_size = width * L;
      if (poll.stops(n_rows, blocks * inputs, (last - first) * L)) return;
      // In two chains each sum is made of several.
      const Index size = width > 2 ? larger(cut.inputs / inputs, 1) : blocks;
      const auto multiply = [&](Range some, Index b, Index end) {
        T* sums = tile;
        for (Index j = first; j < last; j += width) {
          const bool more = end < blocks;
          const Place place = place_after({first, last}, j + width, b, end, blocks);
          const auto weights = [&](Index column, Index block) {
            return w + column * L * blocks * inputs + block * inputs * row_size;
          };
          const Next<T> next(weights(place.j, place.k), row_size, some.end - some.begin);
          Index number = 0;
          for_each_row_block(some.begin, some.end, [&](auto n, Index row) {
            T* out = sums + (b || more ? row - some.begin : 0) * row_size;
            product_of_rows<T, G, S>(n, width, dsums + b * block_stride + row * dsums_row + sum * L,
                                     dsums_row, block_stride, end - b, weights(j, b), b > 0, out,
                                     next.during(number++, (end - b) * inputs));
            if (!more) f(row, n, j * L, width, out);
          });
          if (b || more) sums += (some.end - some.begin) * row_size;
        }
      };
      for_each_piece(r, blocks, size, multiply);
    }
  }

  // Adds to inputs n of dw (by unit, N inputs, panels of NB blocks) the gradients from the G sums
  // from number `sum` on.
  template <int G, int S, int NB>
  BPTT_SHARED void add(int operand, Index sum, const RowRuns<T>& runs, Index N, Range n,
                       T* dw) const {
    if (!copied(N)) return add_inputs<G, S, NB>(sum, runs, N, n.begin, N, n, dw);
    for (Range some = n; some.begin < n.end; some.begin = some.end) {
      const Index first = some.begin % cached_inputs;
      some.end =
          smaller(smaller(cached_inputs - first, inputs_at_once(runs.rows)) + some.begin, n.end);
      add_inputs<G, S, NB>(sum, copy_rows(operand, runs, N, some), copy_row, first, N, some, dw);
    }
  }
  // Inputs n, the first of which is number `first` of the left operand; some rows at a time, whose
  // dsums stay in the first cache.
  template <int G, int S, int NB>
  void add_inputs(Index sum, const RowRuns<T>& runs, Index left_row, Index first, Index N, Range n,
                  T* dw) const {
    const Index block_stride = rows.chunk_rows * dsums_row;
    for (Index j = 0; j < blocks; j += NB) {
      const Index width = smaller(NB, blocks - j);
      if (poll.stops(runs.rows, n.end - n.begin, width * G * L)) return;
      T* panel = dw + j * N * G * L;
      for (Index row = 0; row < runs.rows; row += cached_rows) {
        const RowRuns<T> some = runs.part(row, smaller(row + cached_rows, runs.rows), left_row);
        for_each_row_block(n.begin, n.end, [&](auto inputs, Index i) {
          static_int<max_rows>(inputs, [&](auto mr) BPTT_INLINED {
            static_int<NB>(width, [&](auto nb) BPTT_INLINED {
              weights_tile<T, G, S, mr.value, nb.value>(
                  some, left_row, first + i - n.begin, dsums + j * block_stride + sum * L,
                  dsums_row, block_stride, panel + i * width * G * L);
            });
          });
        });
      }
    }
  }
};

template <class T, class Cell>
struct FloatBackward : FloatGradients<T> {
  static constexpr int S = BPTT_MANY_CELLS ? 0 : GradientsOf<Cell>::products;  // see product_tile

  FloatBackward(const Dims& d, const Rows& r, const T* sums, void* scratch, int group, StopPoll& p)
      : FloatGradients<T>(d, r, sums, GradientsOf<Cell>::products * lanes<T>, scratch, group, p) {}

  // After rows r of dsums were written.
  void prepare(Range) const {}

  // Calls f(row, rows, column, blocks, tile) for every tile of rows r of dsums times column blocks
  // c of w, which is [gates*H, K] packed by column.
  template <class Side, class F>
  void for_each_tile(Range r, const T* w, Index K, Range c, const F& f) const {
    using Shared = Callback<Index, Index, Index, Index, const T*>;
    if constexpr (BPTT_MANY_CELLS)
      this->template for_each_product<Side::count, S, Shared>(Side::first, r, w, K, c, f);
    else
      this->template for_each_product<Side::count, S>(Side::first, r, w, K, c, f);
  }

  template <class Side>
  void add_weights(const RowRuns<T>& runs, Index N, Range n, T* dw) const {
    this->template add<Side::count, S, unit_blocks<Cell>>(Side::operand, Side::first, runs, N, n,
                                                          dw);
  }
};

BPTT_KERNELS_END
