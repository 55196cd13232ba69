/* SPDX-License-Identifier: MIT */
/* bptt in other programs: recurrent layers (RNN, LSTM, GRU), forward, exact backpropagation through
 * time and single steps, and the other layers of a trained model, on one CPU. For C89 and later,
 * C++, and whatever calls C.
 *
 *   bptt_desc desc = {sizeof desc};
 *   desc.cell = "lstm", desc.steps = T, desc.batch = B, desc.input_size = I, desc.hidden_size = H;
 *   bptt_query(&desc, &sizes);                    the bytes of memory that the caller provides
 *   bptt_forward(&desc, &weights, &inputs, &outputs, tape, workspace);
 *   bptt_backward(&desc, x, y, &cotangents, NULL, &gradients, tape, workspace);
 *
 * Promises:
 * - No function allocates, takes a lock, calls the system, throws, prints or ends the program. (In
 *   a shared library that was loaded at run time, a C library may allocate the error text of a
 * thread when it is first used; one early call of bptt_last_error() there avoids that later.)
 * - All memory is the caller's. Between calls the library keeps only the instruction set in use
 * and, for each thread, the text of its last error.
 * - Calls may run at the same time on any threads, as long as they do not write the same memory.
 *   Only bptt_pack() writes packed weights, and only bptt_forward() a tape.
 * - Same inputs, same bits, for one instruction set: in any batch, at any position, on any number
 *   of threads, step by step or a sequence at a time.
 * - The caller's floating-point state (rounding, traps, subnormal numbers) changes no bit, and is
 *   the caller's again when a call ends. Subnormal numbers are 0 to rnn, lstm and gru, because many
 *   CPUs are slow at them; optimisers and clips keep them.
 * - Structs that begin with struct_size grow at the end only, the others not at all. A program
 *   compiled with an older header runs with a newer library; one compiled with a newer header is
 *   refused if it uses members that the library lacks.
 *
 * T steps, B sequences, I inputs, H hidden units; G gates: rnn 1, lstm 4 in the order i f g o, gru
 * 3 in the order r z n (the reset gate multiplies w_hn h + b_hn). These are the arrays, gate orders
 * and equations of PyTorch. Arrays are C-contiguous (the last index runs fastest), float or double
 * as desc.dtype says, with the alignment of that type. Arrays do not overlap, except where a
 * comment allows it, and are used only during the call. The memory for packed weights, tapes and
 * workspaces is aligned to BPTT_ALIGNMENT bytes.
 */
#ifndef BPTT_H
#define BPTT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BPTT_ALIGNMENT 64

/* Enumerations are int in structs and calls, whatever a compiler's options say. */
typedef int bptt_status;
enum {
  BPTT_OK = 0,
  BPTT_INVALID_ARGUMENT = 1, /* a value is out of its range, a pointer is null or misaligned */
  BPTT_TOO_LARGE = 2,        /* the sizes cannot be addressed */
  BPTT_WRONG_SIZE = 3,       /* struct_size is of a newer version, or not set */
  BPTT_MISMATCH = 4,   /* a tape or packed weights of other sizes or another instruction set, or a
                          tape of another x or y */
  BPTT_UNSUPPORTED = 5 /* by this CPU */
};

/* What a status means, in a few words; lives for ever. */
const char* bptt_status_string(bptt_status status);

/* Describes the last call of this thread that failed: function, argument, what it has, what was
 * expected. Valid until the thread's next such call; never null. */
const char* bptt_last_error(void);

/* "major.minor.patch" of the library; lives for ever. */
const char* bptt_version(void);

/* The instruction set in use: "avx512", "avx2", "sse42", "neon" or "generic"; null if the CPU has
 * none that the library was compiled for. Chosen at the first call of any function. */
const char* bptt_isa(void);

/* Changes it from the next call on, for the whole process; null or "": the best. Sizes change too:
 * call bptt_query() again, as an older workspace may be too small, which no function can notice.
 * Tapes and packed weights of the previous instruction set are refused. Not while another thread is
 * in a call. BPTT_UNSUPPORTED if it does not run here. */
bptt_status bptt_set_isa(const char* name);

typedef int bptt_dtype;
enum { BPTT_FLOAT32 = 0, BPTT_FLOAT64 = 1 };

/* Calls task(argument, index) for index = 0 .. count-1 and returns when all have returned: on any
 * number of threads, even one after the other. Tasks that start at about the same time share the
 * work of a call; later ones have nothing to do. They wait for each other in busy loops, so none
 * should have to wait for a processor that another holds: do not give real-time priority to some of
 * the threads only. */
