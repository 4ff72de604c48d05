// Shared by all kernels: element types, loops over elements and sums over a block.
//
// Elements are float or bfloat16 in memory; all arithmetic is in float, or in double where a
// comment says so. Every sum has a fixed order, so that results are bit-identical.

#ifndef VXF_COMMON_CUH
#define VXF_COMMON_CUH

#include <cuda_bf16.h>

using u32 = unsigned;
using u64 = unsigned long long;
using i32 = int;
using bf16 = __nv_bfloat16;

constexpr u32 WARP = 32;
constexpr u32 ALL_LANES = 0xffffffffu;

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(bf16 x) { return __bfloat162float(x); }

template <class T>
__device__ T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) { return x; }
template <>
__device__ inline bf16 from_float<bf16>(float x) { return __float2bfloat16(x); }

template <class T>
__device__ T from_double(double x);
template <>
__device__ inline float from_double<float>(double x) { return static_cast<float>(x); }
template <>
__device__ inline bf16 from_double<bf16>(double x) {
    float near = static_cast<float>(x);
    // Rounding to float may create a tie that x is not: move away from it, towards x.
    double residue = x - static_cast<double>(near);
    u32 bits = __float_as_uint(near);
    if ((bits & 0xffffu) == 0x8000u && residue != 0) {
        near = __uint_as_float(bits + ((residue > 0) == (near > 0) ? 1u : ~0u));
    }
    return __float2bfloat16(near);
}

// The first element of a thread in a 1-d launch, and the stride to its next one.
__device__ inline u64 walk_start() {
    return static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline u64 walk_step() { return static_cast<u64>(gridDim.x) * blockDim.x; }

// Adjacent elements that are moved at once.
constexpr u32 RUN = 4;
template <class T>
struct alignas(RUN * sizeof(T)) Run {
    T values[RUN];
};

template <class T>
__device__ Run<T> &run_at(T *x, u64 i) { return reinterpret_cast<Run<T> *>(x)[i]; }
template <class T>
__device__ const Run<T> &run_at(const T *x, u64 i) {
    return reinterpret_cast<const Run<T> *>(x)[i];
}

template <class T>
__device__ bool begins_run(const T *x) { return reinterpret_cast<u64>(x) % sizeof(Run<T>) == 0; }

template <class Result, class To, class... From>
__device__ void map_run(Result result, Run<To> &y, Run<From>... x) {
    Run<To> made;
#pragma unroll
    for (u32 e = 0; e < RUN; ++e) {
        made.values[e] = from_float<To>(result(to_float(x.values[e])...));
    }
    y = made;
}

// y = result(x...) element by element; y may be one of x. For a 1-d launch.
template <class Result, class To, class... From>
__device__ void map(u64 n, Result result, To *y, const From *...x) {
    const u64 runs = begins_run(y) && (begins_run(x) && ...) ? n / RUN : 0;
    for (u64 i = walk_start(); i < runs; i += walk_step()) {
        map_run(result, run_at(y, i), run_at(x, i)...);
    }
    for (u64 i = runs * RUN + walk_start(); i < n; i += walk_step()) {
        y[i] = from_float<To>(result(to_float(x[i])...));
    }
}

struct Add {
    template <class S>
    __device__ S operator()(S a, S b) const { return a + b; }
};
struct Larger {
    template <class S>
    __device__ S operator()(S a, S b) const { return a > b ? a : b; }
};

// The rows of a sample: the first one, the first one of its keys, the number of its rows, and the
// number of its keys that are not hidden.
struct alignas(16) Sample {
    u32 first;
    u32 first_key;
    u32 len;
    u32 seen;
};

// Folds one value of each lane of a warp, on all lanes.
template <class S, class Fold>
__device__ S warp_fold(S value, Fold fold) {
    for (u32 apart = WARP / 2; apart > 0; apart /= 2) {
        value = fold(value, __shfl_xor_sync(ALL_LANES, value, apart));
    }
    return value;
}

// Folds one value of each thread of a block of whole warps, on all threads.
template <class S, class Fold>
__device__ S block_fold(S value, Fold fold) {
    __shared__ S parts[WARP];
    value = warp_fold(value, fold);
    // Other threads may still read the parts of an earlier call.
    __syncthreads();
    if (threadIdx.x % WARP == 0) {
        parts[threadIdx.x / WARP] = value;
    }
    __syncthreads();
    S folded = parts[0];
    for (u32 warp = 1; warp < blockDim.x / WARP; ++warp) {
        folded = fold(folded, parts[warp]);
    }
    return folded;
}

template <class S>
__device__ S block_sum(S value) { return block_fold(value, Add()); }

#endif
