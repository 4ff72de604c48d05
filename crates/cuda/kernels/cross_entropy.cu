// The cross-entropy of rows of logits with its gradient, and gathering and scattering of rows.
//
//   cross_entropy: losses[row] = log(sum exp(logit)) - logit[class], and if need is not 0
//                  slopes[row] = share (softmax - onehot); f32 slopes may overwrite the logits
//   gather_rows:   y[i] = x[rows[i]]
//   scatter_rows:  y[rows[i]] = x[i]; all rows differ
//   mean_f32:      out[0] = the mean of losses, in double
//
// logits and slopes are [rows, vocabulary], the gathered side of a move is [count, width].
//
// Launch: one block per row, of whole warps (256 threads); mean_f32 with one block of 256.

#include "common.cuh"

template <class T>
__device__ void row_loss(const float *logits, const i32 *classes, T *slopes, float *losses,
                         u32 vocabulary, float share, i32 need) {
    u64 row = static_cast<u64>(blockIdx.x) * vocabulary;
    logits += row;
    u32 labelled = static_cast<u32>(classes[blockIdx.x]);
    float picked = logits[labelled];
    float top = -INFINITY;
    for (u32 i = threadIdx.x; i < vocabulary; i += blockDim.x) {
        top = fmaxf(top, logits[i]);
    }
    top = block_fold(top, Larger());
    float sum = 0;
    for (u32 i = threadIdx.x; i < vocabulary; i += blockDim.x) {
        sum += expf(logits[i] - top);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        losses[blockIdx.x] = top - picked + logf(sum);
    }
    if (need != 0) {
        slopes += row;
        float factor = share / sum;
        for (u32 i = threadIdx.x; i < vocabulary; i += blockDim.x) {
            float slope = expf(logits[i] - top) * factor;
            slopes[i] = from_float<T>(i == labelled ? slope - share : slope);
        }
    }
}

template <class T>
__device__ void move_row(const T *from, T *to, u32 width) {
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        to[i] = from[i];
    }
}

#define KERNELS(T, SUFFIX)                                                                         \
    extern "C" __global__ void cross_entropy_##SUFFIX(const float *logits, const i32 *classes,     \
                                                      T *slopes, float *losses, u32 vocabulary,    \
                                                      float share, i32 need) {                     \
        row_loss(logits, classes, slopes, losses, vocabulary, share, need);                        \
    }                                                                                              \
    extern "C" __global__ void gather_rows_##SUFFIX(const T *x, const u32 *rows, T *y, u32 count,  \
                                                    u32 width) {                                   \
        for (u64 i = blockIdx.x; i < count; i += gridDim.x) {                                      \
            move_row(x + static_cast<u64>(rows[i]) * width, y + i * width, width);                 \
        }                                                                                          \
    }                                                                                              \
    extern "C" __global__ void scatter_rows_##SUFFIX(const T *x, const u32 *rows, T *y, u32 count, \
                                                     u32 width) {                                  \
        for (u64 i = blockIdx.x; i < count; i += gridDim.x) {                                      \
            move_row(x + i * width, y + static_cast<u64>(rows[i]) * width, width);                 \
        }                                                                                          \
    }

KERNELS(float, f32)
KERNELS(bf16, bf16)

extern "C" __global__ void mean_f32(const float *losses, float *out, u32 n) {
    double sum = 0;
    for (u32 i = threadIdx.x; i < n; i += blockDim.x) {
        sum += static_cast<double>(losses[i]);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        out[0] = static_cast<float>(sum / static_cast<double>(n));
    }
}
