// SPDX-License-Identifier: MIT
// One call of the core: its arguments by name, and its results.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "targets/select.hpp"
#include "core/plan.hpp"
#include "check.hpp"

namespace core = bptt::core;

using Index = std::ptrdiff_t;

inline std::size_t size(Index n) { return static_cast<std::size_t>(n); }

template <class T>
struct Array {
  std::vector<Index> shape;
  std::vector<T> data;

  Array() : shape{0} {}
  explicit Array(std::vector<Index> sizes) : shape(std::move(sizes)) {
    Index n = 1;
    for (Index s : shape) n *= s;
    data.resize(size(n), T(0));
  }
  core::Tensor<const T> view() const {
    core::Tensor<const T> t;
    t.data = data.data();
    for (Index s : shape) t.shape[t.ndim++] = s;
    return t;
  }
  T& at(Index i) { return data[size(i)]; }
  const T& at(Index i) const { return data[size(i)]; }
};
template <class T>
using Arrays = std::map<std::string, Array<T>>;

struct Sizes {
  Index T, B, I, H;
};

// Numbers with mean 0 and variance 1, the same on every machine.
class Random {
 public:
  explicit Random(unsigned seed) : bits_(seed) {}
  double number() { return std::sqrt(12.0) * (std::ldexp(double(bits_() >> 11), -53) - 0.5); }
  Index below(Index n) { return static_cast<Index>(bits_() % static_cast<std::uint64_t>(n)); }

 private:
  std::mt19937_64 bits_;
};

// The options and optional arguments of a problem.
struct Case {
  std::string id;
  core::Spec spec;
  bool peepholes = false, layer_norm = false, h_mask = false, zoneout = false, resets = false,
       lengths = false;
  Index projected = 0;  // P, or 0: H
  bool biases = true, state = true;
};

template <class T>
struct Problem {
  core::Spec spec;
  Sizes n;
  int gates, states;
  Index P, U;       // numbers in h, and columns of w_hh
  Arrays<T> in;     // arguments with a gradient: x, w_ih, ..., state0, ...
  Arrays<T> fixed;  // arguments without: h_mask, zoneout0, zoneout1
  Arrays<T> out;    // gradients of the results: dy, dstate0, ...
  Array<std::uint8_t> resets;
  Array<std::int64_t> lengths;

  const Array<T>* find(const std::string& name) const {
    auto it = in.find(name);
    if (it != in.end()) return &it->second;
    it = fixed.find(name);
    return it != fixed.end() ? &it->second : nullptr;
  }
  core::Tensor<const T> view(const std::string& name) const {
    const Array<T>* a = find(name);
    return a ? a->view() : core::Tensor<const T>();
  }
  Index width(int q) const { return q ? n.H : P; }
  Index length(Index b) const {
    return lengths.data.empty() ? n.T : static_cast<Index>(lengths.at(b));
  }

  core::Inputs<T> inputs() const {
    core::Inputs<T> i;
    i.x = view("x"), i.w_ih = view("w_ih"), i.w_hh = view("w_hh"), i.w_hr = view("w_hr");
    i.b_ih = view("b_ih"), i.b_hh = view("b_hh"), i.peepholes = view("peepholes");
    for (int q = 0; q < states; ++q) i.state[q] = view("state" + std::to_string(q));
    const char* gains[] = {"gain_ih", "gain_hh", "gain_c", "offset_c"};
    for (int k = 0; k < 4; ++k) i.layer_norm[k] = view(gains[k]);
    i.h_mask = view("h_mask"), i.zoneout[0] = view("zoneout0"), i.zoneout[1] = view("zoneout1");
    if (!resets.data.empty()) i.resets = resets.view();
    if (!lengths.data.empty()) i.lengths = lengths.view();
    return i;
  }

  // The same problem in numbers of another type, which f makes of (name, array).
  template <class V, class F>
  Problem<V> map(const F& f) const {
    Problem<V> p{spec, n, gates, states, P, U, {}, {}, {}, resets, lengths};
    const auto each = [&](const Arrays<T>& from, Arrays<V>& to) {
      for (const auto& [name, a] : from) to[name] = f(name, a);
    };
    each(in, p.in), each(fixed, p.fixed), each(out, p.out);
    return p;
  }
  template <class V>
  Problem<V> cast() const {
    return map<V>([](const std::string&, const Array<T>& a) {
      Array<V> b(a.shape);
      for (std::size_t i = 0; i < a.data.size(); ++i) b.data[i] = static_cast<V>(a.data[i]);
      return b;
    });
  }
};

