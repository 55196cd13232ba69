// SPDX-License-Identifier: MIT
// The order in which the steps of all sequences are taken: rows, chunks, segments (see Rows).
#pragma once
#include <algorithm>
#include <numeric>
#include <vector>

#include "parts.hpp"

namespace bptt {

struct Schedule {
  std::vector<Index> count, first, chunk, segment, group;
  Index chunk_rows = 0, segment_rows = 0;
  bool reverse;

  // parts: of d.B sequences, longest first, or empty if all take d.T steps. rows_of_chunk: about
  // how many.
  Schedule(const Dims& d, const std::vector<Part>& parts, bool backwards, int groups,
           Index rows_of_chunk)
      : reverse(backwards) {
    count.assign(size(d.T), d.B);
    for (Index t = 0, longer = d.B; t < d.T && !parts.empty(); ++t) {
      while (longer > 0 && parts[size(longer - 1)].length <= t) --longer;
      count[size(t)] = longer;
    }
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
    if (ranks == 1) return {0, B};
    std::vector<Index> bounds(size(ranks) + 1, B), steps(size(B), 0);  // of each sequence
    for (std::size_t t = 0; t < count.size(); ++t)
      if (count[t]) ++steps[size(count[t]) - 1];
    for (std::size_t b = size(B); b-- > 1;) steps[b - 1] += steps[b];
    if (!total() || (B && steps.front() == steps.back())) {
      for (int r = 0; r < ranks; ++r) bounds[size(r)] = B * r / ranks;
      return bounds;
    }
    Index done = 0, rank = 0;
    for (Index b = 0; b < B; done += steps[size(b++)])
      while (rank < ranks && done * ranks >= total() * rank) bounds[size(rank++)] = b;
    return bounds;
  }

 private:
  static std::size_t size(std::ptrdiff_t n) { return static_cast<std::size_t>(n); }

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
