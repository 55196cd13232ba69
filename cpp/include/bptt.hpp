// SPDX-License-Identifier: MIT
// bptt.h for C++17: objects that own their memory, spans that know their size, exceptions. And
// layers whose sizes the compiler knows (bptt/fixed.hpp). Programs without exceptions take bptt.h
// or bptt/fixed.hpp.
//
//   bptt::Layer<float> lstm("lstm", I, H);
//   lstm.randomise(42);
//   bptt::Pass<float> pass;                              // keeps its memory for the next sequence
//   lstm.forward(x, {steps, batch}, pass);               // pass.y, pass.h_n, pass.c_n
//   lstm.backward(x, dy, pass, gradients);               // exact BPTT
//
//   bptt::Stream<float> stream(lstm);                    // no allocation from here on
//   bptt::Span<const float> h = stream.step(sample);
//
// bptt.h explains letters and layouts.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "bptt.h"
#include "bptt/fixed.hpp"

namespace bptt {

// Thrown where the library refuses a call; what() is bptt_last_error().
class Error : public std::runtime_error {
 public:
  explicit Error(bptt_status status) : std::runtime_error(bptt_last_error()), status_(status) {}
  bptt_status status() const noexcept { return status_; }

 private:
  bptt_status status_;
};

inline void check(bptt_status status) {
  if (status != BPTT_OK) throw Error(status);
}

// A view of neighbouring numbers that another object owns. Empty: an argument left out.
template <class T>
class Span {
 public:
  Span() = default;
  Span(T* data, std::size_t size) : data_(data), size_(size) {}
  template <std::size_t N>
  Span(T (&array)[N]) : data_(array), size_(N) {}
  // Of a std::vector, std::array, std::span, or another Span; for a const T even a temporary.
  template <class Container, class = decltype(std::declval<Container&>().data())>
  Span(Container&& c) : data_(c.data()), size_(c.size()) {}

