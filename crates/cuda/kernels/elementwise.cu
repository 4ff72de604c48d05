// Element-wise operations, each result rounded once.
//
//   plus:         z = x + y
//   masked:       y = x mask
//   add_masked:   y = y + x mask
//   scaled_by:    y = x factor[0], in double
//   add_row:      y[r] = x[r] + row, for x [rows, width]
//   relu:         y = x where x is above zero or NaN, else 0
//   relu_back:    dx = dy where x is above zero or NaN, else 0
//   f32_to_bf16, bf16_to_f32: casts
//
// Launch: 1-d, 256 threads, any number of blocks; a thread makes 4 elements at a time, for which
// ceil(n / 1024) blocks are enough. scaled_by makes one at a time. add_row has ceil(width / 1024) columns
// of blocks and any number of rows of them.

#include "common.cuh"

struct Multiply {
    __device__ float operator()(float x, float mask) const { return x * mask; }
};
struct AddProduct {
    __device__ float operator()(float y, float x, float mask) const { return y + x * mask; }
};
struct Same {
    __device__ float operator()(float x) const { return x; }
};
// NaN is not at most zero, and passes.
struct Rectify {
    __device__ float operator()(float x) const { return x <= 0.0f ? 0.0f : x; }
};
struct RectifiedSlope {
    __device__ float operator()(float x, float dy) const { return x <= 0.0f ? 0.0f : dy; }
};

// A thread keeps its elements of the row for all rows that it makes.
template <class T>
__device__ void plus_row(const T *x, const T *row, T *y, u32 rows, u32 width) {
    const bool aligned = width % RUN == 0 && begins_run(x) && begins_run(row) && begins_run(y);
    const u32 runs = aligned ? width / RUN : 0;
    for (u64 i = walk_start(); i < runs; i += walk_step()) {
        const Run<T> added = run_at(row, i);
        for (u64 at = blockIdx.y; at < rows; at += gridDim.y) {
            map_run(Add(), run_at(y, at * runs + i), run_at(x, at * runs + i), added);
        }
    }
    for (u64 i = runs * RUN + walk_start(); i < width; i += walk_step()) {
        const float added = to_float(row[i]);
        for (u64 at = blockIdx.y; at < rows; at += gridDim.y) {
            y[at * width + i] = from_float<T>(to_float(x[at * width + i]) + added);
        }
    }
}

template <class T>
__device__ void scale(const T *x, const double *factor, T *y, u64 n) {
    double by = factor[0];
    for (u64 i = walk_start(); i < n; i += walk_step()) {
        y[i] = from_double<T>(static_cast<double>(to_float(x[i])) * by);
    }
}

#define KERNELS(T, SUFFIX)                                                                         \
    extern "C" __global__ void plus_##SUFFIX(const T *x, const T *y, T *z, u64 n) {                 \
        map(n, Add(), z, x, y);                                                                    \
    }                                                                                              \
    extern "C" __global__ void masked_##SUFFIX(const T *x, const T *mask, T *y, u64 n) {           \
        map(n, Multiply(), y, x, mask);                                                            \
    }                                                                                              \
    extern "C" __global__ void add_masked_##SUFFIX(T *y, const T *x, const T *mask, u64 n) {       \
        map(n, AddProduct(), y, static_cast<const T *>(y), x, mask);                               \
    }                                                                                              \
    extern "C" __global__ void scaled_by_##SUFFIX(const T *x, const double *factor, T *y,          \
                                                  u64 n) {                                         \
        scale(x, factor, y, n);                                                                    \
    }                                                                                              \
    extern "C" __global__ void add_row_##SUFFIX(const T *x, const T *row, T *y, u32 rows,          \
                                                u32 width) {                                       \
        plus_row(x, row, y, rows, width);                                                          \
    }                                                                                              \
    extern "C" __global__ void relu_##SUFFIX(const T *x, T *y, u64 n) { map(n, Rectify(), y, x); } \
    extern "C" __global__ void relu_back_##SUFFIX(const T *x, const T *dy, T *dx, u64 n) {         \
        map(n, RectifiedSlope(), dx, x, dy);                                                       \
    }

KERNELS(float, f32)
KERNELS(bf16, bf16)

extern "C" __global__ void f32_to_bf16(const float *x, bf16 *y, u64 n) { map(n, Same(), y, x); }
extern "C" __global__ void bf16_to_f32(const bf16 *x, float *y, u64 n) { map(n, Same(), y, x); }
