// SPDX-License-Identifier: MIT
// The forward equations once more, number by number, as a textbook writes them; it shares nothing
// with the core. Over dual numbers it gives the exact derivative along a direction.
#pragma once
#include "problem.hpp"

namespace textbook {

using core::Dual;

inline double value(double a) { return a; }
inline double value(Dual a) { return a.value; }
inline double constant(double a) { return a; }
inline Dual constant(Dual a) { return a.value; }
inline double chain(double, double y, double) { return y; }
inline Dual chain(Dual a, double y, double slope) { return {y, slope * a.tangent}; }

inline double logistic(double a) { return 1 / (1 + std::exp(-a)); }

template <class N>
N tanh(N a) {
  const double y = std::tanh(value(a));
  return chain(a, y, 1 - y * y);
}
template <class N>
N sigmoid(N a) {
  const double y = logistic(value(a));
  return chain(a, y, y * (1 - y));
}
template <class N>
N exp(N a) {
  const double y = std::exp(value(a));
  return chain(a, y, y);
}
template <class N>
N log_sigmoid(N a) {
  const double v = value(a), y = std::fmin(v, 0) - std::log1p(std::exp(-std::fabs(v)));
  return chain(a, y, logistic(-v));
}
template <class N>
N square_root(N a) {
  const double y = std::sqrt(value(a));
  return chain(a, y, 0.5 / y);
}
template <class N>
N clipped(N a, double bound) {
  const double v = value(a);
  return v >= bound ? N(bound) : v <= -bound ? N(-bound) : a;
}
template <class N>
N activated(const core::NamedActivation& f, N a) {
  const auto number = [&](int i, double standard) {
    return N(i < f.given ? f.parameters[i] : standard);
  };
  const bool above = value(a) > 0;
  if (f.name == "tanh") return tanh(a);
  if (f.name == "sigmoid") return sigmoid(a);
  if (f.name == "relu") return above ? a : N(0);
  if (f.name == "leaky_relu") return above ? a : number(0, 0.01) * a;
  if (f.name == "hard_sigmoid") {
    const N line = number(0, 1.0 / 6) * a + number(1, 0.5);
    return clipped(N(2) * line - N(1), 1) / N(2) + N(0.5);
  }
  if (f.name == "elu") return above ? a : number(0, 1) * (exp(a) - N(1));
  if (f.name == "softsign") return a / (N(1) + (above ? a : N(0) - a));
  if (f.name == "softplus") return N(0) - log_sigmoid(N(0) - a);
  if (f.name == "thresholded_relu") return value(a) > value(number(0, 1)) ? a : N(0);
  if (f.name == "scaled_tanh") return number(0, 1) * tanh(number(1, 1) * a);
  if (f.name == "affine") return number(0, 1) * a + number(1, 0);
  CHECK(f.name == "identity");
  return a;
}

template <class N>
using Row = std::vector<N>;
template <class N>
using States = std::vector<Row<N>>;

template <class N>
struct Network {
  const Problem<N>& p;
  bool truncate;  // does the gradient of lstm1997 end where its authors end it?
  Index H = p.n.H, G = p.gates;

  N gate(N a) const { return activated(p.spec.gate_activation, clipped(a, p.spec.preact_clip)); }
  N candidate(N a) const { return activated(p.spec.activation, clipped(a, p.spec.preact_clip)); }

  // w[row, :] v
  static N dot(const Array<N>& w, Index row, const Row<N>& v) {
    N sum(0);
    const Index n = static_cast<Index>(v.size());
    for (Index k = 0; k < n; ++k) sum += w.at(row * n + k) * v[size(k)];
    return sum;
  }
  // Ba, Kiros & Hinton (2016)
  static Row<N> normalised(Row<N> a) {
    const N n(double(a.size()));
    N mean(0), variance(0);
    for (N v : a) mean += v / n;
    for (N v : a) variance += (v - mean) * (v - mean) / n;
    for (N& v : a) v = (v - mean) / square_root(variance + N(1e-5));
    return a;
  }
  // w v + b, or gain N(w v) + b, of all gates
  Row<N> sums(const char* w, const Row<N>& v, const char* b, const char* gain) const {
    Row<N> a;
    for (Index row = 0; row < G * H; ++row) a.push_back(dot(*p.find(w), row, v));
    const Array<N>*g = p.find(gain), *bias = p.find(b);
    if (g) a = normalised(a);
    for (Index row = 0; row < G * H; ++row) {
      if (g) a[size(row)] = g->at(row) * a[size(row)];
      if (bias) a[size(row)] += bias->at(row);
    }
    return a;
  }

  // --- one step: x and h are the sums of all gates, s the states before it

  // Elman (1990), leak of Jaeger et al. (2007)
  States<N> rnn(const Row<N>& x, const Row<N>& h, States<N> s) const {
    const N leak(p.spec.leak);
    for (std::size_t u = 0; u < x.size(); ++u)
      s[0][u] = (N(1) - leak) * s[0][u] + leak * candidate(x[u] + h[u]);
    return s;
  }

