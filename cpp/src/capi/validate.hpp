// SPDX-License-Identifier: MIT
// What the C interface accepts: descriptors, sizes, pointers.
#pragma once
#include <cstdint>
#include <cstring>

#include "capi/error.hpp"
#include "engine/engine.hpp"
#include "targets/select_embedded.hpp"

namespace bptt::core {

// Can a version of Struct have this size? An unset struct_size has an arbitrary value.
template <class Struct>
bool sensible(std::size_t size) {
  return size >= sizeof size && size <= 4096 && size % alignof(Struct) == 0;
}

// Reads a caller's struct as if it had the size that this library knows: members that an older
// program lacks are zero. False: a newer program sets members that this library lacks.
template <class Struct>
bool read_struct(const void* given, Struct& out) {
  std::size_t size;
  std::memcpy(&size, given, sizeof size);
  const auto* bytes = static_cast<const unsigned char*>(given);
  if (!sensible<Struct>(size)) return false;
  for (std::size_t i = sizeof out; i < size; ++i)
    if (bytes[i]) return false;
  out = Struct{};
  std::memcpy(static_cast<void*>(&out), given, size < sizeof out ? size : sizeof out);
  return true;
}

// Memory of `bytes` bytes; a null pointer will do for none.
inline bptt_status check_memory(const char* function, const char* name, const void* p,
                                std::size_t bytes, std::size_t alignment = BPTT_ALIGNMENT) {
  if (!p && bytes)
    return refuse(BPTT_INVALID_ARGUMENT, function, name, " is null, expected ",
                  static_cast<Index>(bytes), " bytes");
  if (reinterpret_cast<std::uintptr_t>(p) % alignment)
    return refuse(BPTT_INVALID_ARGUMENT, function, name, " is not aligned, expected a multiple of ",
                  static_cast<Index>(alignment), " bytes");
  return BPTT_OK;
}

// A struct of bptt.h; `type` is its name.
template <class Struct>
bptt_status check_struct(const char* function, const char* name, const char* type,
                         const Struct* p) {
  if (!p) return refuse(BPTT_INVALID_ARGUMENT, function, name, " is null, expected a ", type);
  return check_memory(function, name, p, 0, alignof(Struct));
}

// Reads and checks a descriptor, all but the cell and the lengths. For a single step, members that
// describe sequences do not matter.
inline bptt_status read_desc(const char* function, const bptt_desc* given, bptt_desc& d,
                             bool one_step = false) {
  BPTT_TRY(check_struct(function, "desc", "bptt_desc", given));
  if (!read_struct(given, d))
    return refuse(BPTT_WRONG_SIZE, function, "desc.struct_size is ",
                  static_cast<Index>(given->struct_size), ", expected ",
                  static_cast<Index>(sizeof d), ", sizeof(bptt_desc)");
  if (one_step) d.steps = 1, d.train = 0, d.reverse = 0, d.lengths = nullptr, d.threads = 1;
  if (d.dtype != BPTT_FLOAT32 && d.dtype != BPTT_FLOAT64)
    return refuse(BPTT_INVALID_ARGUMENT, function, "desc.dtype is ", static_cast<Index>(d.dtype),
                  ", expected BPTT_FLOAT32 or BPTT_FLOAT64");
  const struct {
    const char* name;
    Index value, least;
  } sizes[] = {{"steps", d.steps, 0},
               {"batch", d.batch, 0},
               {"input_size", d.input_size, 0},
               {"hidden_size", d.hidden_size, 1},
               {"threads", d.threads, 0}};
  for (const auto& s : sizes)
    if (s.value < s.least)
      return refuse(BPTT_INVALID_ARGUMENT, function, "desc.", s.name, " is ", s.value,
                    ", expected ", s.least, " or more");
  return BPTT_OK;
}

// To be called once the sizes are known to be addressable.
inline bptt_status check_lengths(const char* function, const bptt_desc& d) {
  BPTT_TRY(check_memory(function, "desc.lengths", d.lengths, 0, alignof(ptrdiff_t)));
  for (Index b = 0; d.lengths && b < d.batch; ++b)
    if (d.lengths[b] < 0 || d.lengths[b] > d.steps)
      return refuse(BPTT_INVALID_ARGUMENT, function, "desc.lengths[", b, "] is ", d.lengths[b],
                    ", expected 0..steps = 0..", d.steps);
  return BPTT_OK;
}

inline bptt_status read_activation(const char* function, const bptt_desc& d, Activation& out) {
  out = Activation::tanh;
  if (!d.activation) return BPTT_OK;
  const bool any = std::strcmp(d.cell, "rnn") == 0;
  constexpr const char* names[] = {
#define BPTT_ACTIVATION(name, parameters, alpha, beta) #name,
#include "kernels/activations.inc"
#undef BPTT_ACTIVATION
  };
  for (int i = 0; i < (any ? plain_activations : 1); ++i)
    if (std::strcmp(d.activation, names[i]) == 0) {
      out = static_cast<Activation>(i);
      return BPTT_OK;
    }
  return refuse(BPTT_INVALID_ARGUMENT, function, "desc.activation is '", d.activation,
                any ? "', expected tanh, relu, leaky_relu, sigmoid, identity or hard_sigmoid"
                    : "', expected tanh, or rnn for the cell");
}

// Finds the kernels of `desc.cell`: the plain ones that Python uses too.
template <class T>
bptt_status find_kernel(const char* function, const bptt_desc& d, const CellKernels<T>*& cell) {
  const KernelTable* table = embedded_kernels();
  if (!table)
    return refuse(BPTT_UNSUPPORTED, function, "this CPU runs none of the compiled kernels");
  const CellKernels<T>* cells;
  if constexpr (sizeof(T) == sizeof(float))
    cells = table->f32;
  else
    cells = table->f64;
  for (int i = 0; d.cell && i < table->cells; ++i)
    if (std::strcmp(d.cell, cells[i].name) == 0) {
      cell = &cells[i];
      const Dims dims{d.steps, d.batch, d.input_size, d.hidden_size, d.hidden_size, d.hidden_size};
      if (addressable(dims, cell->gates, sizeof(T))) return BPTT_OK;
      return refuse(BPTT_TOO_LARGE, function, "steps, batch, input_size, hidden_size are ", d.steps,
                    ", ", d.batch, ", ", d.input_size, ", ", d.hidden_size,
                    ", expected fewer: their arrays cannot be addressed");
    }
  return refuse(BPTT_INVALID_ARGUMENT, function, "desc.cell is '", d.cell ? d.cell : "(null)",
                "', expected rnn, lstm or gru");
}

// Memory for the library's own use; `field` of bptt_sizes has its size.
inline bptt_status check_own(const char* function, const char* name, const void* p,
                             const char* field) {
  if (!p)
    return refuse(BPTT_INVALID_ARGUMENT, function, name, " is null, expected sizes.", field,
                  " bytes");
  return check_memory(function, name, p, 0);
}

// An array of the caller's; null is allowed where it may be left out.
template <class T>
bptt_status check_array(const char* function, const char* name, const void* p, Index count,
                        bool optional = false) {
  return check_memory(function, name, p, optional ? 0 : static_cast<std::size_t>(count) * sizeof(T),
                      alignof(T));
}

}  // namespace bptt::core