typedef void (*bptt_parallel_for)(void* context, int count, void (*task)(void* argument, int index),
                                  void* argument);

/* One layer and the sizes of one call. Set all members to zero, then those that differ. Pointers
 * are used only during calls. */
typedef struct bptt_desc {
  size_t struct_size;     /* sizeof(bptt_desc) */
  const char* cell;       /* "rnn", "lstm" or "gru" */
  const char* activation; /* of rnn: "tanh" (also if null), "relu", "leaky_relu" (slope 0.01),
                             "sigmoid", "identity" or "hard_sigmoid"; of the others null */
  bptt_dtype dtype;
  int train;                /* not 0: bptt_forward() keeps a tape for bptt_backward() */
  int reverse;              /* not 0: from the last step of each sequence to its first */
  ptrdiff_t steps;          /* T >= 0 */
  ptrdiff_t batch;          /* B >= 0 */
  ptrdiff_t input_size;     /* I >= 0 */
  ptrdiff_t hidden_size;    /* H >= 1 */
  const ptrdiff_t* lengths; /* [B] in 0..T, any order, or null: T. Later steps are never used. */
  int threads;              /* at most; 0 and 1: the calling one. Small calls use fewer */
  bptt_parallel_for parallel_for; /* or null: one thread */
  void* parallel_context;         /* its first argument */
} bptt_desc;

/* Bytes of memory that the caller provides; all of them are used. */
typedef struct bptt_sizes {
  size_t struct_size; /* sizeof(bptt_sizes), to be set before bptt_query() */
  size_t packed;      /* of bptt_pack() */
  size_t tape;        /* 0 if desc.train is 0 */
  size_t forward_workspace;
  size_t backward_workspace; /* for all gradients; 0 if desc.train is 0 */
  size_t step_workspace;     /* of bptt_step() */
} bptt_sizes;

bptt_status bptt_query(const bptt_desc* desc, bptt_sizes* sizes);

typedef struct bptt_weights {
  const void* w_ih;   /* [G*H, I] */
  const void* w_hh;   /* [G*H, H] */
  const void* b_ih;   /* [G*H] or null */
  const void* b_hh;   /* [G*H] or null */
  const void* packed; /* the result of bptt_pack(), with which the others may be null where no tape
                         is kept; or null: each call packs them again */
} bptt_weights;

/* Writes the weights to packed (sizes.packed bytes), in the order in which the kernels read them.
 * Pays when the same weights serve several calls. Depends on cell, dtype, I and H only. */
bptt_status bptt_pack(const bptt_desc* desc, const bptt_weights* weights, void* packed);

typedef struct bptt_inputs {
  const void* x;  /* [T, B, I] */
  const void* h0; /* [B, H] or null: zeros */
  const void* c0; /* [B, H] or null: zeros; of lstm */
} bptt_inputs;

typedef struct bptt_outputs {
  void* y;   /* [T, B, H]: h of every step, zero beyond a sequence's length */
  void* h_n; /* [B, H]: after the last step of each sequence */
  void* c_n; /* [B, H], of lstm; else null */
} bptt_outputs;

/* tape: sizes.tape bytes, or null if desc.train is 0; workspace: sizes.forward_workspace bytes. The
 * tape keeps copies of the weights and the initial state; x and y must reach bptt_backward()
 * unchanged. h_n may be h0, and c_n c0: then the next call continues from there. */
bptt_status bptt_forward(const bptt_desc* desc, const bptt_weights* weights,
                         const bptt_inputs* inputs, const bptt_outputs* outputs, void* tape,
                         void* workspace);

/* Gradients of a loss with respect to the outputs; null: zeros. */
typedef struct bptt_cotangents {
  const void* dy;   /* [T, B, H] */
  const void* dh_n; /* [B, H] */
  const void* dc_n; /* [B, H] */
} bptt_cotangents;

/* Gradients of that loss with respect to the inputs; they are overwritten, not added to. Null: not
 * wanted. The call then leaves out the product that only this gradient needs, and the others keep
 * their bits. */
typedef struct bptt_gradients {
  void* dx;    /* [T, B, I]; not wanted in a first layer */
  void* dw_ih; /* [G*H, I]; not wanted, as all that follow, where the weights are frozen */
  void* dw_hh; /* [G*H, H] */
  void* db_ih; /* [G*H] */
  void* db_hh; /* [G*H] */
  void* dh0;   /* [B, H] */
  void* dc0;   /* [B, H] */
} bptt_gradients;

