// SPDX-License-Identifier: MIT
// Recurrent layers of compile-time sizes, one step per call, for audio and control: Lstm<I, H>,
// Gru<I, H>, Rnn<I, H> (tanh), and Dense<I, O> for the output, float or double. Inference only.
//
//   static bptt::Lstm<1, 16> lstm;                 // weights and state inside: 4.8 kB
//   static bptt::Dense<16, 1> out;
//   lstm.load(w_ih, w_hh, b_ih, b_hh);             // PyTorch's arrays, copied
//   out.load(w, b);
//   for (int t = 0; t < n; ++t) y[t] = *out.step(lstm.step(&x[t]));
//
// No other file is needed: only GCC or Clang (on Windows: clang-cl) and C++17, links to
// nothing, and may be compiled for any -march, with -ffast-math or without. No function allocates,
// locks, throws or calls the system. An object belongs to one thread at a time; a new one is all
// zeros. Objects can be copied; their bytes can be saved, for the same program to read.
//
// Numbers agree with the core and PyTorch to rounding: sigmoid and tanh have absolute errors below
// 2e-7 (float) and 4e-16 (double), tanh also a relative one near 0 of that order. NaN in, NaN out
// (not with -ffast-math). All arrays are C-contiguous.
#pragma once
#include <cstddef>
#include <cstdint>

#if !defined(__GNUC__) && !defined(__clang__)
#error "bptt/fixed.hpp needs the vector extensions of GCC or Clang (on Windows: clang-cl)"
#endif

// The widest vectors of the target, which make the layout of an object, and its instructions are
// part of the name of a type: a program may hold the same layer compiled for several targets.
#if defined(__AVX512F__)
#define BPTT_FIXED_TARGET fixed_avx512
#define BPTT_FIXED_BYTES 64
#elif defined(__AVX2__) && defined(__FMA__)
#define BPTT_FIXED_TARGET fixed_avx2_fma
#define BPTT_FIXED_BYTES 32
#elif defined(__AVX2__)
#define BPTT_FIXED_TARGET fixed_avx2
#define BPTT_FIXED_BYTES 32
#elif defined(__AVX__)
#define BPTT_FIXED_TARGET fixed_avx
#define BPTT_FIXED_BYTES 16
#elif defined(__SSE4_1__)
#define BPTT_FIXED_TARGET fixed_sse41
#define BPTT_FIXED_BYTES 16
#else
#define BPTT_FIXED_TARGET fixed_baseline
#define BPTT_FIXED_BYTES 16
#endif
#define BPTT_FIXED_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define BPTT_FIXED_UNROLL _Pragma("clang loop unroll(full)")
#else
#define BPTT_FIXED_UNROLL _Pragma("GCC unroll 16")
#endif

