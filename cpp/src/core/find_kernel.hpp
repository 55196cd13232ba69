// SPDX-License-Identifier: MIT
// From a Spec to the kernels and the options that they take.
#pragma once
#include <cmath>
#include <string>
#include <type_traits>

#include "core/validate.hpp"
#include "targets/select.hpp"

namespace bptt::core {

// The activations, of kernels/activations.inc.
struct KnownActivation {
  const char* name;
  int parameters;
  GateActivation standard;
};
inline constexpr KnownActivation known_activations[] = {
#define BPTT_ACTIVATION(name, parameters, alpha, beta) \
  {#name, parameters, {Activation::name, alpha, beta}},
#include "kernels/activations.inc"
#undef BPTT_ACTIVATION
};

inline GateActivation activation_of(const Spec& spec, const char* what,
                                    const NamedActivation& given) {
  for (const KnownActivation& known : known_activations) {
    if (given.name != known.name) continue;
    if (given.given > known.parameters)
      refuse(spec.caller, std::string(what) + " has " + std::to_string(given.given) +
                              " parameters, expected " + std::to_string(known.parameters) + " of " +
                              known.name);
    GateActivation f = known.standard;
    if (given.given > 0) f.alpha = given.parameters[0];
    if (given.given > 1) f.beta = given.parameters[1];
    for (double parameter : {f.alpha, f.beta})
      if (!std::isfinite(parameter))
        refuse(spec.caller, std::string(what) + " has parameter " + std::to_string(parameter) +
                                ", expected a finite number");
    return f;
  }
  std::string names;
  for (const KnownActivation& known : known_activations)
    names += (names.empty() ? "" : ", ") + std::string(known.name);
  refuse(spec.caller, std::string(what) + " is '" + given.name + "', expected one of " + names);
}
// Has the plain RNN this activation?
inline bool is_plain(const GateActivation& f) {
  const int i = static_cast<int>(f.kind);
  const GateActivation& standard = known_activations[i].standard;
  return i < plain_activations && f.alpha == standard.alpha && f.beta == standard.beta;
}

// The options that are numbers, of kernels/options.inc.
struct Number {
  const char* name;
  double Spec::* given;
  double Options::* taken;
  double standard, least, most;
  const char *above, *up_to;  // least and most, for messages
};
inline constexpr Number numbers[] = {
#define BPTT_OPTION(name, standard, least, most) \
  {#name, &Spec::name, &Options::name, standard, least, most, #least, #most},
#include "kernels/options.inc"
#undef BPTT_OPTION
};

inline void check_options(const Spec& spec) {
  for (const Number& n : numbers) {
    const double v = spec.*n.given;
    const auto expected = [&](const std::string& range) {
      refuse(spec.caller, std::string(n.name) + " is " + std::to_string(v) + ", expected " + range);
    };
    if (!(v > n.least)) expected(std::string("more than ") + n.above);
    if (v > n.most) expected(n.up_to + std::string(" or less"));
  }
  for (double z : spec.zoneout)
    if (!(z >= 0 && z <= 1))
      refuse(spec.caller, "zoneout is " + std::to_string(z) + ", expected 0..1");
  if (spec.skip < 0)
    refuse(spec.caller, "skip is " + std::to_string(spec.skip) + ", expected 0 or more");
  if (spec.forget_gate != "own" && spec.forget_gate != "coupled" && spec.forget_gate != "none")
    refuse(spec.caller,
           "forget_gate is '" + spec.forget_gate + "', expected one of own, coupled, none");
}

inline Options options_of(const Spec& spec) {
  check_options(spec);
  Options o{};
  o.activation = activation_of(spec, "activation", spec.activation);
  o.gate_activation = activation_of(spec, "gate_activation", spec.gate_activation);
  o.output_activation = activation_of(spec, "output_activation", spec.output_activation);
  o.coupled = spec.forget_gate == "coupled";
  for (const Number& n : numbers) o.*n.taken = spec.*n.given;
  if (spec.unit_leak) o.leak = 0;
  o.preact_clip = std::min(o.preact_clip, std::numeric_limits<double>::max());
  return o;
}

template <class T>
StepExtras<T> extras_of(const Spec& spec, const Inputs<T>& in, const Dims& d) {
  StepExtras<T> e{};
  e.params = in.leak ? in.leak.data : in.peepholes.data, e.h_mask = in.h_mask.data;
  for (int q = 0; q < 2; ++q) {
    e.zoneout[q] = in.zoneout[q].data;
    e.zoneout_of_all[q] = static_cast<T>(spec.zoneout[q]);
  }
  e.skip = std::min(spec.skip / spec.dilation, d.T + 1);
  for (int i = 0; i < 4; ++i) e.layer_norm[i] = in.layer_norm[i].data;
  return e;
}

// Is there such a kernel, for any numbers?
inline bool has_kernel(const std::string& name) {
  for (const KernelTable* const* table = active_kernels(); *table; ++table)
    for (int i = 0; (*table)->f32 && i < (*table)->cells; ++i)
      if (name == (*table)->f32[i].name) return true;
  return false;
}

// The name of the kernel. A plain cell has its equations and nothing else; any option takes the
// general one, where there are both.
template <class T>
std::string kernel_name(const Spec& spec, const Inputs<T>& in) {
  if (in.layer_norm[0] && spec.cell == "gru" && !spec.reset_after)
    refuse(spec.caller, "layer_norm is given with reset_after=False, expected reset_after=True");
  const std::string forget = spec.forget_gate == "own" ? "" : "_no_forget";
  if (spec.cell == "lstm" && in.w_hr) return "lstm_projected" + forget;
  if (in.w_hr) refuse(spec.caller, "w_hr is given, expected it for lstm only");
  if (spec.cell == "lstm" && !forget.empty()) return "lstm" + forget;
  if (spec.cell == "gru" && !spec.reset_after) return "gru_before";
  const GateActivation f = activation_of(spec, "activation", spec.activation);
  bool cell = spec.gate_activation.name != "sigmoid" || spec.output_activation.name != "tanh" ||
              (spec.cell == "rnn" ? !is_plain(f) : f.kind != Activation::tanh) || in.peepholes ||
              in.leak;
  for (const Number& n : numbers) cell |= spec.*n.given != n.standard;
  const bool extras = spec.zoneout[0] != 0 || spec.zoneout[1] != 0 || spec.skip || in.h_mask ||
                      in.zoneout[0] || in.zoneout[1] || in.layer_norm[0];
  const std::string general = spec.cell + "_general";
  return (cell || extras) && has_kernel(general) ? general : spec.cell;
}

template <class T>
const CellKernels<T>* cells_of(const KernelTable& table, const Spec& spec) {
  if constexpr (std::is_same_v<T, float>)
    return spec.int8 ? table.int8 : spec.bf16 ? table.bf16 : table.f32;
  else if (spec.int8 || spec.bf16)
    return nullptr;
  else if constexpr (std::is_same_v<T, double>)
    return table.f64;
  else
    return table.dual;
}

template <class T>
const CellKernels<T>& find_kernel(const Spec& spec, const Inputs<T>& in) {
  const KernelTable* const* table = active_kernels();
  const KernelTable& active = **table;
  const std::string name = kernel_name(spec, in);
  if (spec.int8 && (spec.train || !std::is_same_v<T, float>))
    refuse(spec.caller, "int8 is set, expected float32 and inference");
  if (spec.bf16 && !cells_of<T>(active, spec))
    refuse(spec.caller, "bf16 is set, expected float32 and an instruction set with bfloat16, not " +
                            std::string(active.isa));
  for (; *table; ++table) {
    const CellKernels<T>* cells = cells_of<T>(**table, spec);
    for (int i = 0; cells && i < (*table)->cells; ++i)
      if (name == cells[i].name && bool(in.layer_norm[0]) == (cells[i].layer_norms > 0))
        return cells[i];
  }
  if (has_kernel(name)) {
    if (spec.int8)
      refuse(spec.caller,
             "weights is int8, which " + spec.cell + " has no kernels for with these options");
    if (spec.bf16)
      refuse(spec.caller,
             "compute is bf16, which " + spec.cell + " has no kernels for with these options");
    refuse(spec.caller, "layer_norm is given, expected none for " + spec.cell);
  }
  std::string known;
  for (const CellInfo& cell : cells()) known += (known.empty() ? "" : ", ") + cell.name;
  refuse(spec.caller, "cell is '" + spec.cell + "', expected one of " + known);
}

}  // namespace bptt::core
