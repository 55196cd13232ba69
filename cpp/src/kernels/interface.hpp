// SPDX-License-Identifier: MIT
// What the core and the kernels agree on. Compiled with every set of ISA flags, so it holds plain
// data only: no inline functions, no standard-library templates, nothing a linker could merge
// between instruction sets.
#pragma once
#include <cstddef>

#include "kernels/dual.hpp"

namespace bptt::core {

using Index = std::ptrdiff_t;

struct Dims {
  Index T, B, I, H;     // steps, batch, input size, hidden size
  Index P;              // size of h: H unless it is projected
  Index U;              // inputs of the product with w_hh: P, or more, where it sees other states
  bool masked = false;  // does w_hh see something else than h: Extras::h_mask is given, or U > P
};

// How (step, sequence) pairs lie in x, y and the tape. The sequences are sorted, longest first, and
// the rows of one step are neighbours: step t holds sequences 0 .. count[t]-1, in rows first[t] ..
// first[t+1]-1. With equal lengths count[t] = B and first[t] = t*B: the caller's own (T, B, ...)
// arrays, without a copy.
//
// The backward pass takes the steps in chunks, steps chunk[c] .. chunk[c+1]-1. The tape holds the
// saved values of one segment of chunks, chunks segment[s] .. segment[s+1]-1, that which is
// processed last; those of the others are computed again from the states where they start.
struct Rows {
  const Index* count;    // [T], never increasing
  const Index* first;    // [T+1]
  const Index* chunk;    // [chunks+1]
  const Index* segment;  // [segments+1]
  const Index* group;    // [groups+1]: sequences whose weight gradients are summed apart
  Index chunks, segments, groups;
  Index total;                     // rows of all steps
  Index chunk_rows, segment_rows;  // of the largest
  bool reverse;                    // process the steps from T-1 down to 0
};

enum class Activation { tanh, relu, leaky_relu, sigmoid, identity, hard_sigmoid };

// What the equations of a cell leave open; each cell reads some.
struct Options {
  Activation activation, gate_activation, output_activation;
  bool coupled;        // the forget gate is 1 - i, else 1
  double leak;         // 0..1
  double cell_clip;    // bounds of the state c; infinite: none
  double preact_clip;  // and of what goes into a gate's activation
};

// Of the gradient that goes one step back: of the state h or c, or of the sums of the gates.
struct StepClip {
  enum Kind { none, value, norm } kind;
  enum Target { h, c, gates } target;
  double bound;
};

// The ranks that compute one call together, each in a thread of its own. All run the same kernel,
// and every element of a result is summed by one of them, in an order that does not depend on them.
struct Team {
  int rank, size;
  const Index* sequences;  // rank r takes sequences sequences[r] .. sequences[r+1]-1 of every step;
                           // null: a share of the hidden units
  void* context;
  bool (*wait)(void* context);               // for all others; false: the call is stopped
  bool (*stopped)(void* context, int rank);  // asked every millisecond or so
};

constexpr int max_states = 4;

// What only general cells can have beside their equations (Cell::general).
template <class T>
struct Extras {
  const T* params;  // [params*H] numbers of each unit, as many as the cell has; or null
  const T* h_mask;  // [B, P], sorted as the rows: multiplies h in the product with w_hh; or null
  const T* zoneout[2];     // [R, P] and [R, H]: how much of h and of the other states stays as it
                           // was; or null
  T zoneout_of_all[2];     // where null
  Index skip;              // h of so many steps before is added to h; 0: none
  const T* layer_norm[4];  // [G*H] g_ih, g_hh, [H] g_c, b_c; as many as the cell has
};

// Which weights the forward pass packs before it uses them. What few rows use once costs more to
// pack than to use; with products in bfloat16 all are packed.
enum class Packs { all, recurrent, none };
constexpr Index unpacked_rows = 8;  // at most, in all

// All arrays are C-contiguous, do not alias, and hold the rows that `rows` describes, R = total
// of them.
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
  const T* state0[max_states];  // [B, P], the others [B, H], sorted as the rows; null: zeros
  Extras<T> extras;
  Packs packs;
  void* weights;           // weights_bytes, 64-byte aligned: as pack() left it
  T* y;                    // [R, P]
  T* state_n[max_states];  // [B, P], the others [B, H], sorted as the rows
  void* tape;              // tape_bytes, 64-byte aligned; null: inference
  void* scratch;           // forward_scratch_bytes, 64-byte aligned
};