  // Hochreiter & Schmidhuber (1997), Gers et al. (2000); h before the projection
  States<N> lstm(const Row<N>& x, const Row<N>& h, States<N> s) const {
    const bool own = p.spec.forget_gate == "own", coupled = p.spec.forget_gate == "coupled";
    const Array<N>* peepholes = p.find("peepholes");
    const auto peep = [&](Index row, Index u, N c) {
      return peepholes ? peepholes->at(row * H + u) * c : N(0);
    };
    const auto sum = [&](Index g, Index u) { return x[size(g * H + u)] + h[size(g * H + u)]; };
    Row<N> o(size(H)), c = s[1];
    for (Index u = 0; u < H; ++u) {
      N& cell = c[size(u)];
      const N i = gate(sum(0, u) + peep(0, u, cell)), g = candidate(sum(G - 2, u));
      const N f = own ? gate(sum(1, u) + peep(1, u, cell)) : coupled ? N(1) - i : N(1);
      cell = clipped(f * cell + i * g, p.spec.cell_clip);
      o[size(u)] = gate(sum(G - 1, u) + peep(own ? 2 : 1, u, cell));
    }
    const Array<N>*gain = p.find("gain_c"), *offset = p.find("offset_c");
    Row<N> seen = gain ? normalised(c) : c;
    for (Index u = 0; u < H; ++u) {
      if (gain) seen[size(u)] = gain->at(u) * seen[size(u)] + offset->at(u);
      o[size(u)] = o[size(u)] * activated(p.spec.output_activation, seen[size(u)]);
    }
    return {o, c};
  }

  // Cho et al. (2014); the reset after the product with h, or before it
  States<N> gru(const Row<N>& x, const Row<N>& h, States<N> s) const {
    const auto at = [&](const Row<N>& a, Index g, Index u) { return a[size(g * H + u)]; };
    Row<N> r, reset;
    for (Index u = 0; u < H; ++u) r.push_back(gate(at(x, 0, u) + at(h, 0, u)));
    const Row<N> operand = masked(s[0]);
    for (Index u = 0; u < H; ++u) reset.push_back(r[size(u)] * operand[size(u)]);
    const Array<N>*w = p.find("w_hh"), *b = p.find("b_hh");
    for (Index u = 0; u < H; ++u) {
      const N h_n = p.spec.reset_after ? r[size(u)] * at(h, 2, u)
                                       : dot(*w, 2 * H + u, reset) + (b ? b->at(2 * H + u) : N(0));
      const N z = gate(at(x, 1, u) + at(h, 1, u)), n = candidate(at(x, 2, u) + h_n);
      s[0][size(u)] = (N(1) - z) * n + z * s[0][size(u)];
    }
    return s;
  }

  // Zhou et al. (2016)
  States<N> mgu(const Row<N>& x, const Row<N>& h, States<N> s) const {
    for (Index u = 0; u < H; ++u) {
      const N f = sigmoid(x[size(u)] + h[size(u)]);
      const N n = tanh(x[size(H + u)] + f * h[size(H + u)]);
      s[0][size(u)] = (N(1) - f) * n + f * s[0][size(u)];
    }
    return s;
  }

  // Beck et al. (2024), with their stabiliser; gates i f z o, states h c n m
  States<N> slstm(const Row<N>& x, const Row<N>& h, States<N> s) const {
    for (std::size_t u = 0; u < size(H); ++u) {
      const auto sum = [&](Index g) { return x[size(g * H) + u] + h[size(g * H) + u]; };
      const N i = sum(0), kept = log_sigmoid(sum(1)) + s[3][u];
      const bool empty = value(s[2][u]) == 0, by_forget = value(kept) >= value(i) && !empty;
      const N m = by_forget ? kept : i, I = exp(i - m), F = exp(kept - m);
      s[1][u] = F * s[1][u] + I * tanh(sum(2)), s[2][u] = F * s[2][u] + I, s[3][u] = m;
      s[0][u] = sigmoid(sum(3)) * (s[1][u] / s[2][u]);
    }
    return s;
  }

  // Hochreiter & Schmidhuber (1997); gates i o g, states h c i o
  States<N> lstm1997(const Row<N>& x, const Row<N>& h, States<N> s) const {
    for (std::size_t u = 0; u < size(H); ++u) {
      const auto sum = [&](Index g) { return x[size(g * H) + u] + h[size(g * H) + u]; };
      const N i = sigmoid(sum(0)), o = sigmoid(sum(1)), g = sigmoid(sum(2));
      s[1][u] += i * (N(4) * g - N(2));
      s[0][u] = o * (N(2) * sigmoid(s[1][u]) - N(1)), s[2][u] = i, s[3][u] = o;
    }
    return s;
  }

  // --- around the cell

  Index b = 0;  // the sequence

