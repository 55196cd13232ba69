// SPDX-License-Identifier: MIT
// From the names of a Spec to the kernels.
#pragma once
#include <string>

#include "check.hpp"
#include "isa.hpp"

namespace bptt {

template <class T>
const CellKernels<T>* kernels_of(const KernelTable& table, const Spec& spec) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (!spec.bf16) return table.f32;
    if (table.bf16) return table.bf16;
  } else if (!spec.bf16) {
    return table.f64;
  }
  refuse(spec.caller, "bf16 is set, expected float32 and an instruction set with bfloat16, not " +
                          std::string(table.isa));
}

template <class T>
const CellKernels<T>& find_cell(const Spec& spec) {
  const KernelTable& table = active_kernels();
  const CellKernels<T>* cells = kernels_of<T>(table, spec);
  std::string choices;
  for (int i = 0; i < table.cells; ++i) {
    if (spec.cell == cells[i].name) return cells[i];
    choices += (i ? ", " : "") + std::string(cells[i].name);
  }
  refuse(spec.caller, "cell is '" + spec.cell + "', expected one of " + choices);
}

inline Options options_of(const Spec& spec) {
  const char* names[] = {"tanh", "relu", "leaky_relu", "sigmoid",
                         "identity"};  // as enum Activation
  for (int i = 0; i < 5; ++i)
    if (spec.activation == names[i]) return {static_cast<Activation>(i)};
  refuse(spec.caller, "activation is '" + spec.activation +
                          "', expected one of tanh, relu, leaky_relu, sigmoid, identity");
}

}  // namespace bptt
