// SPDX-License-Identifier: MIT
// Validates the shapes of a core call, and has the form of every message:
// caller: argument has X, expected symbols = numbers.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "core/arrays.hpp"
#include "core/spec.hpp"
#include "engine/engine.hpp"
#include "threads/count.hpp"

namespace bptt::core {

// Cold and never inlined, so that the text before a call of it is compiled for size.
[[noreturn, gnu::cold, gnu::noinline]] inline void refuse(const std::string& caller,
                                                          const std::string& what) {
  throw std::invalid_argument(caller + ": " + what);
}

[[gnu::cold, gnu::noinline]] inline std::string shape_text(const std::ptrdiff_t* shape, int ndim) {
  std::string text = "(";
  for (int i = 0; i < ndim; ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (ndim == 1 ? ",)" : ")");
}

// The text itself or a function that gives it, so that the text is built only for an error.
template <class Text>
[[gnu::cold]] std::string text_of(const Text& text) {
  if constexpr (std::is_invocable_v<const Text&>)
    return text();
  else
    return text;
}

[[noreturn, gnu::cold, gnu::noinline]] inline void refuse_shape(const std::string& caller,
                                                                const std::string& name,
                                                                const std::ptrdiff_t* shape,
                                                                int ndim,
                                                                const std::string& expected) {
  refuse(caller, name + " has shape " + shape_text(shape, ndim) + ", expected " + expected);
}

template <class T, class Name, class Symbols>
void check_shape(const std::string& caller, const Name& name, const Tensor<T>& array,
                 const Symbols& symbols, std::initializer_list<std::ptrdiff_t> expected) {
  const int ndim = static_cast<int>(expected.size());
  if (array.ndim == ndim && std::equal(expected.begin(), expected.end(), array.shape)) return;
  refuse_shape(caller, text_of(name), array.shape, array.ndim,
               text_of(symbols) + " = " + shape_text(expected.begin(), ndim));
}

template <class T, class Symbols>
void check_ndim(const std::string& caller, const char* name, const Tensor<T>& array, int ndim,
                const Symbols& symbols) {
  if (array.ndim == ndim) return;
  refuse_shape(caller, name, array.shape, array.ndim,
               text_of(symbols) + ", " + std::to_string(ndim) + " dimensions");
}

// The name of the width of h in messages.
inline std::string size_of_h(const Dims& d) { return d.P == d.H ? "H" : "P"; }

inline std::string state_name(int states, int q) {
  return states == 1 ? "state" : "state[" + std::to_string(q) + "]";
}

inline void check_size(const std::string& caller, const Dims& d, int gates, std::size_t element) {
  if (!addressable(d, gates, element))
    refuse(caller, "T, B, I, H = " + std::to_string(d.T) + ", " + std::to_string(d.B) + ", " +
                       std::to_string(d.I) + ", " + std::to_string(d.H) +
                       " are too large to address");
}

inline void check_threads(const std::string& caller, int threads) {
  if (threads < 0 || threads > most_threads)
    refuse(caller, "threads is " + std::to_string(threads) + ", expected 1.." +
                       std::to_string(most_threads) + ", or 0 for the default");
}

inline void check_dilation(const Spec& spec, const Dims& d, bool resets) {
  std::ptrdiff_t states = 0;
  if (spec.dilation < 1 || __builtin_mul_overflow(spec.dilation, d.B * (d.H + d.P) * 16, &states))
    refuse(spec.caller, "dilation is " + std::to_string(spec.dilation) + ", expected 1 or more");
  if (spec.skip % spec.dilation)
    refuse(spec.caller, "skip is " + std::to_string(spec.skip) +
                            ", expected a multiple of dilation = " + std::to_string(spec.dilation));
  if (resets && spec.dilation > 1)
    refuse(spec.caller, "resets and a dilation of " + std::to_string(spec.dilation) +
                            " are given, expected one of them");
}

// Have the states a row more, which takes the place of zeros after a reset?
template <class T>
bool has_reset_row(const Inputs<T>& in, const Dims& d) {
  return in.resets && std::any_of(in.state, in.state + max_states,
                                  [&](const auto& s) { return s && s.shape[0] == d.B + 1; });
}

template <class T>
void check_states(const std::string& caller, const char* prefix, int states, const Tensor<T>* state,
                  std::ptrdiff_t dilation, const Dims& d, bool reset_row = false) {
  for (int q = 0; q < states; ++q) {
    if (!state[q]) continue;
    const auto name = [&] { return prefix + state_name(states, q); };
    const auto symbols = [&] {
      return (dilation > 1 ? "(dilation, B, "
              : reset_row  ? "(B + 1, "
                           : "(B, ") +
             (q ? "H" : size_of_h(d)) + ")";
    };
    if (dilation > 1)
      check_shape(caller, name, state[q], symbols, {dilation, d.B, width_of(d, q)});
    else
      check_shape(caller, name, state[q], symbols, {d.B + reset_row, width_of(d, q)});
  }
}

template <class T>
void check_extras(const Spec& spec, int params, const Dims& d, const Inputs<T>& in) {
  const std::string& caller = spec.caller;
  if (in.peepholes && spec.cell != "lstm")
    refuse(caller, "peepholes is given, expected it for lstm only");
  if (in.leak && spec.cell != "rnn") refuse(caller, "leak is given, expected it for rnn only");
  if (in.leak) check_shape(caller, "leak", in.leak, "(H,)", {d.H});
  if (in.peepholes)
    check_shape(caller, "peepholes", in.peepholes, params == 3 ? "(3, H)" : "(2, H)",
                {params, d.H});
  if (in.h_mask) check_shape(caller, "h_mask", in.h_mask, "(B, " + size_of_h(d) + ")", {d.B, d.P});
  for (int q = 0; q < 2; ++q)
    if (in.zoneout[q])
      check_shape(caller, "zoneout", in.zoneout[q], "(T, B, " + (q ? "H" : size_of_h(d)) + ")",
                  {d.T, d.B, width_of(d, q)});
}

template <class T>
void check_layer_norm(const std::string& caller, const CellKernels<T>& cell, const Dims& d,
                      const Inputs<T>& in) {
  const std::string rows = cell.gates == 1 ? "(H,)" : "(" + std::to_string(cell.gates) + "*H,)";
  for (int i = 0; i < 4; ++i) {
    const std::string name = "layer_norm[" + std::to_string(i) + "]";
    if (bool(in.layer_norm[i]) != (i < cell.layer_norms))
      refuse(caller, name +
                         (in.layer_norm[i] ? " is given, expected " : " is left out, expected ") +
                         std::to_string(cell.layer_norms) + " arrays");
    if (i < cell.layer_norms)
      check_shape(caller, name, in.layer_norm[i], i < 2 ? rows.c_str() : "(H,)",
                  {i < 2 ? cell.gates * d.H : d.H});
  }
}

template <class T>
Dims check_inputs(const Spec& spec, const CellKernels<T>& cell, const Inputs<T>& in) {
  const int gates = cell.gates, states = cell.states, params = cell.params;
  const std::string& caller = spec.caller;
  const auto rows = [&] { return gates == 1 ? "H" : std::to_string(gates) + "*H"; };
  const auto of_rows = [&] { return "(" + rows() + ",)"; };
  const auto of_inputs = [&] { return "(" + rows() + ", I)"; };
  const auto of_h = [&] {
    return "(" + rows() + ", " + (in.w_hr ? "P" : cell.operands > 1 ? rows() : "H") + ")";
  };
  check_threads(caller, spec.threads);
  check_ndim(caller, "x", in.x, 3, "(T, B, I)");
  check_ndim(caller, "w_ih", in.w_ih, 2, of_inputs);
  check_ndim(caller, "w_hh", in.w_hh, 2, of_h);
  if (in.w_hr) check_ndim(caller, "w_hr", in.w_hr, 2, "(P, H)");
  const Index P = in.w_hh.shape[1] / cell.operands, H = in.w_hr ? in.w_hr.shape[1] : P;
  const Dims d{in.x.shape[0], in.x.shape[1], in.x.shape[2], H, P, cell.operands * P};
  if (P < 1)
    refuse(caller, "w_hh has shape " + shape_text(in.w_hh.shape, 2) + ", expected " +
                       (in.w_hr ? "P" : "H") + " of 1 or more");
  if (H < 1)
    refuse(caller, "w_hr has shape " + shape_text(in.w_hr.shape, 2) + ", expected H of 1 or more");
  if (d.I < 1)
    refuse(caller, "x has shape " + shape_text(in.x.shape, 3) + ", expected I of 1 or more");
  if (d.T < 0 || d.B < 0)
    refuse(caller, "x has shape " + shape_text(in.x.shape, 3) + ", expected T, B of 0 or more");
  check_size(caller, d, gates, sizeof(T));
  check_shape(caller, "w_hh", in.w_hh, of_h, {gates * d.H, d.U});
  if (in.h_mask && cell.operands > 1)
    refuse(caller, "h_mask is given, expected none: w_hh sees the gates as well");
  if (in.w_hr) check_shape(caller, "w_hr", in.w_hr, "(P, H)", {d.P, d.H});
  check_shape(caller, "w_ih", in.w_ih, of_inputs, {gates * d.H, d.I});
  if (in.b_ih) check_shape(caller, "b_ih", in.b_ih, of_rows, {gates * d.H});
  if (in.b_hh) check_shape(caller, "b_hh", in.b_hh, of_rows, {gates * d.H});
  check_dilation(spec, d, bool(in.resets));
  check_states(caller, "", states, in.state, spec.dilation, d, has_reset_row(in, d));
  check_extras(spec, params, d, in);
  check_layer_norm(caller, cell, d, in);
  if (in.resets) check_shape(caller, "resets", in.resets, "(T, B)", {d.T, d.B});
  if (in.lengths) {
    check_shape(caller, "lengths", in.lengths, "(B,)", {d.B});
    for (Index b = 0; b < d.B; ++b)
      if (in.lengths.data[b] < 0 || in.lengths.data[b] > d.T)
        refuse(caller, "lengths[" + std::to_string(b) + "] is " +
                           std::to_string(in.lengths.data[b]) + ", expected 0..T = 0.." +
                           std::to_string(d.T));
  }
  return d;
}

template <class T>
void check_cotangents(const BackwardSpec& spec, const Dims& d, std::ptrdiff_t dilation, int states,
                      const Cotangents<T>& given) {
  const std::string& caller = spec.caller;
  check_threads(caller, spec.threads);
  if (given.y)
    check_shape(caller, "dy", given.y, [&] { return "(T, B, " + size_of_h(d) + ")"; },
                {d.T, d.B, d.P});
  check_states(caller, "d", states, given.state, dilation, d);
  if (spec.clip.kind != StepClip::none && !(spec.clip.bound > 0))
    refuse(caller,
           "step_clip has bound " + std::to_string(spec.clip.bound) + ", expected more than 0");
  if (spec.clip.target == StepClip::c && states < 2)
    refuse(caller, "step_clip has target 'c', expected 'h' or 'gates': the cell has no c");
  if (spec.cut < 0) refuse(caller, "cut is " + std::to_string(spec.cut) + ", expected 1 or more");
  if (spec.cut && dilation > 1) refuse(caller, "cut is given, expected no dilation with it");
}

inline void check_buffer(const std::string& caller, const char* name, const void* buffer,
                         std::size_t bytes) {
  if (bytes && (!buffer || reinterpret_cast<std::uintptr_t>(buffer) % 64))
    refuse(caller, std::string(name) + " is null or not 64-byte aligned, expected " +
                       std::to_string(bytes) + " bytes at a multiple of 64");
}

}  // namespace bptt::core