// What a backward pass shows of itself, of every row; see kernels/trace.inl.
template <class T>
struct TraceCall {
  // [R, G + 4], zeros before the call, or null: nothing is shown. Norms of the gradients of h and c
  // (0 if there is none) and of the arguments of the gates; whether the step clip changed them; and
  // 1 + the place of the first that is not finite among h [P], c [H] and gates [G*H], or 0.
  double* norms;
  // The gradients themselves, or null (all of them): [R, P], [R, H], [R, G*H], and [R, H] of a gate
  // that takes x and h apart, as it takes h.
  T *dh, *dc, *gates, *apart;
  T* operand;  // [R, U]: what w_hh saw
  T* inner;    // [R, H]: the operand of an inner product
};

template <class T>
struct BackwardCall {
  Dims dims;
  Rows rows;
  Options options;
  StepClip step_clip;
  Index cut;                // no gradient goes back from a step with a multiple of it left
  const Index* steps_left;  // [B]: of the sequence, those processed at step 0 or later; at step
                            // t it is t less or, reverse, t more; or null: never cut
  Extras<T> extras;
  const T* x;                     // [R, I] as in the forward call
  const T* y;                     // [R, P] as the forward call left it
  const void* tape;               // as the forward call left it
  const void* weights;            // as pack() left them; only for several segments
  const T* dy;                    // [R, P] or null: zeros
  const T* dstate_n[max_states];  // [B, P], the others [B, H], or null: zeros
  T* dx;                          // [R, I] or null: not wanted
  T* dw_ih;                       // [G*H, I]
  T* dw_hh;                       // [G*H, U]
  T* dw_hr;                       // [P, H], of cells that project h
  T* db_ih;                       // [G*H]
  T* db_hh;                       // [G*H]
  T* dparams;                     // [params*H]
  T* dlayer_norm[4];              // as Extras::layer_norm
  T* dstate0[max_states];         // [B, P], the others [B, H]
  TraceCall<T> trace;
  void* scratch;  // backward_scratch_bytes, 64-byte aligned
};

template <class T>
struct CellKernels {
  const char* name;
  int gates, states, params;  // params: of Extras::params
  int operands;               // states that w_hh sees: h, or more
  bool apart, inner;          // has a gate that takes x and h apart? an inner product?
  int layer_norms;            // arrays of its normalisation; 0: it has none
  std::size_t (*weights_bytes)(const Dims&);
  std::size_t (*tape_bytes)(const Dims&, const Rows&);
  std::size_t (*forward_scratch_bytes)(const Dims&, Index rows);  // rows: of all steps
  std::size_t (*backward_scratch_bytes)(const Dims&, const Rows&, Index skip, bool traced);
  // The sizes read no array of Rows. The rest is called by every rank; false: stopped.
  bool (*pack)(const ForwardCall<T>&, const Team&);
  bool (*forward)(const ForwardCall<T>&, const Team&);
  bool (*backward)(const BackwardCall<T>&, const Team&);
  // Gates and states beside h that a tape of one segment holds, "i f g o c", and number `which` of
  // them as rows [R, H]; of the call it reads dims, rows, options and tape.
  const char* names;
  void (*read)(const BackwardCall<T>&, int which, T* rows);
  int values;  // gates that are read: their names come first, but the only one of RNN has none
  // How many of a row's values of each gate are not between low and high, added to [R, values].
  void (*count_outside)(const BackwardCall<T>&, const double* low, const double* high,
                        double* counts);
};

// What one object file has for an instruction set; what it lacks is null, and one of the rest may
// have it.
struct KernelTable {
  const char* isa;
  int cells;
  const CellKernels<float>* f32 = nullptr;   // [cells]
  const CellKernels<double>* f64 = nullptr;  // [cells]
  const CellKernels<float>* bf16 = nullptr;  // [cells], products in bfloat16
  const CellKernels<Dual>* dual = nullptr;   // [cells]
  // Returns the operations.
  double (*multiply_adds)(Index steps, float factor, float* out) = nullptr;
  const KernelTable* rest = nullptr;
};

}  // namespace bptt::core
