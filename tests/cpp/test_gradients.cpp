// SPDX-License-Identifier: MIT
// Gradients are exact. Along a direction of one argument, the sum of gradient times direction is
// the derivative of the loss sum(dy * y) + sum(dstate * state), which the textbook's equations over
// dual numbers give without any step size. float is held against double.
#include "cases.hpp"
#include "equations.hpp"

namespace {

using core::Dual;

// Random directions of the arguments for which wanted(name).
template <class F>
Problem<Dual> along(const Problem<double>& p, unsigned seed, const F& wanted) {
  Random random(seed);
  return p.map<Dual>([&](const std::string& name, const Array<double>& a) {
    Array<Dual> b(a.shape);
    const bool moves = p.in.count(name) && &p.in.at(name) == &a && wanted(name);
    for (std::size_t i = 0; i < a.data.size(); ++i)
      b.data[i] = Dual(a.data[i], moves ? random.number() : 0);
    return b;
  });
}

// The difference of two sums that ought to be equal, and the size of their terms.
struct Sum {
  double value = 0, size = 0;
  void add(double a, double b) { value += a * b, size += std::fabs(a * b); }
};
void check_equal(const Sum& a, const Sum& b, double limit) {
  const double e = std::fabs(a.value - b.value) / std::fmax(a.size + b.size, 1e-300);
  check::that(e <= limit, __FILE__, __LINE__,
              "derivative " + std::to_string(a.value) + ", textbook " + std::to_string(b.value) +
                  ": relative error " + std::to_string(e / limit) + " times the tolerance");
}

Sum of_loss(const Problem<double>& p, const Arrays<Dual>& results) {
  Sum s;
  for (const auto& [name, a] : results)
    for (std::size_t i = 0; i < a.data.size(); ++i)
      s.add(p.out.at(name).data[i], a.data[i].tangent);
  return s;
}
Sum of_gradients(const Arrays<double>& d, const Problem<Dual>& direction) {
  Sum s;
  for (const auto& [name, a] : direction.in)
    for (std::size_t i = 0; i < a.data.size(); ++i) s.add(d.at(name).data[i], a.data[i].tangent);
  return s;
}

void compare(const Case& c, Sizes n, const core::BackwardSpec& how = {}) {
  const check::Within here(text(c, n));
  const Problem<double> p = make_problem(c, n);
  const Problem<float> single = p.cast<float>();
  const Problem<double> rounded = single.cast<double>();
  struct Direction {
    std::string name;
    Problem<Dual> p;
    Sum loss;
  };
  std::vector<Direction> directions;
  for (const auto& [name, a] : p.in) {
    Problem<Dual> d =
        along(p, 7, [&, &name = name](const std::string& other) { return other == name; });
    const Sum loss = of_loss(p, textbook::results(d, how.cut));
    directions.push_back({name, std::move(d), loss});
  }
  on_every_isa([&] {
    const Arrays<double> got = Run<double>(p).gradients(how);
    for (const Direction& d : directions) {
      const check::Within argument(d.name);
      check_equal(of_gradients(got, d.p), d.loss, tolerance<double>);
    }
    check_close(Run<float>(single).gradients(how), Run<double>(rounded).gradients(how),
                tolerance<float>);
  });
}

}  // namespace

TEST(of_every_cell_at_every_size) {
  for (const Case& c : plain_cases())
    for (Sizes n : small_sizes()) compare(c, n);
}

TEST(of_every_option) {
  for (const Case& c : all_cases())
    for (Sizes n : few_sizes(c)) compare(c, n);
}

TEST(cut_every_few_steps) {
  core::BackwardSpec how;
  how.cut = 3;
  for (Case c : plain_cases())
    for (bool reverse : {false, true}) {
      c.lengths = c.spec.reverse = reverse;
      compare(c, {7, 3, 5, 17}, how), compare(c, {40, 9, 5, 7}, how);
    }
}

