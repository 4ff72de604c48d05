// libcublas.so.13: the products, on the CPU. Matrices are stored by columns.
//
// 16-bit and 32-bit inputs are summed in float, doubles in double. TF32 compute rounds its
// inputs to ten bits, as the device does. With beta = 0, C is not read.

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <vector>

#include "emulator/float16.hpp"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace emulated_cublas {

enum Status { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum Type { R_32F = 0, R_64F = 1, R_16F = 2, R_16BF = 14 };
enum Compute { C_16F = 64, C_16F_PEDANTIC = 65, C_32F = 68, C_64F = 70, C_64F_PEDANTIC = 71, C_32F_FAST_TF32 = 77 };

struct Handle {
  void *stream = nullptr;
  int pointer_mode = 0, math_mode = 0;
};

// The driver's side of this device: its streams and its allocations.
struct Device {
  int (*launch)(void *stream, void (*run)(void *), void *data) = nullptr;
  int (*contains)(const void *, size_t) = nullptr;
  void (*tally)(const char *, uint64_t, uint64_t) = nullptr;
  Device() {
    if (void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL)) {
      launch = reinterpret_cast<int (*)(void *, void (*)(void *), void *)>(dlsym(library, "emulated_launch"));
      contains = reinterpret_cast<int (*)(const void *, size_t)>(dlsym(library, "emulated_contains"));
      tally = reinterpret_cast<void (*)(const char *, uint64_t, uint64_t)>(dlsym(library, "emulated_tally"));
    }
  }
};
Device &device() {
  static Device *instance = new Device;
  return *instance;
}

// Has `work` done in the order of the handle's stream.
Status launch(Handle *handle, std::function<void()> work) {
  if (!device().launch) return NOT_INITIALIZED;
  auto *data = new std::function<void()>(std::move(work));
  auto run = [](void *data) {
    auto *work = static_cast<std::function<void()> *>(data);
    (*work)();
    delete work;
  };
  if (device().launch(handle->stream, run, data) == 0) return SUCCESS;
  return delete data, EXECUTION_FAILED;
}

size_t size_of(Type type) { return type == R_64F ? 8 : type == R_32F ? 4 : 2; }

template <class T>
T load(const void *p, Type type, size_t i) {
  switch (type) {
    case R_64F: return T(static_cast<const double *>(p)[i]);
    case R_32F: return T(static_cast<const float *>(p)[i]);
    case R_16F: return T(emulator::half_to_float(static_cast<const uint16_t *>(p)[i]));
    default: return T(emulator::bf16_to_float(static_cast<const uint16_t *>(p)[i]));
  }
}
template <class T>
void store(void *p, Type type, size_t i, T value) {
  switch (type) {
    case R_64F: static_cast<double *>(p)[i] = double(value); break;
    case R_32F: static_cast<float *>(p)[i] = float(value); break;
    case R_16F: static_cast<uint16_t *>(p)[i] = emulator::float_to_half(float(value)); break;
    default: static_cast<uint16_t *>(p)[i] = emulator::float_to_bf16(float(value));
  }
}

struct Matrix {
  const void *data;
  Type type;
  int stride;       // between columns
  bool transposed;
  long long step;   // between the matrices of a batch
};

struct Product {
  int m, n, k;
  Matrix a, b;
  void *c;
  Type c_type;
  int c_stride;
  long long c_step;
  int batch;
  bool tf32;
};

float to_tf32(float x) {
  uint32_t u = emulator::bits<uint32_t>(x);
  if ((u & 0x7f800000) == 0x7f800000) return x;
  return emulator::bits<float>((u + 0xfff + (u >> 13 & 1)) & ~0x1fffu);
}

// One tile: kRows rows of C (two vectors) by kColumns columns, over a run of k.
constexpr int kColumns = 6, kRun = 256;
template <class T>
struct Tile {
  typedef T Vector __attribute__((vector_size(32)));
  static constexpr int kLanes = 32 / int(sizeof(T)), kRows = 2 * kLanes;

