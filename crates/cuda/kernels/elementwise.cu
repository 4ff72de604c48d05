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
//   dropout:      0 or keep for each element of dense rows: the draws of vxf_tensor::Key::mask
//
// Launch: 1-d, 256 threads, any number of blocks; a thread makes 4 elements at a time, for which
// ceil(n / 1024) blocks are enough. scaled_by makes one at a time. add_row has ceil(width / 1024) columns
// of blocks and any number of rows of them. dropout has a row of blocks for each sample, and a thread
// makes 16 elements at a time.

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

__device__ inline u32 rotated(u32 x, u32 by) { return x << by | x >> (32 - by); }

__device__ inline void quarter_round(u32 &a, u32 &b, u32 &c, u32 &d) {
    a += b;
    d = rotated(d ^ a, 16);
    c += d;
    b = rotated(b ^ c, 12);
    a += b;
    d = rotated(d ^ a, 8);
    c += d;
    b = rotated(b ^ c, 7);
}

// Words of one block of ChaCha, each of which is a draw.
constexpr u32 BLOCK_WORDS = 16;

// One block of ChaCha with 8 rounds: 64 bits of counter, 64 bits of stream.
__device__ inline void chacha8(const u32 *key, u64 counter, u32 stream, u32 *words) {
    const u32 start[BLOCK_WORDS] = {
        0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u,
        key[0], key[1], key[2], key[3], key[4], key[5], key[6], key[7],
        static_cast<u32>(counter), static_cast<u32>(counter >> 32), stream, 0,
    };
#pragma unroll
    for (u32 i = 0; i < BLOCK_WORDS; ++i) {
        words[i] = start[i];
    }
#pragma unroll
    for (u32 pair = 0; pair < 4; ++pair) {
        quarter_round(words[0], words[4], words[8], words[12]);
        quarter_round(words[1], words[5], words[9], words[13]);
        quarter_round(words[2], words[6], words[10], words[14]);
        quarter_round(words[3], words[7], words[11], words[15]);
        quarter_round(words[0], words[5], words[10], words[15]);
        quarter_round(words[1], words[6], words[11], words[12]);
        quarter_round(words[2], words[7], words[8], words[13]);
        quarter_round(words[3], words[4], words[9], words[14]);
    }
#pragma unroll
    for (u32 i = 0; i < BLOCK_WORDS; ++i) {
        words[i] += start[i];
    }
}

// Sample s has the rows starts[s] .. starts[s + 1] of the mask [rows, width]; its stream is s. Its
// element e is word e / 16 % 16 of block 16 (e / 256) + e % 16.
template <class T>
__device__ void draw_mask(const u32 *key, const u32 *starts, T *mask, u32 width, u32 least,
                          float keep) {
    constexpr u32 GROUP = BLOCK_WORDS * BLOCK_WORDS;
    T kept = from_float<T>(keep);
    T dropped = from_float<T>(0.0f);
    u32 sample = blockIdx.y;
    u64 n = static_cast<u64>(starts[sample + 1] - starts[sample]) * width;
    mask += static_cast<u64>(starts[sample]) * width;
    u64 blocks = (n + GROUP - 1) / GROUP * BLOCK_WORDS;
    for (u64 block = walk_start(); block < blocks; block += walk_step()) {
        u32 words[BLOCK_WORDS];
        chacha8(key, block, sample, words);
        u64 first = block / BLOCK_WORDS * GROUP + block % BLOCK_WORDS;
#pragma unroll
        for (u32 i = 0; i < BLOCK_WORDS; ++i) {
            u64 at = first + i * BLOCK_WORDS;
            if (at < n) {
                mask[at] = words[i] >= least ? kept : dropped;
            }
        }
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
    }                                                                                              \
    extern "C" __global__ void dropout_##SUFFIX(const u32 *key, const u32 *starts, T *mask,        \
                                                u32 width, u32 least, float keep) {                \
        draw_mask(key, starts, mask, width, least, keep);                                          \
    }

KERNELS(float, f32)
KERNELS(bf16, bf16)

extern "C" __global__ void f32_to_bf16(const float *x, bf16 *y, u64 n) { map(n, Same(), y, x); }
extern "C" __global__ void bf16_to_f32(const bf16 *x, float *y, u64 n) { map(n, Same(), y, x); }
