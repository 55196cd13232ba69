// SPDX-License-Identifier: MIT
// The options of a recurrent layer and of its calls.
#pragma once
#include <cstddef>
#include <initializer_list>
#include <string>
#include <utility>

#include "kernels/interface.hpp"

namespace bptt::core {

// A name of kernels/activations.inc, with its first parameters; the others have their defaults.
struct NamedActivation {
  std::string name;
  int given = 0;
  double parameters[2] = {0, 0};
  NamedActivation(const char* n) : name(n) {}
  NamedActivation(std::string n, std::initializer_list<double> numbers = {}) : name(std::move(n)) {
    for (double number : numbers)
      if (given < 2) parameters[given++] = number;
  }
};

struct Spec {
  std::string cell;  // one of cells()
  // Of rnn, or of the candidate of lstm and gru; of their gates; of the output of lstm.
  NamedActivation activation = "tanh", gate_activation = "sigmoid", output_activation = "tanh";
  std::string forget_gate = "own";  // of lstm; or "coupled", 1 - i; or "none", 1
  bool reset_after = true;          // of gru: r multiplies w_hn h + b_hn; or else h in w_hn h
#define BPTT_OPTION(name, standard, least, most) double name = standard;
#include "kernels/options.inc"
#undef BPTT_OPTION
  bool unit_leak = false;      // Inputs::leak replaces leak
  double zoneout[2] = {0, 0};  // the share of h, and of the other states, that stays as it was;
                               // Inputs::zoneout replaces it
  std::ptrdiff_t skip = 0;  // h of `skip` steps before is added to h; a multiple of the dilation;
                            // 0: none
  std::ptrdiff_t dilation = 1;  // k: the state of k steps before takes the place of the state of
                                // one step before; states are then [k, B, H], the oldest first
  bool reverse = false;  // from the last step of each sequence to its first; y stays aligned with x
  bool train = true;     // keep a tape for backward
  bool bf16 = false;     // products in bfloat16, sums in float; only float, only if has_bf16()
  bool int8 = false;  // weights in 8 bits, rounded when they are packed; only float, not to train
  int threads = 0;    // at most; 0: as many as core::threads() says. Small calls take fewer.
  // A tape of less memory keeps the values of one segment of steps, and backward() computes the
  // others again: the same gradients, to the last bit, in about a third more time.
  enum Checkpoint {
    off,
    sqrt,  // segments as long as there are many
    bytes  // the longest segments with which the tape and backward's scratch fit into max_bytes
  } checkpoint = off;
  std::size_t max_bytes = 0;
  std::string caller = "forward";  // opens every error message
};

struct BackwardSpec {
  StepClip clip;
  std::ptrdiff_t cut = 0;  // > 0: no gradient passes back across every cut-th step, counted
                           // from the end of each sequence's processing; 0: never cut
  int threads = 0;         // as in Spec
  std::string caller = "backward";  // opens every error message
};

}  // namespace bptt::core
