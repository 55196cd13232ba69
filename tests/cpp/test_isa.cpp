// SPDX-License-Identifier: MIT
// Instruction sets give the same numbers, but for rounding; and what is chosen is what runs.
#include "threads/count.hpp"
#include "cases.hpp"

namespace {

template <class T>
void agree(const Case& c, Sizes n) {
  const check::Within here(text(c, n));
  const Problem<T> p = make_problem(c, n).template cast<T>();
  Arrays<T> first;
  on_every_isa([&] {
    const Arrays<T> all = everything(p);
    if (first.empty()) first = all;
    check_close(all, first, tolerance<T>);
  });
}

}  // namespace

TEST(what_is_chosen_runs) {
  CHECK(!core::compiled_isas().empty());
  CHECK(!core::available_isas().empty());
  std::string all;
  for (const std::string& isa : core::available_isas()) {
    all += " " + isa;
    core::set_isa(isa);
    CHECK_EQUAL(core::active_isa(), isa);
    CHECK(core::fma_gflops(1e-3) > 0);
  }
  std::printf("kernels here:%s\n", all.c_str());
}

TEST(the_list_of_cells) {
  std::string all;
  for (const core::CellInfo& c : core::cells())
    all += c.name + " " + std::to_string(c.gates) + " " + std::to_string(c.states) + ", ";
  CHECK_EQUAL(all, "rnn 1 1, lstm 4 2, gru 3 1, slstm 4 4, mgu 2 1, lstm1997 3 4, ");
}

TEST(they_agree) {
  for (Case c : plain_cases()) {
    c.lengths = true;
    for (Sizes n : {Sizes{12, 20, 40, 65}, Sizes{130, 3, 7, 48}})
      agree<float>(c, n), agree<double>(c, n);
  }
}

// Eight bits of mantissa: a product is off by 2^-8 at most.
TEST(products_in_bfloat16) {
  int there = 0;
  for (const char* cell : {"rnn", "lstm", "gru"}) {
    Problem<float> p = make_problem(plain(cell), {12, 20, 40, 65}).cast<float>();
    const Arrays<float> want = everything(p);
    on_every_isa([&] {
      const bool has = core::has_bf16();
      there += has;
      p.spec.bf16 = true;
      if (has)
        check_close(everything(p), want, 0.05);
      else
        CHECK(check::refusal([&] { core::Plan<float>(p.spec, p.inputs()); }) != "");
      p.spec.bf16 = false;
    });
  }
  if (!there) std::puts("no instruction set with products in bfloat16 here");
}

TEST(how_many_threads) {
  core::set_threads(3);
  CHECK(core::threads() == 3);
  core::set_threads(0);
  CHECK(core::threads() >= 1 && core::threads() <= core::most_threads);
}

int main() { return check::run_all(); }
