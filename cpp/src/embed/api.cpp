// SPDX-License-Identifier: MIT
// The functions of bptt.h: what they are given, as the engine takes it.
#include <algorithm>

#include "check.hpp"
#include "party.hpp"
#include "signature.hpp"

namespace bptt {
namespace {

bool ragged(const bptt_desc& d) {
  return d.lengths &&
         std::any_of(d.lengths, d.lengths + d.batch, [&](Index n) { return n != d.steps; });
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
    given.dims = {d.steps, d.batch, d.input_size, d.hidden_size, d.hidden_size, d.hidden_size};
    given.train = d.train, given.reverse = d.reverse, given.dilation = 1;
    if (ragged(d)) {
      parts = pieces.take<Part>(d.batch);
      given.parts = {parts, d.batch, *std::max_element(d.lengths, d.lengths + d.batch)};
      given.lengths = d.lengths;
    }
    order = pieces.take<Index>(Schedule::size(Engine<T>::of_parts(given).T));
    shares = pieces.take<Index>(most_ranks() + 1);
    dh0 = pieces.take<T>(d.train ? d.batch * d.hidden_size : 0);
    dc0 = pieces.take<T>(d.train && cell.states > 1 ? d.batch * d.hidden_size : 0);
  }

  int most_ranks() const { return d.parallel_for && d.threads > 1 ? d.threads : 1; }

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
    return {cell, options(), given, Engine<T>::scheduled(order, cell, given)};
  }
  Engine<T> sizes_alone() const {
    const auto rows_of = [this](Index t) {
      return given.lengths
                 ? std::count_if(d.lengths, d.lengths + d.batch, [t](Index n) { return n > t; })
                 : d.batch;
    };
    const Dims of_parts = Engine<T>::of_parts(given);
    return {
        cell, options(), given,
        Schedule(of_parts, rows_of, given.reverse, Engine<T>::group_count(cell, of_parts, false),
                 Engine<T>::chunk_rows(cell, of_parts))};
  }
  Options options() const {
    Options o{};
    read_activation("", d, o.activation);  // which was checked
    o.gate_activation = Activation::sigmoid;
    o.leak = 1;
    o.cell_clip = std::numeric_limits<double>::infinity();
    o.preact_clip = std::numeric_limits<double>::max();
    return o;
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
bptt_status check_packed(const char* f, const Engine<T>& e, const void* packed) {
  if (!packed) return BPTT_OK;
  BPTT_TRY(check_memory(f, "weights.packed", packed, sizeof(Signature)));
  if (Signature(Signature::packed, e).found(packed)) return BPTT_OK;
  return refuse(BPTT_MISMATCH, f,
                "weights.packed was not packed for this cell, dtype, input_size, hidden_size and "
                "instruction set, expected what bptt_pack() made for them");
}

template <class T>
std::size_t packed_bytes(const Engine<T>& e) {
  return sizeof(Signature) + e.cell.weights_bytes(e.dims);
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

void* after_signature(void* memory) {
  return memory ? static_cast<char*>(memory) + sizeof(Signature) : nullptr;
}

// --- one for each function of bptt.h, in a precision

template <class T>
struct Query {
  static bptt_status run(const char*, const bptt_desc& d, const CellKernels<T>& cell,
                         bptt_sizes& out) {
    const Call<T> call(d, cell, nullptr);
    const Engine<T> e = call.sizes_alone();
    const std::size_t before = call.pieces.used;
    out.packed = packed_bytes(e);
    out.forward_workspace = before + typename Engine<T>::ForwardPieces(e, nullptr).bytes;
    out.tape = out.backward_workspace = 0;
    if (d.train) {
      out.tape = sizeof(Signature) + typename Engine<T>::TapePieces(e, nullptr).bytes;
      out.backward_workspace = before + typename Engine<T>::BackwardPieces(e, nullptr).bytes;
    }
    bptt_desc one = d;
    one.steps = 1, one.train = 0, one.reverse = 0, one.lengths = nullptr;
    const Call<T> step(one, cell, nullptr);
    const Engine<T> of_step = step.sizes_alone();
    out.step_workspace = step.pieces.used +
                         typename Engine<T>::ForwardPieces(of_step, nullptr).bytes +
                         static_cast<std::size_t>(d.batch * d.hidden_size) * sizeof(T);
    return BPTT_OK;
  }
};

template <class T>
struct Pack {
  static bptt_status run(const char* f, const bptt_desc& d, const CellKernels<T>& cell,
                         const bptt_weights& w, void* packed) {
    const Call<T> sizes(d, cell, nullptr);
    const Engine<T> e = sizes.sizes_alone();
    BPTT_TRY(check_weights(f, cell, e.given, w, true));
    BPTT_TRY(check_memory(f, "packed", packed, packed_bytes(e)));
    ForwardCall<T> call{};
    call.dims = e.given;
    call.w_ih = at<T>(w.w_ih), call.w_hh = at<T>(w.w_hh);
    call.b_ih = at<T>(w.b_ih), call.b_hh = at<T>(w.b_hh);
    call.packs = Packs::all;
    call.weights = after_signature(packed);
    cell.pack(call, Team{0, 1, nullptr, nullptr, [](void*) { return true; },
                         [](void*, int) { return false; }});
    new (packed) Signature(Signature::packed, e);
    return BPTT_OK;
  }
};

template <class T>
struct Forward {
  static bptt_status run(const char* f, const bptt_desc& d, const CellKernels<T>& cell,
                         const bptt_weights& w, const bptt_inputs& in, const bptt_outputs& out,
                         void* tape, void* workspace) {
    BPTT_TRY(check_memory(f, "workspace", workspace, 1));
    BPTT_TRY(check_memory(f, "tape", tape, d.train));
    const Call<T> call(d, cell, workspace);
    const Dims& s = call.given.dims;
    const Index state = s.B * s.H, steps = s.T * s.B;
    BPTT_TRY(check_weights(f, cell, s, w, d.train || !w.packed));
    BPTT_TRY(check_array<T>(f, "inputs.x", in.x, steps * s.I));
    BPTT_TRY(check_array<T>(f, "inputs.h0", in.h0, state, true));
    BPTT_TRY(check_array<T>(f, "inputs.c0", in.c0, state, true));
    BPTT_TRY(check_array<T>(f, "outputs.y", out.y, steps * s.H));
    BPTT_TRY(check_array<T>(f, "outputs.h_n", out.h_n, state));
    BPTT_TRY(check_array<T>(f, "outputs.c_n", out.c_n, cell.states > 1 ? state : 0));
    const Engine<T> e = call.engine();
    BPTT_TRY(check_packed(f, e, w.packed));
    const Inputs<T> inputs = inputs_of<T>(w, in);
    const Outputs<T> outputs{at<T>(out.y), {at<T>(out.h_n), at<T>(out.c_n)}};
    const typename Engine<T>::TapePieces kept(e, d.train ? after_signature(tape) : nullptr);
    const typename Engine<T>::ForwardPieces work(e, call.rest());
    ForwardCall<T> kernels = e.forward_call(inputs, outputs, kept, work);
    if (w.packed)
      kernels.packs = Packs::all, kernels.weights = after_signature(const_cast<void*>(w.packed));
    call.run(e, [&](const Team& team) {
      e.forward(inputs, outputs, kernels, work, team, w.packed != nullptr);
    });
    if (d.train) new (tape) Signature(Signature::tape, e);
    return BPTT_OK;
  }
};

inline bptt_status read_clip(const char* f, const bptt_step_clip* clip, int states, StepClip& out) {
  out = {StepClip::none, StepClip::h, 0};
  if (!clip || clip->kind == BPTT_CLIP_NONE) return BPTT_OK;
  if (clip->kind != BPTT_CLIP_VALUE && clip->kind != BPTT_CLIP_NORM)
    return refuse(BPTT_INVALID_ARGUMENT, f, "clip.kind is ", static_cast<Index>(clip->kind),
                  ", expected a bptt_clip_kind");
  if (clip->target < BPTT_CLIP_H || clip->target > BPTT_CLIP_GATES ||
      (clip->target == BPTT_CLIP_C && states < 2))
    return refuse(BPTT_INVALID_ARGUMENT, f, "clip.target is ", static_cast<Index>(clip->target),
                  ", expected h, gates or, of lstm, c");
  if (!(clip->bound > 0))
    return refuse(BPTT_INVALID_ARGUMENT, f, "clip.bound is not positive, expected more than 0");
  out = {static_cast<StepClip::Kind>(clip->kind), static_cast<StepClip::Target>(clip->target),
         clip->bound};
  return BPTT_OK;
}

template <class T>
struct Backward {
  static bptt_status run(const char* f, const bptt_desc& d, const CellKernels<T>& cell,
                         const void* x, const void* y, const bptt_cotangents& given,
                         const bptt_step_clip* clip, const bptt_gradients& out, const void* tape,
                         void* workspace) {
    if (!d.train)
      return refuse(BPTT_INVALID_ARGUMENT, f,
                    "desc.train is 0, expected that of a forward call "
                    "that kept a tape");
    BPTT_TRY(check_memory(f, "workspace", workspace, 1));
    BPTT_TRY(check_memory(f, "tape", tape, sizeof(Signature)));
    const Call<T> call(d, cell, workspace);
    const Dims& s = call.given.dims;
    BPTT_TRY(check_arrays(f, cell, s, x, y, given, out));
    StepClip step_clip;
    BPTT_TRY(read_clip(f, clip, cell.states, step_clip));
    const Engine<T> e = call.engine();
    if (!Signature(Signature::tape, e).found(tape))
      return refuse(BPTT_MISMATCH, f,
                    "tape is not of this desc and instruction set, expected what bptt_forward() "
                    "left with them");
    Cotangents<T> cotangents;
    cotangents.y.data = at<T>(given.dy);
    cotangents.state[0].data = at<T>(given.dh_n), cotangents.state[1].data = at<T>(given.dc_n);
    Gradients<T> gradients{};
    gradients.x = at<T>(out.dx), gradients.w_ih = at<T>(out.dw_ih);
    gradients.w_hh = at<T>(out.dw_hh);
    gradients.b_ih = at<T>(out.db_ih), gradients.b_hh = at<T>(out.db_hh);
    gradients.state[0] = out.dh0 ? at<T>(out.dh0) : call.dh0;
    gradients.state[1] = out.dc0 ? at<T>(out.dc0) : call.dc0;
    const typename Engine<T>::TapePieces kept(e, after_signature(const_cast<void*>(tape)));
    const typename Engine<T>::BackwardPieces work(e, call.rest());
    const BackwardCall<T> kernels = e.backward_call(at<T>(x), at<T>(y), cotangents, step_clip, 0,
                                                    nullptr, gradients, kept, work);
    call.run(e, [&](const Team& team) { e.backward(cotangents, gradients, kernels, work, team); });
    return BPTT_OK;
  }

  static bptt_status check_arrays(const char* f, const CellKernels<T>& cell, const Dims& s,
                                  const void* x, const void* y, const bptt_cotangents& given,
                                  const bptt_gradients& out) {
    const Index state = s.B * s.H, steps = s.T * s.B, rows = cell.gates * s.H;
    BPTT_TRY(check_array<T>(f, "x", x, steps * s.I));
    BPTT_TRY(check_array<T>(f, "y", y, steps * s.H));
    BPTT_TRY(check_array<T>(f, "cotangents.dy", given.dy, 0, true));
    BPTT_TRY(check_array<T>(f, "cotangents.dh_n", given.dh_n, 0, true));
    BPTT_TRY(check_array<T>(f, "cotangents.dc_n", given.dc_n, 0, true));
    BPTT_TRY(check_array<T>(f, "gradients.dx", out.dx, steps * s.I));
    BPTT_TRY(check_array<T>(f, "gradients.dw_ih", out.dw_ih, rows * s.I));
    BPTT_TRY(check_array<T>(f, "gradients.dw_hh", out.dw_hh, rows * s.H));
    BPTT_TRY(check_array<T>(f, "gradients.db_ih", out.db_ih, rows, true));
    BPTT_TRY(check_array<T>(f, "gradients.db_hh", out.db_hh, rows, true));
    BPTT_TRY(check_array<T>(f, "gradients.dh0", out.dh0, state, true));
    return check_array<T>(f, "gradients.dc0", out.dc0, state, true);
  }
};

template <class T>
struct Step {
  static bptt_status run(const char* f, const bptt_desc& d, const CellKernels<T>& cell,
                         const bptt_weights& w, const void* x, void* h, void* c, void* workspace) {
    BPTT_TRY(check_memory(f, "workspace", workspace, 1));
    Call<T> call(d, cell, workspace);
    const Index state = d.batch * d.hidden_size;
    BPTT_TRY(check_weights(f, cell, call.given.dims, w, !w.packed));
    BPTT_TRY(check_array<T>(f, "x", x, d.batch * d.input_size));
    BPTT_TRY(check_array<T>(f, "h", h, state));
    BPTT_TRY(check_array<T>(f, "c", c, cell.states > 1 ? state : 0));
    const Engine<T> e = call.engine();
    BPTT_TRY(check_packed(f, e, w.packed));
    const typename Engine<T>::ForwardPieces work(e, call.rest());
    T* y = reinterpret_cast<T*>(static_cast<char*>(call.rest()) + work.bytes);
    const Inputs<T> inputs = inputs_of<T>(w, {x, h, c});
    const Outputs<T> outputs{y, {at<T>(h), at<T>(c)}};
    const typename Engine<T>::TapePieces none(e, nullptr);
    ForwardCall<T> kernels = e.forward_call(inputs, outputs, none, work);
    if (w.packed)
      kernels.packs = Packs::all, kernels.weights = after_signature(const_cast<void*>(w.packed));
    call.run(e, [&](const Team& team) {
      e.forward(inputs, outputs, kernels, work, team, w.packed != nullptr);
    });
    return BPTT_OK;
  }
};

// Function<T>::run for the dtype of the descriptor, once it is checked.
template <template <class> class Function, class... Arguments>
bptt_status dispatch(const char* f, const bptt_desc& d, Arguments&&... arguments) {
  const auto in = [&](auto zero) {
    using T = decltype(zero);
    const CellKernels<T>* cell = nullptr;
    BPTT_TRY(find_cell(f, d, cell));
    Activation activation;
    BPTT_TRY(read_activation(f, d, activation));
    return Function<T>::run(f, d, *cell, arguments...);
  };
  return d.dtype == BPTT_FLOAT32 ? in(0.0f) : in(0.0);
}

}  // namespace
}  // namespace bptt

// --- bptt.h

bptt_status bptt_query(const bptt_desc* desc, bptt_sizes* sizes) {
  using namespace bptt;
  constexpr const char* f = "bptt_query";
  bptt_desc d;
  BPTT_TRY(read_desc(f, desc, d));
  if (!sizes) return refuse(BPTT_INVALID_ARGUMENT, f, "sizes is null, expected a bptt_sizes");
  if (sizes->struct_size < sizeof(bptt_sizes))
    return refuse(BPTT_WRONG_SIZE, f, "sizes.struct_size is ",
                  static_cast<Index>(sizes->struct_size), ", expected ",
                  static_cast<Index>(sizeof(bptt_sizes)), ", sizeof(bptt_sizes)");
  return dispatch<Query>(f, d, *sizes);
}

bptt_status bptt_pack(const bptt_desc* desc, const bptt_weights* weights, void* packed) {
  using namespace bptt;
  constexpr const char* f = "bptt_pack";
  bptt_desc d;
  BPTT_TRY(read_desc(f, desc, d));
  if (!weights) return refuse(BPTT_INVALID_ARGUMENT, f, "weights is null, expected bptt_weights");
  return dispatch<Pack>(f, d, *weights, packed);
}

bptt_status bptt_forward(const bptt_desc* desc, const bptt_weights* weights,
                         const bptt_inputs* inputs, const bptt_outputs* outputs, void* tape,
                         void* workspace) {
  using namespace bptt;
  constexpr const char* f = "bptt_forward";
  bptt_desc d;
  BPTT_TRY(read_desc(f, desc, d));
  if (!weights || !inputs || !outputs)
    return refuse(BPTT_INVALID_ARGUMENT, f, "weights, inputs or outputs is null, expected all");
  return dispatch<Forward>(f, d, *weights, *inputs, *outputs, tape, workspace);
}

bptt_status bptt_backward(const bptt_desc* desc, const void* x, const void* y,
                          const bptt_cotangents* cotangents, const bptt_step_clip* clip,
                          const bptt_gradients* gradients, const void* tape, void* workspace) {
  using namespace bptt;
  constexpr const char* f = "bptt_backward";
  bptt_desc d;
  BPTT_TRY(read_desc(f, desc, d));
  if (!cotangents || !gradients)
    return refuse(BPTT_INVALID_ARGUMENT, f, "cotangents or gradients is null, expected both");
  return dispatch<Backward>(f, d, x, y, *cotangents, clip, *gradients, tape, workspace);
}

bptt_status bptt_step(const bptt_desc* desc, const bptt_weights* weights, const void* x, void* h,
                      void* c, void* workspace) {
  using namespace bptt;
  constexpr const char* f = "bptt_step";
  bptt_desc d;
  if (!desc) return refuse(BPTT_INVALID_ARGUMENT, f, "desc is null, expected a bptt_desc");
  BPTT_TRY(read_desc(f, desc, d));
  if (!weights) return refuse(BPTT_INVALID_ARGUMENT, f, "weights is null, expected bptt_weights");
  d.steps = 1, d.train = 0, d.reverse = 0, d.lengths = nullptr;
  return dispatch<Step>(f, d, *weights, x, h, c, workspace);
}
