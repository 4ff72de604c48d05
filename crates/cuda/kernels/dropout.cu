// Dropout. The mask of an adapter is not stored: `dropped` and `add_dropped` draw it again where they use it.
// `dropout` makes a mask for those who need it as a tensor.
//
//   dropout:      mask = 0 or keep for each element of dense rows: the draws of vxf_tensor::Key::mask
//   dropped:      y = x mask
//   add_dropped:  y = y + x mask
//
// Launch: 256 threads, a row of blocks for each sample; a thread makes 16 elements at a time.

#include "common.cuh"

// The key of the draws. It is a parameter of the launch, as a copy of it to the device would be a call of
// its own for each mask.
struct Key {
    u32 words[8];
};

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
__device__ inline void chacha8(const Key &key, u64 counter, u32 stream, u32 *words) {
    const u32 start[BLOCK_WORDS] = {
        0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u,
        key.words[0], key.words[1], key.words[2], key.words[3],
        key.words[4], key.words[5], key.words[6], key.words[7],
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

// Calls make with each element and its factor, which is rounded to T. Sample s draws from stream s: its
// element e is word e / 16 % 16 of block 16 (e / 256) + e % 16.
template <class T, class Make>
__device__ void draw(const Key &key, const Sample *samples, u32 width, u32 least, float keep,
                     Make make) {
    constexpr u32 GROUP = BLOCK_WORDS * BLOCK_WORDS;
    const float kept = to_float(from_float<T>(keep));
    const Sample sample = samples[blockIdx.y];
    const u64 begin = static_cast<u64>(sample.first) * width;
    const u64 n = static_cast<u64>(sample.len) * width;
    const u64 blocks = (n + GROUP - 1) / GROUP * BLOCK_WORDS;
    for (u64 block = walk_start(); block < blocks; block += walk_step()) {
        u32 words[BLOCK_WORDS];
        chacha8(key, block, blockIdx.y, words);
        u64 first = block / BLOCK_WORDS * GROUP + block % BLOCK_WORDS;
#pragma unroll
        for (u32 i = 0; i < BLOCK_WORDS; ++i) {
            u64 at = first + i * BLOCK_WORDS;
            if (at < n) {
                make(begin + at, words[i] >= least ? kept : 0.0f);
            }
        }
    }
}

// The products are with the factor 0, not without it: an infinity stays visible as NaN, as with a stored
// mask.
#define KERNELS(T, SUFFIX)                                                                         \
    extern "C" __global__ void dropout_##SUFFIX(Key key, const Sample *samples, T *mask,           \
                                                u32 width, u32 least, float keep) {                \
        draw<T>(key, samples, width, least, keep, [=](u64 at, float factor) {                      \
            mask[at] = from_float<T>(factor);                                                      \
        });                                                                                        \
    }                                                                                              \
    extern "C" __global__ void dropped_##SUFFIX(Key key, const Sample *samples, const T *x, T *y,  \
                                                u32 width, u32 least, float keep) {                \
        draw<T>(key, samples, width, least, keep, [=](u64 at, float factor) {                      \
            y[at] = from_float<T>(to_float(x[at]) * factor);                                       \
        });                                                                                        \
    }                                                                                              \
    extern "C" __global__ void add_dropped_##SUFFIX(Key key, const Sample *samples, const T *x,    \
                                                    T *y, u32 width, u32 least, float keep) {      \
        draw<T>(key, samples, width, least, keep, [=](u64 at, float factor) {                      \
            y[at] = from_float<T>(to_float(y[at]) + to_float(x[at]) * factor);                     \
        });                                                                                        \
    }

KERNELS(float, f32)
KERNELS(bf16, bf16)
