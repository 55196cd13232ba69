// SPDX-License-Identifier: MIT
// The functions of bptt.h: they check their arguments and hand them to the engine.
#include "capi/call.hpp"

namespace bptt::core {
namespace {

// One for each function of bptt.h, in a precision.

template <class T>
struct Pack {
  static bptt_status run(const char* f, const bptt_desc& d, const CellKernels<T>& cell,
                         const bptt_weights& w, void* packed) {
    const Dims dims = dims_of(d);
    BPTT_TRY(check_weights(f, cell, dims, w, true));
    BPTT_TRY(check_own(f, "packed", packed, "packed"));
    ForwardCall<T> call = forward_call(dims, options_of(d), inputs_of<T>(w, {}));
    call.packs = Packs::all;
    call.weights = after_signature(packed);
    cell.pack(call, alone);
    new (packed) Signature(Signature::packed<T>(cell.name, dims));
    return BPTT_OK;
  }
};

template <class T>
struct Forward {
  static bptt_status run(const char* f, const bptt_desc& d, const CellKernels<T>& cell,
                         const bptt_weights& w, const bptt_inputs& in, const bptt_outputs& out,
                         void* tape, void* workspace) {
    BPTT_TRY(check_own(f, "workspace", workspace, "forward_workspace"));
    BPTT_TRY(d.train ? check_own(f, "tape", tape, "tape") : check_memory(f, "tape", tape, 0));
    Call<T> call(d, cell, workspace);
    call.given.packed = after_signature(const_cast<void*>(w.packed));
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
    BPTT_TRY(check_packed(f, cell, s, w.packed));
    const Inputs<T> inputs = inputs_of<T>(w, in);
    const Outputs<T> outputs{at<T>(out.y), {at<T>(out.h_n), at<T>(out.c_n)}};
    const typename Engine<T>::TapeLayout kept(e, d.train ? after_signature(tape) : nullptr);
    const typename Engine<T>::ForwardLayout work(e, call.rest());
    const ForwardCall<T> kernels = e.forward_call(inputs, outputs, kept, work);
    call.run(e, [&](const Team& team) { e.forward(inputs, outputs, kernels, work, team); });
    if (d.train) new (tape) Signature(Signature::tape(e));
    e.mark(kept, inputs.x.data, outputs.y);
    return BPTT_OK;
  }
};

inline bptt_status read_clip(const char* f, const bptt_step_clip* clip, int states, StepClip& out) {
  out = StepClip{};
  BPTT_TRY(check_memory(f, "clip", clip, 0, alignof(bptt_step_clip)));
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
  out.kind = static_cast<StepClip::Kind>(clip->kind);
  out.target = static_cast<StepClip::Target>(clip->target);
  out.bound = clip->bound;
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
    BPTT_TRY(check_own(f, "workspace", workspace, "backward_workspace"));
    BPTT_TRY(check_own(f, "tape", tape, "tape"));
    const Call<T> call(d, cell, workspace);
    const Dims& s = call.given.dims;
    BPTT_TRY(check_arrays(f, cell, s, x, y, given, out));
    StepClip step_clip;
    BPTT_TRY(read_clip(f, clip, cell.states, step_clip));
    const Engine<T> e = call.engine();
    if (!Signature::tape(e).found(tape))
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
    gradients.state[0] = at<T>(out.dh0), gradients.state[1] = at<T>(out.dc0);
    const typename Engine<T>::TapeLayout kept(e, after_signature(const_cast<void*>(tape)));
    const typename Engine<T>::BackwardLayout work(e, call.rest(), wanted_of(gradients));
    if (const char* name = e.changed(kept, at<T>(x), at<T>(y)))
      return refuse(BPTT_MISMATCH, f, name,
                    " has changed since bptt_forward(), expected it as it was: the tape refers to "
                    "it");
    BackwardCall<T> kernels =
        e.backward_call(at<T>(x), at<T>(y), cotangents, gradients, kept, work);
    kernels.step_clip = step_clip;
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
    BPTT_TRY(check_array<T>(f, "gradients.dx", out.dx, steps * s.I, true));
    BPTT_TRY(check_array<T>(f, "gradients.dw_ih", out.dw_ih, rows * s.I, true));
    BPTT_TRY(check_array<T>(f, "gradients.dw_hh", out.dw_hh, rows * s.H, true));
    BPTT_TRY(check_array<T>(f, "gradients.db_ih", out.db_ih, rows, true));
    BPTT_TRY(check_array<T>(f, "gradients.db_hh", out.db_hh, rows, true));
    BPTT_TRY(check_array<T>(f, "gradients.dh0", out.dh0, state, true));
    return check_array<T>(f, "gradients.dc0", out.dc0, state, true);
  }
};

// One step needs no engine, and takes a fraction of its time.
template <class T>
struct Step {
  struct Work {
    void *kernel, *weights;
    T* y;
    std::size_t bytes;
    Work(const CellKernels<T>& cell, const Dims& d, void* workspace) {
      Arena arena{workspace};
      kernel = arena.take<char>(static_cast<Index>(cell.forward_scratch_bytes(d, d.B)));
      weights = arena.take<char>(static_cast<Index>(cell.weights_bytes(d)));
      y = arena.take<T>(d.B * d.H);
      bytes = arena.used;
    }
  };