typedef int bptt_clip_kind;
enum { BPTT_CLIP_NONE = 0, BPTT_CLIP_VALUE = 1, BPTT_CLIP_NORM = 2 };
typedef int bptt_clip_target;
enum { BPTT_CLIP_H = 0, BPTT_CLIP_C = 1, BPTT_CLIP_GATES = 2 };

/* Clips a gradient inside backpropagation each time it is passed one step back: of h or c, or of
 * the sums of the gates. */
typedef struct bptt_step_clip {
  bptt_clip_kind kind; /* each number, or the Euclidean norm of each sequence */
  bptt_clip_target target;
  double bound; /* > 0 */
} bptt_step_clip;

/* x, y: of the forward call, unchanged; desc: the same (threads may differ). BPTT_MISMATCH where a
 * change of x or y is found: with unequal lengths they are not checked; otherwise every byte up to
 * 1 KiB, and of a larger array 64 bytes in each of 16 equal parts. clip: null for none. tape: of
 * the forward call; it is not changed. workspace: sizes.backward_workspace bytes. */
bptt_status bptt_backward(const bptt_desc* desc, const void* x, const void* y,
                          const bptt_cotangents* cotangents, const bptt_step_clip* clip,
                          const bptt_gradients* gradients, const void* tape, void* workspace);

/* One step of B sequences: x [B, I]; h [B, H] and, of lstm, c [B, H] hold the state before the
 * call, and afterwards the new one. On the calling thread; only cell, activation, dtype, batch,
 * input_size and hidden_size of desc matter. Gives the same bits as bptt_forward() over all steps.
 * workspace: sizes.step_workspace bytes. */
bptt_status bptt_step(const bptt_desc* desc, const bptt_weights* weights, const void* x, void* h,
                      void* c, void* workspace);

/* The other layers of a model, over the last axis of x; the streams of the Python package have the
 * same bits. Sums are made in double in one order, without fused multiply-adds: unlike the
 * recurrent layers, these give the same bits with every instruction set. They keep subnormal
 * numbers. */

/* y [batch, outputs] = activation(x [batch, inputs] weight^T + bias). weight: [outputs, inputs];
 * bias: [outputs] or null. activation: "identity" (also if null), "tanh", "relu", "sigmoid", "elu"
 * or "softmax" over the outputs. */
bptt_status bptt_linear(bptt_dtype dtype, const char* activation, ptrdiff_t batch, ptrdiff_t inputs,
                        ptrdiff_t outputs, const void* weight, const void* bias, const void* x,
                        void* y);

/* y = (x - mean(x)) / sqrt(var(x) + eps) weight + bias over each row of x [batch, size]; eps > 0.
 * weight, bias: [size]. y may be x. */
bptt_status bptt_layer_norm(bptt_dtype dtype, ptrdiff_t batch, ptrdiff_t size, double eps,
                            const void* weight, const void* bias, const void* x, void* y);

/* The following functions compute over plain arrays of a dtype; in float with the same bits as the
 * optimisers of the Python package. BPTT_TOO_LARGE where an array cannot be addressed. */

/* Scales all gradients by one factor so that their common Euclidean norm is at most max_norm > 0.
 * gradients: `count` pointers to arrays of sizes[i] numbers. norm: receives the norm before
 * the call, or null. BPTT_INVALID_ARGUMENT, and no gradient is changed, if the norm is not finite.
 */
bptt_status bptt_clip_grad_norm(bptt_dtype dtype, size_t count, void* const* gradients,
                                const size_t* sizes, double max_norm, double* norm);

/* Gradient descent with momentum: v = momentum v + g, p = p - lr v, over n numbers. velocity: [n],
 * zeros at first, kept by the caller; or null if momentum is 0. */
bptt_status bptt_sgd(bptt_dtype dtype, size_t n, void* parameters, const void* gradients,
                     void* velocity, double lr, double momentum);

/* Adam (Kingma & Ba 2015), update number step = 1, 2, ...; PyTorch's defaults are lr 1e-3, beta1
 * 0.9, beta2 0.999, eps 1e-8. mean, square: [n], zeros at first, kept by the caller. */
bptt_status bptt_adam(bptt_dtype dtype, size_t n, void* parameters, const void* gradients,
                      void* mean, void* square, ptrdiff_t step, double lr, double beta1,
                      double beta2, double eps);

#ifdef __cplusplus
}
#endif

#endif /* BPTT_H */
