// Rotary position embedding, with and without the split of rows into heads.
//
//   turned: y = x [rows, heads, d], each row rotated by its position in its sample, or back
//   heads:  back = 0: x [batch, len, heads, d] to y [batch, heads, len, d], rotated by its position
//           back = 1: x [batch, heads, len, d] to y [batch, len, heads, d], rotated back
//
// Elements i and i + half of a head form a pair; cos and sin are [positions, half]. turned copies
// the elements from 2 half on. In heads, half is d / 2; with rotate = 0 the tables are not read, and
// d may be odd.
//
// Launch, with 256 threads: turned with a row of blocks for each sample, of ceil(longest heads
// (d - half) / 256) blocks or fewer for `longest` rows of the longest one; heads 1-d with
// ceil(batch len heads ceil(d / 2) / 256) blocks or fewer.

#include "common.cuh"

// A pair rotated by an angle.
template <class T>
__device__ void rotate_pair(const T *from, T *to, u32 half, float c, float s) {
    float left = to_float(from[0]);
    float right = to_float(from[half]);
    to[0] = from_float<T>(left * c - right * s);
    to[half] = from_float<T>(right * c + left * s);
}

template <class T>
__device__ void turn(const T *x, const T *cos, const T *sin, T *y, const Sample &sample, u32 heads,
                     u32 d, u32 half, bool back) {
    // Elements of a head that are moved with or without a partner.
    const u32 own = d - half;
    const u32 count = sample.len * heads * own;
    for (u64 i = walk_start(); i < count; i += walk_step()) {
        const u32 head = static_cast<u32>(i) / own;
        const u32 at = static_cast<u32>(i) - head * own;
        const u64 place = (static_cast<u64>(sample.first) * heads + head) * d;
        if (at < half) {
            const u64 angle = static_cast<u64>(head / heads) * half + at;
            const float s = to_float(sin[angle]);
            rotate_pair(x + place + at, y + place + at, half, to_float(cos[angle]), back ? -s : s);
        } else {
            y[place + half + at] = x[place + half + at];
        }
    }
}

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
            rotate_pair(from, to, half, c, s);
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
    extern "C" __global__ void turned_##SUFFIX(const T *x, const T *cos, const T *sin, T *y,       \
                                               const Sample *samples, u32 heads, u32 d, u32 half,  \
                                               i32 back) {                                         \
        turn(x, cos, sin, y, samples[blockIdx.y], heads, d, half, back != 0);                      \
    }                                                                                              \
    extern "C" __global__ void heads_##SUFFIX(const T *x, const T *cos, const T *sin, T *y,        \
                                              u32 batch, u32 len, u32 heads, u32 d, i32 back,      \
                                              i32 rotate) {                                        \
        move_heads(x, cos, sin, y, batch, len, heads, d, back, rotate);                            \
    }

KERNELS(float, f32)
KERNELS(bf16, bf16)