  static void add(const T *a, const T *b, int run, T *sum, size_t stride, int rows, int columns) {
    Vector total[kColumns][2] = {};
    for (int p = 0; p < run; p++) {
      Vector a0, a1;
      __builtin_memcpy(&a0, a + size_t(p) * kRows, 32);
      __builtin_memcpy(&a1, a + size_t(p) * kRows + kLanes, 32);
      for (int j = 0; j < kColumns; j++) {
        T s = b[size_t(p) * kColumns + j];
        total[j][0] += a0 * s;
        total[j][1] += a1 * s;
      }
    }
    for (int j = 0; j < columns; j++)
      for (int i = 0; i < rows; i++) sum[j * stride + i] += total[j][i / kLanes][i % kLanes];
  }
};

// Panels of `width` lines (rows of op(A), columns of op(B)), each laid out along k. `along`
// says that neighbours along k are neighbours in memory.
template <class T>
void pack(std::vector<T> &out, const Matrix &m, size_t offset, int lines, int width, int from, int run, bool along, bool tf32) {
  int panels = (lines + width - 1) / width;
  out.assign(size_t(panels) * width * run, T(0));
  auto put = [&](int line, int p) {
    size_t at = offset + (along ? size_t(line) * m.stride + (from + p) : size_t(from + p) * m.stride + line);
    T value = load<T>(m.data, m.type, at);
    if (tf32) value = T(to_tf32(float(value)));
    out[(size_t(line / width) * run + p) * width + line % width] = value;
  };
  if (along)
    for (int line = 0; line < lines; line++)
      for (int p = 0; p < run; p++) put(line, p);
  else
    for (int p = 0; p < run; p++)
      for (int line = 0; line < lines; line++) put(line, p);
}

template <class T>
void multiply(const Product &p, T alpha, T beta) {
  using Block = Tile<T>;
  std::vector<T> a, b, sum;
  for (int index = 0; index < p.batch; index++) {
    sum.assign(size_t(p.m) * p.n, T(0));
    for (int from = 0; from < p.k; from += kRun) {
      int run = std::min(kRun, p.k - from);
      pack(a, p.a, size_t(p.a.step * index), p.m, Block::kRows, from, run, p.a.transposed, p.tf32);
      pack(b, p.b, size_t(p.b.step * index), p.n, kColumns, from, run, !p.b.transposed, p.tf32);
      for (int j = 0; j < p.n; j += kColumns)
        for (int i = 0; i < p.m; i += Block::kRows)
          Block::add(&a[size_t(i) * run], &b[size_t(j) * run], run, &sum[size_t(j) * p.m + i], size_t(p.m),
                     std::min(Block::kRows, p.m - i), std::min(kColumns, p.n - j));
    }
    for (int j = 0; j < p.n; j++)
      for (int i = 0; i < p.m; i++) {
        size_t at = size_t(p.c_step * index) + size_t(j) * p.c_stride + i;
        T value = alpha * sum[size_t(j) * p.m + i];
        if (beta != T(0)) value += beta * load<T>(p.c, p.c_type, at);
        store<T>(p.c, p.c_type, at, value);
      }
  }
}

bool inside(const void *data, Type type, int rows, int columns, int stride, long long step, int batch, const char *which) {
  if (!device().contains || rows == 0 || columns == 0) return true;
  size_t elements = size_t(step) * size_t(batch - 1) + size_t(stride) * size_t(columns - 1) + size_t(rows);
  if (device().contains(data, elements * size_of(type))) return true;
  fprintf(stderr, "emulated device: product: %s (%d by %d, stride %d, %d of them %lld apart) leaves its allocation\n",
          which, rows, columns, stride, batch, step);
  return false;
}

// Which combinations the library has.
bool supported(int compute, Type a, Type b, Type c) {
  if (a != b) return false;
  if (compute == C_64F || compute == C_64F_PEDANTIC) return a == R_64F && c == R_64F;
  if (compute == C_16F || compute == C_16F_PEDANTIC) return a == R_16F && c == R_16F;
  if (compute < 68 || compute > 77 || compute == 72) return false;
  return a == R_32F ? c == R_32F : (a == R_16F || a == R_16BF) && (c == a || c == R_32F);
}