// Weights large enough to reach the non-linearities, small enough not to explode.
inline Problem<double> make_problem(const Case& c, Sizes n, unsigned seed = 1) {
  Random random(seed);
  const auto numbers = [&](std::vector<Index> shape, double scale = 1, double centre = 0) {
    Array<double> a(std::move(shape));
    for (double& v : a.data) v = centre + scale * random.number();
    return a;
  };
  Problem<double> p{c.spec, n, 0, 0, c.projected ? c.projected : n.H, 0, {}, {}, {}, {}, {}};
  for (const core::CellInfo& cell : core::cells())
    if (cell.name == c.spec.cell) p.gates = cell.gates, p.states = cell.states;
  const bool own_forget = c.spec.forget_gate == "own";
  if (!own_forget) --p.gates;
  p.U = c.spec.cell == "lstm1997" ? 3 * n.H : p.P;
  const Index rows = p.gates * n.H;
  p.in["x"] = numbers({n.T, n.B, n.I});
  p.in["w_ih"] = numbers({rows, n.I}, 1 / std::sqrt(double(n.I)));
  p.in["w_hh"] = numbers({rows, p.U}, 0.9 / std::sqrt(double(p.U)));
  if (c.projected) p.in["w_hr"] = numbers({p.P, n.H}, 1 / std::sqrt(double(n.H)));
  if (c.biases) p.in["b_ih"] = numbers({rows}, 0.5), p.in["b_hh"] = numbers({rows}, 0.5);
  if (c.peepholes) p.in["peepholes"] = numbers({own_forget ? 3 : 2, n.H}, 0.5);
  if (c.layer_norm) {
    p.in["gain_ih"] = numbers({rows}, 0.3, 0.8), p.in["gain_hh"] = numbers({rows}, 0.3, 0.8);
    if (c.spec.cell == "lstm")
      p.in["gain_c"] = numbers({n.H}, 0.3, 0.8), p.in["offset_c"] = numbers({n.H}, 0.3);
  }
  if (c.h_mask) {
    p.fixed["h_mask"] = Array<double>({n.B, p.P});
    for (double& m : p.fixed["h_mask"].data) m = random.below(3) ? 1.5 : 0;
  }
  if (c.zoneout)
    for (int q = 0; q < 2; ++q)
      p.fixed["zoneout" + std::to_string(q)] = numbers({n.T, n.B, p.width(q)}, 0.25, 0.5);
  for (int q = 0; q < p.states; ++q) {
    std::vector<Index> shape = {n.B, p.width(q)};
    if (c.spec.dilation > 1) shape.insert(shape.begin(), c.spec.dilation);
    // The normaliser n of sLSTM is positive.
    const bool normaliser = c.spec.cell == "slstm" && q == 2;
    if (c.state)
      p.in["state" + std::to_string(q)] = numbers(shape, normaliser ? 0.2 : 0.7, normaliser);
    p.out["state" + std::to_string(q)] = numbers(shape);
  }
  p.out["y"] = numbers({n.T, n.B, p.P});
  if (c.resets) {
    p.resets = Array<std::uint8_t>({n.T, n.B});
    for (std::uint8_t& r : p.resets.data) r = random.below(4) == 0;
  }
  if (c.lengths) {  // in any order, with 0 and T among them
    p.lengths = Array<std::int64_t>({n.B});
    for (std::int64_t& l : p.lengths.data) l = random.below(n.T + 1);
    p.lengths.at(0) = 0, p.lengths.at(n.B - 1) = n.T;
  }
  return p;
}

struct Aligned {
  void operator()(void* p) const { ::operator delete(p, std::align_val_t(64)); }
};
using Buffer = std::unique_ptr<void, Aligned>;
inline Buffer buffer(std::size_t bytes) {
  return Buffer(::operator new(bytes ? bytes : 64, std::align_val_t(64)));
}

// A forward call and its tape.
template <class T>
struct Run {
  const Problem<T>& p;
  core::Plan<T> plan;
  Buffer tape;
  Arrays<T> results;  // y, state0, ...

  explicit Run(const Problem<T>& problem)
      : p(problem), plan(p.spec, p.inputs()), tape(buffer(plan.tape_bytes())) {
    core::Outputs<T> o{};
    results["y"] = Array<T>({p.n.T, p.n.B, p.P}), o.y = results["y"].data.data();
    for (int q = 0; q < p.states; ++q) {
      const std::string name = "state" + std::to_string(q);
      results[name] = Array<T>(p.out.at(name).shape), o.state[q] = results[name].data.data();
    }
    CHECK(plan.forward(p.inputs(), o, tape.get(), buffer(plan.forward_scratch_bytes()).get()));
  }

  // Gradients of everything in p.in.
  Arrays<T> gradients(const core::BackwardSpec& how = {}, const core::Trace<T>& trace = {}) const {
    Arrays<T> d;
    for (const auto& [name, a] : p.in) d[name] = Array<T>(a.shape);
    const auto pointer = [&](const std::string& name) {
      return d.count(name) ? d[name].data.data() : nullptr;
    };
    core::Gradients<T> g{};
    g.x = pointer("x"), g.w_ih = pointer("w_ih"), g.w_hh = pointer("w_hh");
    g.w_hr = pointer("w_hr"), g.b_ih = pointer("b_ih"), g.b_hh = pointer("b_hh");
    g.peepholes = pointer("peepholes"), g.trace = trace;
    const char* gains[] = {"gain_ih", "gain_hh", "gain_c", "offset_c"};
    for (int k = 0; k < 4; ++k) g.layer_norm[k] = pointer(gains[k]);
    core::Cotangents<T> c;
    c.y = p.out.at("y").view();
    for (int q = 0; q < p.states; ++q) {
      const std::string name = "state" + std::to_string(q);
      c.state[q] = p.out.at(name).view(), g.state[q] = pointer(name);
    }
    const Buffer scratch = buffer(plan.backward_scratch_bytes(g));
    CHECK(plan.backward(how, p.in.at("x").data.data(), results.at("y").data.data(), c, g,
                        tape.get(), scratch.get()));
    return d;
  }
};

// All results of a forward and a backward call: y, state0, ..., d x, d w_ih, ...
template <class T>
Arrays<T> everything(const Problem<T>& p, const core::BackwardSpec& how = {}) {
  const Run<T> run(p);
  Arrays<T> all = run.results;
  for (auto& [name, a] : run.gradients(how)) all["d " + name] = a;
  return all;
}
