// SPDX-License-Identifier: MIT
// What the functions of bptt.h are given, as the engine and the kernels take it.
#pragma once
#include <algorithm>
#include <limits>

#include "capi/validate.hpp"
#include "threads/host_team.hpp"
#include "capi/signature.hpp"

namespace bptt::core {

inline bool ragged(const bptt_desc& d) {
  return d.lengths &&
         std::any_of(d.lengths, d.lengths + d.batch, [&](Index n) { return n != d.steps; });
}

inline Dims dims_of(const bptt_desc& d, bool one_step = false) {
  return {one_step ? 1 : d.steps, d.batch,       d.input_size,
          d.hidden_size,          d.hidden_size, d.hidden_size};
}

inline Options options_of(const bptt_desc& d) {
  Options o{};
  read_activation("", d, o.activation);  // which was checked
  o.gate_activation = Activation::sigmoid;
  o.leak = 1;
  o.cell_clip = std::numeric_limits<double>::infinity();
  o.preact_clip = std::numeric_limits<double>::max();
  return o;
}

// What a call has in its workspace before the engine's pieces; without one, sizes alone.
template <class T>
struct Call {
  const bptt_desc& d;
  const CellKernels<T>& cell;
  Pieces pieces;
  typename Engine<T>::Given given{};
  Part* parts = nullptr;
  Index *order, *shares;
  T *dh0, *dc0;  // where the caller wants none

  Call(const bptt_desc& desc, const CellKernels<T>& kernels, void* workspace)
      : d(desc), cell(kernels), pieces{static_cast<char*>(workspace)} {
    given.dims = dims_of(d);
    given.train = d.train, given.reverse = d.reverse, given.dilation = 1;
    if (ragged(d)) {
      parts = pieces.take<Part>(d.batch);
      given.parts = {parts, d.batch, *std::max_element(d.lengths, d.lengths + d.batch)};
      given.lengths = d.lengths;
    }
    order = pieces.take<Index>(Schedule::size(Engine<T>::of_parts(given).T));
    shares = pieces.take<Index>(Index(most_ranks()) + 1);
    dh0 = pieces.take<T>(d.train ? d.batch * d.hidden_size : 0);
    dc0 = pieces.take<T>(d.train && cell.states > 1 ? d.batch * d.hidden_size : 0);
  }

  int most_ranks() const {
    constexpr int enough = 1024;
    return d.parallel_for && d.threads > 1 ? std::min(d.threads, enough) : 1;
  }

  // Longest first; the same order in every call with these lengths.
  void sort_parts() const {
    for (Index b = 0; b < given.parts.size; ++b) {
      const Index n = d.lengths[b];
      parts[b] = {b, 0, 1, n, b, b, 0};
    }
    std::sort(parts, parts + given.parts.size, [](const Part& a, const Part& b) {
      return a.length != b.length ? a.length > b.length : a.b < b.b;
    });
  }

  Engine<T> engine() const {
    sort_parts();
    return {cell, options_of(d), given, Engine<T>::scheduled(order, cell, given)};
  }
  Engine<T> sizes_alone() const {
    const Dims of_parts = Engine<T>::of_parts(given);
    return {cell, options_of(d), given,
            Schedule(of_parts, given.lengths, given.reverse,
                     Engine<T>::group_count(cell, of_parts, false),
                     Engine<T>::chunk_rows(cell, of_parts))};
  }
  void* rest() const { return pieces.base + pieces.used; }

  // work(team) for every rank.
  template <class F>
  void run(const Engine<T>& e, const F& work) const {
    bool by_sequence = false;
    const auto prepare = [&](int size) {
      by_sequence = size > 1 && e.by_sequence(size);
      if (by_sequence) e.schedule.shares(size, shares);
    };
    const auto rank = [&](int number, int size, auto* party) {
      using Members = std::remove_pointer_t<decltype(party)>;
      work(Team{number, size, by_sequence ? shares : nullptr, party,
                [](void* p) { return static_cast<Members*>(p)->wait(); },
                [](void*, int) { return false; }});
    };
    Party<decltype(prepare), decltype(rank)>::run(d, e.team_size(most_ranks()), prepare, rank);
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
void set_weights(ForwardCall<T>& call, const bptt_weights& w) {
  call.w_ih = at<T>(w.w_ih), call.w_hh = at<T>(w.w_hh);
  call.b_ih = at<T>(w.b_ih), call.b_hh = at<T>(w.b_hh);
}

// The team of the calling thread alone.
inline constexpr Team alone{
    0, 1, nullptr, nullptr, [](void*) { return true; }, [](void*, int) { return false; }};

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