bool is_zero(const void *scalar, int compute, Type type) {
  if (type == R_64F) return *static_cast<const double *>(scalar) == 0;
  if (compute == C_16F || compute == C_16F_PEDANTIC) return load<float>(scalar, R_16F, 0) == 0;
  return *static_cast<const float *>(scalar) == 0;
}

Status run(Handle *handle, int trans_a, int trans_b, int m, int n, int k, const void *alpha, const void *a, int a_type,
           int lda, long long step_a, const void *b, int b_type, int ldb, long long step_b, const void *beta, void *c,
           int c_type, int ldc, long long step_c, int batch, int compute) {
  if (!handle) return NOT_INITIALIZED;
  if (m < 0 || n < 0 || k < 0 || batch < 0 || !alpha || !beta) return INVALID_VALUE;
  bool ta = trans_a != 0, tb = trans_b != 0;
  if (lda < std::max(1, ta ? k : m) || ldb < std::max(1, tb ? n : k) || ldc < std::max(1, m)) {
    fprintf(stderr, "emulated device: product: m %d n %d k %d with strides %d %d %d\n", m, n, k, lda, ldb, ldc);
    return INVALID_VALUE;
  }
  Product p{m, n, k, {a, Type(a_type), lda, ta, step_a}, {b, Type(b_type), ldb, tb, step_b},
            c, Type(c_type), ldc, step_c, batch, compute == C_32F_FAST_TF32 && a_type == R_32F};
  if (!supported(compute, p.a.type, p.b.type, p.c_type)) return NOT_SUPPORTED;
  if (m == 0 || n == 0 || batch == 0) return SUCCESS;
  if (!inside(a, p.a.type, ta ? k : m, ta ? m : k, lda, step_a, batch, "A") ||
      !inside(b, p.b.type, tb ? n : k, tb ? k : n, ldb, step_b, batch, "B") ||
      !inside(c, p.c_type, m, n, ldc, step_c, batch, "C"))
    return EXECUTION_FAILED;
  if (device().tally) {
    // Thin: one side is as short as the rank of an adapter, so tensor cores wait for memory.
    bool thin = std::min({m, n, k}) <= 8;
    bool added = !is_zero(beta, compute, p.a.type);
    uint64_t bytes = uint64_t(m) * k * size_of(p.a.type) + uint64_t(k) * n * size_of(p.b.type) +
                     uint64_t(m) * n * size_of(p.c_type) * (added ? 2 : 1);
    device().tally(thin ? "(thin product)" : "(product)", bytes * batch, 2ull * m * n * k * batch);
  }
  // The scalars lie on the host, and are read before the call returns.
  if (p.a.type == R_64F)
    return launch(handle, [=, x = *static_cast<const double *>(alpha), y = *static_cast<const double *>(beta)] { multiply(p, x, y); });
  bool half = compute == C_16F || compute == C_16F_PEDANTIC;
  auto scalar = [half](const void *at) { return half ? load<float>(at, R_16F, 0) : *static_cast<const float *>(at); };
  return launch(handle, [p, x = scalar(alpha), y = scalar(beta)] { multiply(p, x, y); });
}

template <class T>
Status vector_product(Handle *handle, int trans, int m, int n, const T *alpha, const T *a, int lda, const T *x, int step_x,
                      const T *beta, T *y, int step_y) {
  if (!handle) return NOT_INITIALIZED;
  if (step_x <= 0 || step_y <= 0) return NOT_SUPPORTED;
  return launch(handle, [=, by = *alpha, keep = *beta] {
    int rows = trans ? n : m, inner = trans ? m : n;
    for (int i = 0; i < rows; i++) {
      T sum = 0;
      for (int p = 0; p < inner; p++) sum += (trans ? a[size_t(i) * lda + p] : a[size_t(p) * lda + i]) * x[size_t(p) * step_x];
      T &out = y[size_t(i) * step_y];
      out = by * sum + (keep != 0 ? keep * out : 0);
    }
  });
}

}  // namespace emulated_cublas
using namespace emulated_cublas;

