// SPDX-License-Identifier: MIT
// The order in which the steps of all sequences are taken: rows, chunks, segments (see Rows).
#pragma once
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "kernel_table.hpp"

namespace bptt {

struct Schedule {
  std::vector<Index> order;  // of the sequences, longest first; empty: as they are
  std::vector<Index> count, first, chunk, segment, group;
  Index chunk_rows = 0, segment_rows = 0;
  bool reverse;

  // lengths: null if all are T. rows_of_chunk: about how many.
  Schedule(const Dims& d, const std::int64_t* lengths, bool backwards, int groups,
           Index rows_of_chunk)
      : reverse(backwards) {
    count.assign(size(d.T), d.B);
    if (lengths) sort_by_length(d, lengths);
    first.assign(size(d.T) + 1, 0);
    std::partial_sum(count.begin(), count.end(), first.begin() + 1);
    group = shares(d.B, groups);
    cut_chunks(d, rows_of_chunk);
    cut(chunks());
  }

  Index total() const { return first.back(); }
  Index chunks() const { return static_cast<Index>(chunk.size()) - 1; }

  // Segments of n chunks; the one that is processed first may be shorter.
  void cut(Index n) {
    segment.clear();
    for (Index c = reverse ? 0 : chunks(); reverse ? c < chunks() : c > 0; c += reverse ? n : -n)
      segment.push_back(c);
    segment.push_back(reverse ? chunks() : 0);
    if (!reverse) std::reverse(segment.begin(), segment.end());
    segment_rows = 0;
    for (std::size_t s = 0; s + 1 < segment.size(); ++s)
      segment_rows = std::max(segment_rows, first[size(chunk[size(segment[s + 1])])] -
                                                first[size(chunk[size(segment[s])])]);
  }

  Rows rows() const {
    Rows r{};
    r.count = count.data(), r.first = first.data();
    r.chunk = chunk.data(), r.segment = segment.data(), r.group = group.data();
    r.chunks = chunks();
    r.segments = static_cast<Index>(segment.size()) - 1;
    r.groups = static_cast<Index>(group.size()) - 1;
    r.chunk_rows = chunk_rows, r.segment_rows = segment_rows;
    r.reverse = reverse;
    return r;
  }

  // Bounds of the sequences of each rank, so that all have as many steps.
  std::vector<Index> shares(Index B, int ranks) const {
    std::vector<Index> bounds(size(ranks) + 1, B);
    if (order.empty()) {
      for (int r = 0; r < ranks; ++r) bounds[size(r)] = B * r / ranks;
      return bounds;
    }
    std::vector<Index> steps(size(B), 0);  // of each sequence
    for (std::size_t t = 0; t < count.size(); ++t)
      if (count[t]) ++steps[size(count[t]) - 1];
    for (std::size_t b = size(B); b-- > 1;) steps[b - 1] += steps[b];
    Index done = 0, rank = 0;
    for (Index b = 0; b < B; done += steps[size(b++)])
      while (rank < ranks && done * ranks >= total() * rank) bounds[size(rank++)] = b;
    return bounds;
  }

 private:
  static std::size_t size(std::ptrdiff_t n) { return static_cast<std::size_t>(n); }

  void sort_by_length(const Dims& d, const std::int64_t* lengths) {
    order.resize(size(d.B));
    std::iota(order.begin(), order.end(), Index(0));
    std::stable_sort(order.begin(), order.end(),
                     [&](Index a, Index b) { return lengths[a] > lengths[b]; });
    Index longer = d.B;
    for (Index t = 0; t < d.T; ++t) {
      while (longer > 0 && lengths[order[size(longer - 1)]] <= t) --longer;
      count[size(t)] = longer;
    }
  }

  // As many steps as have about so many rows, whole from the end of the processing on, where the
  // backward pass starts.
  void cut_chunks(const Dims& d, Index target_rows) {
    const Index capacity = std::max(d.T ? count[0] : 0, target_rows);
    chunk.push_back(reverse ? 0 : d.T);
    while (chunk.back() != (reverse ? d.T : 0)) {
      Index t = chunk.back(), rows = 0;
      const auto next = [&] { return count[size(reverse ? t : t - 1)]; };
      do {
        rows += next();
        t += reverse ? 1 : -1;
      } while (t != (reverse ? d.T : 0) && rows + next() <= capacity);
      chunk.push_back(t);
      chunk_rows = std::max(chunk_rows, rows);
    }
    if (!reverse) std::reverse(chunk.begin(), chunk.end());
  }
};

}  // namespace bptt