  static bptt_status run(const char* f, const bptt_desc& d, const CellKernels<T>& cell,
                         const bptt_weights& w, const void* x, void* h, void* c, void* workspace) {
    const Dims dims = dims_of(d);
    const Index state = d.batch * d.hidden_size;
    BPTT_TRY(check_own(f, "workspace", workspace, "step_workspace"));
    BPTT_TRY(check_weights(f, cell, dims, w, !w.packed));
    BPTT_TRY(check_packed(f, cell, dims, w.packed));
    BPTT_TRY(check_array<T>(f, "x", x, d.batch * d.input_size));
    BPTT_TRY(check_array<T>(f, "h", h, state));
    BPTT_TRY(check_array<T>(f, "c", c, cell.states > 1 ? state : 0));
    const Work work(cell, dims, workspace);
    const Index B = d.batch, first[] = {0, B}, one[] = {0, 1};
    bptt_inputs in{};
    in.x = x;
    ForwardCall<T> call = forward_call(dims, options_of(d), inputs_of<T>(w, in));
    call.rows.count = &B, call.rows.first = call.rows.group = first;
    call.rows.chunk = call.rows.segment = one;
    call.rows.chunks = call.rows.segments = call.rows.groups = 1;
    call.rows.total = call.rows.chunk_rows = call.rows.segment_rows = B;
    call.y = work.y, call.scratch = work.kernel;
    call.state0[0] = call.state_n[0] = at<T>(h), call.state0[1] = call.state_n[1] = at<T>(c);
    if (w.packed) {
      call.packs = Packs::all, call.weights = after_signature(const_cast<void*>(w.packed));
    } else {
      call.packs = B > unpacked_rows ? Packs::all : Packs::none, call.weights = work.weights;
      cell.pack(call, alone);
    }
    cell.forward(call, alone);
    return BPTT_OK;
  }
};

template <class T>
struct Query {
  static bptt_status run(const char*, const bptt_desc& d, const CellKernels<T>& cell,
                         bptt_sizes& out) {
    const Call<T> call(d, cell, nullptr);
    const Engine<T> e = call.sizes_alone();
    const std::size_t before = call.arena.used;
    out.packed = sizeof(Signature) + cell.weights_bytes(e.given.dims);
    out.forward_workspace = before + typename Engine<T>::ForwardLayout(e, nullptr).bytes;
    out.tape = out.backward_workspace = 0;
    if (d.train) {
      out.tape = sizeof(Signature) + typename Engine<T>::TapeLayout(e, nullptr).bytes;
      out.backward_workspace =
          before + typename Engine<T>::BackwardLayout(e, nullptr, Wanted()).bytes;
    }
    out.step_workspace = typename Step<T>::Work(cell, dims_of(d, true), nullptr).bytes;
    return BPTT_OK;
  }
};

// Checks the descriptor and calls Function<T>::run for its dtype.
template <template <class> class Function, class... Arguments>
bptt_status dispatch(const char* f, const bptt_desc& d, Arguments&&... arguments) {
  const auto in = [&](auto zero) {
    using T = decltype(zero);
    const CellKernels<T>* cell = nullptr;
    BPTT_TRY(find_kernel(f, d, cell));
    Activation activation;
    BPTT_TRY(read_activation(f, d, activation));
    BPTT_TRY(check_lengths(f, d));
    return Function<T>::run(f, d, *cell, arguments...);
  };
  return d.dtype == BPTT_FLOAT32 ? in(0.0f) : in(0.0);
}

}  // namespace
}  // namespace bptt::core

