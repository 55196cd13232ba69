// SPDX-License-Identifier: MIT
// One layer that runs step by step: the packed weights and the state stay from call to call.
#pragma once
#include <vector>

#include "core/arrays.hpp"
#include "core/memory.hpp"
#include "core/spec.hpp"
#include "engine/engine.hpp"
#include "threads/pool.hpp"

namespace bptt::core {

// Inference only. Gives the bits of one forward call over the whole sequence, however the sequence
// is cut. Not for several threads at once; each may have its own stream.
template <class T>
class Stream {
 public:
  // Copies weights, biases and initial state; of inputs.x only the shape (any T, B, I) matters.
  // Throws std::invalid_argument as a Plan does, or if there are lengths or spec.reverse.
  Stream(const Spec& spec, const Inputs<T>& inputs);

  const Dims& dims() const { return dims_; }
  int states() const { return cell_.states; }
  Index width(int q) const { return width_of(dims_, q); }  // of state q: P of h, H of the others

  // x: [steps, B, I]; y: [steps, B, P], which must not overlap x. Allocates nothing. False: stopped
  // on request, after some of the steps.
  bool process(const T* x, Index steps, T* y, StopRequest stop = {});

  // [B, width(q)]; may be read and written between calls, and lives as long as this object.
  T* state(int q) { return call_.state_n[q]; }

 private:
  std::size_t place(void* buffer);
  int ranks() const;

  const CellKernels<T>& cell_;
  Dims dims_;                 // of a full block of steps
  std::vector<Index> order_;  // memory of the schedule
  Schedule schedule_;
  bool bf16_;
  ForwardCall<T> call_{};
  Memory memory_;
};

}  // namespace bptt::core
