// Sums, in a fixed order for a given launch.
//
//   sum_of_squares: partial[block] = the block's share of the sum of x^2, in double
//   total:          out[0] = the sum of partial, in double
//   row_sums:       partial[b] = the sum of the rows of block b of x [rows, columns], in float
//   column_sums:    out = the sum of the rows of partial [rows, columns], in float
//
// Launch: sum_of_squares 1-d with 256 threads and any number of blocks, which is the length of
// partial; total with one block of 256; row_sums with ceil(columns / 256) x ceil(rows / rows_per_block)
// blocks of 256; column_sums with ceil(columns / 256) blocks of 256.

#include "common.cuh"

template <class T>
__device__ void square_and_sum(const T *x, double *partial, u64 n) {
    double sum = 0;
    for (u64 i = walk_start(); i < n; i += walk_step()) {
        double value = static_cast<double>(to_float(x[i]));
        sum += value * value;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
    }
}

// On all threads.
__device__ inline double block_total(const double *values, u32 n) {
    double sum = 0;
    for (u32 i = threadIdx.x; i < n; i += blockDim.x) {
        sum += values[i];
    }
    return block_sum(sum);
}

template <class T>
__device__ void add_rows(const T *x, float *partial, u32 rows, u32 columns, u32 rows_per_block) {
    u64 column = walk_start();
    u64 begin = static_cast<u64>(blockIdx.y) * rows_per_block;
    u64 end = begin + rows_per_block < rows ? begin + rows_per_block : rows;
    if (column < columns) {
        float sum = 0;
        for (u64 row = begin; row < end; ++row) {
            sum += to_float(x[row * columns + column]);
        }
        partial[static_cast<u64>(blockIdx.y) * columns + column] = sum;
    }
}

template <class T>
__device__ void sum_columns(const float *partial, T *out, u32 rows, u32 columns) {
    u64 column = walk_start();
    if (column < columns) {
        float sum = 0;
        for (u64 row = 0; row < rows; ++row) {
            sum += partial[row * columns + column];
        }
        out[column] = from_float<T>(sum);
    }
}

#define KERNELS(T, SUFFIX)                                                                         \
    extern "C" __global__ void sum_of_squares_##SUFFIX(const T *x, double *partial, u64 n) {       \
        square_and_sum(x, partial, n);                                                             \
    }                                                                                              \
    extern "C" __global__ void row_sums_##SUFFIX(const T *x, float *partial, u32 rows,             \
                                                 u32 columns, u32 rows_per_block) {                \
        add_rows(x, partial, rows, columns, rows_per_block);                                       \
    }                                                                                              \
    extern "C" __global__ void column_sums_##SUFFIX(const float *partial, T *out, u32 rows,        \
                                                    u32 columns) {                                 \
        sum_columns(partial, out, rows, columns);                                                  \
    }

KERNELS(float, f32)
KERNELS(bf16, bf16)

extern "C" __global__ void total(const double *partial, double *out, u32 n) {
    double sum = block_total(partial, n);
    if (threadIdx.x == 0) {
        out[0] = sum;
    }
}
