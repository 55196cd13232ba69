// SPDX-License-Identifier: MIT
// The order in which the steps of all sequences are taken: rows, chunks, segments (see Rows).
#pragma once
#include "engine/subsequences.hpp"

namespace bptt::core {

struct Schedule {
  Index steps, sequences, total = 0;
  Index *count, *first, *chunk, *segment, *group;
  Index chunks = 0, segments, groups;
  Index chunk_rows = 0, segment_rows;
  bool reverse;

  // Number of `Index` values that `memory` must hold, as long as the schedule lives.
  static Index size(Index steps) { return 4 * (steps + 1) + most_groups; }
  static constexpr Index most_groups = 2;

  // subsequences: d.B, longest first; or none, if all take d.T steps. Chunks of about target_rows.
  Schedule(Index* memory, const Dims& d, const Subsequences& subsequences, bool backwards,
           Index group_count, Index target_rows)
      : steps(d.T),
        sequences(d.B),
        count(memory),
        first(count + d.T),
        chunk(first + d.T + 1),
        segment(chunk + d.T + 1),
        group(segment + d.T + 1),
        groups(group_count),
        reverse(backwards) {
    if (subsequences.size)
      place(subsequences);
    else
      place_equal();
    first[steps] = total;
    shares(groups, group);
    chunk[0] = reverse ? 0 : steps;
    cut_chunks(target_rows);
    if (!reverse) reverse_order(chunk, chunks + 1);
    cut(chunks);
  }

  // The sizes alone, without memory; lengths: [d.B], d.T at most, or null: d.T all. Takes a time
  // that does not grow with the steps.
  Schedule(const Dims& d, const Index* lengths, bool backwards, Index group_count,
           Index target_rows)
      : steps(d.T),
        sequences(d.B),
        count(nullptr),
        first(nullptr),
        chunk(nullptr),
        segment(nullptr),
        group(nullptr),
        groups(group_count),
        reverse(backwards) {
    const auto rows_of = [&](Index t) {
      Index rows = lengths ? 0 : d.B;
      for (Index b = 0; lengths && b < d.B; ++b) rows += lengths[b] > t;
      return rows;
    };
    // The nearest step, before or after t, where the number of rows changes.
    const auto change = [&](Index t) {
      Index end = reverse ? steps : 0;
      for (Index b = 0; lengths && b < d.B; ++b)
        if (reverse ? lengths[b] > t && lengths[b] < end : lengths[b] < t && lengths[b] > end)
          end = lengths[b];
      return end;
    };
    const Index capacity = larger(steps ? rows_of(0) : 0, target_rows);
    Index open = 0;  // rows of the chunk that is not full yet
    const auto close = [&] { chunk_rows = larger(chunk_rows, open), ++chunks, open = 0; };
    for (Index t = reverse ? 0 : steps, next; t != (reverse ? steps : 0); t = next) {
      next = change(t);
      const Index rows = rows_of(reverse ? t : next);
      Index left = reverse ? next - t : t - next;  // steps of as many rows
      total += left * rows;
      if (open) {
        const Index more = rows ? (capacity - open) / rows : left;
        open += (more < left ? more : left) * rows;
        if (left <= more) continue;
        left -= more, close();
      }
      const Index whole = rows ? larger(capacity / rows, 1) : left, full = (left - 1) / whole;
      if (full) open = whole * rows, close(), chunks += full - 1;
      open = (left - full * whole) * rows;
    }
    if (open || (chunks == 0 && steps)) close();
    segments = chunks > 0, segment_rows = total;
  }

  // Segments of n chunks; the one that is processed first may be shorter.
  void cut(Index n) {
    segments = 0;
    for (Index c = reverse ? 0 : chunks; reverse ? c < chunks : c > 0; c += reverse ? n : -n)
      segment[segments++] = c;
    segment[segments] = reverse ? chunks : 0;
    if (!reverse) reverse_order(segment, segments + 1);
    segment_rows = 0;
    for (Index s = 0; s < segments; ++s)
      segment_rows = larger(segment_rows, first[chunk[segment[s + 1]]] - first[chunk[segment[s]]]);
  }

  Rows rows() const {
    Rows r{};
    r.count = count, r.first = first, r.chunk = chunk, r.segment = segment, r.group = group;
    r.chunks = chunks, r.segments = segments, r.groups = groups, r.total = total;
    r.chunk_rows = chunk_rows, r.segment_rows = segment_rows, r.reverse = reverse;
    return r;
  }

  // Writes bounds [ranks+1] of the sequences of each rank, so that all have as many steps.
  void shares(Index ranks, Index* bounds) const {
    const Index B = sequences;
    if (!total || count[steps - 1] == B) {
      for (Index r = 0; r <= ranks; ++r) bounds[r] = B * r / ranks;
      return;
    }
    Index done = 0, length = steps, rank = 0;
    for (Index b = 0; b < B; ++b) {
      while (rank < ranks && done * ranks >= total * rank) bounds[rank++] = b;
      while (length > 0 && count[length - 1] <= b) --length;
      done += length;
    }
    while (rank <= ranks) bounds[rank++] = B;
  }

 private:
  static Index larger(Index a, Index b) { return a > b ? a : b; }
  static void reverse_order(Index* p, Index n) {
    for (Index i = 0; i < n / 2; ++i) {
      const Index other = p[n - 1 - i];
      p[n - 1 - i] = p[i], p[i] = other;
    }
  }

  void place(const Subsequences& subsequences) {
    for (Index t = 0, longer = sequences; t < steps; ++t) {
      while (longer > 0 && subsequences[longer - 1].length <= t) --longer;
      count[t] = longer;
      first[t] = total;
      total += longer;
    }
  }
  // The same for equal lengths. Unrolled, as a step of a small cell takes few instructions, and -O2
  // makes no vectors of such loops.
  void place_equal() {
#pragma GCC unroll 8
    for (Index t = 0; t < steps; ++t) count[t] = sequences, first[t] = t * sequences;
    total = steps * sequences;
  }

  // Chunks of about target_rows, full ones from the end of the processing on, where the backward
  // pass starts; in that order.
  void cut_chunks(Index target_rows) {
    const Index rows = steps ? count[0] : 0, capacity = larger(rows, target_rows);
    const bool equal = steps && count[steps - 1] == rows;  // counts never increase
    for (Index taken = 0, n; taken < steps; taken += n) {
      const Index left = steps - taken, most = equal && rows ? capacity / rows : left;
      n = equal ? std::min(most, left) : steps_of_chunk(taken, capacity);
      const Index t = reverse ? taken : left, next = reverse ? t + n : t - n;
      chunk[++chunks] = next;
      chunk_rows = larger(chunk_rows, reverse ? first[next] - first[t] : first[t] - first[next]);
    }
  }
  // The steps of a chunk after `taken` others.
  Index steps_of_chunk(Index taken, Index capacity) const {
    Index n = 0, rows = 0;
    const auto next = [&] { return count[reverse ? taken + n : steps - 1 - taken - n]; };
    do {
      rows += next();
      ++n;
    } while (taken + n < steps && rows + next() <= capacity);
    return n;
  }
};

}  // namespace bptt::core
