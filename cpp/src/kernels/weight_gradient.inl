// SPDX-License-Identifier: MIT
// Gradients of weights and biases: what each chunk of steps adds to them.

constexpr Index sum_rows = 512;  // summed at once: longer sums of floats lose precision

// Rows of a left operand, x or h as it lies, and the rows of dsums that they meet. Neighbours are
// one run: with equal lengths that is a whole chunk, but for the rows that start from h0.
template <class T>
struct Runs {
  static constexpr int most = 64;
  struct Run {
    const T* left;
    Index row, rows;
  } run[most];
  int count = 0;
  Index rows = 0;

  // How many of n more rows there was room for.
  Index add(const T* left, Index width, Index row, Index n) {
    n = smaller(n, sum_rows - rows);
    Run* last = count ? run + count - 1 : nullptr;
    if (last && left == last->left + last->rows * width && row == last->row + last->rows)
      last->rows += n;
    else if (count < most)
      run[count++] = {left, row, n};
    else
      return 0;
    rows += n;
    return n;
  }
};

template <class T, class Cell>
struct WeightGradient {
  static constexpr int G = Cell::gates, S = Cell::sums;
  static constexpr Index L = lanes<T>;
  const Rows& rows;
  const T* dsums;  // [block][chunk_rows][sum][lane]
  const Index blocks;
  Patience& patience;

  // dw[n + r, ...] += sum over the rows of all runs of left[row, n + r] * dsums[row, ...]
  template <class Side, int MR, int NB>
  __attribute__((noinline)) static void tile(const Runs<T>& runs, Index N, Index n, const T* dsums,
                                             Index block_stride, T* dw) {
    prefetch_for_writing(dw, sizeof(T) * MR * NB * G * L);
    Tile<T, MR, NB * G> acc;
    clear<T, MR, NB * G>(acc);
    for (int i = 0; i < runs.count; ++i)
      multiply_add<T, MR, NB, 1, G, 0, G>(acc, runs.run[i].left + n, 1, 0, N,
                                          dsums + (runs.run[i].row * S + Side::first) * L,
                                          block_stride, S * L, runs.run[i].rows);
    // Added here, not loaded as the start: the sums would wait for memory.
    BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < NB * G; ++v) {
      T* p = dw + (r * NB * G + v) * L;
      store(p, load(p) + acc[r][v]);
    }
  }

  // Inputs n of dw (by unit, N inputs).
  template <class Side>
  void add_weights(const Runs<T>& runs, Index N, Range n, T* dw) const {
    const Index block_stride = rows.chunk_rows * S * L;
    for (Index j = 0; j < blocks && n.begin < n.end; j += unit_blocks<Cell>) {
      const Index width = smaller(unit_blocks<Cell>, blocks - j);
      if (patience.ends(runs.rows, n.end - n.begin, width * G * L)) return;
      T* panel = dw + j * N * G * L;
      each_row_block(n.begin, n.end, [&](auto mr, Index i) {
        with_int<unit_blocks<Cell>>(width, [&](auto nb) {
          tile<Side, mr.value, nb.value>(runs, N, i, dsums + j * block_stride, block_stride,
                                         panel + i * width * G * L);
        });
      });
    }
  }

  // Blocks `mine` of db, [block][sum][lane].
  void add_bias(const Runs<T>& runs, Range mine, T* db) const {
    for (Index j = mine.begin; j < mine.end; ++j) {
      Vec<T> sum[S];
      BPTT_UNROLL for (int i = 0; i < S; ++i) sum[i] = Vec<T>(0);
      for (int k = 0; k < runs.count; ++k) {
        const T* first = dsums + (j * rows.chunk_rows + runs.run[k].row) * S * L;
        const T* end = first + runs.run[k].rows * S * L;
        BPTT_NO_UNROLL for (const T* p = first; p != end; p += S * L) {
          BPTT_UNROLL for (int i = 0; i < S; ++i) sum[i] = sum[i] + Vec<T>(load(p + i * L));
        }
      }
      T* out = db + j * S * L;
      BPTT_UNROLL for (int i = 0; i < S; ++i) store(out + i * L, load(out + i * L) + sum[i].v);
    }
  }

  // f(runs) for what `parts` adds by its argument, in pieces: parts(add), add(left, row, rows).
  template <class Parts, class F>
  static void in_pieces(Index width, const Parts& parts, const F& f) {
    Runs<T> runs;
    parts([&](const T* left, Index row, Index n) {
      while (n > 0) {
        const Index added = runs.add(left, width, row, n);
        left += added * width, row += added, n -= added;
        if (n > 0) {
          f(runs);
          runs = Runs<T>();
        }
      }
    });
    if (runs.rows) f(runs);
  }
};
