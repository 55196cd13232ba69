// SPDX-License-Identifier: MIT
// One layer and direction whose weights are packed once, for inference on any inputs.
//
//   const Prepared<float> cell(spec, inputs);     // packs; of inputs.x only I matters
//   Inputs<float> in = cell.inputs();             // then x, and lengths, resets, state if given
//   const Plan<float> plan(cell, in);
//   plan.forward(in, outputs, nullptr, scratch);  // the bits of a call that packs
#pragma once
#include "core/arrays.hpp"
#include "core/memory.hpp"
#include "core/spec.hpp"
#include "engine/engine.hpp"

namespace bptt::core {

// Immutable: may serve many threads at once. Stays with the kernels that packed its weights, as a
// tape does.
template <class T>
class Prepared {
 public:
  // Copies weights, biases, peepholes and gains. Throws std::invalid_argument as a Plan does, and
  // if spec.train is set.
  Prepared(const Spec& spec, const Inputs<T>& inputs);

  const Spec& spec() const { return spec_; }
  const CellKernels<T>& cell() const { return *cell_; }
  // Do calls take h_mask and zoneout of each step? Some kernels do not.
  bool masked() const { return masked_; }

  // For calls: of the weights only the shapes. Their data are not null where they were given, and
  // must not be read.
  const Inputs<T>& inputs() const { return shapes_; }

  void* weights() const { return memory_.get(); }  // as CellKernels::pack has left them
  std::size_t bytes() const { return bytes_; }

 private:
  Spec spec_;
  const CellKernels<T>* cell_;
  bool masked_;
  Inputs<T> shapes_;
  std::size_t bytes_ = 0;
  Memory memory_;
};

}  // namespace bptt::core
