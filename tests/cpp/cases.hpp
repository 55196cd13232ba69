// SPDX-License-Identifier: MIT
// The cells with their options, so that every kernel of cells/cell_list.inl is among them; and
// sizes.
#pragma once
#include "problem.hpp"

inline Case plain(const std::string& cell) {
  Case c;
  c.id = c.spec.cell = cell;
  return c;
}
template <class F>
Case with(const char* id, const char* cell, const F& change) {
  Case c = plain(cell);
  c.id += std::string("-") + id;
  change(c);
  return c;
}

inline std::vector<Case> plain_cases() {
  std::vector<Case> all;
  for (const core::CellInfo& cell : core::cells()) all.push_back(plain(cell.name));
  return all;
}

// Cases with options that only some cells have.
inline void add_own_options(std::vector<Case>& all) {
  for (const char* f : {"relu", "leaky_relu", "sigmoid", "hard_sigmoid", "identity", "elu",
                        "softsign", "softplus", "thresholded_relu", "scaled_tanh", "affine"})
    all.push_back(with(f, "rnn", [&](Case& c) { c.spec.activation = f; }));
  all.push_back(with("leak", "rnn", [](Case& c) { c.spec.leak = 0.3, c.spec.preact_clip = 0.8; }));
  const auto activations = [](Case& c) {
    c.spec.activation = "identity", c.spec.gate_activation = "hard_sigmoid";
    c.spec.output_activation = "leaky_relu", c.spec.preact_clip = 0.9;
  };
  const auto parameters = [](Case& c) {
    c.spec.activation = {"elu", {-0.7}};
    c.spec.gate_activation = {"hard_sigmoid", {-0.2, 0.4}};
    c.spec.output_activation = {"scaled_tanh", {1.7, 0.6}};
  };
  for (const char* cell : {"lstm", "gru"}) {
    all.push_back(with("activations", cell, activations));
    all.push_back(with("parameters", cell, parameters));
  }
  all.push_back(with("before", "gru", [](Case& c) { c.spec.reset_after = false; }));
  all.push_back(with("peepholes", "lstm", [](Case& c) {
    c.peepholes = true, c.spec.cell_clip = 0.7, c.lengths = true;
  }));
  for (const char* forget : {"own", "coupled", "none"}) {
    all.push_back(with((std::string("projected-") + forget).c_str(), "lstm", [&](Case& c) {
      c.projected = 5, c.spec.forget_gate = forget, c.peepholes = true;
    }));
    all.push_back(with((std::string("normal-projected-") + forget).c_str(), "lstm", [&](Case& c) {
      c.projected = 5, c.spec.forget_gate = forget, c.layer_norm = true;
    }));
    all.push_back(with((std::string("normal-") + forget).c_str(), "lstm", [&](Case& c) {
      c.spec.forget_gate = forget, c.layer_norm = c.peepholes = c.lengths = true;
    }));
  }
  for (const char* forget : {"coupled", "none"})
    all.push_back(with(forget, "lstm", [&](Case& c) { c.spec.forget_gate = forget; }));
  for (const char* cell : {"rnn", "gru", "mgu", "slstm"})
    all.push_back(with("normal", cell, [](Case& c) { c.layer_norm = c.h_mask = true; }));
}

inline void add_common_options(std::vector<Case>& all, const char* cell) {
  const auto add = [&](const char* id, const auto& change) {
    all.push_back(with(id, cell, change));
  };
  add("lengths", [](Case& c) { c.lengths = true, c.biases = false; });
  add("reverse", [](Case& c) { c.spec.reverse = c.lengths = true, c.state = false; });
  add("resets", [](Case& c) { c.resets = c.lengths = true; });
  add("resets-reverse", [](Case& c) { c.resets = c.lengths = c.spec.reverse = true; });
  add("dilation", [](Case& c) { c.spec.dilation = 3, c.lengths = true; });
  add("skip", [](Case& c) { c.spec.skip = 2; });
  add("skip-dilation",
      [](Case& c) { c.spec.skip = 4, c.spec.dilation = 2, c.spec.reverse = true; });
  add("zoneout", [](Case& c) { c.spec.zoneout[0] = 0.3, c.spec.zoneout[1] = 0.1; });
  add("zoneout-steps", [](Case& c) { c.zoneout = c.lengths = true; });
  if (cell != std::string("lstm1997")) add("h_mask", [](Case& c) { c.h_mask = true; });
}

