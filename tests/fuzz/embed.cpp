// SPDX-License-Identifier: MIT
// bptt.h on whatever descriptors, pointers and sizes a program in C may hand over: a status, or
// results within the bytes that bptt_query() tells, to the same bits with packed weights, on
// threads and step by step. For libFuzzer; see scripts/fuzz.
#include <fuzzer/FuzzedDataProvider.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <thread>
#include <vector>

#include "bptt.h"

namespace {

using Bytes = FuzzedDataProvider;

void expect(bool holds) {
  if (!holds) std::abort();
}
bool rarely(Bytes& bytes) { return bytes.ConsumeIntegralInRange(0, 15) == 15; }

// Memory of an exact size: the sanitizer sees every access beyond.
struct Free {
  void operator()(void* p) const { ::operator delete(p, std::align_val_t(BPTT_ALIGNMENT)); }
};
using Memory = std::unique_ptr<void, Free>;
Memory memory(std::size_t bytes) {
  Memory m(::operator new(bytes, std::align_val_t(BPTT_ALIGNMENT)));
  std::memset(m.get(), 0xAB, bytes);
  return m;
}

// Any number as an enumerator, as C allows.
template <class Enum>
void put(Enum& e, int value) {
  std::memcpy(&e, &value, sizeof e);
}

ptrdiff_t any_size(Bytes& bytes, ptrdiff_t most) {
  constexpr ptrdiff_t some[] = {-1, PTRDIFF_MIN, PTRDIFF_MAX, ptrdiff_t(1) << 61,
                                ptrdiff_t(1) << 45};
  return rarely(bytes) ? bytes.PickValueInArray(some)
                       : bytes.ConsumeIntegralInRange<ptrdiff_t>(0, most);
}

void one_after_the_other(void*, int count, void (*task)(void*, int), void* argument) {
  for (int i = 0; i < count; ++i) task(argument, i);
}
void at_once(void*, int count, void (*task)(void*, int), void* argument) {
  std::vector<std::thread> threads;
  for (int i = 1; i < count; ++i) threads.emplace_back(task, argument, i);
  task(argument, 0);
  for (std::thread& t : threads) t.join();
}

struct Desc {
  bptt_desc d{};
  std::vector<ptrdiff_t> lengths;

  explicit Desc(Bytes& bytes) {
    constexpr const char* cells[] = {"rnn", "lstm", "gru", "lstm", "gru", "mgu", "", nullptr};
    constexpr const char* activations[] = {nullptr, "tanh", "relu", "hard_sigmoid", "other"};
    d.struct_size = sizeof d;
    d.cell = bytes.PickValueInArray(cells);
    d.activation = rarely(bytes) ? bytes.PickValueInArray(activations) : nullptr;
    put(d.dtype, rarely(bytes) ? bytes.ConsumeIntegral<int>() : bytes.ConsumeIntegralInRange(0, 1));
    d.train = bytes.ConsumeBool(), d.reverse = bytes.ConsumeBool();
    d.steps = any_size(bytes, 20), d.batch = any_size(bytes, 20);
    d.input_size = any_size(bytes, 30), d.hidden_size = any_size(bytes, 70);
    d.threads = rarely(bytes) ? bytes.ConsumeIntegral<int>() : bytes.ConsumeIntegralInRange(0, 3);
    constexpr bptt_parallel_for ways[] = {nullptr, one_after_the_other, at_once};
    d.parallel_for = bytes.PickValueInArray(ways);
    if (d.batch < 0 || d.batch > 20 || bytes.ConsumeBool()) return;
    for (ptrdiff_t b = 0; b < d.batch; ++b)
      lengths.push_back(rarely(bytes) ? any_size(bytes, 30)
                                      : bytes.ConsumeIntegralInRange<ptrdiff_t>(
                                            0, d.steps < 20 && d.steps > 0 ? d.steps : 1));
    lengths.reserve(1);
    d.lengths = lengths.data();
  }
  bool small() const {
    for (ptrdiff_t n : {d.steps, d.batch, d.input_size, d.hidden_size})
      if (n > 1000) return false;
    return d.threads < 1000;
  }
};

template <class T>
struct Array {
  std::vector<T> data;
  Array() = default;
  Array(std::mt19937& random, ptrdiff_t n, double scale) : data(static_cast<std::size_t>(n)) {
    for (T& v : data) v = static_cast<T>(scale * (double(random()) / 2147483648.0 - 1));
  }
  explicit Array(ptrdiff_t n) : data(static_cast<std::size_t>(n)) {}
  T* get() { return data.data(); }
  bool operator==(const Array& other) const {
    return data.size() == other.data.size() &&
           (data.empty() ||
            std::memcmp(data.data(), other.data.data(), data.size() * sizeof(T)) == 0);
  }
};

template <class T>
struct Layer {
  bptt_desc d;
  ptrdiff_t G, rows, state;
  Array<T> w_ih, w_hh, b_ih, b_hh, x, h0, c0, dy, dh_n, dc_n;
  bool is_lstm;

