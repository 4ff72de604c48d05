// Normalisation of rows of `width`, and its gradients. With n = (x - m) r:
//
//   rms_norm:             y = n gain, with m = 0 and r = 1 / sqrt(mean(x^2) + eps) of the row
//   add_rms_norm:         sum = x + z, and y = rms_norm(sum), with the bits of plus and rms_norm
//   layer_norm:           y = n gain + bias, with m = mean(x) and r = 1 / sqrt(mean((x - m)^2) + eps)
//   rms_norm_back_x:      dx = r (g - n mean(g n)), with g = gain dy
//   layer_norm_back_x:    dx = r (g - mean(g) - n mean(g n))
//   rms_norm_back_gain, layer_norm_back_gain: partial[b] = the sum of dy n over the rows of block b
//
// x, z, sum, y, dy and dx are [rows, width], gain and bias [width], partial [blocks, width], for column_sums
// of reduce.cu.
//
// Launch: the norms and their back_x with one block per row, of whole warps (256 threads); back_gain with
// ceil(rows / rows_per_block) blocks of 256. No dynamic shared memory.

#include "common.cuh"

__device__ inline float row_factor(float squares, u32 width, float eps) {
    return 1.0f / sqrtf(squares / static_cast<float>(width) + eps);
}

// The row's m on all threads of the block. A difference of two sums of squares would lose all digits of a
// row far from zero, so m is known before distances from it are squared.
template <bool CENTRED, class T>
__device__ float middle(const T *x, u32 width) {
    if (!CENTRED) {
        return 0.0f;
    }
    float sum = 0;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        sum += to_float(x[i]);
    }
    return block_sum(sum) / static_cast<float>(width);
}

template <bool CENTRED, class T>
__device__ void norm(const T *x, const T *gain, const T *bias, T *y, u32 width, float eps) {
    x += static_cast<u64>(blockIdx.x) * width;
    y += static_cast<u64>(blockIdx.x) * width;
    float mean = middle<CENTRED>(x, width);
    float squares = 0;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        float distance = to_float(x[i]) - mean;
        squares += distance * distance;
    }
    float factor = row_factor(block_sum(squares), width, eps);
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        float made = (to_float(x[i]) - mean) * factor * to_float(gain[i]);
        y[i] = from_float<T>(CENTRED ? made + to_float(bias[i]) : made);
    }
}

template <class T>
__device__ void add_rms_norm(const T *x, const T *z, const T *gain, T *sum, T *y, u32 width, float eps) {
    const u64 row = static_cast<u64>(blockIdx.x) * width;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        sum[row + i] = from_float<T>(to_float(x[row + i]) + to_float(z[row + i]));
    }
    // A thread reads only what it wrote itself.
    norm<false>(static_cast<const T *>(sum), gain, static_cast<const T *>(nullptr), y, width, eps);
}

template <bool CENTRED, class T>
__device__ void norm_back_x(const T *x, const T *gain, const T *dy, T *dx, u32 width, float eps) {
    u64 row = static_cast<u64>(blockIdx.x) * width;
    x += row;
    dy += row;
    dx += row;
    float mean = middle<CENTRED>(x, width);
    float squares = 0;
    float slopes = 0;
    float products = 0;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        float distance = to_float(x[i]) - mean;
        float slope = to_float(dy[i]) * to_float(gain[i]);
        squares += distance * distance;
        slopes += slope;
        products += slope * distance;
    }
    float factor = row_factor(block_sum(squares), width, eps);
    float along = block_sum(products) * factor * factor * factor / static_cast<float>(width);
    float shift = CENTRED ? block_sum(slopes) * factor / static_cast<float>(width) : 0.0f;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        float straight = to_float(dy[i]) * to_float(gain[i]) * factor;
        float distance = to_float(x[i]) - mean;
        dx[i] = from_float<T>(straight - along * distance - shift);
    }
}

// The sum of `of(x[i])` over a row, on all lanes of the warp that asks.
template <class T, class Of>
__device__ float warp_sum_over(const T *x, u32 width, Of of) {
    float sum = 0;
    for (u32 i = threadIdx.x % WARP; i < width; i += WARP) {
        sum += of(to_float(x[i]));
    }
    return warp_fold(sum, Add());
}

template <bool CENTRED, class T>
__device__ void norm_back_gain(const T *x, const T *dy, float *partial, u32 rows, u32 width,
                               u32 rows_per_block, float eps) {
    // Rows whose means and factors are stored at a time.
    constexpr u32 HELD = 32;
    __shared__ float means[HELD];
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
            float mean = 0;
            if (CENTRED) {
                mean = warp_sum_over(values, width, [](float value) { return value; }) /
                       static_cast<float>(width);
            }
            float squares = warp_sum_over(values, width, [mean](float value) {
                return (value - mean) * (value - mean);
            });
            if (threadIdx.x % WARP == 0) {
                means[row] = mean;
                factors[row] = row_factor(squares, width, eps);
            }
        }
        __syncthreads();
        for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
            float sum = partial[i];
            for (u32 row = 0; row < held; ++row) {
                u64 at = (first + row) * width + i;
                sum += to_float(dy[at]) * (to_float(x[at]) - means[row]) * factors[row];
            }
            partial[i] = sum;
        }
    }
}

#define KERNELS(T, SUFFIX)                                                                         \
    extern "C" __global__ void rms_norm_##SUFFIX(const T *x, const T *gain, T *y, u32 width,       \
                                                 float eps) {                                      \
        norm<false>(x, gain, static_cast<const T *>(nullptr), y, width, eps);                      \
    }                                                                                              \
    extern "C" __global__ void add_rms_norm_##SUFFIX(const T *x, const T *z, const T *gain,        \
                                                     T *sum, T *y, u32 width, float eps) {         \
        add_rms_norm(x, z, gain, sum, y, width, eps);                                              \
    }                                                                                              \
    extern "C" __global__ void layer_norm_##SUFFIX(const T *x, const T *gain, const T *bias, T *y, \
                                                   u32 width, float eps) {                         \
        norm<true>(x, gain, bias, y, width, eps);                                                  \
    }                                                                                              \
    extern "C" __global__ void rms_norm_back_x_##SUFFIX(const T *x, const T *gain, const T *dy,    \
                                                        T *dx, u32 width, float eps) {             \
        norm_back_x<false>(x, gain, dy, dx, width, eps);                                           \
    }                                                                                              \
    extern "C" __global__ void layer_norm_back_x_##SUFFIX(const T *x, const T *gain, const T *dy,  \
                                                          T *dx, u32 width, float eps) {           \
        norm_back_x<true>(x, gain, dy, dx, width, eps);                                            \
    }                                                                                              \
    extern "C" __global__ void rms_norm_back_gain_##SUFFIX(const T *x, const T *dy,                \
                                                           float *partial, u32 rows, u32 width,    \
                                                           u32 rows_per_block, float eps) {        \
        norm_back_gain<false>(x, dy, partial, rows, width, rows_per_block, eps);                   \
    }                                                                                              \
    extern "C" __global__ void layer_norm_back_gain_##SUFFIX(const T *x, const T *dy,              \
                                                             float *partial, u32 rows, u32 width,  \
                                                             u32 rows_per_block, float eps) {      \
        norm_back_gain<true>(x, dy, partial, rows, width, rows_per_block, eps);                    \
    }

KERNELS(float, f32)
KERNELS(bf16, bf16)