// --- bptt.h

bptt_status bptt_query(const bptt_desc* desc, bptt_sizes* sizes) {
  using namespace bptt::core;
  constexpr const char* f = "bptt_query";
  bptt_desc d;
  BPTT_TRY(read_desc(f, desc, d));
  BPTT_TRY(check_struct(f, "sizes", "bptt_sizes", sizes));
  const std::size_t given = sizes->struct_size;
  constexpr std::size_t first = offsetof(bptt_sizes, step_workspace) + sizeof(std::size_t);
  if (given < first || !sensible<bptt_sizes>(given))
    return refuse(BPTT_WRONG_SIZE, f, "sizes.struct_size is ", static_cast<Index>(given),
                  ", expected ", static_cast<Index>(sizeof(bptt_sizes)), ", sizeof(bptt_sizes)");
  bptt_sizes found{};
  BPTT_TRY(dispatch<Query>(f, d, found));
  found.struct_size = given;
  // Members of a newer program's struct that this library does not know take no memory.
  std::memset(sizes, 0, given);
  std::memcpy(sizes, &found, std::min(given, sizeof found));
  return BPTT_OK;
}

bptt_status bptt_pack(const bptt_desc* desc, const bptt_weights* weights, void* packed) {
  using namespace bptt::core;
  constexpr const char* f = "bptt_pack";
  bptt_desc d;
  BPTT_TRY(read_desc(f, desc, d));
  BPTT_TRY(check_struct(f, "weights", "bptt_weights", weights));
  return dispatch<Pack>(f, d, *weights, packed);
}

bptt_status bptt_forward(const bptt_desc* desc, const bptt_weights* weights,
                         const bptt_inputs* inputs, const bptt_outputs* outputs, void* tape,
                         void* workspace) {
  using namespace bptt::core;
  constexpr const char* f = "bptt_forward";
  bptt_desc d;
  BPTT_TRY(read_desc(f, desc, d));
  BPTT_TRY(check_struct(f, "weights", "bptt_weights", weights));
  BPTT_TRY(check_struct(f, "inputs", "bptt_inputs", inputs));
  BPTT_TRY(check_struct(f, "outputs", "bptt_outputs", outputs));
  return dispatch<Forward>(f, d, *weights, *inputs, *outputs, tape, workspace);
}

bptt_status bptt_backward(const bptt_desc* desc, const void* x, const void* y,
                          const bptt_cotangents* cotangents, const bptt_step_clip* clip,
                          const bptt_gradients* gradients, const void* tape, void* workspace) {
  using namespace bptt::core;
  constexpr const char* f = "bptt_backward";
  bptt_desc d;
  BPTT_TRY(read_desc(f, desc, d));
  BPTT_TRY(check_struct(f, "cotangents", "bptt_cotangents", cotangents));
  BPTT_TRY(check_struct(f, "gradients", "bptt_gradients", gradients));
  return dispatch<Backward>(f, d, x, y, *cotangents, clip, *gradients, tape, workspace);
}

bptt_status bptt_step(const bptt_desc* desc, const bptt_weights* weights, const void* x, void* h,
                      void* c, void* workspace) {
  using namespace bptt::core;
  constexpr const char* f = "bptt_step";
  bptt_desc d;
  BPTT_TRY(read_desc(f, desc, d, true));
  BPTT_TRY(check_struct(f, "weights", "bptt_weights", weights));
  return dispatch<Step>(f, d, *weights, x, h, c, workspace);
}