  Row<N> masked(Row<N> h) const {
    const Array<N>* mask = p.find("h_mask");
    for (Index k = 0; mask && k < p.P; ++k) h[size(k)] = h[size(k)] * mask->at(b * p.P + k);
    return h;
  }
  // What w_hh multiplies.
  Row<N> operand(const States<N>& s) const {
    Row<N> u = masked(s[0]);
    if (p.U == p.P) return u;
    for (int q : {2, 3}) u.insert(u.end(), s[size(q)].begin(), s[size(q)].end());
    for (N& v : u) v = truncate ? constant(v) : v;
    return u;
  }
  States<N> cell(const Row<N>& x, const States<N>& s) const {
    const Row<N> ax = sums("w_ih", x, "b_ih", "gain_ih"),
                 ah = sums("w_hh", operand(s), "b_hh", "gain_hh");
    const std::string& name = p.spec.cell;
    if (name == "rnn") return rnn(ax, ah, s);
    if (name == "gru") return gru(ax, ah, s);
    if (name == "mgu") return mgu(ax, ah, s);
    if (name == "slstm") return slstm(ax, ah, s);
    if (name == "lstm1997") return lstm1997(ax, ah, s);
    CHECK(name == "lstm");
    States<N> made = lstm(ax, ah, s);
    if (const Array<N>* w = p.find("w_hr")) {  // Sak et al. (2014)
      Row<N> h;
      for (Index k = 0; k < p.P; ++k) h.push_back(dot(*w, k, made[0]));
      made[0] = h;
    }
    return made;
  }
  // Krueger et al. (2017): part of a state stays as it was.
  N zone(int q, Index t, Index u, const States<N>& old) const {
    if (p.spec.cell == "lstm1997" && q > 1) return N(0);
    if (p.spec.cell == "slstm" && q == 3 && value(old[2][size(u)]) == 0) return N(0);
    const int zone = q ? 1 : 0;
    const Array<N>* z = p.find("zoneout" + std::to_string(zone));
    return z ? z->at((t * p.n.B + b) * p.width(q) + u) : N(p.spec.zoneout[zone]);
  }
  // The next states from those before the last steps, the newest last.
  States<N> step(const Row<N>& x, const std::vector<States<N>>& past, Index t) const {
    const States<N>& old = past[past.size() - size(p.spec.dilation)];
    States<N> made = cell(x, old);
    for (int q = 0; q < p.states; ++q)
      for (Index u = 0; u < p.width(q); ++u) {
        const N z = zone(q, t, u, old);
        N& v = made[size(q)][size(u)];
        v = z * old[size(q)][size(u)] + (N(1) - z) * v;
      }
    for (Index u = 0; p.spec.skip && u < p.P; ++u)
      made[0][size(u)] += past[past.size() - size(p.spec.skip)][0][size(u)];
    return made;
  }
};

// y and the final states. cut: of BackwardSpec, no tangent passes there.
template <class N>
Arrays<N> results(const Problem<N>& p, Index cut = 0, bool truncate = true) {
  Arrays<N> out;
  out["y"] = Array<N>({p.n.T, p.n.B, p.P});
  for (int q = 0; q < p.states; ++q) {
    const std::string name = "state" + std::to_string(q);
    out[name] = Array<N>(p.out.at(name).shape);
  }
  const Index k = p.spec.dilation;
  Network<N> net{p, truncate};
  for (Index& b = net.b; b < p.n.B; ++b) {
    States<N> zeros;
    for (int q = 0; q < p.states; ++q) zeros.emplace_back(size(p.width(q)), N(0));
    std::vector<States<N>> past(size(std::max(k, p.spec.skip)), zeros);
    const auto place = [&](int q, Index j) { return (j * p.n.B + b) * p.width(q); };
    for (Index j = 0; j < k; ++j)
      for (int q = 0; q < p.states; ++q)
        if (const Array<N>* s = p.find("state" + std::to_string(q)))
          for (Index u = 0; u < p.width(q); ++u)
            past[past.size() - size(k - j)][size(q)][size(u)] = s->at(place(q, j) + u);
    const Index length = p.length(b);
    for (Index done = 0; done < length; ++done) {
      const Index t = p.spec.reverse ? length - 1 - done : done, row = t * p.n.B + b;
      if (!p.resets.data.empty() && p.resets.at(row)) past.assign(past.size(), zeros);
      if (cut && (length - done) % cut == 0)
        for (States<N>& states : past)
          for (Row<N>& s : states)
            for (N& v : s) v = constant(v);
      const N* x = p.in.at("x").data.data() + row * p.n.I;
      past.push_back(net.step(Row<N>(x, x + p.n.I), past, t));
      past.erase(past.begin());
      for (Index u = 0; u < p.P; ++u) out["y"].at(row * p.P + u) = past.back()[0][size(u)];
    }
    for (Index j = 0; j < k; ++j)
      for (int q = 0; q < p.states; ++q)
        for (Index u = 0; u < p.width(q); ++u)
          out["state" + std::to_string(q)].at(place(q, j) + u) =
              past[past.size() - size(k - j)][size(q)][size(u)];
  }
  return out;
}

}  // namespace textbook