EXPORT Status cublasCreate_v2(Handle **handle) { return *handle = new Handle, SUCCESS; }
EXPORT Status cublasDestroy_v2(Handle *handle) { return delete handle, SUCCESS; }
EXPORT Status cublasGetVersion_v2(Handle *, int *version) { return *version = 130000, SUCCESS; }
EXPORT Status cublasSetStream_v2(Handle *handle, void *stream) { return handle->stream = stream, SUCCESS; }
EXPORT Status cublasGetStream_v2(Handle *handle, void **stream) { return *stream = handle->stream, SUCCESS; }
EXPORT Status cublasSetWorkspace_v2(Handle *, void *, size_t) { return SUCCESS; }
EXPORT Status cublasSetPointerMode_v2(Handle *handle, int mode) { return handle->pointer_mode = mode, SUCCESS; }
EXPORT Status cublasGetPointerMode_v2(Handle *handle, int *mode) { return *mode = handle->pointer_mode, SUCCESS; }
EXPORT Status cublasSetMathMode(Handle *handle, int mode) { return handle->math_mode = mode, SUCCESS; }
EXPORT Status cublasGetMathMode(Handle *handle, int *mode) { return *mode = handle->math_mode, SUCCESS; }
EXPORT Status cublasSetAtomicsMode(Handle *, int) { return SUCCESS; }
EXPORT const char *cublasGetStatusName(int) { return "status of the emulated device"; }
EXPORT const char *cublasGetStatusString(int) { return "status of the emulated device"; }

#define GEMM(name, T, type, compute)                                                                                   \
  EXPORT Status name(Handle *h, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda, const T *b,   \
                     int ldb, const T *beta, T *c, int ldc) {                                                          \
    return run(h, ta, tb, m, n, k, alpha, a, type, lda, 0, b, type, ldb, 0, beta, c, type, ldc, 0, 1, compute);        \
  }
#define GEMM_BATCHED(name, T, type, compute)                                                                           \
  EXPORT Status name(Handle *h, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda, long long sa, \
                     const T *b, int ldb, long long sb, const T *beta, T *c, int ldc, long long sc, int batch) {       \
    return run(h, ta, tb, m, n, k, alpha, a, type, lda, sa, b, type, ldb, sb, beta, c, type, ldc, sc, batch, compute); \
  }
GEMM(cublasSgemm_v2, float, R_32F, h && h->math_mode == 3 ? C_32F_FAST_TF32 : C_32F)
GEMM(cublasDgemm_v2, double, R_64F, C_64F)
GEMM(cublasHgemm, uint16_t, R_16F, C_16F)
GEMM_BATCHED(cublasSgemmStridedBatched, float, R_32F, h && h->math_mode == 3 ? C_32F_FAST_TF32 : C_32F)
GEMM_BATCHED(cublasDgemmStridedBatched, double, R_64F, C_64F)
GEMM_BATCHED(cublasHgemmStridedBatched, uint16_t, R_16F, C_16F)

EXPORT Status cublasGemmEx(Handle *h, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int a_type,
                           int lda, const void *b, int b_type, int ldb, const void *beta, void *c, int c_type, int ldc,
                           int compute, int) {
  return run(h, ta, tb, m, n, k, alpha, a, a_type, lda, 0, b, b_type, ldb, 0, beta, c, c_type, ldc, 0, 1, compute);
}
EXPORT Status cublasGemmStridedBatchedEx(Handle *h, int ta, int tb, int m, int n, int k, const void *alpha, const void *a,
                                         int a_type, int lda, long long sa, const void *b, int b_type, int ldb,
                                         long long sb, const void *beta, void *c, int c_type, int ldc, long long sc,
                                         int batch, int compute, int) {
  return run(h, ta, tb, m, n, k, alpha, a, a_type, lda, sa, b, b_type, ldb, sb, beta, c, c_type, ldc, sc, batch, compute);
}

EXPORT Status cublasSgemv_v2(Handle *h, int t, int m, int n, const float *alpha, const float *a, int lda, const float *x,
                             int sx, const float *beta, float *y, int sy) {
  return vector_product(h, t, m, n, alpha, a, lda, x, sx, beta, y, sy);
}
EXPORT Status cublasDgemv_v2(Handle *h, int t, int m, int n, const double *alpha, const double *a, int lda, const double *x,
                             int sx, const double *beta, double *y, int sy) {
  return vector_product(h, t, m, n, alpha, a, lda, x, sx, beta, y, sy);
}
