// SPDX-License-Identifier: MIT
// The layers of a model that have no loop over time, for streams and programs to embed: `Linear`
// and `LayerNorm` of Python. Compiled once, for every CPU of an architecture and without fused
// multiply-adds: no bit depends on the instruction set, the batch or the number of threads.
#pragma once
#include "kernels/interface.hpp"

namespace bptt::core {

enum class DenseActivation { identity, tanh, relu, sigmoid, elu, softmax };
constexpr const char* dense_activations[] = {"identity", "tanh", "relu",
                                             "sigmoid",  "elu",  "softmax"};
constexpr const char dense_activation_list[] = "identity, tanh, relu, sigmoid, elu or softmax";

// False: there is no such activation.
bool find_dense_activation(const char* name, DenseActivation& found);

// y = activation(x weight^T + bias)
template <class T>
struct LinearCall {
  Index B, I, O;
  DenseActivation activation;
  const T* x;       // [B, I]
  const T* weight;  // [O, I]
  const T* bias;    // [O] or null: zeros
  T* y;             // [B, O]
};
void linear(const LinearCall<float>& call);
void linear(const LinearCall<double>& call);

// Replaces each row of y [B, n] by its softmax: of arguments that `linear` gave with `identity`,
// what it gives with `softmax`.
void softmax(Index B, Index n, float* y);
void softmax(Index B, Index n, double* y);

// y = (x - mean(x)) / sqrt(var(x) + eps) weight + bias over each row
template <class T>
struct LayerNormCall {
  Index B, size;
  double eps;
  const T* x;       // [B, size]
  const T* weight;  // [size]
  const T* bias;    // [size]
  T* y;             // [B, size]; may be x
};
void layer_norm(const LayerNormCall<float>& call);
void layer_norm(const LayerNormCall<double>& call);

}  // namespace bptt::core
