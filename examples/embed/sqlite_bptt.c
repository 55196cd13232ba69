/* SPDX-License-Identifier: MIT */
/* An SQLite extension: bptt_predict(model, series) predicts the next value of a series with a
 * model that bptt trained.
 *
 *   cc -shared -fPIC sqlite_bptt.c $(python -m bptt --includes) $(python -m bptt --libs) \
 *      -Wl,--exclude-libs,ALL -o sqlite_bptt.so
 *   sqlite3> .load ./sqlite_bptt
 *   sqlite3> SELECT bptt_predict(readfile('model.safetensors'), '[0.1, 0.2, 0.3]');
 *
 * model is a BLOB with a safetensors file in float32. It holds a recurrent layer with one input
 * (rnn with tanh, lstm or gru; weight_ih_l0 and so on) and a linear layer with one output (weight
 * [1, H], bias [1]); names may have any prefix. series is a BLOB of float32, or a text of numbers
 * separated by commas or spaces, with or without brackets. The result is NULL if an argument is
 * NULL. A model that is the same for all rows of a statement is read once.
 */
#include <float.h>
#include <math.h>
#include <sqlite3ext.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bptt.h"

SQLITE_EXTENSION_INIT1

typedef struct Tensor {
  ptrdiff_t rows, columns; /* a vector has 1 column */
  float* data;             /* a copy, because a BLOB may be unaligned */
} Tensor;

typedef struct Model {
  Tensor w_ih, w_hh, b_ih, b_hh, weight, bias;
  bptt_desc desc;
  bptt_weights weights; /* packed */
  void *memory, *workspace;
  float *h, *c;
} Model;

static void free_model(void* model) {
  Model* m = model;
  free(m->w_ih.data), free(m->w_hh.data), free(m->b_ih.data), free(m->b_hh.data);
  free(m->weight.data), free(m->bias.data), free(m->memory), free(m->h);
  free(m);
}

/* Reads a number at *p, before end; returns 0 on failure. */
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

/* Finds the tensor whose name ends in `name` in a file of `size` bytes; 0 if none fits. */
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

/* Packs weights, and reserves memory for single steps. Returns a status of bptt, or -1 without
 * memory. */
static int prepare(Model* m) {
  const bptt_weights weights = {m->w_ih.data, m->w_hh.data, m->b_ih.data, m->b_hh.data, NULL};
  bptt_sizes sizes = {0};
  char* packed;
  int status;
  m->desc.struct_size = sizeof m->desc, sizes.struct_size = sizeof sizes;
  m->desc.cell = cell_of(m), m->desc.steps = 1, m->desc.batch = 1, m->desc.input_size = 1;
  m->desc.hidden_size = m->w_hh.columns;
  if ((status = bptt_query(&m->desc, &sizes))) return status;
  m->memory = malloc(sizes.packed + sizes.step_workspace + 3 * BPTT_ALIGNMENT);
  m->h = malloc(2 * (size_t)m->w_hh.columns * sizeof(float));
  if (!m->memory || !m->h) return -1;
  m->c = m->h + m->w_hh.columns;
  packed = (char*)m->memory + (BPTT_ALIGNMENT - (size_t)m->memory % BPTT_ALIGNMENT);
  m->workspace = packed + (sizes.packed + BPTT_ALIGNMENT - 1) / BPTT_ALIGNMENT * BPTT_ALIGNMENT;
  m->weights.packed = packed;
  return bptt_pack(&m->desc, &weights, packed);
}

/* The prediction after the last of n values. */
static int predict(Model* m, const float* series, ptrdiff_t n, double* result) {
  const ptrdiff_t H = m->w_hh.columns;
  ptrdiff_t t, j;
  memset(m->h, 0, 2 * (size_t)H * sizeof(float));
  for (t = 0; t < n; ++t) {
    const int status = bptt_step(&m->desc, &m->weights, series + t, m->h, m->c, m->workspace);
    if (status) return status;
  }
  *result = m->bias.data[0];
  for (j = 0; j < H; ++j) *result += (double)m->weight.data[j] * m->h[j];
  return BPTT_OK;
}

