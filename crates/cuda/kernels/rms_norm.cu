// Root-mean-square normalisation of rows of `width`, and its gradients.
//
//   rms_norm:           y = x r gain, with r = 1 / sqrt(mean(x^2) + eps) of the row
//   rms_norm_back_x:    dx = r gain dy - x r^2 mean(r gain dy x)
//   rms_norm_back_gain: partial[b] = the sum of dy x r over the rows of block b
//   column_sums:        out = the sum of the rows of partial
//
// x, y, dy and dx are [rows, width], gain and out [width], partial [blocks, width].
//
// Launch: rms_norm and rms_norm_back_x with one block per row, of whole warps (256 threads);
// rms_norm_back_gain with ceil(rows / rows_per_block) blocks of 256; column_sums with
// ceil(columns / 256) blocks of 256. No dynamic shared memory.

#include "common.cuh"

__device__ inline float row_factor(float squares, u32 width, float eps) {
    return 1.0f / sqrtf(squares / static_cast<float>(width) + eps);
}

template <class T>
__device__ void norm(const T *x, const T *gain, T *y, u32 width, float eps) {
    x += static_cast<u64>(blockIdx.x) * width;
    y += static_cast<u64>(blockIdx.x) * width;
    float squares = 0;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        float value = to_float(x[i]);
        squares += value * value;
    }
    float factor = row_factor(block_sum(squares), width, eps);
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        y[i] = from_float<T>(to_float(x[i]) * factor * to_float(gain[i]));
    }
}

template <class T>
__device__ void norm_back_x(const T *x, const T *gain, const T *dy, T *dx, u32 width, float eps) {
    u64 row = static_cast<u64>(blockIdx.x) * width;
    x += row;
    dy += row;
    dx += row;
    float squares = 0;
    float products = 0;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        float value = to_float(x[i]);
        squares += value * value;
        products += to_float(dy[i]) * to_float(gain[i]) * value;
    }
    float factor = row_factor(block_sum(squares), width, eps);
    float along = block_sum(products) * factor * factor * factor / static_cast<float>(width);
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        float straight = to_float(dy[i]) * to_float(gain[i]) * factor;
        dx[i] = from_float<T>(straight - along * to_float(x[i]));
    }
}

template <class T>
__device__ void norm_back_gain(const T *x, const T *dy, float *partial, u32 rows, u32 width,
                               u32 rows_per_block, float eps) {
    // Rows whose factors are stored at a time.
    constexpr u32 HELD = 32;
    __shared__ float factors[HELD];
    u64 begin = static_cast<u64>(blockIdx.x) * rows_per_block;
    u64 end = begin + rows_per_block < rows ? begin + rows_per_block : rows;
    partial += static_cast<u64>(blockIdx.x) * width;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        partial[i] = 0;
    }
    for (u64 first = begin; first < end; first += HELD) {
        u32 held = end - first < HELD ? static_cast<u32>(end - first) : HELD;
        __syncthreads();
        for (u32 row = threadIdx.x / WARP; row < held; row += blockDim.x / WARP) {
            const T *values = x + (first + row) * width;
            float squares = 0;
            for (u32 i = threadIdx.x % WARP; i < width; i += WARP) {
                float value = to_float(values[i]);
                squares += value * value;
            }
            squares = warp_fold(squares, Add());
            if (threadIdx.x % WARP == 0) {
                factors[row] = row_factor(squares, width, eps);
            }
        }
        __syncthreads();
        for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
            float sum = partial[i];
            for (u32 row = 0; row < held; ++row) {
                u64 at = (first + row) * width + i;
                sum += to_float(dy[at]) * to_float(x[at]) * factors[row];
            }
            partial[i] = sum;
        }
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
    extern "C" __global__ void rms_norm_##SUFFIX(const T *x, const T *gain, T *y, u32 width,       \
                                                 float eps) {                                      \
        norm(x, gain, y, width, eps);                                                              \
    }                                                                                              \
    extern "C" __global__ void rms_norm_back_x_##SUFFIX(const T *x, const T *gain, const T *dy,    \
                                                        T *dx, u32 width, float eps) {             \
        norm_back_x(x, gain, dy, dx, width, eps);                                                  \
    }                                                                                              \
    extern "C" __global__ void rms_norm_back_gain_##SUFFIX(const T *x, const T *dy,                \
                                                           float *partial, u32 rows, u32 width,    \
                                                           u32 rows_per_block, float eps) {        \
        norm_back_gain(x, dy, partial, rows, width, rows_per_block, eps);                          \
    }                                                                                              \
    extern "C" __global__ void column_sums_##SUFFIX(const float *partial, T *out, u32 rows,        \
                                                    u32 columns) {                                 \
        sum_columns(partial, out, rows, columns);                                                  \
    }

KERNELS(float, f32)
KERNELS(bf16, bf16)