inline std::vector<Case> all_cases() {
  std::vector<Case> all = plain_cases();
  add_own_options(all);
  for (const core::CellInfo& cell : core::cells()) add_common_options(all, cell.name.c_str());
  return all;
}

inline std::vector<Sizes> small_sizes() {
  std::vector<Sizes> all;
  for (Index T : {1, 7})
    for (Index B : {1, 3, 9})
      for (Index I : {1, 5})
        for (Index H : {1, 3, 17, 33}) all.push_back({T, B, I, H});
  return all;
}
// A few sizes, among them two chunks of the backward loop. Not one input with layer normalisation:
// the sums then do not depend on its size, so the gradient is nothing but rounding errors.
inline std::vector<Sizes> few_sizes(const Case& c) {
  const Index one = c.layer_norm ? 2 : 1;
  return {{7, 3, 5, 3}, {7, 9, one, 17}, {1, 9, 5, 33}, {7, 1, 5, 33}, {20, 9, 5, 7}};
}

inline std::string text(const Case& c, Sizes n) {
  return c.id + " T, B, I, H = " + std::to_string(n.T) + ", " + std::to_string(n.B) + ", " +
         std::to_string(n.I) + ", " + std::to_string(n.H);
}

// Calls f on every instruction set that runs here.
template <class F>
void on_every_isa(const F& f) {
  for (const std::string& isa : core::available_isas()) {
    const check::Within here(isa);
    core::set_isa(isa);
    f();
  }
  core::set_isa(core::available_isas().front());
}

// --- comparisons

// Tolerances relative to the largest reference value. Double: some ten thousand roundings of 1e-16.
// Float: as many of 6e-8, and the elementary functions' errors of 2e-7.
template <class T>
constexpr double tolerance = sizeof(T) == sizeof(float) ? 2e-5 : 1e-12;

inline double value_of(double a) { return a; }
inline double value_of(core::Dual a) { return a.value; }

template <class A, class F>
double largest(const Array<A>& a, const F& part) {
  double size = 0;
  for (const A& v : a.data) size = std::fmax(size, std::fabs(part(v)));
  return size;
}
// The largest difference, relative to `size` (absolute where it is zero).
template <class A, class B, class F>
double error(const Array<A>& got, const Array<B>& want, double size, const F& part) {
  double difference = 0;
  if (got.shape != want.shape) return INFINITY;
  for (std::size_t i = 0; i < want.data.size(); ++i) {
    const double d = std::fabs(part(got.data[i]) - part(want.data[i]));
    if (std::isnan(d)) return INFINITY;
    difference = std::fmax(difference, d);
  }
  return difference / (size > 0 ? size : 1);
}
// The same relative to the largest wanted value.
template <class A, class B>
double error(const Array<A>& got, const Array<B>& want) {
  const auto part = [](auto v) { return value_of(v); };
  return error(got, want, largest(want, part), part);
}
// A single number, such as the gradient of the only weight, is a sum whose terms may cancel: its
// error is relative to the largest number of all arrays.
template <class A, class B, class F>
void check_close(const Arrays<A>& got, const Arrays<B>& want, double limit, const F& part) {
  double of_all = 0;
  for (const auto& [name, a] : want) of_all = std::fmax(of_all, largest(a, part));
  for (const auto& [name, a] : want) {
    const double size = a.data.size() == 1 ? of_all : largest(a, part);
    const double e = got.count(name) ? error(got.at(name), a, size, part) : INFINITY;
    check::that(e <= limit, __FILE__, __LINE__,
                name + ": relative error " + std::to_string(e / limit) + " times the tolerance");
  }
}
template <class A, class B>
void check_close(const Arrays<A>& got, const Arrays<B>& want, double limit) {
  check_close(got, want, limit, [](auto v) { return value_of(v); });
}

template <class T>
bool same_bits(const T* a, const T* b, Index n) {
  return n == 0 || std::memcmp(a, b, size(n) * sizeof(T)) == 0;
}
template <class T>
void check_same_bits(const Arrays<T>& got, const Arrays<T>& want) {
  for (const auto& [name, a] : want) {
    const bool same = got.count(name) && got.at(name).shape == a.shape &&
                      same_bits(got.at(name).data.data(), a.data.data(), Index(a.data.size()));
    check::that(same, __FILE__, __LINE__, name + ": other bits");
  }
}