namespace bptt {
inline namespace BPTT_FIXED_TARGET {
namespace fixed {

template <class T>
struct Bits;
template <>
struct Bits<float> {
  using Int = std::uint32_t;
  static constexpr Int mantissa = 23, one = 0x3f800000;
  static constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  // Minimax polynomials on [-1/2, 1/2]: 2^r, relative error 7.5e-8, and (2^r - 1) / r, 1.1e-8.
  static constexpr float exp2[] = {1.0f,          0.6931469440f, 0.2402212024f,
                                   0.0555071346f, 0.0096755419f, 0.0013276470f};
  static constexpr float expm1[] = {0.6931471825f, 0.2402264923f, 0.0555035733f,
                                    0.0096182376f, 0.0013390735f, 1.5403511e-4f};
};
template <>
struct Bits<double> {
  using Int = std::uint64_t;
  static constexpr Int mantissa = 52, one = 0x3ff0000000000000;
  static constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
  // ln(2)^k / k!: the error of the first 13 terms is below 2e-16.
  static constexpr double expm1[] = {
      0.6931471805599453,     0.2402265069591007,     0.055504108664821576,
      0.009618129107628477,   0.0013333558146428441,  0.00015403530393381606,
      1.5252733804059838e-05, 1.3215486790144305e-06, 1.0178086009239696e-07,
      7.054911620801121e-09,  4.44553827187081e-10,   2.5678435993488196e-11,
      1.3691488853904124e-12};
};

// L numbers at a time, and the functions of them that the cells need.
template <class T, std::size_t L>
struct Simd {
  using Number = T;
  static constexpr std::size_t lanes = L;
  typedef T V __attribute__((vector_size(L * sizeof(T))));
  typedef typename Bits<T>::Int N __attribute__((vector_size(L * sizeof(T))));

  static BPTT_FIXED_INLINE V load(const T* p) noexcept {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static BPTT_FIXED_INLINE void store(T* p, V v) noexcept { __builtin_memcpy(p, &v, sizeof v); }

  // s - 0, as 0 + s is no identity for -0 and would cost an addition.
  static BPTT_FIXED_INLINE V splat(T s) noexcept { return s - V{}; }

  static BPTT_FIXED_INLINE V fma(V a, V b, V c) noexcept {
#if defined(__clang__)
#pragma clang fp contract(fast)
#endif
    return a * b + c;
  }

  // The compiler knows nothing about the result: it can neither reorder sums around it, as
  // -ffast-math allows, nor exchange the operands of a comparison.
  static BPTT_FIXED_INLINE V opaque(V v) noexcept {
#if defined(__SSE2__)
    asm("" : "+v"(v));
#elif defined(__aarch64__)
    asm("" : "+w"(v));
#else
    asm("" : "+m"(v));
#endif
    return v;
  }

  // Into [-limit, limit]; NaN stays NaN (so the instructions for it must have x as second operand).
  static BPTT_FIXED_INLINE V clamp(V x, T limit) noexcept {
    const V high = opaque(splat(limit)), low = opaque(splat(-limit));
    x = high < x ? high : x;
    return low > x ? low : x;
  }

  // sum c[i] r^i by Estrin's scheme: on the way from h to h, Horner's would take twice as long.
  template <std::size_t n>
  static BPTT_FIXED_INLINE V estrin(const V (&c)[n], V r) noexcept {
    if constexpr (n == 1) {
      return c[0];
    } else {
      V half[(n + 1) / 2];
      BPTT_FIXED_UNROLL for (std::size_t i = 0; i < n / 2; ++i) half[i] =
          fma(c[2 * i + 1], r, c[2 * i]);
      if constexpr (n % 2) half[n / 2] = c[n - 1];
      return estrin(half, r * r);
    }
  }
  template <std::size_t n>
  static BPTT_FIXED_INLINE V polynomial(const T (&c)[n], V r) noexcept {
    V v[n];
    BPTT_FIXED_UNROLL for (std::size_t i = 0; i < n; ++i) v[i] = splat(c[i]);
    return estrin(v, r);
  }

  // 2^(k x) = power * 2^r, where power = 2^n, n an integer, |r| <= 1/2. Beyond |k x| = 60 sigmoid
  // and tanh are within 2^-60 of their limits, and no product of two of their denominators
  // overflows.
  struct Split {
    V power, r;
    BPTT_FIXED_INLINE Split(V x, T k) noexcept {
      const V scale = splat(k), magic = splat(Bits<T>::magic);
      x = clamp(x, 60 / (k < 0 ? -k : k));
      const V shifted = opaque(fma(x, scale, magic));
      r = fma(x, scale, opaque(magic - shifted));
      power =
          reinterpret_cast<V>((reinterpret_cast<N>(shifted) << Bits<T>::mantissa) + Bits<T>::one);
    }
  };
  static constexpr T log2_e = static_cast<T>(1.4426950408889634);

  // 1 + e^-x, the denominator of sigmoid(x).
  static BPTT_FIXED_INLINE V sigmoid_denominator(V x) noexcept {
    const Split s(x, -log2_e);
    if constexpr (sizeof(T) == 4)
      return fma(s.power, polynomial(Bits<T>::exp2, s.r), splat(1));
    else
      return fma(s.power * s.r, polynomial(Bits<T>::expm1, s.r), s.power + splat(1));
  }
  // tanh(x) / d = (e^2x - 1) / (d e^2x + d), by one division. Nothing waits for d.
  static BPTT_FIXED_INLINE V tanh_over(V x, V d) noexcept {
    const Split s(x, 2 * log2_e);
    const V p = polynomial(Bits<T>::expm1, s.r), pr = s.power * s.r;
    return fma(pr, p, opaque(s.power - splat(1))) / fma(d * pr, p, d * (s.power + splat(1)));
  }
  static BPTT_FIXED_INLINE V tanh(V x) noexcept { return tanh_over(x, splat(1)); }
};

// The cells. Gate g of w_ih x adds to sum x_sum[g] of a unit, gate g of w_hh h to h_sum[g]; the
// next states follow from the sums a and the states s. For the chains see Sums, below.
struct LstmCell {
  static constexpr std::size_t gates = 4, sums = 4, states = 2, chains = 2;
  static constexpr std::size_t x_sum[] = {0, 1, 2, 3}, h_sum[] = {0, 1, 2, 3};
  // c' = sig(f) c + sig(i) tanh(g),  h' = sig(o) tanh(c'); products of quotients by one division
  template <class S, class V>
  static BPTT_FIXED_INLINE void forward(const V* a, V* s) noexcept {
    const V i = S::sigmoid_denominator(a[0]), f = S::splat(1) / S::sigmoid_denominator(a[1]),
            o = S::sigmoid_denominator(a[3]);
    s[1] = S::fma(f, s[1], S::tanh_over(a[2], i));
    s[0] = S::tanh_over(s[1], o);
  }
};
struct GruCell {
  static constexpr std::size_t gates = 3, sums = 4, states = 1, chains = 4;
  static constexpr std::size_t x_sum[] = {0, 1, 2}, h_sum[] = {0, 1, 3};
  // n = tanh(x_n + sig(r) h_n),  h' = (1 - sig(z)) n + sig(z) h
  template <class S, class V>
  static BPTT_FIXED_INLINE void forward(const V* a, V* s) noexcept {
    const V z = S::splat(1) / S::sigmoid_denominator(a[1]);
    const V n = S::tanh(a[2] + a[3] / S::sigmoid_denominator(a[0]));
    s[0] = S::fma(S::splat(1) - z, n, z * s[0]);
  }
};
struct RnnCell {
  static constexpr std::size_t gates = 1, sums = 1, states = 1, chains = 8;
  static constexpr std::size_t x_sum[] = {0}, h_sum[] = {0};
  template <class S, class V>
  static BPTT_FIXED_INLINE void forward(const V* a, V* s) noexcept {
    s[0] = S::tanh(a[0]);
  }
};

// Blocks of as many units as a vector has lanes; the last one may be shorter, padded with zeros.
template <class T, std::size_t units>
struct Blocks {
  static constexpr std::size_t lanes = BPTT_FIXED_BYTES / sizeof(T);
  static constexpr std::size_t full = units / lanes * lanes, rest = units - full;
  static constexpr std::size_t smallest = 16 / sizeof(T);
  static constexpr std::size_t tail =
      rest > 2 * smallest ? lanes : (rest + smallest - 1) / smallest * smallest;
  static constexpr std::size_t padded = full + tail;

  // The first unit of the block of unit u, and the number of units in the block.
  static constexpr std::size_t first(std::size_t u) noexcept {
    return u < full ? u / lanes * lanes : full;
  }
  static constexpr std::size_t size(std::size_t u) noexcept { return u < full ? lanes : tail; }
};

// Sums of products for each unit of a block, in C chains, so that none waits for another.
template <class S, std::size_t sums, std::size_t C>
struct Sums {
  using V = typename S::V;
  using T = typename S::Number;
  V a[C][sums] = {};

  BPTT_FIXED_INLINE explicit Sums(const T* bias) noexcept {
    BPTT_FIXED_UNROLL for (std::size_t i = 0; i < sums; ++i) a[0][i] = S::load(bias + i * S::lanes);
  }
  // w: [n][gates][lanes]; w[:, g] x goes to sum to[g].
  template <std::size_t n, std::size_t gates>
  BPTT_FIXED_INLINE void add(const T* w, const T* x, const std::size_t (&to)[gates]) noexcept {
    std::size_t k = 0;
    for (; k + C <= n; k += C)
      BPTT_FIXED_UNROLL for (std::size_t i = 0; i < C; ++i) add_one(i, w, x, k + i, to);
    BPTT_FIXED_UNROLL for (std::size_t i = 0; i < n % C; ++i) add_one(i, w, x, k + i, to);
  }
  BPTT_FIXED_INLINE void store(T* total) noexcept {
    BPTT_FIXED_UNROLL for (std::size_t i = 0; i < sums; ++i) {
      BPTT_FIXED_UNROLL for (std::size_t j = 1; j < C; ++j) a[0][i] += a[j][i];
      S::store(total + i * S::lanes, a[0][i]);
    }
  }

 private:
  template <std::size_t gates>
  BPTT_FIXED_INLINE void add_one(std::size_t chain, const T* w, const T* x, std::size_t k,
                                 const std::size_t (&to)[gates]) noexcept {
    BPTT_FIXED_UNROLL for (std::size_t g = 0; g < gates; ++g) {
      V& sum = a[chain][to[g]];
      sum = S::fma(S::load(w + (k * gates + g) * S::lanes), S::splat(x[k]), sum);
    }
  }
};

template <class Cell, std::size_t I, std::size_t H, class T>
class Recurrent {
  static_assert(I > 0 && H > 0, "a layer has at least one input and one unit");
  using B = Blocks<T, H>;
  static constexpr std::size_t G = Cell::gates, sums = Cell::sums;

 public:
  static constexpr std::size_t inputs = I, units = H;

  // w_ih: [G H, I], w_hh: [G H, H], b_ih and b_hh: [G H], or null for zeros; gates in PyTorch's
  // order (i f g o; r z n). Copies them all, and leaves the state as it is.
  void load(const T* w_ih, const T* w_hh, const T* b_ih, const T* b_hh) noexcept {
    for (T& b : bias_) b = 0;
    for (std::size_t u = 0; u < H; ++u) {
      const std::size_t first = B::first(u), lanes = B::size(u), lane = u - first;
      T *w = weights_ + first * G * (I + H) + lane, *b = bias_ + first * sums + lane;
      for (std::size_t g = 0; g < G; ++g) {
        const std::size_t row = g * H + u;
        for (std::size_t k = 0; k < I; ++k) w[(k * G + g) * lanes] = w_ih[row * I + k];
        for (std::size_t k = 0; k < H; ++k) w[((I + k) * G + g) * lanes] = w_hh[row * H + k];
        if (b_ih) b[Cell::x_sum[g] * lanes] += b_ih[row];
        if (b_hh) b[Cell::h_sum[g] * lanes] += b_hh[row];
      }
    }
  }

  // Sets the state to zeros.
  void reset() noexcept {
    for (auto& state : state_)
      for (T& s : state) s = 0;
  }

  // x: [I], may be the h of another layer or of this one. Returns h after this step: [H], inside
  // this object, overwritten by the step after the next one.
  const T* step(const T* x) noexcept {
    const T* h = state_[now_];
    T* next = state_[1 - now_];
    alignas(BPTT_FIXED_BYTES) T sum[B::padded * sums];  // [block][sum][lane]
    for (std::size_t u = 0; u < B::full; u += B::lanes) add<Simd<T, B::lanes>>(u, x, h, sum);
    if constexpr (B::tail > 0) add<Simd<T, B::tail>>(B::full, x, h, sum);
    for (std::size_t u = 0; u < B::full; u += B::lanes) equations<Simd<T, B::lanes>>(u, sum, next);
    if constexpr (B::tail > 0) equations<Simd<T, B::tail>>(B::full, sum, next);
    now_ = 1 - now_;
    return next;
  }

  // The output of the last step: [H]. May be written between steps; moves from step to step.
  T* h() noexcept { return state_[now_]; }
  const T* h() const noexcept { return state_[now_]; }

 protected:
  alignas(BPTT_FIXED_BYTES) T weights_[B::padded * G * (I + H)] = {};    // [block][k][gate][lane]
  alignas(BPTT_FIXED_BYTES) T bias_[B::padded * sums] = {};              // [block][sum][lane]
  alignas(BPTT_FIXED_BYTES) T state_[Cell::states + 1][B::padded] = {};  // h, next h, c
  std::size_t now_ = 0;

 private:
  // For the block of units from u on: sums of products, and then the states.
  template <class S>
  BPTT_FIXED_INLINE void add(std::size_t u, const T* x, const T* h, T* sum) const noexcept {
    const T* w = weights_ + u * G * (I + H);
    Sums<S, sums, Cell::chains> a(bias_ + u * sums);
    a.template add<I>(w, x, Cell::x_sum);
    a.template add<H>(w + I * G * S::lanes, h, Cell::h_sum);
    a.store(sum + u * sums);
  }
  template <class S>
  BPTT_FIXED_INLINE void equations(std::size_t u, const T* sum, T* next) noexcept {
    typename S::V a[sums], s[Cell::states] = {S::load(h() + u)};
    BPTT_FIXED_UNROLL for (std::size_t i = 0; i < sums; ++i) a[i] =
        S::load(sum + u * sums + i * S::lanes);
    if constexpr (Cell::states == 2) s[1] = S::load(state_[2] + u);
    Cell::template forward<S>(a, s);
    S::store(next + u, s[0]);
    if constexpr (Cell::states == 2) S::store(state_[2] + u, s[1]);
  }
};
}  // namespace fixed

template <std::size_t I, std::size_t H, class T = float>
class Lstm : public fixed::Recurrent<fixed::LstmCell, I, H, T> {
 public:
  // The cell state: [H]. May be written between steps; stays where it is.
  T* c() noexcept { return this->state_[2]; }
  const T* c() const noexcept { return this->state_[2]; }
};
template <std::size_t I, std::size_t H, class T = float>
class Gru : public fixed::Recurrent<fixed::GruCell, I, H, T> {};
template <std::size_t I, std::size_t H, class T = float>
class Rnn : public fixed::Recurrent<fixed::RnnCell, I, H, T> {};

// y = w x + b
template <std::size_t I, std::size_t O, class T = float>
class Dense {
  static_assert(I > 0 && O > 0, "a layer has at least one input and one output");
  using B = fixed::Blocks<T, O>;

 public:
  static constexpr std::size_t inputs = I, outputs = O;

  // w: [O, I], b: [O] or null for zeros. Copies them.
  void load(const T* w, const T* b) noexcept {
    for (std::size_t o = 0; o < O; ++o) {
      const std::size_t first = B::first(o), lane = o - first;
      for (std::size_t k = 0; k < I; ++k)
        weights_[first * I + k * B::size(o) + lane] = w[o * I + k];
      bias_[o] = b ? b[o] : 0;
    }
  }

  // x: [I], not of this object. Returns y: [O], inside this object, overwritten by the next step.
  const T* step(const T* x) noexcept {
    for (std::size_t o = 0; o < B::full; o += B::lanes) block<fixed::Simd<T, B::lanes>>(o, x);
    if constexpr (B::tail > 0) block<fixed::Simd<T, B::tail>>(B::full, x);
    return y_;
  }

 private:
  alignas(BPTT_FIXED_BYTES) T weights_[B::padded * I] = {};  // [block][k][lane]
  alignas(BPTT_FIXED_BYTES) T bias_[B::padded] = {}, y_[B::padded] = {};

  template <class S>
  BPTT_FIXED_INLINE void block(std::size_t o, const T* x) noexcept {
    fixed::Sums<S, 1, 8> y(bias_ + o);
    y.template add<I>(weights_ + o * I, x, {0});
    y.store(y_ + o);
  }
};
}  // namespace BPTT_FIXED_TARGET
}  // namespace bptt