  Layer(const bptt_desc& desc, unsigned seed) : d(desc) {
    std::mt19937 random(seed);
    is_lstm = std::strcmp(d.cell, "lstm") == 0;
    G = is_lstm ? 4 : std::strcmp(d.cell, "gru") == 0 ? 3 : 1;
    rows = G * d.hidden_size, state = d.batch * d.hidden_size;
    w_ih = {random, rows * d.input_size, 0.3}, w_hh = {random, rows * d.hidden_size, 0.3};
    b_ih = {random, rows, 0.3}, b_hh = {random, rows, 0.3};
    x = {random, d.steps * d.batch * d.input_size, 1};
    h0 = {random, state, 1}, c0 = {random, is_lstm ? state : 0, 1};
    dy = {random, d.steps * state, 1}, dh_n = {random, state, 1};
    dc_n = {random, is_lstm ? state : 0, 1};
  }
  bptt_weights weights(const void* packed = nullptr) {
    return {w_ih.get(), w_hh.get(), b_ih.get(), b_hh.get(), packed};
  }
};

template <class T>
struct Results {
  Array<T> y, h_n, c_n;
  explicit Results(const Layer<T>& l)
      : y(l.d.steps * l.state), h_n(l.state), c_n(l.is_lstm ? l.state : 0) {}
  bptt_outputs outputs() { return {y.get(), h_n.get(), c_n.get()}; }
  bool operator==(const Results& o) const { return y == o.y && h_n == o.h_n && c_n == o.c_n; }
};

template <class T>
Results<T> forward(Layer<T>& l, const bptt_desc& d, const bptt_sizes& sizes, const void* packed,
                   void* tape) {
  Results<T> r(l);
  const bptt_weights w = l.weights(packed);
  const bptt_inputs in = {l.x.get(), l.h0.get(), l.is_lstm ? l.c0.get() : nullptr};
  const bptt_outputs out = r.outputs();
  const Memory workspace = memory(sizes.forward_workspace);
  expect(bptt_forward(&d, &w, &in, &out, tape, workspace.get()) == BPTT_OK);
  return r;
}

template <class T>
void backward(Bytes& bytes, Layer<T>& l, const bptt_desc& d, const bptt_sizes& sizes, Results<T>& r,
              const void* tape) {
  Array<T> dx(ptrdiff_t(l.x.data.size())), dw_ih(ptrdiff_t(l.w_ih.data.size())),
      dw_hh(ptrdiff_t(l.w_hh.data.size())), db_ih(l.rows), db_hh(l.rows), dh0(l.state),
      dc0(ptrdiff_t(l.c0.data.size()));
  const bool all = bytes.ConsumeBool();
  const bptt_cotangents given = {l.dy.get(), all ? l.dh_n.get() : nullptr,
                                 all && l.is_lstm ? l.dc_n.get() : nullptr};
  const auto some = [&](auto& array) { return rarely(bytes) ? nullptr : array.get(); };
  const bptt_gradients out = {some(dx),    some(dw_ih), some(dw_hh), some(db_ih),
                              some(db_hh), some(dh0),   some(dc0)};
  bptt_step_clip clip = {};
  put(clip.kind, bytes.ConsumeIntegralInRange(-1, 3));
  put(clip.target, bytes.ConsumeIntegralInRange(-1, 3));
  clip.bound = rarely(bytes) ? bytes.ConsumeFloatingPoint<double>() : 0.5;
  const Memory workspace = memory(sizes.backward_workspace);
  const auto run = [&](const bptt_desc& desc) {
    return bptt_backward(&desc, l.x.get(), r.y.get(), &given, bytes.ConsumeBool() ? &clip : nullptr,
                         &out, tape, workspace.get());
  };
  run(d);
  bptt_desc other = d;  // for which the tape is not
  ++other.steps, other.lengths = nullptr;
  expect(run(other) != BPTT_OK);
}

template <class T>
void step_by_step(Layer<T>& l, const bptt_sizes& sizes, const void* packed, Results<T>& want) {
  Results<T> r(l);
  const bptt_weights w = l.weights(packed);
  r.h_n = l.h0, r.c_n = l.c0;
  const Memory workspace = memory(sizes.step_workspace);
  for (ptrdiff_t t = 0; t < l.d.steps; ++t) {
    expect(bptt_step(&l.d, &w, l.x.get() + t * l.d.batch * l.d.input_size, r.h_n.get(), r.c_n.get(),
                     workspace.get()) == BPTT_OK);
    std::copy(r.h_n.data.begin(), r.h_n.data.end(), r.y.data.begin() + t * l.state);
  }
  expect(r == want);
}

template <class T>
void calls(Bytes& bytes, const bptt_desc& d, const bptt_sizes& sizes) {
  Layer<T> l(d, bytes.ConsumeIntegral<unsigned>());
  const Memory packed = memory(sizes.packed), tape = memory(sizes.tape);
  const bptt_weights w = l.weights();
  expect(bptt_pack(&d, &w, packed.get()) == BPTT_OK);
  Results<T> r = forward(l, d, sizes, nullptr, d.train ? tape.get() : nullptr);
  const Memory again = memory(sizes.tape);
  bptt_desc alone = d;
  alone.threads = 0;
  bptt_sizes of_one = {sizeof of_one, 0, 0, 0, 0, 0};
  expect(bptt_query(&alone, &of_one) == BPTT_OK);
  expect(forward(l, alone, of_one, packed.get(), d.train ? again.get() : nullptr) == r);
  if (d.train) backward(bytes, l, d, sizes, r, tape.get());
  if (!d.lengths && !d.reverse)
    step_by_step(l, sizes, bytes.ConsumeBool() ? packed.get() : nullptr, r);
}

// A struct of a size that the library may not know, followed by arbitrary bytes.
void struct_of_any_size(Bytes& bytes, const bptt_desc& d) {
  const std::size_t size = bytes.ConsumeIntegralInRange<std::size_t>(0, sizeof d + 40);
  std::vector<std::uint64_t> place(size / 8 + 2);
  std::memcpy(place.data(), &d, std::min(size, sizeof d));
  if (size > sizeof d)
    reinterpret_cast<char*>(place.data())[size - 1] = bytes.ConsumeIntegral<char>();
  place[0] = bytes.ConsumeBool() ? size : bytes.ConsumeIntegral<std::size_t>();
  if (place[0] > size && place[0] <= 4096) place[0] = size;  // as large as it says
  bptt_sizes sizes = {sizeof sizes, 0, 0, 0, 0, 0};
  bptt_query(reinterpret_cast<const bptt_desc*>(place.data()), &sizes);
}

template <class T>
void optimisers(Bytes& bytes, bptt_dtype dtype) {
  std::mt19937 random(bytes.ConsumeIntegral<unsigned>());
  const auto n = bytes.ConsumeIntegralInRange<ptrdiff_t>(0, 40);
  const auto number = [&] {
    return bytes.ConsumeBool() ? 0.5 : bytes.ConsumeFloatingPoint<double>();
  };
  Array<T> p(random, n, 1), g(random, n, 1), m(n), v(n);
  if (n && rarely(bytes)) g.data[0] = static_cast<T>(number());
  void* gradients[] = {g.get(), m.get()};
  const std::size_t sizes[] = {std::size_t(n), std::size_t(n)};
  const double a = number(), b = number(), c = number(), e = number();
  bptt_clip_grad_norm(dtype, 2, gradients, sizes, a, nullptr);
  bptt_sgd(dtype, std::size_t(n), p.get(), g.get(), v.get(), a, b);
  bptt_adam(dtype, std::size_t(n), p.get(), g.get(), m.get(), v.get(),
            bytes.ConsumeIntegral<ptrdiff_t>(), a, b, c, e);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes bytes(data, size);
  constexpr const char* isas[] = {"", "sse42", "avx2", "avx512", "neon", "generic", "other"};
  bptt_set_isa(bytes.PickValueInArray(isas));
  const Desc desc(bytes);
  struct_of_any_size(bytes, desc.d);
  bptt_sizes sizes = {sizeof sizes, 0, 0, 0, 0, 0};
  if (bptt_query(&desc.d, &sizes) != BPTT_OK) {
    expect(std::strlen(bptt_last_error()) > 10);
  } else if (desc.small()) {
    desc.d.dtype == BPTT_FLOAT32 ? calls<float>(bytes, desc.d, sizes)
                                 : calls<double>(bytes, desc.d, sizes);
  }
  bptt_dtype dtype = BPTT_FLOAT64;
  optimisers<double>(bytes, dtype);
  put(dtype, rarely(bytes) ? bytes.ConsumeIntegral<int>() | 2 : 0);
  optimisers<float>(bytes, dtype);
  bptt_status status;
  put(status, bytes.ConsumeIntegral<int>());
  expect(bptt_status_string(status) != nullptr);
  return 0;
}
