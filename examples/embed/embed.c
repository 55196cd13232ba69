/* SPDX-License-Identifier: MIT */
/* Training on the device, in C89 and in statically reserved memory: an LSTM learns the XOR of
 * the current bit and the one before. Then it predicts, one step at a time.
 *
 *   cc embed.c $(python -m bptt --includes) $(python -m bptt --libs) -o embed && ./embed
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bptt.h"

enum { T = 16, B = 32, I = 1, H = 8, ROWS = 4 * H, ARENA = 512 * 1024 };

/* All memory that the library uses. */
static double arena[ARENA / sizeof(double)];
static size_t used = 0;

static void* take(size_t bytes) {
  char* start = (char*)arena;
  size_t shift =
      (size_t)start % BPTT_ALIGNMENT ? BPTT_ALIGNMENT - (size_t)start % BPTT_ALIGNMENT : 0;
  void* p = start + shift + used;
  used += (bytes + BPTT_ALIGNMENT - 1) / BPTT_ALIGNMENT * BPTT_ALIGNMENT;
  if (shift + used > sizeof arena) {
    fprintf(stderr, "the arena is too small\n");
    exit(1);
  }
  return p;
}

static void check(bptt_status status) {
  if (status == BPTT_OK) return;
  fprintf(stderr, "%s: %s\n", bptt_status_string(status), bptt_last_error());
  exit(1);
}

static unsigned long seed = 1;
static unsigned random_bits(void) {
  seed = (1103515245UL * seed + 12345UL) & 0x7fffffffUL;
  return (unsigned)(seed >> 16);
}
static float uniform(float bound) {
  return bound * ((float)(random_bits() & 0x7fff) / 16383.5f - 1.0f);
}

/* The weights of the LSTM, then of the output, in one array for the optimiser. */
enum {
  W_IH = 0,
  W_HH = W_IH + ROWS * I,
  B_IH = W_HH + ROWS * H,
  B_HH = B_IH + ROWS,
  OUT = B_HH + ROWS,
  OUT_BIAS = OUT + H,
  COUNT = OUT_BIAS + 1
};
static float w[COUNT], dw[COUNT], mean[COUNT], square[COUNT];

static float x[T * B * I], target[T * B], y[T * B * H], dy[T * B * H], dx[T * B * I];
static float h_n[B * H], c_n[B * H];

static void new_batch(void) {
  int t, b;
  for (t = 0; t < T; ++t)
    for (b = 0; b < B; ++b) {
      x[t * B + b] = (float)(random_bits() & 1);
      target[t * B + b] = t ? (float)(x[t * B + b] != x[(t - 1) * B + b]) : x[b];
    }
}

static float probability(const float* h) {
  float sum = w[OUT_BIAS];
  int j;
  for (j = 0; j < H; ++j) sum += w[OUT + j] * h[j];
  return 1.0f / (1.0f + (float)exp(-sum));
}

/* Cross-entropy of the batch, its gradient dy, and the gradients of the output's weights. */
static double loss_and_gradients(void) {
  double loss = 0;
  int i, j;
  for (j = 0; j <= H; ++j) dw[OUT + j] = 0;
  for (i = 0; i < T * B; ++i) {
    const float p = probability(y + i * H), error = (p - target[i]) / (T * B);
    loss -= log(target[i] > 0.5f ? p : 1.0f - p) / (T * B);
    for (j = 0; j < H; ++j) {
      dw[OUT + j] += error * y[i * H + j];
      dy[i * H + j] = error * w[OUT + j];
    }
    dw[OUT_BIAS] += error;
  }
  return loss;
}

static bptt_weights weights(const void* packed) {
  bptt_weights p;
  p.w_ih = w + W_IH, p.w_hh = w + W_HH, p.b_ih = w + B_IH, p.b_hh = w + B_HH, p.packed = packed;
  return p;
}

static void train(bptt_desc* desc, const bptt_sizes* sizes) {
  void* tape = take(sizes->tape);
  void* workspace =
      take(sizes->forward_workspace > sizes->backward_workspace ? sizes->forward_workspace
                                                                : sizes->backward_workspace);
  const bptt_weights p = weights(NULL);
  bptt_inputs in = {0};
  bptt_outputs out;
  bptt_cotangents cotangents = {0};
  bptt_gradients g = {0};
  void* all[1];
  size_t count = COUNT;
  int step;
  all[0] = dw;
  in.x = x;
  out.y = y, out.h_n = h_n, out.c_n = c_n;
  cotangents.dy = dy;
  g.dx = dx, g.dw_ih = dw + W_IH, g.dw_hh = dw + W_HH, g.db_ih = dw + B_IH, g.db_hh = dw + B_HH;
  for (step = 1; step <= 400; ++step) {
    double loss;
    new_batch();
    check(bptt_forward(desc, &p, &in, &out, tape, workspace));
    loss = loss_and_gradients();
    check(bptt_backward(desc, x, y, &cotangents, NULL, &g, tape, workspace));
    check(bptt_clip_grad_norm(desc->dtype, 1, all, &count, 1.0, NULL));
    check(bptt_adam(desc->dtype, COUNT, w, dw, mean, square, step, 0.03, 0.9, 0.999, 1e-8));
    if (step % 100 == 0) printf("update %3d: cross-entropy %.4f\n", step, loss);
  }
}

/* Share of bits predicted right over a long sequence, in steps. */
static double accuracy(bptt_desc* desc, const bptt_sizes* sizes) {
  void *packed = take(sizes->packed), *workspace = take(sizes->step_workspace);
  const bptt_weights arrays = weights(NULL);
  bptt_weights p;
  float h[H] = {0}, c[H] = {0}, bit, before = 0;
  int i, right = 0, n = 10000;
  desc->batch = 1;
  check(bptt_pack(desc, &arrays, packed));
  p = weights(packed);
  for (i = 0; i < n; ++i, before = bit) {
    bit = (float)(random_bits() & 1);
    check(bptt_step(desc, &p, &bit, h, c, workspace));
    right += (probability(h) > 0.5f) == (bit != before);
  }
  return (double)right / n;
}

int main(void) {
  bptt_desc desc = {0};
  bptt_sizes sizes = {0};
  double share;
  int i;
  for (i = 0; i < COUNT; ++i) w[i] = uniform(0.35f);
  desc.struct_size = sizeof desc;
  desc.cell = "lstm";
  desc.train = 1;
  desc.steps = T, desc.batch = B, desc.input_size = I, desc.hidden_size = H;
  sizes.struct_size = sizeof sizes;
  check(bptt_query(&desc, &sizes));
  train(&desc, &sizes);
  share = accuracy(&desc, &sizes);
  printf("bptt %s on %s: %.2f %% of 10000 bits right, %lu bytes of memory for the library\n",
         bptt_version(), bptt_isa(), 100 * share, (unsigned long)used);
  return share > 0.99 ? 0 : 1;
}
