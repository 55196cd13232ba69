// SPDX-License-Identifier: MIT
// The first bytes of packed weights and tapes: the sizes and options that they were made for.
#pragma once
#include <cstdint>
#include <cstring>

#include "capi/error.hpp"
#include "engine/engine.hpp"
#include "targets/select_embedded.hpp"

namespace bptt::core {

struct alignas(BPTT_ALIGNMENT) Signature {
  char kind[4], isa[8], cell[4];
  std::uint16_t number_size, activation;
  std::uint32_t reverse;
  std::int64_t T, B, I, H;
  std::uint64_t lengths;

  // Of the sizes, only I and H matter to packed weights.
  template <class Number>
  static Signature packed(const char* cell, const Dims& d) {
    return make("pack", cell, sizeof(Number), {0, 0, d.I, d.H, 0, 0});
  }
  template <class Number>
  static Signature tape(const Engine<Number>& e) {
    Signature s = make("tape", e.cell.name, sizeof(Number), e.given.dims);
    s.reverse = e.schedule.reverse;
    s.activation = static_cast<std::uint16_t>(e.options.activation.kind);
    const Index* lengths = e.given.lengths;
    for (Index b = 0; lengths && b < e.given.dims.B; ++b)  // their FNV-1a hash
      s.lengths = (s.lengths ^ static_cast<std::uint64_t>(lengths[b])) * 0x100000001b3;
    return s;
  }

  // Does `memory` begin with it?
  bool found(const void* memory) const { return std::memcmp(this, memory, sizeof *this) == 0; }

 private:
  template <std::size_t N>
  static void put(const char* from, char (&to)[N]) {
    for (std::size_t i = 0; i < N && from[i]; ++i) to[i] = from[i];
  }
  static Signature make(const char* kind, const char* cell, std::size_t size, const Dims& d) {
    Signature s{};
    put(kind, s.kind);
    put(cell, s.cell);
    put(embedded_kernels()->isa, s.isa);
    s.number_size = static_cast<std::uint16_t>(size);
    s.T = d.T, s.B = d.B, s.I = d.I, s.H = d.H;
    return s;
  }
};

}  // namespace bptt::core
