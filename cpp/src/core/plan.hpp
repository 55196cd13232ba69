// SPDX-License-Identifier: MIT
// Recurrent layers, forward and exact backpropagation through time, in float and double, and in
// dual numbers for derivatives of both.
//
//   Plan<float> plan(spec, inputs);                // checks every shape; throws
//                                                  // std::invalid_argument
//   plan.forward(inputs, outputs, tape, scratch);  // tape: plan.tape_bytes(), or null
//   plan.backward({}, x, y, cotangents, gradients, tape, scratch);
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/prepared.hpp"
#include "core/spec.hpp"
#include "engine/engine.hpp"
#include "threads/pool.hpp"

namespace bptt::core {

// What the shapes, the lengths and the chosen kernels determine. Immutable: one plan may serve many
// threads.
template <class T>
class Plan {
 public:
  // Throws std::invalid_argument, naming caller, argument, what it has and what was expected. The
  // plan refers to h_mask, zoneout, peepholes and layer_norm: they must stay as they are.
  Plan(const Spec& spec, const Inputs<T>& inputs);
  // For inference with packed weights, to which the plan refers; inputs: prepared.inputs() with the
  // arguments of the call. Throws as above.
  Plan(const Prepared<T>& prepared, const Inputs<T>& inputs);
  Plan(Plan&&) noexcept = default;

  const Dims& dims() const { return engine_.given.dims; }
  const CellKernels<T>& cell() const { return engine_.cell; }
  // Rows of each initial state without a dilation: B, or B + 1.
  Index initial_rows() const { return engine_.given.dims.B + engine_.given.reset_row; }
  const std::vector<Index>& lengths() const { return lengths_; }  // [B], or empty: all T

  // Sizes of the caller's buffers, which must be 64-byte aligned.
  std::size_t tape_bytes() const;
  std::size_t forward_scratch_bytes() const;
  std::size_t backward_scratch_bytes(const Gradients<T>& wanted) const;

  // False: stopped on request, and the outputs mean nothing. The tape keeps copies of the weights
  // and the initial state. It refers to x and y, unless there are lengths, resets or a dilation, so
  // both must reach backward() unchanged. Without a tape, x and y may be given back at once.
  bool forward(const Inputs<T>& inputs, const Outputs<T>& outputs, void* tape, void* scratch,
               StopRequest stop = {}) const;

  // `scratch` is as large as these gradients need. The tape is not changed. Throws
  // std::invalid_argument when a cotangent has a wrong shape, or x or y has changed where
  // engine/fingerprint.hpp looks.
  bool backward(const BackwardSpec& spec, const T* x, const T* y, const Cotangents<T>& cotangents,
                const Gradients<T>& gradients, const void* tape, void* scratch,
                StopRequest stop = {}) const;

  // Gates and states beside h that a tape holds, by name: "i f g o c" for lstm, "r z n" for gru,
  // "f n" for mgu, "i f z o c n m" for slstm.
  std::vector<std::string> names() const;

  // Writes number `index` of them after every step to out [T, B, H], zero beyond the lengths.
  // Throws std::invalid_argument when the tape was kept in segments (Spec::checkpoint).
  void read(const void* tape, int index, T* out) const;

  // Counts the values of each gate's activation below low[gate] or above high[gate] at each step:
  // counts [T, B, cell().values], the gates as in names(); throws as read() does. A plain RNN has
  // no gate: its activation's value is h; with options it has one, which has no name.
  void count_outside(const void* tape, const double* low, const double* high, double* counts) const;

 private:
  Engine<T> engine_of(const Inputs<T>& inputs);
  void place_checkpoints();
  std::vector<Index> steps_left() const;
  BackwardCall<T> reading_call(const void* tape) const;
  template <class U, class F>
  void scattered(Index width, U* out, const F& fill) const;
  template <class F>
  bool run(int most, StopRequest stop, const F& work) const;

  Spec spec_;
  const Prepared<T>* prepared_ = nullptr;  // or null: each call packs its weights
  std::vector<Index> lengths_;             // of the sequences, where they are split; empty: T
  std::vector<Subsequence> subsequences_;  // empty: the sequences as they are
  std::unique_ptr<Index[]> order_;         // memory of the engine's schedule
  Engine<T> engine_;                       // refers to the three above
};

}  // namespace bptt::core
