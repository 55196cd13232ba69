/* SPDX-License-Identifier: MIT */
/* An SQLite extension: bptt_predict(model, series), the next value of a series by a model that
 * bptt trained.
 *
 *   cc -shared -fPIC sqlite_bptt.c $(python -m bptt --includes) $(python -m bptt --libs) \
 *      -o sqlite_bptt.so
 *   sqlite3> .load ./sqlite_bptt
 *   sqlite3> SELECT bptt_predict(readfile('model.safetensors'), '[0.1, 0.2, 0.3]');
 *
 * model: a BLOB, the safetensors file of one recurrent layer of one input (rnn with tanh, lstm or
 * gru; weight_ih_l0 and so on) and one linear layer of one output (weight [1, H], bias [1]), in
 * float32, each name with any prefix. series: a BLOB of float32, or a text of numbers with anything
 * but digits between them. The result is NULL if either is NULL.
 */
#include <sqlite3ext.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bptt.h"

SQLITE_EXTENSION_INIT1

typedef struct Tensor {
  ptrdiff_t rows, columns; /* columns 1 of a vector */
  float* data;             /* a copy: a BLOB is aligned to nothing */
} Tensor;

typedef struct Model {
  Tensor w_ih, w_hh, b_ih, b_hh, weight, bias;
} Model;

static void free_model(Model* m) {
  free(m->w_ih.data), free(m->w_hh.data), free(m->b_ih.data), free(m->b_hh.data);
  free(m->weight.data), free(m->bias.data);
}

/* Reads one number at *p, before end; 0 if there is none. */
static int read_number(const char** p, const char* end, uint64_t* number) {
  const char* start;
  while (*p < end && (**p < '0' || **p > '9') && **p != ']') ++*p;
  start = *p;
  for (*number = 0; *p < end && **p >= '0' && **p <= '9' && *p - start < 15; ++*p)
    *number = 10 * *number + (uint64_t)(**p - '0');
  return *p > start;
}

static const char* find(const char* p, const char* end, const char* text) {
  const size_t n = strlen(text);
  for (; (size_t)(end - p) >= n; ++p)
    if (memcmp(p, text, n) == 0) return p + n;
  return NULL;
}

/* The tensor whose name ends in `name`, of a file of `size` bytes; 0 if there is none that fits. */
static int read_tensor(const unsigned char* file, size_t size, uint64_t header, const char* name,
                       Tensor* out) {
  const char *p = (const char*)file + 8, *end = p + header, *entry, *close, *q;
  uint64_t rows, columns, begin, stop, more;
  char key[32];
  strcpy(key, name), strcat(key, "\":{");
  if (!(entry = find(p, end, key)) || !(close = find(entry, end, "}"))) return 0;
  if (entry[-(ptrdiff_t)strlen(key) - 1] != '"' && entry[-(ptrdiff_t)strlen(key) - 1] != '.')
    return 0;
  if (!find(entry, close, "\"dtype\":\"F32\"")) return 0;
  if (!(q = find(entry, close, "\"shape\":[")) || !read_number(&q, close, &rows)) return 0;
  if (!read_number(&q, close, &columns)) columns = 1;
  if (read_number(&q, close, &more)) return 0;
  if (!(q = find(entry, close, "\"data_offsets\":[")) || !read_number(&q, close, &begin) ||
      !read_number(&q, close, &stop))
    return 0;
  if (rows < 1 || columns < 1 || rows > 65536 || columns > 65536) return 0;
  if (begin > stop || stop > size - 8 - header || stop - begin != 4 * rows * columns) return 0;
  out->rows = (ptrdiff_t)rows, out->columns = (ptrdiff_t)columns;
  if (!(out->data = malloc((size_t)(stop - begin)))) return 0;
  memcpy(out->data, file + 8 + header + begin, (size_t)(stop - begin));
  return 1;
}

static const char* cell_of(const Model* m) {
  const ptrdiff_t H = m->w_hh.columns, rows = m->w_hh.rows;
  if (m->w_ih.rows != rows || m->w_ih.columns != 1 || m->b_ih.rows * m->b_hh.rows != rows * rows)
    return NULL;
  if (m->b_ih.rows != rows || m->b_ih.columns != 1 || m->b_hh.columns != 1) return NULL;
  if (m->weight.rows != 1 || m->weight.columns != H || m->bias.rows * m->bias.columns != 1)
    return NULL;
  return rows == H ? "rnn" : rows == 3 * H ? "gru" : rows == 4 * H ? "lstm" : NULL;
}

