// SPDX-License-Identifier: MIT
// The data that core and kernels exchange. Compiled with every set of ISA flags, so it holds plain
// data only: no inline functions, no standard-library templates, nothing that a linker could merge
// between instruction sets.
//
// Every pointer to an array refers to C-contiguous memory of the shape in its comment, which
// belongs to the caller, overlaps no other array of the call, and is used only during the call. B,
// I, H, P, U are in Dims, G gates of the cell, R = Rows::total.
#pragma once
#include <cstddef>

#include "kernels/dual.hpp"

namespace bptt::core {

using Index = std::ptrdiff_t;

constexpr int max_states = 4;
constexpr double infinite = __builtin_huge_val();

// Bytes of the data caches that one core has or shares; by default those of a small machine. They
// decide how products are cut and shared, and no bit of a result depends on them. So far no kernel
// looks at the third.
struct Caches {
  Index first = Index(32) << 10, second = Index(512) << 10, third = Index(4) << 20;
};

struct Dims {
  Index T, B, I, H;  // steps, batch, input size, hidden size
  Index P;           // size of h: H unless h is projected
  Index U;           // columns of w_hh: P, or more where it multiplies other states than h as well
  // The product with w_hh takes another operand than h: StepExtras::h_mask is given, or U > P.
  bool separate_operand = false;
  Caches caches = {};
};

// The places of (step, sequence) pairs in x, y and the tape. The sequences are sorted, longest
// first, and the rows of one step are neighbours: step t holds sequences 0 .. count[t]-1, in rows
// first[t]
// .. first[t+1]-1. With equal lengths count[t] = B and first[t] = t*B: the caller's own (T, B, ...)
// arrays, without a copy.
//
// The backward pass takes the steps in chunks, steps chunk[c] .. chunk[c+1]-1. The tape holds the
// saved values of one segment of chunks, chunks segment[s] .. segment[s+1]-1: the one processed
// last. The values of the other segments are computed again from the states where they start.
struct Rows {
  const Index* count;    // [T], never increasing
  const Index* first;    // [T+1]
  const Index* chunk;    // [chunks+1]
  const Index* segment;  // [segments+1]
  const Index* group;    // [groups+1]: sequences whose weight gradients are summed separately
  Index chunks, segments, groups;
  Index total;                     // rows of all steps
  Index chunk_rows, segment_rows;  // of the largest
  bool reverse;                    // process the steps from T-1 down to 0
};

enum class Activation {
#define BPTT_ACTIVATION(name, parameters, alpha, beta) name,
#include "kernels/activations.inc"
#undef BPTT_ACTIVATION
};
constexpr int plain_activations = 6;  // of the plain RNN

// An activation with its parameters, of which most have none.
struct GateActivation {
  Activation kind;
  double alpha = 0, beta = 0;
};

// Options of the equations; each cell reads some.
struct Options {
  GateActivation activation{Activation::tanh}, gate_activation{Activation::sigmoid},
      output_activation{Activation::tanh};
  bool coupled = false;  // the forget gate is 1 - i, else 1
#define BPTT_OPTION(name, standard, least, most) double name = standard;
#include "kernels/options.inc"
#undef BPTT_OPTION
};

// Clips the gradient of h or c each time it is passed back one step (to the initial state as well),
// or the gradient of the gates' sums before its products with the weights.
struct StepClip {
  enum Kind {
    none,
    value,  // each element
    norm    // the Euclidean norm of a sequence
  } kind = none;
  enum Target { h, c, gates } target = h;
  double bound = 0;  // > 0
};

// The ranks that compute one call together, each in a thread of its own. All run the same kernel,
// and every element of a result is summed by one of them, in an order that does not depend on them.
struct Team {
  int rank, size;
  const Index* sequences;  // [size+1]: rank r takes sequences sequences[r] .. sequences[r+1]-1 of
                           // every step; null: a share of the hidden units
  void* context;
  bool (*wait)(void* context);               // for all others; false: the call is stopped
  bool (*stopped)(void* context, int rank);  // called every millisecond or so
};

// Options of general cells that the loop adds around the equations (Cell::general).
template <class T>
struct StepExtras {
  const T* params;      // [params, H]: numbers of each unit; or null
  const T* h_mask;      // [B, P], sorted as the rows: multiplies h in the product with w_hh; or
                        // null
  const T* zoneout[2];  // [R, P] and [R, H]: the share of h and of the other states that stays as
                        // it was; or null
  T zoneout_of_all[2];  // where zoneout is null
  Index skip;           // h of `skip` steps before is added to h; 0: none
  const T* layer_norm[4];  // [G*H] g_ih, g_hh, [H] g_c, b_c; as many as the cell has
};

// The weights that the forward pass packs before it uses them. Packing weights that few rows use
// once costs more than it gains; for products in bfloat16 all are packed.
enum class Packs { all, recurrent, none };
constexpr Index unpacked_rows = 8;  // at most, in all

template <class T>
struct ForwardCall {
  Dims dims;
  Rows rows;
  Options options;
  const T* x;                   // [R, I]
  const T* w_ih;                // [G*H, I]
  const T* w_hh;                // [G*H, U]
  const T* w_hr;                // [P, H], of cells that project h
  const T* b_ih;                // [G*H] or null
  const T* b_hh;                // [G*H] or null
  const T* state0[max_states];  // [B, P], the others [B, H], sorted as the rows; null: zeros. May
                                // be the arrays of state_n
  StepExtras<T> extras;
  Packs packs;
  void* weights;           // weights_bytes, 64-byte aligned: pack() has filled them
  T* y;                    // [R, P]
  T* state_n[max_states];  // [B, P], the others [B, H], sorted as the rows
  void* tape;              // tape_bytes, 64-byte aligned; null: inference
  void* scratch;           // forward_scratch_bytes, 64-byte aligned
};

// The trace of a backward pass: gradients that reach the states and sums of each row, before they
// are clipped, cut or passed back; the gradients of the gates after a clip of the gates. In the
// caller's arrays T, B takes the place of R, and all is zero beyond the lengths.
template <class T>
struct Trace {
  // [R, G+4], zeros before the call, or null: no trace. Norms over the units of the gradients of h,
  // of c (0 without c) and of the argument of each gate; 1 where the step clip changed something;
  // 1 + the place of the first gradient that is not finite, counted through h [P], c [H] and the
  // gates [G*H], or 0. As double whatever T.
  double* norms = nullptr;
  // The gradients themselves, and the operands of the products; null, or all that the cell has.
  T* dh = nullptr;              // [R, P]
  T* dc = nullptr;              // [R, H]; null without c
  T* gates = nullptr;           // [R, G*H]
  T* candidate_hh = nullptr;    // [R, H]: of the recurrent half of a split gate; else null
  T* operand = nullptr;         // [R, U]: multiplied by w_hh
  T* second_operand = nullptr;  // [R, H]: multiplied by the weights of a second product; else null
  T* x = nullptr;               // [R, I]: multiplied by w_ih; the kernels leave it to the core
};

// The results of a backward pass that are wanted. The pass leaves out the products and the memory
// that only the others need.
struct Wanted {
  bool x = true, w_ih = true, w_hh = true, w_hr = true;
  bool sums = true;  // gradients that are sums over rows: of biases, params, layer_norm
  bool state0[max_states] = {true, true, true, true};
  bool trace = false;
};

template <class T>
struct BackwardCall {
  Dims dims;
  Rows rows;
  Options options;
  Wanted wanted;  // the gradients that are not null
  StepClip step_clip;
  Index cut;                // no gradient passes back from a step at which a multiple of it is left
  const Index* steps_left;  // [B]: steps of the sequence that are processed at step 0 or later; at
                            // step t it is t less or, reverse, t more; or null: never cut
  StepExtras<T> extras;
  const T* x;                     // [R, I] of the forward call, unchanged
  const T* y;                     // [R, P] of the forward call, unchanged
  const void* tape;               // of the forward call, unchanged
  const void* weights;            // of the forward call, unchanged; null with one segment
  const T* dy;                    // [R, P] or null: zeros
  const T* dstate_n[max_states];  // [B, P], the others [B, H], or null: zeros
  T* dx;                          // [R, I] or null, as all that follow: not wanted
  T* dw_ih;                       // [G*H, I]
  T* dw_hh;                       // [G*H, U]
  T* dw_hr;                       // [P, H], of cells that project h
  T* db_ih;                       // [G*H]
  T* db_hh;                       // [G*H]
  T* dparams;                     // [params, H]
  T* dlayer_norm[4];              // as StepExtras::layer_norm
  T* dstate0[max_states];         // [B, P], the others [B, H]
  Trace<T> trace;
  void* scratch;  // backward_scratch_bytes, 64-byte aligned
};

// One cell's kernels. All pointers live as long as the program.
template <class T>
struct CellKernels {
  const char* name;
  int gates, states, params;  // params: rows of StepExtras::params
  int operands;               // states that w_hh multiplies: h, or more
  bool split_gate;            // has a gate whose input and recurrent sums stay separate
  bool second_product;        // has a product that makes h
  int layer_norms;            // arrays of its normalisation; 0: it has none
  std::size_t (*weights_bytes)(const Dims&);
  std::size_t (*tape_bytes)(const Dims&, const Rows&);
  std::size_t (*forward_scratch_bytes)(const Dims&, Index rows);  // rows: of all steps
  std::size_t (*backward_scratch_bytes)(const Dims&, const Rows&, Index skip, const Wanted&);
  // The functions above read no array of Rows. Every rank calls the others; false: stopped.
  bool (*pack)(const ForwardCall<T>&, const Team&);
  bool (*forward)(const ForwardCall<T>&, const Team&);
  bool (*backward)(const BackwardCall<T>&, const Team&);
  // Names of the gates and of the states beside h that a tape of one segment holds, "i f g o c".
  // read() gives number `index` of them as rows [R, H]; of the call it uses dims, rows, options and
  // tape.
  const char* names;
  void (*read)(const BackwardCall<T>&, int index, T* rows);
  int values;  // gates that are read: their names come first, but the only one of RNN has none
  // Adds to counts [R, values] how many of a row's values of each gate are not between low[gate]
  // and high[gate].
  void (*count_outside)(const BackwardCall<T>&, const double* low, const double* high,
                        double* counts);
};

// The kernels of one object file; arrays that it lacks are null.
struct KernelTable {
  const char* isa;
  int cells;
  const CellKernels<float>* f32;   // [cells]
  const CellKernels<double>* f64;  // [cells]
  const CellKernels<float>* bf16;  // [cells], products in bfloat16
  const CellKernels<float>* int8;  // [cells], weights of 8 bits; forward and without a tape alone
  const CellKernels<Dual>* dual;   // [cells]
  double (*multiply_adds)(Index steps, float factor, float* out);  // returns the operations
};

}  // namespace bptt::core
