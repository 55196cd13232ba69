// SPDX-License-Identifier: MIT
// What one plan holds: an engine, and the memory that it works on.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "threads/count.hpp"
#include "core/find_kernel.hpp"
#include "engine/engine.hpp"
#include "threads/pool.hpp"

namespace bptt::core {

template <class T>
struct Plan<T>::Impl {
  Spec spec;
  std::vector<Index> lengths;  // of the sequences, where there are parts; empty: T
  std::vector<Part> parts;     // of the sequences; empty: all as they are
  std::vector<Index> order;    // the schedule's
  Engine<T> engine;

  Impl(const Spec& s, const Inputs<T>& in)
      : spec(s), engine(engine_of(find_cell<T>(s, in), options_of(s), in)) {
    if (spec.train && spec.checkpoint != Spec::off) place_checkpoints();
  }

  Engine<T> engine_of(const CellKernels<T>& cell, const Options& options, const Inputs<T>& in) {
    const Dims given = check_inputs(spec, cell, in);
    if (in.resets || spec.dilation != 1 || !all_equal(in.lengths.data, given)) {
      parts = divide(given, {in.lengths.data, in.resets.data, spec.dilation, spec.reverse});
      if (in.lengths) lengths.assign(in.lengths.data, in.lengths.data + given.B);
    }
    const typename Engine<T>::Given all{
        given,
        extras_of(in, given),
        spec.train,
        spec.bf16,
        spec.reverse,
        spec.dilation,
        {parts.data(), static_cast<Index>(parts.size()), parts.empty() ? 0 : parts[0].length},
        lengths.empty() ? nullptr : lengths.data()};
    order.resize(static_cast<std::size_t>(Schedule::size(Engine<T>::of_parts(all).T)));
    return {cell, options, all, Engine<T>::scheduled(order.data(), cell, all)};
  }
  Extras<T> extras_of(const Inputs<T>& in, const Dims& given) const {
    return {in.peepholes.data,
            in.h_mask.data,
            {in.zoneout[0].data, in.zoneout[1].data},
            {static_cast<T>(spec.zoneout[0]), static_cast<T>(spec.zoneout[1])},
            std::min(spec.skip / spec.dilation, given.T + 1),
            {in.layer_norm[0].data, in.layer_norm[1].data, in.layer_norm[2].data,
             in.layer_norm[3].data}};
  }
  static bool all_equal(const std::int64_t* lengths, const Dims& d) {
    return !lengths ||
           std::all_of(lengths, lengths + d.B, [&](std::int64_t length) { return length == d.T; });
  }

  // Steps of the part's sequence that are processed at its step 0 or later, see BackwardCall.
  std::vector<Index> steps_left() const {
    const Dims& d = engine.dims;
    std::vector<Index> left(static_cast<std::size_t>(d.B), spec.reverse ? 1 : d.T);
    for (std::size_t r = 0; r < parts.size(); ++r)
      left[r] = parts[r].after + (spec.reverse ? 1 : parts[r].length);
    return left;
  }

  std::size_t tape_bytes() const { return typename Engine<T>::TapePieces(engine, nullptr).bytes; }
  std::size_t backward_bytes(const Trace<T>& wanted) const {
    return typename Engine<T>::BackwardPieces(engine, nullptr, wanted).bytes;
  }

  void place_checkpoints() {
    Schedule& schedule = engine.schedule;
    const Index chunks = schedule.chunks;
    const auto bytes = [&](Index n) {
      schedule.cut(n);
      return tape_bytes() + backward_bytes({});
    };
    if (spec.checkpoint == Spec::sqrt) {
      Index n = 1;
      while (n * n < chunks) ++n;
      const std::size_t in_segments = bytes(n), whole = bytes(chunks);
      if (in_segments < whole) schedule.cut(n);  // unless the weights are more than the values
      return;
    }
    // The bytes rise with the length of the segments, but for very short ones; the shortest that is
    // of any use has as many chunks as there are segments.
    Index best = 0;
    std::size_t least = 0;
    for (Index n = std::max(chunks, Index(1)); n > 0; n = n == 1 ? 0 : (n + 1) / 2) {
      const std::size_t needed = bytes(n);
      if (needed <= spec.max_bytes) {
        best = n;
        break;
      }
      least = least ? std::min(least, needed) : needed;
    }
    if (!best)
      refuse(spec.caller, "max_bytes is " + std::to_string(spec.max_bytes) +
                              ", expected at least " + std::to_string(least));
    schedule.cut(best);
  }

  // work(team) for each rank.
  template <class F>
  bool run(int given, StopRequest stop, const F& work) const {
    Lease leased(engine.team_size(given ? given : threads()));
    const int size = leased.size();
    std::vector<Index> shares;
    if (size > 1 && engine.by_sequence(size)) {
      shares.resize(static_cast<std::size_t>(size) + 1);
      engine.schedule.shares(size, shares.data());
    }
    return leased.run(stop, [&](Team team) {
      team.sequences = shares.empty() ? nullptr : shares.data();
      work(team);
    });
  }
};

}  // namespace bptt::core
