// SPDX-License-Identifier: MIT
// The C interface gives the bits of the C++ one; the rest of its promises is tested from Python.
#include <thread>

#include "bptt.h"
#include "cases.hpp"

namespace {

using Task = void (*)(void* argument, int index);

void on_threads(void*, int count, Task task, void* argument) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(task, argument, i);
  for (std::thread& thread : threads) thread.join();
}

template <class T>
bptt_desc describe(const Problem<T>& p, const std::vector<std::ptrdiff_t>& lengths) {
  bptt_desc d = {};
  d.struct_size = sizeof d;
  d.cell = p.spec.cell.c_str();
  d.dtype = sizeof(T) == sizeof(float) ? BPTT_FLOAT32 : BPTT_FLOAT64;
  d.train = 1, d.reverse = p.spec.reverse;
  d.steps = p.n.T, d.batch = p.n.B, d.input_size = p.n.I, d.hidden_size = p.n.H;
  d.lengths = lengths.empty() ? nullptr : lengths.data();
  return d;
}

template <class T>
void compare(const Case& c, Sizes n, int threads = 1) {
  const check::Within here(text(c, n) + (sizeof(T) == 4 ? " float" : " double"));
  const Problem<T> p = make_problem(c, n).template cast<T>();
  const std::vector<std::ptrdiff_t> lengths(p.lengths.data.begin(), p.lengths.data.end());
  bptt_desc d = describe(p, lengths);
  d.threads = threads, d.parallel_for = on_threads;
  const auto in = [&](const char* name) -> const void* {
    return p.in.count(name) ? p.in.at(name).data.data() : nullptr;
  };
  const auto out = [&](const char* name) -> const void* {
    return p.out.count(name) ? p.out.at(name).data.data() : nullptr;
  };
  Arrays<T> got = everything(p);  // for its names and shapes
  for (auto& [name, a] : got) std::fill(a.data.begin(), a.data.end(), T(7));
  const auto to = [&](const char* name) -> void* {
    return got.count(name) ? got.at(name).data.data() : nullptr;
  };
  bptt_sizes sizes = {};
  sizes.struct_size = sizeof sizes;
  CHECK(bptt_query(&d, &sizes) == BPTT_OK);
  const Buffer tape = buffer(sizes.tape), forward = buffer(sizes.forward_workspace),
               backward = buffer(sizes.backward_workspace), packed = buffer(sizes.packed);
  bptt_weights w = {in("w_ih"), in("w_hh"), in("b_ih"), in("b_hh"), nullptr};
  if (n.T > 1) {  // one step packs them anew
    CHECK(bptt_pack(&d, &w, packed.get()) == BPTT_OK);
    w.packed = packed.get();
  }
  const bptt_inputs inputs = {in("x"), in("state0"), in("state1")};
  const bptt_outputs outputs = {to("y"), to("state0"), to("state1")};
  const bptt_cotangents cotangents = {out("y"), out("state0"), out("state1")};
  const bptt_gradients gradients = {to("d x"),    to("d w_ih"),   to("d w_hh"),  to("d b_ih"),
                                    to("d b_hh"), to("d state0"), to("d state1")};
  CHECK(bptt_forward(&d, &w, &inputs, &outputs, tape.get(), forward.get()) == BPTT_OK);
  CHECK(bptt_backward(&d, in("x"), to("y"), &cotangents, nullptr, &gradients, tape.get(),
                      backward.get()) == BPTT_OK);
  check_same_bits(got, everything(p));
}

template <class F>
void each_case(const F& test) {
  on_every_isa([&] {
    if (bptt_set_isa(core::active_isa().c_str()) != BPTT_OK)
      return;  // it has no products in bfloat16
    CHECK_EQUAL(bptt_isa(), core::active_isa());
    for (Case c : plain_cases()) {
      if (c.id != "rnn" && c.id != "lstm" && c.id != "gru") continue;
      for (bool ragged : {false, true}) {
        c.lengths = c.spec.reverse = ragged;
        c.biases = c.state = !ragged;
        test(c);
      }
    }
  });
}

}  // namespace

TEST(the_same_bits) {
  each_case([](const Case& c) {
    for (Sizes n : small_sizes()) compare<float>(c, n), compare<double>(c, n);
  });
}

TEST(on_threads_of_the_host) {  // by sequences, and by units
  each_case([](const Case& c) {
    for (Sizes n : {Sizes{12, 24, 16, 40}, Sizes{12, 2, 96, 96}}) compare<float>(c, n, 3);
  });
}

TEST(it_says_what_is_wrong) {
  bptt_desc d = {};
  bptt_sizes sizes = {};
  sizes.struct_size = sizeof sizes;
  CHECK(bptt_query(&d, &sizes) == BPTT_WRONG_SIZE);
  const Problem<float> p = make_problem(plain("lstm"), {5, 3, 2, 4}).cast<float>();
  d = describe(p, {});
  d.batch = -1;
  CHECK(bptt_query(&d, &sizes) == BPTT_INVALID_ARGUMENT);
  CHECK(std::string(bptt_last_error()).find("batch is -1") != std::string::npos);
  d.batch = d.steps = d.hidden_size = std::ptrdiff_t(1) << (sizeof(std::ptrdiff_t) * 8 - 2);
  CHECK(bptt_query(&d, &sizes) == BPTT_TOO_LARGE);
}

int main() { return check::run_all(); }