  T* data() const { return data_; }
  std::size_t size() const { return size_; }
  T* begin() const { return data_; }
  T* end() const { return data_ + size_; }
  T& operator[](std::size_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

// Memory aligned to BPTT_ALIGNMENT, which only grows.
class Memory {
 public:
  // At least `bytes` bytes; the old contents are lost. Throws std::bad_alloc.
  void* reserve(std::size_t bytes) {
    if (bytes > size_) {
      memory_.reset();
      size_ = 0;
      memory_.reset(::operator new(bytes, alignment));
      size_ = bytes;
    }
    return memory_.get();
  }
  void* data() const { return memory_.get(); }

 private:
  static constexpr std::align_val_t alignment{BPTT_ALIGNMENT};
  struct Free {
    void operator()(void* p) const { ::operator delete(p, alignment); }
  };
  std::unique_ptr<void, Free> memory_;
  std::size_t size_ = 0;
};

// The sizes and options of one call.
struct Shape {
  std::ptrdiff_t steps, batch;
  bool train = true;                     // keep a tape for backward()
  bool reverse = false;                  // from the last step to the first
  Span<const std::ptrdiff_t> lengths{};  // [B], or left out: all have `steps`
  int threads = 1;
  bptt_parallel_for parallel_for = nullptr;
  void* parallel_context = nullptr;
};

// The results of a forward call, with its tape and workspace. Used again, it allocates no more.
template <class T>
struct Pass {
  std::vector<T> y;                     // [T, B, H]
  std::vector<T> h_n, c_n;              // [B, H]; c_n of lstm
  std::vector<std::ptrdiff_t> lengths;  // desc refers to them
  bptt_desc desc{};
  bptt_sizes sizes{};
  Memory tape, workspace;
};

// Weights, or their gradients: [G*H, I], [G*H, H], [G*H], [G*H].
template <class T>
struct Parameters {
  std::vector<T> w_ih, w_hh, b_ih, b_hh;

  // Calls f(array of this, array of the other) where neither is empty, as a gradient left out is.
  template <class Other, class F>
  void each(Other& other, const F& f) {
    const auto pair = [&](auto& a, auto& b) {
      if (!a.empty() && !b.empty()) f(a, b);
    };
    pair(w_ih, other.w_ih), pair(w_hh, other.w_hh);
    pair(b_ih, other.b_ih), pair(b_hh, other.b_hh);
  }
};

// The gradients that Layer::backward() computes. A gradient left out costs no time, its array is
// empty, and the others keep their bits.
struct Wanted {
  bool x = true;  // not needed of a first layer
  bool w_ih = true, w_hh = true, b_ih = true, b_hh = true;
  bool h_0 = true, c_0 = true;
};

template <class T>
struct Gradients : Parameters<T> {
  Wanted wanted;            // set before the call
  std::vector<T> x;         // [T, B, I]
  std::vector<T> h_0, c_0;  // [B, H]
};

// One recurrent layer of "rnn", "lstm" or "gru" in float or double: its weights, and the calls.
// Const functions may run on several threads at once, each with a Pass of its own.
template <class T = float>
class Layer {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>);

 public:
  // Throws Error if the library has no such cell or activation (of rnn; empty: tanh), or the sizes
  // are invalid. The weights are zeros.
  Layer(std::string cell, std::ptrdiff_t input_size, std::ptrdiff_t hidden_size,
        std::string activation = "")
      : cell_(std::move(cell)), activation_(std::move(activation)), I(input_size), H(hidden_size) {
    sizes(desc({1, 1}));
    const std::ptrdiff_t rows = gates() * H;
    weights.w_ih.resize(static_cast<std::size_t>(rows * I));
    weights.w_hh.resize(static_cast<std::size_t>(rows * H));
    weights.b_ih.resize(static_cast<std::size_t>(rows));
    weights.b_hh.resize(static_cast<std::size_t>(rows));
  }

  Parameters<T> weights;

  std::ptrdiff_t input_size() const { return I; }
  std::ptrdiff_t hidden_size() const { return H; }
  int gates() const { return cell_ == "lstm" ? 4 : cell_ == "gru" ? 3 : 1; }
  bool has_c() const { return cell_ == "lstm"; }

  // Initial weights as in PyTorch: uniform in -1/sqrt(H)..1/sqrt(H).
  void randomise(std::uint32_t seed) {
    std::mt19937 generator(seed);
    const T bound = T(1) / std::sqrt(static_cast<T>(H));
    std::uniform_real_distribution<T> uniform(-bound, bound);
    for (auto* array : {&weights.w_ih, &weights.w_hh, &weights.b_ih, &weights.b_hh})
      for (T& w : *array) w = uniform(generator);
  }

  // x: [T, B, I]; h_0, c_0: [B, H] or left out: zeros. x must stay unchanged until backward(),
  // which refuses another x (see bptt_backward() in bptt.h).
  void forward(Span<const T> x, const Shape& shape, Pass<T>& pass, Span<const T> h_0 = {},
               Span<const T> c_0 = {}) const {
    bptt_desc d = desc(shape);
    d.lengths = nullptr;
    sizes(d);  // refuses sizes that cannot be addressed, before they are multiplied
    const std::size_t state = count(shape.batch, H);
    expect("x", x, count(shape.steps, count(shape.batch, I)), false);
    expect("h_0", h_0, state), expect("c_0", c_0, has_c() ? state : 0);
    expect("lengths", shape.lengths, count(shape.batch, 1));
    pass.desc = {};  // if this call fails, backward() refuses it
    if (shape.lengths.data() != pass.lengths.data())
      pass.lengths.assign(shape.lengths.begin(), shape.lengths.end());
    if (!pass.lengths.empty()) d.lengths = pass.lengths.data();
    pass.sizes = sizes(d);
    pass.desc = d;
    pass.y.resize(count(shape.steps, state));
    pass.h_n.resize(state);
    pass.c_n.resize(has_c() ? state : 0);
    const bptt_weights w = pointers();
    const bptt_inputs inputs{x.data(), given(h_0), given(c_0)};
    const bptt_outputs outputs{pass.y.data(), pass.h_n.data(), given<T>(pass.c_n)};
    void* tape = shape.train ? pass.tape.reserve(pass.sizes.tape) : nullptr;
    check(bptt_forward(&pass.desc, &w, &inputs, &outputs, tape,
                       pass.workspace.reserve(pass.sizes.forward_workspace)));
  }

  // Gradients of a loss, given its gradients with respect to y [T, B, H], h_n and c_n [B, H], each
  // of which may be left out: zeros. x and pass: of forward() of this layer or of a copy,
  // unchanged. Writes the gradients that out.wanted names.
  void backward(Span<const T> x, Span<const T> dy, Pass<T>& pass, Gradients<T>& out,
                Span<const T> dh_n = {}, Span<const T> dc_n = {},
                const bptt_step_clip* clip = nullptr) const {
    // Described by this layer, to which the gradients are sized: the layer of forward() may be gone
    // with the names in its descriptor, or may be another one, whose tape is refused.
    bptt_desc d = pass.desc;
    const bptt_desc mine = desc({d.steps, d.batch});
    d.cell = mine.cell, d.activation = mine.activation;
    d.input_size = I, d.hidden_size = H;
    const bptt_sizes bytes = sizes(d);
    const std::size_t state = count(d.batch, H);
    expect("x", x, count(d.steps, count(d.batch, I)), false);
    expect("pass.y", Span<const T>(pass.y), count(d.steps, state), false);
    expect("dy", dy, count(d.steps, state));
    expect("dh_n", dh_n, state), expect("dc_n", dc_n, has_c() ? state : 0);
    pointers();  // refuses weights of other sizes than the gradients
    const Wanted& wanted = out.wanted;
    out.x.resize(wanted.x ? x.size() : 0);
    out.h_0.resize(wanted.h_0 ? state : 0), out.c_0.resize(wanted.c_0 && has_c() ? state : 0);
    out.w_ih.resize(wanted.w_ih ? weights.w_ih.size() : 0);
    out.w_hh.resize(wanted.w_hh ? weights.w_hh.size() : 0);
    out.b_ih.resize(wanted.b_ih ? weights.b_ih.size() : 0);
    out.b_hh.resize(wanted.b_hh ? weights.b_hh.size() : 0);
    const bptt_cotangents cotangents{given(dy), given(dh_n), given(dc_n)};
    const bptt_gradients gradients{given<T>(out.x),    given<T>(out.w_ih), given<T>(out.w_hh),
                                   given<T>(out.b_ih), given<T>(out.b_hh), given<T>(out.h_0),
                                   given<T>(out.c_0)};
    check(bptt_backward(&d, x.data(), pass.y.data(), &cotangents, clip, &gradients,
                        pass.tape.data(), pass.workspace.reserve(bytes.backward_workspace)));
  }

  bptt_desc desc(const Shape& shape) const {
    bptt_desc d{};
    d.struct_size = sizeof d;
    d.cell = cell_.c_str();
    d.activation = activation_.empty() ? nullptr : activation_.c_str();
    d.dtype = std::is_same_v<T, float> ? BPTT_FLOAT32 : BPTT_FLOAT64;
    d.train = shape.train, d.reverse = shape.reverse;
    d.steps = shape.steps, d.batch = shape.batch;
    d.input_size = I, d.hidden_size = H;
    d.lengths = shape.lengths.data();
    d.threads = shape.threads;
    d.parallel_for = shape.parallel_for, d.parallel_context = shape.parallel_context;
    return d;
  }
  static bptt_sizes sizes(const bptt_desc& d) {
    bptt_sizes s{};
    s.struct_size = sizeof s;
    check(bptt_query(&d, &s));
    return s;
  }
  bptt_weights pointers() const {
    const std::size_t rows = count(gates(), H);
    expect("weights.w_ih", Span<const T>(weights.w_ih), rows * count(I, 1), false);
    expect("weights.w_hh", Span<const T>(weights.w_hh), rows * count(H, 1), false);
    expect("weights.b_ih", Span<const T>(weights.b_ih), rows);
    expect("weights.b_hh", Span<const T>(weights.b_hh), rows);
    return {weights.w_ih.data(), weights.w_hh.data(), given<const T>(weights.b_ih),
            given<const T>(weights.b_hh), nullptr};
  }

 private:
  template <class Size>
  static std::size_t count(std::ptrdiff_t n, Size size) {
    return static_cast<std::size_t>(n) * static_cast<std::size_t>(size);
  }
  // Null for an empty span: an empty vector may still have memory.
  template <class U>
  static U* given(Span<U> span) {
    return span.size() ? span.data() : nullptr;
  }
  template <class U>
  static void expect(const char* name, Span<U> span, std::size_t size, bool optional = true) {
    if (!span.size() && optional) return;
    if (span.size() == size && !span.data() && size)
      throw std::invalid_argument(std::string("bptt::Layer: ") + name + " is null, expected " +
                                  std::to_string(size) + " numbers");
    if (span.size() == size) return;
    throw std::invalid_argument(std::string("bptt::Layer: ") + name + " has " +
                                std::to_string(span.size()) + " numbers, expected " +
                                std::to_string(size));
  }

  std::string cell_, activation_;
  std::ptrdiff_t I, H;
};

// A layer that runs step by step. Later changes of the layer's weights do not reach it.
template <class T = float>
class Stream {
 public:
  explicit Stream(const Layer<T>& layer, std::ptrdiff_t batch = 1)
      : layer_(layer), desc_(layer_.desc({1, batch, false})) {
    const bptt_sizes sizes = Layer<T>::sizes(desc_);
    h.resize(static_cast<std::size_t>(batch * layer.hidden_size()));
    c.resize(layer.has_c() ? h.size() : 0);
    workspace_.reserve(sizes.step_workspace);
    bptt_weights weights = layer_.pointers();
    check(bptt_pack(&desc_, &weights, packed_.reserve(sizes.packed)));
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  void reset() noexcept {
    for (T& value : h) value = 0;
    for (T& value : c) value = 0;
  }

  // x: [B, I]. Returns h, [B, H], valid until the next call. Never allocates.
  Span<const T> step(const T* x) {
    const auto size = static_cast<std::size_t>(desc_.batch * desc_.hidden_size);
    if (h.size() != size || c.size() != (layer_.has_c() ? size : 0))
      throw std::invalid_argument("bptt::Stream: h or c has another size than before");
    const bptt_weights weights{nullptr, nullptr, nullptr, nullptr, packed_.data()};
    check(bptt_step(&desc_, &weights, x, h.data(), c.empty() ? nullptr : c.data(),
                    workspace_.data()));
    return h;
  }

 private:
  const Layer<T> layer_;  // desc_ refers to its name
  const bptt_desc desc_;
  Memory packed_, workspace_;

 public:
  std::vector<T> h, c;  // the state, [B, H]; may be read and written between steps, not resized
};

// Adam over the arrays of a layer (or any others): one object for each array.
template <class T = float>
class Adam {
 public:
  explicit Adam(double lr = 1e-3, double beta1 = 0.9, double beta2 = 0.999, double eps = 1e-8)
      : lr_(lr), beta1_(beta1), beta2_(beta2), eps_(eps) {}

  void step(Span<T> parameters, Span<const T> gradients) {
    if (parameters.size() != gradients.size())
      throw std::invalid_argument("bptt::Adam: gradients have another size than parameters");
    if (steps_ && parameters.size() != mean_.size())
      throw std::invalid_argument("bptt::Adam: parameters have another size than before");
    mean_.resize(parameters.size()), square_.resize(parameters.size());
    check(bptt_adam(std::is_same_v<T, float> ? BPTT_FLOAT32 : BPTT_FLOAT64, parameters.size(),
                    parameters.data(), gradients.data(), mean_.data(), square_.data(), steps_ + 1,
                    lr_, beta1_, beta2_, eps_));
    ++steps_;
  }

 private:
  double lr_, beta1_, beta2_, eps_;
  std::ptrdiff_t steps_ = 0;
  std::vector<T> mean_, square_;
};

}  // namespace bptt