// The gradient that one step passes back, clipped here again.
TEST(clipped_by_value_and_by_norm) {
  for (const Case& c : plain_cases()) {
    if (c.id == "lstm1997") continue;  // passes nothing back to h
    const Problem<double> p = make_problem(c, {1, 3, 5, 17});
    on_every_isa([&] {
      const Run<double> run(p);
      const Array<double> free = run.gradients().at("state0");
      core::BackwardSpec how;
      how.clip = {core::StepClip::value, core::StepClip::h, 0.3};
      Array<double> want = free;
      for (double& v : want.data) v = std::fmax(-0.3, std::fmin(0.3, v));
      CHECK(error(run.gradients(how).at("state0"), want) == 0.0);
      CHECK(error(free, want) > 0.0);
      how.clip.kind = core::StepClip::norm;
      want = free;
      for (Index b = 0; b < p.n.B; ++b) {
        double norm = 0;
        for (Index u = 0; u < p.P; ++u) norm = std::hypot(norm, free.at(b * p.P + u));
        for (Index u = 0; u < p.P; ++u) want.at(b * p.P + u) /= std::fmax(norm / 0.3, 1);
      }
      CHECK(error(run.gradients(how).at("state0"), want) < 1e-14);
    });
  }
}

// Over dual numbers the core gives the textbook's derivatives too; and those of the gradients are
// products with a Hessian, which is symmetric.
TEST(over_dual_numbers) {
  for (const Case& c : all_cases()) {
    for (Sizes n : {Sizes{7, 3, 5, 3}, Sizes{4, 9, 2, 17}}) {
      const check::Within here(text(c, n));
      const Problem<double> p = make_problem(c, n);
      const auto all = [](const std::string&) { return true; };
      const Problem<Dual> v = along(p, 8, all), w = along(p, 9, all);
      const Arrays<Dual> want = textbook::results(v, 0, false);
      on_every_isa([&] {
        const Run<Dual> run(v);
        check_close(run.results, want, 1e-12);
        check_close(run.results, want, 1e-11, [](Dual a) { return a.tangent; });
        const Arrays<Dual> dv = run.gradients(), dw = Run<Dual>(w).gradients();
        check_close(dv, Run<double>(p).gradients(), 1e-12);
        if (c.spec.cell == "lstm1997") return;  // its gradient is not the gradient of a loss
        Sum vw, wv;
        for (const auto& [name, a] : v.in)
          for (std::size_t i = 0; i < a.data.size(); ++i) {
            wv.add(dv.at(name).data[i].tangent, w.in.at(name).data[i].tangent);
            vw.add(dw.at(name).data[i].tangent, a.data[i].tangent);
          }
        check_equal(vw, wv, 1e-12);
      });
    }
  }
}

// The gradients in a trace add up to the gradients of the biases and of the initial state.
TEST(a_trace_adds_up) {
  for (const Case& c : plain_cases()) {
    const check::Within here(c.id);
    const Problem<double> p = make_problem(c, {9, 3, 5, 17});
    on_every_isa([&] {
      const Run<double> run(p);
      const Index rows = p.n.T * p.n.B, G = p.gates, width = G * p.n.H;
      Array<double> norms({rows * (G + 4)}), dh({rows, p.P}), dc({rows, p.n.H}),
          gates({rows, width}), candidate_hh({rows, p.n.H}), operand({rows, p.U}), db({width});
      core::Trace<double> trace;
      trace.norms = norms.data.data(), trace.dh = dh.data.data(), trace.gates = gates.data.data();
      trace.dc = p.states > 1 ? dc.data.data() : nullptr;
      trace.candidate_hh = run.plan.cell().split_gate ? candidate_hh.data.data() : nullptr;
      trace.operand = operand.data.data();
      const Arrays<double> d = run.gradients({}, trace);
      for (Index i = 0; i < rows * width; ++i) db.at(i % width) += gates.at(i);
      CHECK(error(db, d.at("b_ih")) < 1e-12);
      double norm = 0;  // of h at the last step of the first sequence: of what comes from outside
      const Index last = (p.n.T - 1) * p.n.B;
      for (Index u = 0; u < p.P; ++u)
        norm = std::hypot(norm, p.out.at("y").at(last * p.P + u) + p.out.at("state0").at(u));
      CHECK(std::fabs(norms.at(last * (G + 4)) - norm) < 1e-12 * norm);
    });
  }
}

int main() { return check::run_all(); }