/* Reads a decimal number at *p in any locale; returns 0 unless float32 can hold it. */
static int read_decimal(const char** p, float* value) {
  const char* q = *p;
  const int negative = *q == '-', signed_ = negative || *q == '+';
  double number = 0;
  int digits = 0, exponent = 0, power = 0, sign = 1;
  for (q += signed_; *q >= '0' && *q <= '9'; ++q, ++digits) number = 10 * number + (*q - '0');
  if (*q == '.')
    for (++q; *q >= '0' && *q <= '9'; ++q, ++digits, --power) number = 10 * number + (*q - '0');
  if (!digits) return 0;
  if (*q == 'e' || *q == 'E') {
    if (*++q == '-' || *q == '+') sign = *q++ == '-' ? -1 : 1;
    if (*q < '0' || *q > '9') return 0;
    for (; *q >= '0' && *q <= '9'; ++q)
      if (exponent < 10000) exponent = 10 * exponent + (*q - '0');
  }
  if (number != 0) number *= pow(10, power + sign * exponent);
  if (!(number <= FLT_MAX)) return 0;
  *value = (float)(negative ? -number : number);
  *p = q;
  return 1;
}

static const char* skip(const char* p, const char* any) { return p + strspn(p, any); }

/* Reads the numbers of a text into series [*n]; returns 0 if the text has anything else. */
static int read_text(const char* p, float* series, ptrdiff_t* n) {
  const char* space = " \t\r\n";
  int bracket;
  p = skip(p, space);
  if ((bracket = *p == '[')) p = skip(p + 1, space);
  while (*p && *p != ']') {
    if (!read_decimal(&p, series + *n)) return 0;
    ++*n;
    if (*p && !strchr(" \t\r\n,]", *p)) return 0;
    p = skip(p, space);
    if (*p == ',') {
      p = skip(p + 1, space);
      if (!*p || *p == ']') return 0;
    }
  }
  if (bracket != (*p == ']')) return 0;
  return *skip(p + bracket, space) == 0;
}

/* Reads a text or BLOB into series, which has room for one number per byte. */
static int read_series(sqlite3_value* value, float* series, ptrdiff_t* n) {
  const size_t bytes = (size_t)sqlite3_value_bytes(value);
  if (sqlite3_value_type(value) != SQLITE_BLOB) {
    const char* text = (const char*)sqlite3_value_text(value);
    return text && strlen(text) == bytes && read_text(text, series, n);
  }
  if (bytes) memcpy(series, sqlite3_value_blob(value), bytes);
  *n = (ptrdiff_t)(bytes / sizeof(float));
  return bytes % sizeof(float) == 0;
}

/* Returns an error instead of a result. */
static void fail(sqlite3_context* context, int status) {
  if (status < 0)
    sqlite3_result_error_nomem(context);
  else
    sqlite3_result_error(context, bptt_last_error(), -1);
}

/* Reads the model of the first argument; returns null after an error. */
static Model* new_model(sqlite3_context* context, sqlite3_value* value) {
  Model* m = calloc(1, sizeof *m);
  int status;
  if (!m) return fail(context, -1), NULL;
  if (read_model(sqlite3_value_blob(value), (size_t)sqlite3_value_bytes(value), m)) {
    if (!(status = prepare(m))) return m;
    fail(context, status);
  } else {
    sqlite3_result_error(context,
                         "bptt_predict: model is something else, expected the safetensors file of "
                         "a recurrent layer of one input and a linear layer of one output",
                         -1);
  }
  return free_model(m), NULL;
}

static void bptt_predict(sqlite3_context* context, int argc, sqlite3_value** argv) {
  Model *kept, *model;
  float* series;
  ptrdiff_t n = 0;
  double result = 0;
  int status;
  (void)argc;
  if (sqlite3_value_type(argv[0]) == SQLITE_NULL || sqlite3_value_type(argv[1]) == SQLITE_NULL)
    return;
  kept = sqlite3_get_auxdata(context, 0);
  if (!(model = kept ? kept : new_model(context, argv[0]))) return;
  series = malloc(((size_t)sqlite3_value_bytes(argv[1]) + 1) * sizeof(float));
  if (!series)
    fail(context, -1);
  else if (!read_series(argv[1], series, &n))
    sqlite3_result_error(context,
                         "bptt_predict: series is something else, expected a BLOB of float32 or a "
                         "text of numbers such as '[0.1, 0.2]'",
                         -1);
  else if ((status = predict(model, series, n, &result)))
    fail(context, status);
  else
    sqlite3_result_double(context, result);
  free(series);
  if (!kept) sqlite3_set_auxdata(context, 0, model, free_model);
}

int sqlite3_sqlitebptt_init(sqlite3* db, char** message, const sqlite3_api_routines* api) {
  SQLITE_EXTENSION_INIT2(api);
  (void)message;
  return sqlite3_create_function(db, "bptt_predict", 2, SQLITE_UTF8 | SQLITE_DETERMINISTIC, NULL,
                                 bptt_predict, NULL, NULL);
}
