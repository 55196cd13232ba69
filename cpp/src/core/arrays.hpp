// SPDX-License-Identifier: MIT
// The arrays that go into a recurrent layer and come out of it; plan.hpp says what the letters
// of the shapes stand for. All are C-contiguous and belong to the caller.
#pragma once
#include <cstdint>

#include "core/tensor.hpp"

namespace bptt::core {

constexpr int most_states = 4;

template <class T>
struct Inputs {
  Tensor<const T> x;           // [T, B, I]
  Tensor<const T> w_ih;        // [G*H, I]
  Tensor<const T> w_hh;        // [G*H, P]; [G*H, 3*H] of lstm1997: of h, i, o
  Tensor<const T> w_hr;        // [P, H], of lstm: h is w_hr times what it puts out; or left out
  Tensor<const T> b_ih, b_hh;  // [G*H] each, or left out
  Tensor<const T> state[most_states];  // [B, P], the others [B, H], or all left out: zeros
  Tensor<const T> peepholes;           // of lstm: [3, H], i f o; [2, H], i o, if it has no f
  Tensor<const T> layer_norm[4];       // gains [G*H] of w_ih x and of w_hh h, each with mean 0 and
                                       // variance 1 over all units and gates; of lstm gain and
                                       // offset [H] of c as the output sees it; or left out. Not
                                       // of lstm1997, not with reset_after = false
  Tensor<const T> h_mask;              // [B, P] or left out: multiplies h in the product with w_hh
  Tensor<const T> zoneout[2];          // [T, B, P] and [T, B, H], or left out: see Spec
  Tensor<const std::uint8_t> resets;   // [T, B], or left out: where not 0, the state is zero before
                                       // the step, and no gradient passes; not with a dilation
  Tensor<const std::int64_t>
      lengths;  // [B] in 0..T, any order, or left out: T.  Steps beyond are never used.
};

template <class T>
struct Outputs {
  T* y;                   // [T, B, P]; zero beyond a sequence's length
  T* state[most_states];  // [B, P], the others [B, H]: after the last step of each sequence
};

// Gradients of a loss with respect to the outputs.
template <class T>
struct Cotangents {
  Tensor<const T> y;  // [T, B, P] or left out: zeros.  Steps beyond the lengths are never used.
  Tensor<const T> state[most_states];  // [B, P], the others [B, H], or left out: zeros
};

// What a backward pass shows of itself, beside the gradients; all zero beyond the lengths. The
// gradients that it shows are of the step's own states and sums: before they are clipped, cut or
// passed back; those of gates after a clip of gates.
template <class T>
struct Trace {
  // [T, B, G+4], or null: nothing is shown. Norms over the units of the gradients of h, of c (0 if
  // the cell has none), and of the argument of each gate; 1 where the step clip changed something;
  // 1 + the place of the first gradient that is not finite among those of h [P], of c [H] and of
  // the gates [G*H], or 0. As double whatever T.
  double* norms = nullptr;
  // The gradients themselves, or null.
  T* dh = nullptr;     // [T, B, P]
  T* dc = nullptr;     // [T, B, H]; null without c
  T* gates = nullptr;  // [T, B, G*H]
  T* apart = nullptr;  // [T, B, H]: of what w_hh gives to n of gru (reset after) and mgu, where it
                       // is not that of the gate; else null
  T* operand = nullptr;  // [T, B, P], 3*H of lstm1997: what w_hh multiplied
  T* inner = nullptr;  // [T, B, H]: what w_hr multiplied, or w_hn of gru (reset before); else null
  T* x = nullptr;      // [T, B, I]: what w_ih multiplied
};

// Gradients of that loss with respect to the inputs, shaped like them; all are written.
template <class T>
struct Gradients {
  T* x;  // zero beyond a sequence's length
  T* w_ih;
  T* w_hh;
  T* b_ih;
  T* b_hh;
  T* state[most_states];
  T* peepholes;         // may be null if there are none
  T* w_hr;              // the same
  T* layer_norm[4];     // as many as there are
  Trace<T> trace = {};  // its other arrays only together with norms: dh with all that the cell has
};

// The gradient of h or c, clipped each time it is passed back one step (to the initial state as
// well), or that of the sums of the gates before its products with the weights.
struct StepClipping {
  enum Kind {
    none,
    value,
    norm
  } kind = none;  // per element, or per sequence by its Euclidean norm
  enum Target { h, c, gates } target = h;
  double bound = 0;  // > 0
};

}  // namespace bptt::core
