// One step of AdamW on one weight, as in vxf_tensor::adamw.
//
//   first  = keep1 first + rest1 g, with g = gradient factor
//   second = keep2 second + rest2 g^2
//   weight = weight shrink - size first / (sqrt(second) / root + epsilon)
//
// The bits are those of the CPU; therefore no multiplication is fused with an addition. broken[0]
// becomes 1 if a new weight is not finite, and is not changed otherwise.
//
// Launch: 1-d, 256 threads, ceil(n / 256) blocks or fewer.

#include "common.cuh"

__device__ inline float times(float a, float b) { return __fmul_rn(a, b); }
__device__ inline float plus(float a, float b) { return __fadd_rn(a, b); }

extern "C" __global__ void adamw_f32(float *weight, float *first, float *second,
                                     const float *gradient, u64 n, float factor, float keep1,
                                     float keep2, float rest1, float rest2, float shrink,
                                     float size, float root, float epsilon, u32 *broken) {
    for (u64 i = walk_start(); i < n; i += walk_step()) {
        float slope = times(gradient[i], factor);
        float m = plus(times(keep1, first[i]), times(rest1, slope));
        float v = plus(times(keep2, second[i]), times(rest2, times(slope, slope)));
        float direction = m / plus(sqrtf(v) / root, epsilon);
        float moved = plus(times(weight[i], shrink), -times(size, direction));
        first[i] = m;
        second[i] = v;
        weight[i] = moved;
        if (!isfinite(moved)) {
            broken[0] = 1;
        }
    }
}
