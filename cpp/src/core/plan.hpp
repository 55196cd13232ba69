// SPDX-License-Identifier: MIT
// Recurrent layers, forward and exact backpropagation through time, in float and double, and in
// dual numbers for derivatives of both.
//
// T steps, B sequences, I inputs, H hidden units, P numbers in h, which is H unless h is projected;
// G gates and S states of the cell: rnn 1, 1; lstm 4 (i f g o) or, without a forget gate of its
// own, 3 (i g o), 2 (h, c); gru 3 (r z n), 1; mgu 2 (f n), 1; slstm 4 (i f z o), 4 (h, c, n, m);
// lstm1997 3 (i o g), 4 (h, c, i, o). All arrays are C-contiguous, belong to the caller and are
// only used during the call.
//
//   bptt::Plan<float> plan(spec, inputs);              // checks every shape; throws
//                                                      // std::invalid_argument
//   plan.forward(inputs, outputs, tape, scratch);      // tape: plan.tape_bytes(), or null
//   plan.backward({}, x, y, cotangents, gradients, tape, scratch);
#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/arrays.hpp"
#include "kernels/dual.hpp"

namespace bptt::core {

constexpr double infinite = std::numeric_limits<double>::infinity();

struct Spec {
  std::string cell;  // "rnn", "lstm", "gru", "mgu", "slstm", "lstm1997"
  // tanh, relu, leaky_relu (slope 0.01), sigmoid, hard_sigmoid or identity: of rnn, or of the
  // candidate of lstm and gru; of their gates; of what lstm puts out.
  std::string activation = "tanh", gate_activation = "sigmoid", output_activation = "tanh";
  std::string forget_gate = "own";  // of lstm; or "coupled", 1 - i; or "none", 1
  bool reset_after = true;          // of gru: r multiplies w_hn h + b_hn; or else h in w_hn h
  double leak = 1;                  // of rnn: h' = (1 - leak) h + leak activation(...)
  double cell_clip = infinite, preact_clip = infinite;  // bounds of c, of the arguments of gates
  double zoneout[2] = {0, 0};   // how much of h, and of the other states, stays as it was, unless
                                // inputs say it
  std::ptrdiff_t skip = 0;      // h of so many steps before is added to h, a multiple of the
                                // dilation; 0: none
  std::ptrdiff_t dilation = 1;  // k: the state of k steps before takes the place of that of one
                                // step before; states are then [k, B, H], the oldest first
  bool reverse = false;  // from the last step of each sequence to its first; y stays aligned with x
  bool train = true;     // keep a tape for backward
  bool bf16 = false;     // products in bfloat16, sums in float; only float, only if has_bf16()
  int threads = 0;       // at most; 0: as many as bptt::threads() says. Small calls take fewer.
  // A tape of less memory keeps the values of one segment of steps, and backward() computes those
  // of the others again: the same gradients, to the last bit, in about a third more time.
  enum Checkpoint {
    off,
    sqrt,  // segments as long as there are many
    bytes  // the longest segments with which the tape and backward's scratch fit into max_bytes
  } checkpoint = off;
  std::size_t max_bytes = 0;
  std::string caller = "forward";  // opens every error message
};

struct BackwardSpec {
  StepClipping clip;
  std::ptrdiff_t cut = 0;           // > 0: counted from the end of each sequence's processing, no
                                    // gradient goes back after every so many steps; 0: never cut
  int threads = 0;                  // as in Spec
  std::string caller = "backward";  // opens every error message
};

// Called every few milliseconds of a long call, on the calling thread; true stops the call.
struct StopRequest {
  bool (*requested)(void*) = nullptr;
  void* context = nullptr;
};

// What the shapes, the lengths and the chosen kernels fix. Immutable: one plan may serve many
// threads.
template <class T>
class Plan {
 public:
  // Throws std::invalid_argument, naming caller, argument, what it has and what was expected. The
  // plan refers to h_mask and zoneout: they must stay as they are.
  Plan(const Spec& spec, const Inputs<T>& inputs);
  Plan(Plan&&) noexcept;
  ~Plan();

  std::ptrdiff_t steps() const, batch() const, input_size() const, hidden_size() const;
  std::ptrdiff_t output_size() const, recurrent_size() const;  // P, and the columns of w_hh
  int gates() const, states() const;
  std::vector<std::ptrdiff_t> lengths() const;  // [B], or empty: all T
  bool has_apart() const, has_inner() const;    // of Trace
  int read_gates() const;                       // of count_outside()

  // Sizes of the caller's buffers, which must be 64-byte aligned.
  std::size_t tape_bytes() const;
  std::size_t forward_scratch_bytes() const;
  std::size_t backward_scratch_bytes(const Trace<T>& wanted = {}) const;

  // False: stopped on request, and the outputs mean nothing. The tape keeps copies of the weights
  // and the initial state; x and y it refers to, unless there are lengths, resets or a dilation, so
  // both must reach backward() unchanged.
  bool forward(const Inputs<T>& inputs, const Outputs<T>& outputs, void* tape, void* scratch,
               StopRequest stop = {}) const;

  // The tape is not changed. Throws std::invalid_argument when a cotangent has a wrong shape, or
  // x or y has changed where engine/fingerprint.hpp looks.
  bool backward(const BackwardSpec& spec, const T* x, const T* y, const Cotangents<T>& cotangents,
                const Gradients<T>& gradients, const void* tape, void* scratch,
                StopRequest stop = {}) const;

  // Gates and states beside h that a tape holds, by name: "i f g o c" for lstm, "r z n" for gru,
  // "f n" for mgu, "i f z o c n m" for slstm.
  std::vector<std::string> names() const;

  // Number `which` of them after every step, out [T, B, H], zero beyond the lengths. Throws
  // std::invalid_argument when the tape was kept in segments (Spec::checkpoint).
  void read(const void* tape, int which, T* out) const;

  // How many values of each gate's activation are below low[gate] or above high[gate] at each step:
  // counts [T, B, gates], the gates as in names(); throws as read() does. A plain RNN has none: its
  // activation's value is h; with options it has one, which has no name.
  void count_outside(const void* tape, const double* low, const double* high, double* counts) const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

struct CellInfo {
  std::string name;
  int gates, states;
};
std::vector<CellInfo> cells();

}  // namespace bptt::core
