// The split of rows into heads, with or without rotary position embedding, and its transpose.
//
//   back = 0: x [batch, len, heads, d] to y [batch, heads, len, d], rotated by its position
//   back = 1: x [batch, heads, len, d] to y [batch, len, heads, d], rotated back
//
// Elements i and i + d / 2 of a head form a pair; cos and sin are [len, d / 2]. With rotate = 0
// they are not read, and d may be odd.
//
// Launch: 1-d, 256 threads, ceil(batch len heads ceil(d / 2) / 256) blocks or fewer.

#include "common.cuh"

template <class T, class Index>
__device__ void move_pairs(const T *x, const T *cos, const T *sin, T *y, Index pairs, u32 len,
                           u32 heads, u32 d, bool back, bool rotate) {
    u32 half = d - d / 2;
    for (u64 i = walk_start(); i < pairs; i += walk_step()) {
        // In the order of [batch, len, heads, half].
        Index row = static_cast<Index>(i) / half;
        u32 pair = static_cast<u32>(static_cast<Index>(i) - row * half);
        u32 head = static_cast<u32>(row % heads);
        Index place = row / heads;
        u32 t = static_cast<u32>(place % len);
        u64 batch = place / len;
        u64 joined = static_cast<u64>(row) * d + pair;
        u64 split = ((batch * heads + head) * len + t) * d + pair;
        const T *from = x + (back ? split : joined);
        T *to = y + (back ? joined : split);
        if (rotate) {
            u64 angle = static_cast<u64>(t) * half + pair;
            float c = to_float(cos[angle]);
            float s = back ? -to_float(sin[angle]) : to_float(sin[angle]);
            float left = to_float(from[0]);
            float right = to_float(from[half]);
            to[0] = from_float<T>(left * c - right * s);
            to[half] = from_float<T>(right * c + left * s);
        } else {
            to[0] = from[0];
            if (pair + half < d) {
                to[half] = from[half];
            }
        }
    }
}

template <class T>
__device__ void move_heads(const T *x, const T *cos, const T *sin, T *y, u32 batch, u32 len,
                           u32 heads, u32 d, i32 back, i32 rotate) {
    u64 pairs = static_cast<u64>(batch) * len * heads * (d - d / 2);
    // 64-bit divisions would cost more than the moves.
    if (pairs <= 0xffffffffu) {
        move_pairs<T, u32>(x, cos, sin, y, static_cast<u32>(pairs), len, heads, d, back != 0,
                           rotate != 0);
    } else {
        move_pairs<T, u64>(x, cos, sin, y, pairs, len, heads, d, back != 0, rotate != 0);
    }
}

#define KERNELS(T, SUFFIX)                                                                         \
    extern "C" __global__ void heads_##SUFFIX(const T *x, const T *cos, const T *sin, T *y,        \
                                              u32 batch, u32 len, u32 heads, u32 d, i32 back,      \
                                              i32 rotate) {                                        \
        move_heads(x, cos, sin, y, batch, len, heads, d, back, rotate);                            \
    }

KERNELS(float, f32)
KERNELS(bf16, bf16)
