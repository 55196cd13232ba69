// SPDX-License-Identifier: MIT
// The first bytes of packed weights and tapes: what they were made for.
#pragma once
#include <cstdint>
#include <cstring>

#include "engine.hpp"
#include "error.hpp"
#include "isa.hpp"

namespace bptt {

struct alignas(BPTT_ALIGNMENT) Signature {
  enum Kind : std::uint32_t { packed = 0x70747062, tape = 0x74747062 };  // "bptp", "bptt"
  Kind kind;
  std::uint32_t bits;  // dtype, order of the steps
  char isa[8], cell[8];
  std::int64_t T, B, I, H, rows;

  // The sizes of packed weights do not matter but for I and H.
  template <class T_>
  Signature(Kind k, const Engine<T_>& e) {
    std::memset(static_cast<void*>(this), 0, sizeof *this);
    kind = k;
    std::strncpy(isa, embedded_kernels()->isa, sizeof isa - 1);
    std::strncpy(cell, e.cell.name, sizeof cell - 1);
    bits = sizeof(T_);
    I = e.given.I, H = e.given.H;
    if (kind == packed) return;
    bits |= e.schedule.reverse ? 256u : 0u;
    T = e.given.T, B = e.given.B, rows = e.total();
  }

  // Does `memory` begin with it?
  bool found(const void* memory) const { return std::memcmp(this, memory, sizeof *this) == 0; }
};

}  // namespace bptt