static int read_model(const unsigned char* file, size_t size, Model* m) {
  uint64_t header = 0;
  int i;
  if (size < 8) return 0;
  for (i = 8; i-- > 0;) header = header << 8 | file[i];
  if (header > size - 8) return 0;
  return read_tensor(file, size, header, "weight_ih_l0", &m->w_ih) &&
         read_tensor(file, size, header, "weight_hh_l0", &m->w_hh) &&
         read_tensor(file, size, header, "bias_ih_l0", &m->b_ih) &&
         read_tensor(file, size, header, "bias_hh_l0", &m->b_hh) &&
         read_tensor(file, size, header, "weight", &m->weight) &&
         read_tensor(file, size, header, "bias", &m->bias) && cell_of(m);
}

/* The numbers of a text or BLOB in memory to free, [*n]; null if there is no memory. */
static float* read_series(sqlite3_value* value, ptrdiff_t* n) {
  const size_t bytes = (size_t)sqlite3_value_bytes(value);
  float* series = malloc(bytes * sizeof(float) + 1);
  *n = 0;
  if (!series) return NULL;
  if (sqlite3_value_type(value) == SQLITE_BLOB) {
    *n = (ptrdiff_t)(bytes / sizeof(float));
    if (*n) memcpy(series, sqlite3_value_blob(value), (size_t)*n * sizeof(float));
  } else {
    const char* p = (const char*)sqlite3_value_text(value);
    while (p && *p) {
      char* after;
      const double number = strtod(p, &after);
      if (after == p)
        ++p;
      else
        series[(*n)++] = (float)number, p = after;
    }
  }
  return series;
}

/* The prediction after the last of n values; a status of bptt's, or -1 without memory. */
static int predict(const Model* m, const float* series, ptrdiff_t n, double* result) {
  bptt_desc desc = {0};
  bptt_sizes sizes = {0};
  bptt_weights weights = {m->w_ih.data, m->w_hh.data, m->b_ih.data, m->b_hh.data, NULL};
  const ptrdiff_t H = m->w_hh.columns;
  char *memory, *packed, *workspace;
  float *h, *c;
  ptrdiff_t t, j;
  int status;
  desc.struct_size = sizeof desc, sizes.struct_size = sizeof sizes;
  desc.cell = cell_of(m), desc.steps = 1, desc.batch = 1, desc.input_size = 1;
  desc.hidden_size = H;
  if ((status = bptt_query(&desc, &sizes))) return status;
  memory = malloc(sizes.packed + sizes.step_workspace + 3 * BPTT_ALIGNMENT);
  h = calloc(2 * (size_t)H, sizeof(float)), c = h + H;
  if (!memory || !h) return free(memory), free(h), -1;
  packed = memory + (BPTT_ALIGNMENT - (size_t)memory % BPTT_ALIGNMENT);
  workspace = packed + (sizes.packed + BPTT_ALIGNMENT - 1) / BPTT_ALIGNMENT * BPTT_ALIGNMENT;
  status = bptt_pack(&desc, &weights, packed);
  weights.packed = packed;
  for (t = 0; t < n && !status; ++t)
    status = bptt_step(&desc, &weights, series + t, h, c, workspace);
  *result = m->bias.data[0];
  for (j = 0; j < H; ++j) *result += (double)m->weight.data[j] * h[j];
  free(memory), free(h);
  return status;
}

static void bptt_predict(sqlite3_context* context, int argc, sqlite3_value** argv) {
  Model model = {0};
  float* series;
  ptrdiff_t n;
  double result = 0;
  (void)argc;
  if (sqlite3_value_type(argv[0]) == SQLITE_NULL || sqlite3_value_type(argv[1]) == SQLITE_NULL)
    return;
  if (!read_model(sqlite3_value_blob(argv[0]), (size_t)sqlite3_value_bytes(argv[0]), &model)) {
    sqlite3_result_error(context,
                         "bptt_predict: model is something else, expected the safetensors file of "
                         "a recurrent layer of one input and a linear layer of one output",
                         -1);
  } else if (!(series = read_series(argv[1], &n))) {
    sqlite3_result_error_nomem(context);
  } else {
    const int status = predict(&model, series, n, &result);
    if (status < 0)
      sqlite3_result_error_nomem(context);
    else if (status)
      sqlite3_result_error(context, bptt_last_error(), -1);
    else
      sqlite3_result_double(context, result);
    free(series);
  }
  free_model(&model);
}

int sqlite3_sqlitebptt_init(sqlite3* db, char** message, const sqlite3_api_routines* api) {
  SQLITE_EXTENSION_INIT2(api);
  (void)message;
  return sqlite3_create_function(db, "bptt_predict", 2, SQLITE_UTF8 | SQLITE_DETERMINISTIC, NULL,
                                 bptt_predict, NULL, NULL);
}
