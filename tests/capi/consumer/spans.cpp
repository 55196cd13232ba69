// SPDX-License-Identifier: MIT
// Every span that bptt.hpp takes, one shorter, one longer, and null where its numbers should be: an
// exception, and not a byte read behind what is there (memory ends where a page does, and the next
// one may not be touched).
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "bptt.hpp"

namespace {

constexpr std::ptrdiff_t T = 5, B = 3, I = 2, H = 4,
                         most = std::numeric_limits<std::ptrdiff_t>::max();
int failures = 0;

// n numbers at the end of a page; never freed.
template <class Number>
bptt::Span<Number> at_end(std::size_t n, Number value) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  char* memory = static_cast<char*>(
      mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  mprotect(memory + page, page, PROT_NONE);
  auto* numbers = reinterpret_cast<std::remove_const_t<Number>*>(memory + page) - n;
  for (std::size_t i = 0; i < n; ++i) numbers[i] = value;
  return {numbers, n};
}

// "" if f() works, else what it says.
std::string outcome(const std::function<void()>& f) {
  try {
    f();
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

void expect(const std::string& what, const std::string& got, const std::string& want) {
  if (want.empty() ? got.empty() : got.find(want) != std::string::npos) return;
  std::printf("%s: \"%s\", expected \"%s\"\n", what.c_str(), got.c_str(), want.c_str());
  ++failures;
}

template <class Number>
struct Given {
  const char* name;
  std::size_t size;
  bool optional;
  bptt::Span<Number> span;
};

// f() with one span after the other of each wrong kind, and with all as they should be.
template <class Number, std::size_t N>
void each_wrong(const char* what, Given<Number> (&all)[N], const std::function<void()>& f) {
  for (Given<Number>& g : all) g.span = at_end<Number>(g.size, Number(0));
  expect(what, outcome(f), "");
  for (Given<Number>& g : all) {
    const std::string where = std::string(what) + ", " + g.name;
    const std::string has = std::string("bptt::Layer: ") + g.name + " has ";
    const std::string expected = " numbers, expected " + std::to_string(g.size);
    const bptt::Span<Number> right = g.span;
    for (std::size_t n : {g.size - 1, g.size + 1, std::size_t(1), 2 * g.size}) {
      g.span = at_end<Number>(n, Number(0));
      expect(where, outcome(f), has + std::to_string(n) + expected);
    }
    for (std::size_t n : {std::size_t(most), std::numeric_limits<std::size_t>::max()}) {
      g.span = {right.data(), n};
      expect(where, outcome(f), has + std::to_string(n) + expected);
    }
    g.span = {nullptr, g.size};
    expect(where + " null", outcome(f), std::string("bptt::Layer: ") + g.name + " is null");
    for (Number* p : {right.data(), static_cast<Number*>(nullptr)}) {
      g.span = {p, 0};
      expect(where + " empty", outcome(f), g.optional ? "" : has + "0" + expected);
    }
    g.span = right;
  }
}

template <class Number>
void spans(const char* cell) {
  bptt::Layer<Number> layer(cell, I, H);
  layer.randomise(1);
  const std::size_t state = B * H, c = layer.has_c() ? state : 0;
  bptt::Pass<Number> pass;
  using In = const Number;
  Given<In> in[] = {{"x", T * B * I, false, {}}, {"h_0", state, true, {}}};
  each_wrong<In>("forward", in, [&] { layer.forward(in[0].span, {T, B}, pass, in[1].span); });
  if (c) {
    Given<In> c_0[] = {{"c_0", c, true, {}}};
    each_wrong<In>("forward", c_0,
                   [&] { layer.forward(in[0].span, {T, B}, pass, {}, c_0[0].span); });
  }
  bptt::Gradients<Number> out;
  layer.forward(in[0].span, {T, B}, pass);
  Given<In> back[] = {
      {"x", T * B * I, false, {}}, {"dy", T * state, true, {}}, {"dh_n", state, true, {}}};
  each_wrong<In>("backward", back,
                 [&] { layer.backward(back[0].span, back[1].span, pass, out, back[2].span); });
  if (c) {
    Given<In> dc_n[] = {{"dc_n", c, true, {}}};
    each_wrong<In>("backward", dc_n,
                   [&] { layer.backward(in[0].span, {}, pass, out, {}, dc_n[0].span); });
  } else {
    const auto some = at_end<In>(state, 0);
    expect("c_0", outcome([&] { layer.forward(in[0].span, {T, B}, pass, {}, some); }),
           "c_0 has 12 numbers, expected 0");
    layer.forward(in[0].span, {T, B}, pass);
    expect("dc_n", outcome([&] { layer.backward(in[0].span, {}, pass, out, {}, some); }),
           "dc_n has 12 numbers, expected 0");
  }
}

void lengths() {
  const bptt::Layer<float> layer("lstm", I, H);
  const auto x = at_end<const float>(T * B * I, 1);
  bptt::Pass<float> pass;
  bptt::Gradients<float> out;
  using Length = const std::ptrdiff_t;
  bptt::Shape shape{T, B};
  Given<Length> given[] = {{"lengths", B, true, {}}};
  each_wrong<Length>("forward", given, [&] {
    shape.lengths = given[0].span;
    layer.forward(x, shape, pass);
  });
  // They are the pass's own: what was given may be gone at backward(), and a pass is used again.
  std::vector<std::ptrdiff_t> some{5, 0, 2};
  shape.lengths = some;
  layer.forward(x, shape, pass);
  some.assign(3, most);
  expect("lengths of the pass", outcome([&] { layer.backward(x, {}, pass, out); }), "");
  shape.lengths = pass.lengths;
  expect("the same again", outcome([&] { layer.forward(x, shape, pass); }), "");
  expect("the same again", outcome([&] { layer.backward(x, {}, pass, out); }), "");
  some = {5, 6, 2};
  shape.lengths = some;
  expect("too long", outcome([&] { layer.forward(x, shape, pass); }), "desc.lengths[1] is 6");
  expect("after a refusal", outcome([&] { layer.backward(x, {}, pass, out); }), "struct_size is 0");
}

// Sizes at both ends, with lengths of a few sequences.
void sizes() {
  const bptt::Layer<float> layer("gru", I, H);
  bptt::Pass<float> pass;
  const auto x = at_end<const float>(T * B * I, 1);
  const auto few = at_end<const std::ptrdiff_t>(2, 1);
  for (std::ptrdiff_t n : {most, most / 2, most / 4, std::ptrdiff_t(1) << 61}) {
    expect("steps", outcome([&] { layer.forward(x, {n, B}, pass); }), "cannot be addressed");
    expect("batch", outcome([&] { layer.forward(x, {T, n}, pass); }), "cannot be addressed");
    expect("lengths", outcome([&] { layer.forward(x, {T, n, true, false, few}, pass); }),
           "cannot be addressed");
    expect("inputs", outcome([&] { bptt::Layer<double>("rnn", n, 1); }), "cannot be addressed");
    expect("units", outcome([&] { bptt::Layer<double>("rnn", 1, n); }), "cannot be addressed");
    expect("stream", outcome([&] { bptt::Stream<float>(layer, n); }), "cannot be addressed");
  }
  for (std::ptrdiff_t n : {std::ptrdiff_t(-1), -most - 1}) {
    expect("steps", outcome([&] { layer.forward(x, {n, B}, pass); }), "desc.steps is -");
    expect("batch", outcome([&] { layer.forward(x, {T, n, true, false, few}, pass); }),
           "desc.batch is -");
    expect("inputs", outcome([&] { bptt::Layer<double>("rnn", n, 1); }), "desc.input_size is -");
    expect("units", outcome([&] { bptt::Layer<double>("rnn", 1, n); }), "desc.hidden_size is -");
    expect("stream", outcome([&] { bptt::Stream<float>(layer, n); }), "desc.batch is -");
  }
  const std::ptrdiff_t many = std::ptrdiff_t(1) << 30;  // which can be addressed, and are not there
  expect("lengths", outcome([&] { layer.forward(x, {1, many, true, false, few}, pass); }),
         "x has 30 numbers, expected 2147483648");
  expect("no steps", outcome([&] { layer.forward({}, {0, B}, pass); }), "");
  expect("no sequences", outcome([&] { layer.forward({}, {T, 0}, pass); }), "");
  bptt::Gradients<float> out;
  expect("no sequences", outcome([&] { layer.backward({}, {}, pass, out); }), "");
  bptt::Stream<float> none(layer, 0);
  expect("no sequences", outcome([&] { none.step(nullptr); }), "");
}

// What belongs to the caller, and may have been resized.
void resized() {
  bptt::Layer<float> layer("lstm", I, H);
  const auto x = at_end<const float>(T * B * I, 1);
  bptt::Pass<float> pass;
  bptt::Gradients<float> out;
  layer.forward(x, {T, B}, pass);
  layer.backward(x, {}, pass, out);
  for (auto* w : {&layer.weights.w_ih, &layer.weights.w_hh}) {
    const std::vector<float> kept = *w;
    for (std::size_t n : {kept.size() - 1, kept.size() + 1, std::size_t(0)}) {
      w->assign(n, 0);
      expect("weights", outcome([&] { layer.forward(x, {T, B}, pass); }),
             "bptt::Layer: weights.w_");
      expect("weights", outcome([&] { layer.backward(x, {}, pass, out); }),
             "bptt::Layer: weights.w_");
    }
    *w = kept;
    layer.forward(x, {T, B}, pass);
  }
  layer.weights.b_ih.clear(), layer.weights.b_hh.clear();  // no biases; their memory is still there
  layer.forward(x, {T, B}, pass);
  expect("no biases", outcome([&] { layer.backward(x, {}, pass, out); }), "");
  if (!out.b_ih.empty() || !out.b_hh.empty()) ++failures;
  bptt::Stream<float> stream(layer);
  stream.step(x.data());
  stream.h.resize(H - 1);
  expect("stream", outcome([&] { stream.step(x.data()); }),
         "bptt::Stream: h or c has another size");
  stream.h.resize(H), stream.c.clear();
  expect("stream", outcome([&] { stream.step(x.data()); }),
         "bptt::Stream: h or c has another size");
}

// An x or y that has changed since forward().
void changed() {
  bptt::Layer<double> layer("gru", I, H);
  layer.randomise(3);
  std::vector<double> x(T * B * I, 1);
  bptt::Pass<double> pass;
  bptt::Gradients<double> out;
  layer.forward(x, {T, B}, pass);
  const std::vector<double> moved = x;
  expect("moved", outcome([&] { layer.backward(moved, {}, pass, out); }), "");
  x[7] += 1;
  expect("x", outcome([&] { layer.backward(x, {}, pass, out); }), "bptt_backward: x has changed");
  x[7] -= 1;
  pass.y[3] = 0.5;
  expect("y", outcome([&] { layer.backward(x, {}, pass, out); }), "bptt_backward: y has changed");
}

// Each gradient left out on its own: its array is empty, and the others are as they were.
void gradients_left_out() {
  bptt::Layer<float> layer("lstm", I, H);
  layer.randomise(1);
  const std::vector<float> x(T * B * I, 0.5f), dy(T * B * H, 1.0f);
  bptt::Pass<float> pass;
  layer.forward(x, {T, B}, pass);
  bptt::Gradients<float> all, some;
  layer.backward(x, dy, pass, all);
  const auto arrays = [](bptt::Gradients<float>& g) {
    return std::vector<std::vector<float>*>{&g.x,    &g.w_ih, &g.w_hh, &g.b_ih,
                                            &g.b_hh, &g.h_0,  &g.c_0};
  };
  bptt::Wanted& w = some.wanted;
  bool* wanted[] = {&w.x, &w.w_ih, &w.w_hh, &w.b_ih, &w.b_hh, &w.h_0, &w.c_0};
  for (std::size_t k = 0; k < 7; ++k) {
    *wanted[k] = false;
    layer.backward(x, dy, pass, some);
    for (std::size_t i = 0; i < 7; ++i) {
      const auto &found = *arrays(some)[i], &whole = *arrays(all)[i];
      if (i == k ? !found.empty() : found != whole) ++failures;
    }
    int pairs = 0;  // an optimiser skips the weights without a gradient
    layer.weights.each(some, [&](auto&, auto&) { ++pairs; });
    if (pairs != (1 <= k && k <= 4 ? 3 : 4)) ++failures;
    *wanted[k] = true;
  }
}

void adam() {
  bptt::Adam<float> adam;
  const auto w = at_end<float>(4, 1);
  const bptt::Span<float> null{nullptr, 4};
  for (std::size_t n : {std::size_t(3), std::size_t(5), std::size_t(0)})
    expect("adam", outcome([&] { adam.step(w, at_end<const float>(n, 1)); }), "another size");
  expect("adam", outcome([&] { adam.step(null, at_end<const float>(4, 1)); }),
         "parameters is null");
  expect("adam", outcome([&] { adam.step(w, bptt::Span<const float>{nullptr, 4}); }),
         "gradients is null");
  expect("adam", outcome([&] { adam.step(w, at_end<const float>(4, 1)); }), "");
  expect("adam", outcome([&] { adam.step(at_end<float>(5, 1), at_end<const float>(5, 1)); }),
         "another size");
}

}  // namespace

int main() {
  for (const char* cell : {"rnn", "lstm", "gru"}) spans<float>(cell), spans<double>(cell);
  lengths();
  sizes();
  resized();
  changed();
  adam();
  gradients_left_out();
  std::printf(failures ? "%d failures\n" : "all as expected\n", failures);
  return 0;
}
