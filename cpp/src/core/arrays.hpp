// SPDX-License-Identifier: MIT
// The arrays that go into a recurrent layer and come out of it. All are C-contiguous, belong to the
// caller, and are used only during the call, unless a comment says more; outputs overlap nothing.
//
// T steps, B sequences, I inputs, H hidden units, P numbers in h, which is H unless h is projected;
// G gates of the cell, in the order that its file in cells/ names, as it names its states.
#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "kernels/interface.hpp"

namespace bptt::core {

// A view of an array. Without data it stands for an argument left out.
template <class T>
struct Tensor {
  T* data = nullptr;
  int ndim = 0;
  std::ptrdiff_t shape[3] = {0, 0, 0};

  Tensor() = default;
  Tensor(T* array, std::initializer_list<std::ptrdiff_t> sizes) : data(array) {
    for (std::ptrdiff_t size : sizes)
      if (ndim < 3) shape[ndim++] = size;
  }
  explicit operator bool() const { return data != nullptr; }
};

template <class T>
struct Inputs {
  Tensor<const T> x;           // [T, B, I]; a tape refers to it, see Plan::forward
  Tensor<const T> w_ih;        // [G*H, I]
  Tensor<const T> w_hh;        // [G*H, P]; of lstm1997 [G*H, 3*H]: of h, i, o
  Tensor<const T> w_hr;        // [P, H], of lstm, whose output it projects to h; or left out
  Tensor<const T> b_ih, b_hh;  // [G*H] each, or left out
  // [B, P], the others [B, H], or all left out: zeros. With resets also [B + 1, P] and [B + 1, H]:
  // the last row is the state after each reset.
  Tensor<const T> state[max_states];
  Tensor<const T> peepholes;  // of lstm: [3, H], i f o; [2, H], i o, if it has no f
  Tensor<const T> leak;       // of rnn: [H], with Spec::unit_leak; or left out
  // Gains [G*H] of w_ih x and of w_hh h, each normalised to mean 0 and variance 1 over all units
  // and gates; of lstm gain and offset [H] of c before the output as well; or left out. Not with
  // lstm1997, not with reset_after = false.
  Tensor<const T> layer_norm[4];
  Tensor<const T> h_mask;      // [B, P] or left out: multiplies h in the product with w_hh
  Tensor<const T> zoneout[2];  // [T, B, P] and [T, B, H], or left out: see Spec
  // [T, B], or left out: where it is not 0, the state is zero before the step, or the last row of
  // `state`, and no gradient passes. Not with a dilation.
  Tensor<const std::uint8_t> resets;
  // [B] in 0..T, any order, or left out: T. Steps beyond are never used.
  Tensor<const std::int64_t> lengths;
};

template <class T>
struct Outputs {
  T* y;                  // [T, B, P]; zero beyond a sequence's length. A tape refers to it
  T* state[max_states];  // [B, P], the others [B, H]: after the last step of each sequence
};

// Gradients of a loss with respect to the outputs.
template <class T>
struct Cotangents {
  Tensor<const T> y;  // [T, B, P] or left out: zeros. Steps beyond the lengths are never used.
  Tensor<const T> state[max_states];  // [B, P], the others [B, H], or left out: zeros
};

// Gradients of that loss with respect to the inputs, shaped like them, or null: not wanted. Those
// that are left out cost neither time nor memory, and change no bit of the others.
template <class T>
struct Gradients {
  T* x;  // zero beyond a sequence's length
  T *w_ih, *w_hh;
  T *b_ih, *b_hh;
  T* state[max_states];  // row B: the sum of all that begin with it
  T *peepholes, *w_hr;   // null also if the layer has none
  T* layer_norm[4];      // as many as there are
  Trace<T> trace = {};   // its other arrays only together with norms: dh with all that the cell has
};

template <class T>
Wanted wanted_of(const Gradients<T>& g) {
  Wanted w;
  w.x = g.x, w.w_ih = g.w_ih, w.w_hh = g.w_hh, w.w_hr = g.w_hr;
  w.sums = g.b_ih || g.b_hh || g.peepholes;
  for (const T* norm : g.layer_norm) w.sums = w.sums || norm;
  for (int q = 0; q < max_states; ++q) w.state0[q] = g.state[q];
  w.trace = g.trace.norms;
  return w;
}

}  // namespace bptt::core
