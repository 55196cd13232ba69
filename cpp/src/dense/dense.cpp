// SPDX-License-Identifier: MIT
#define BPTT_ISA dense  // vectors that every CPU has
#define BPTT_ISA_NAME "dense"
#define BPTT_VECTOR_BYTES 16
#include "dense/dense.hpp"

#include <cstring>

#include "cells/activations.inl"
#include "kernels/float_state.hpp"

namespace bptt::core {
namespace {

using V = dense::Vec<double>;

// Of what a sum over k is made: chain j has the terms k = j, j + chains, ... in this order.
constexpr Index chains = 8;

// The sum of term(0) .. term(n - 1), in double. The product of two floats is exact there.
template <class F>
double sum_of(Index n, const F& term) {
  double sum[chains] = {};
  Index k = 0;
  for (; k + chains <= n; k += chains)
    BPTT_UNROLL for (Index j = 0; j < chains; ++j) sum[j] += term(k + j);
  for (Index j = 0; k + j < n; ++j) sum[j] += term(k + j);
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

double exponential(double a) { return times_exp(V(1), V(a)).v[0]; }

template <class T>
void softmax_row(Index n, T* y) {
  double most = y[0];
  for (Index i = 1; i < n; ++i) most = y[i] > most ? double(y[i]) : most;
  double sum = 0;
  for (Index i = 0; i < n; ++i) sum += exponential(y[i] - most);
  for (Index i = 0; i < n; ++i) y[i] = T(exponential(y[i] - most) / sum);
}

// Replaces the arguments of a row by their values.
template <class T>
void activate_row(DenseActivation f, Index n, T* y) {
  constexpr Activation kinds[] = {Activation::identity, Activation::tanh, Activation::relu,
                                  Activation::sigmoid, Activation::elu};
  if (f == DenseActivation::identity) return;
  if (f == DenseActivation::softmax) return softmax_row(n, y);
  const GateActivation g{kinds[static_cast<int>(f)], 1};
  for (Index i = 0; i < n; ++i) y[i] = T(dense::activate(g, V(double(y[i]))).v[0]);
}

template <class T>
void run(const LinearCall<T>& c) {
  const FloatState state(FloatRegisters::standard());
  for (Index b = 0; b < c.B; ++b) {
    const T* x = c.x + b * c.I;
    T* y = c.y + b * c.O;
    for (Index o = 0; o < c.O; ++o) {
      const T* w = c.weight + o * c.I;
      const double sum = sum_of(c.I, [=](Index k) { return double(w[k]) * double(x[k]); });
      y[o] = T(c.bias ? sum + double(c.bias[o]) : sum);
    }
    activate_row(c.activation, c.O, y);
  }
}

template <class T>
void softmax_rows(Index B, Index n, T* y) {
  const FloatState state(FloatRegisters::standard());
  for (Index b = 0; b < B; ++b) softmax_row(n, y + b * n);
}

template <class T>
void run(const LayerNormCall<T>& c) {
  const FloatState state(FloatRegisters::standard());
  const double n = double(c.size);
  for (Index b = 0; b < c.B; ++b) {
    const T* x = c.x + b * c.size;
    T* y = c.y + b * c.size;
    const double mean = sum_of(c.size, [=](Index k) { return double(x[k]); }) / n;
    const double var = sum_of(c.size, [=](Index k) {
      const double d = double(x[k]) - mean;
      return d * d;
    });
    const double deviation = __builtin_sqrt(var / n + c.eps);
    for (Index k = 0; k < c.size; ++k)
      y[k] = T((double(x[k]) - mean) / deviation * double(c.weight[k]) + double(c.bias[k]));
  }
}

}  // namespace

bool find_dense_activation(const char* name, DenseActivation& found) {
  int i = 0;
  for (const char* known : dense_activations) {
    if (std::strcmp(name, known) == 0) return found = static_cast<DenseActivation>(i), true;
    ++i;
  }
  return false;
}

void linear(const LinearCall<float>& call) { run(call); }
void linear(const LinearCall<double>& call) { run(call); }
void softmax(Index B, Index n, float* y) { softmax_rows(B, n, y); }
void softmax(Index B, Index n, double* y) { softmax_rows(B, n, y); }
void layer_norm(const LayerNormCall<float>& call) { run(call); }
void layer_norm(const LayerNormCall<double>& call) { run(call); }

}  // namespace bptt::core
