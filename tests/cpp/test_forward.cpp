// SPDX-License-Identifier: MIT
// The forward pass equals the equations, in both precisions, on every instruction set.
#include "cases.hpp"
#include "equations.hpp"

namespace {

template <class T>
void compare(const Case& c, Sizes n) {
  const check::Within here(text(c, n) + (sizeof(T) == 4 ? " float" : " double"));
  const Problem<T> p = make_problem(c, n).template cast<T>();
  const Arrays<double> want = textbook::results(p.template cast<double>());
  on_every_isa([&] { check_close(Run<T>(p).results, want, tolerance<T>); });
}

}  // namespace

TEST(every_cell_at_every_size) {
  for (const Case& c : plain_cases())
    for (Sizes n : small_sizes()) compare<float>(c, n), compare<double>(c, n);
}

TEST(every_option_of_every_cell) {
  for (const Case& c : all_cases())
    for (Sizes n : few_sizes(c)) compare<float>(c, n), compare<double>(c, n);
}

TEST(a_tape_shows_the_states) {
  for (const Case& c : plain_cases()) {
    const check::Within here(c.id);
    const Problem<double> p = make_problem(c, {5, 3, 2, 9});
    on_every_isa([&] {
      const Run<double> run(p);
      const std::vector<std::string> names = run.plan.names();
      Array<double> values({p.n.T, p.n.B, p.n.H});
      const Index rows = p.n.B * p.n.H, last = (p.n.T - 1) * rows;
      for (int q = 1; q < p.states && c.id != "lstm1997"; ++q) {  // its i and o are gates as well
        const int which = run.plan.cell().values + q - 1;
        run.plan.read(run.tape.get(), which, values.data.data());
        const Array<double>& state = run.results.at("state" + std::to_string(q));
        CHECK(same_bits(values.data.data() + last, state.data.data(), rows));
      }
      for (int g = 0; g < run.plan.cell().values; ++g) {  // of all cells they are bounded
        run.plan.read(run.tape.get(), g, values.data.data());
        double least = INFINITY, most = -INFINITY;
        for (double v : values.data) least = std::fmin(least, v), most = std::fmax(most, v);
        CHECK(least > -1.0001 && most < 1.0001 && least < most);
      }
      CHECK(names.size() >= size(run.plan.cell().values));
    });
  }
}

int main() { return check::run_all(); }
