// SPDX-License-Identifier: MIT
// Properties that few cells have. Every cell derives from CellTraits, and names its own again.
#pragma once
#include "kernels/target.inl"

BPTT_KERNELS_BEGIN

struct CellTraits {
  // A second product in each step makes h: the cell has a struct SecondProduct.
  static constexpr bool second_product = false;
  // w_hh multiplies h and the states from the third on, side by side, and no gradient passes back
  // through it.
  static constexpr bool truncated = false;
  // State 3 is the scale of states 1 and 2, and means nothing where state 2 is 0.
  static constexpr bool scaled = false;
  // `read` gives the values of the gates' activations; else the cell has `activated` as well.
  static constexpr bool reads_activations = true;
  // The sums are normalised over a row, or the state c too: see cells/layer_norm.inl.
  static constexpr bool layer_norm = false, layer_norm_c = false;
};

BPTT_KERNELS_END
