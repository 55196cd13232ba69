// SPDX-License-Identifier: MIT
// One layer that runs step by step: the packed weights and the state stay from call to call.
#pragma once
#include <cstddef>
#include <memory>

#include "core/plan.hpp"

namespace bptt::core {

// Inference only. Gives the bits of a forward call over the whole sequence, however it is cut. Not
// for several threads at once; each may have its own.
template <class T>
class Stream {
 public:
  // Copies weights, biases and initial state; of inputs.x only the shape (any T, B, I) matters.
  // Throws std::invalid_argument as a Plan does, or if there are lengths or spec.reverse.
  Stream(const Spec& spec, const Inputs<T>& inputs);
  Stream(Stream&&) noexcept;
  ~Stream();

  std::ptrdiff_t batch() const, input_size() const;
  int states() const;
  std::ptrdiff_t width(int q) const;  // of state q: P of h, H of the others

  // x: [steps, B, I]; y: [steps, B, P], not the same memory. No allocation. False: stopped on
  // request; the state is then that after some of the steps.
  bool process(const T* x, std::ptrdiff_t steps, T* y, StopRequest stop = {});

  // [B, width(q)]; may be read and written between calls, and lives as long as this object.
  T* state(int q);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bptt::core
