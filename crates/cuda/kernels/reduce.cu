// Sums in double, in a fixed order for a given launch.
//
//   sum_of_squares: partial[block] = the block's share of the sum of x^2
//   total:          out[0] = the sum of partial
//
// Launch: sum_of_squares 1-d with 256 threads and any number of blocks, which is the length of
// partial; total with one block of 256.

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

#define KERNELS(T, SUFFIX)                                                                         \
    extern "C" __global__ void sum_of_squares_##SUFFIX(const T *x, double *partial, u64 n) {       \
        square_and_sum(x, partial, n);                                                             \
    }

KERNELS(float, f32)
KERNELS(bf16, bf16)

extern "C" __global__ void total(const double *partial, double *out, u32 n) {
    double sum = block_total(partial, n);
    if (threadIdx.x == 0) {
        out[0] = sum;
    }
}
