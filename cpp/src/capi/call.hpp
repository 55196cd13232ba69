// SPDX-License-Identifier: MIT
// Turns the arguments of bptt.h into arguments of the engine and the kernels.
#pragma once
#include <algorithm>

#include "capi/signature.hpp"
#include "capi/validate.hpp"
#include "threads/host_team.hpp"

namespace bptt::core {

inline bool ragged(const bptt_desc& d) {
  return d.lengths &&
         std::any_of(d.lengths, d.lengths + d.batch, [&](Index n) { return n != d.steps; });
}

inline Dims dims_of(const bptt_desc& d, bool one_step = false) {
  Dims dims{one_step ? 1 : d.steps, d.batch,       d.input_size,
            d.hidden_size,          d.hidden_size, d.hidden_size};
  dims.caches = embedded_caches();
  return dims;
}

inline Options options_of(const bptt_desc& d) {
  Options o;
  read_activation("", d, o.activation.kind);  // checked before
  return o;
}

// The first part of a call's workspace, before the engine's; without a workspace, its size alone.
template <class T>
struct Call {
  const bptt_desc& d;
  const CellKernels<T>& cell;
  Arena arena;
  typename Engine<T>::Given given{};
  Subsequence* subsequences = nullptr;
  Index *order, *shares;

  Call(const bptt_desc& desc, const CellKernels<T>& kernels, void* workspace)
      : d(desc), cell(kernels), arena{workspace} {
    given.dims = dims_of(d);
    given.train = d.train, given.reverse = d.reverse;
    if (ragged(d)) {
      subsequences = arena.take<Subsequence>(d.batch);
      given.subsequences = {subsequences, d.batch,
                            *std::max_element(d.lengths, d.lengths + d.batch)};
      given.lengths = d.lengths;
    }
    order = arena.take<Index>(Schedule::size(given.split_dims().T));
    shares = arena.take<Index>(Index(most_ranks()) + 1);
  }

  int most_ranks() const {
    constexpr int enough = 1024;
    return d.parallel_for && d.threads > 1 ? std::min(d.threads, enough) : 1;
  }

  // Longest first; the same order in every call with these lengths.
  void sort_subsequences() const {
    for (Index b = 0; b < given.subsequences.size; ++b) {
      const Index n = d.lengths[b];
      subsequences[b] = {b, 0, 1, n, b, b, 0};
    }
    std::sort(subsequences, subsequences + given.subsequences.size,
              [](const Subsequence& a, const Subsequence& b) {
                return a.length != b.length ? a.length > b.length : a.b < b.b;
              });
  }

  Engine<T> engine() const {
    sort_subsequences();
    return {cell, options_of(d), given, Engine<T>::scheduled(order, cell, given)};
  }
  Engine<T> sizes_alone() const {
    const Dims split = given.split_dims();
    return {
        cell, options_of(d), given,
        Schedule(split, given.lengths, given.reverse, Engine<T>::group_count(cell, split, false),
                 Engine<T>::chunk_rows(cell, split))};
  }
  void* rest() const { return static_cast<char*>(arena.base) + arena.used; }

  // work(team) for every rank.
  template <class F>
  void run(const Engine<T>& e, const F& work) const {
    bool by_sequence = false;
    const auto prepare = [&](int size) {
      by_sequence = size > 1 && e.by_sequence(size);
      if (by_sequence) e.schedule.shares(size, shares);
    };
    const auto rank = [&](Team team) {
      team.sequences = by_sequence ? shares : nullptr;
      work(team);
    };
    HostTeam<decltype(prepare), decltype(rank)>::run(d, e.team_size(most_ranks()), prepare, rank);
  }
};

template <class T>
const T* at(const void* p) {
  return static_cast<const T*>(p);
}
template <class T>
T* at(void* p) {
  return static_cast<T*>(p);
}

template <class T>
bptt_status check_weights(const char* f, const CellKernels<T>& cell, const Dims& d,
                          const bptt_weights& w, bool needed) {
  const Index rows = cell.gates * d.H;
  BPTT_TRY(check_array<T>(f, "weights.w_ih", w.w_ih, rows * d.I, !needed));
  BPTT_TRY(check_array<T>(f, "weights.w_hh", w.w_hh, rows * d.H, !needed));
  BPTT_TRY(check_array<T>(f, "weights.b_ih", w.b_ih, rows, true));
  return check_array<T>(f, "weights.b_hh", w.b_hh, rows, true);
}

template <class T>
bptt_status check_packed(const char* f, const CellKernels<T>& cell, const Dims& d,
                         const void* packed) {
  if (!packed) return BPTT_OK;
  BPTT_TRY(check_memory(f, "weights.packed", packed, sizeof(Signature)));
  if (Signature::packed<T>(cell.name, d).found(packed)) return BPTT_OK;
  return refuse(BPTT_MISMATCH, f,
                "weights.packed was not packed for this cell, dtype, input_size, hidden_size and "
                "instruction set, expected what bptt_pack() made for them");
}

template <class T>
Inputs<T> inputs_of(const bptt_weights& w, const bptt_inputs& given) {
  Inputs<T> in;
  in.x.data = at<T>(given.x);
  in.w_ih.data = at<T>(w.w_ih), in.w_hh.data = at<T>(w.w_hh);
  in.b_ih.data = at<T>(w.b_ih), in.b_hh.data = at<T>(w.b_hh);
  in.state[0].data = at<T>(given.h0), in.state[1].data = at<T>(given.c0);
  return in;
}

inline void* after_signature(void* memory) {
  return memory ? static_cast<char*>(memory) + sizeof(Signature) : nullptr;
}

}  // namespace bptt::core
