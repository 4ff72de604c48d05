// The gated activation y = gate sigmoid(gate) up, element-wise, and its gradients.
//
// Launch: 1-d, 256 threads, any number of blocks; a thread computes 4 elements at a time, for which
// ceil(n / 1024) blocks are enough.

#include "common.cuh"

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

struct Activate {
    __device__ float operator()(float gate, float up) const { return gate * sigmoid(gate) * up; }
};

template <class T>
__device__ void slopes(T gate, T up, T dy, T &dgate, T &dup) {
    float g = to_float(gate);
    float s = sigmoid(g);
    float slope = to_float(dy);
    dgate = from_float<T>(slope * (to_float(up) * s * (1.0f + g * (1.0f - s))));
    dup = from_float<T>(slope * g * s);
}

template <class T>
__device__ void activate_back(const T *gate, const T *up, const T *dy, T *dgate, T *dup, u64 n) {
    const bool aligned = begins_run(gate) && begins_run(up) && begins_run(dy) &&
                         begins_run(dgate) && begins_run(dup);
    const u64 runs = aligned ? n / RUN : 0;
    for (u64 i = walk_start(); i < runs; i += walk_step()) {
        const Run<T> gates = run_at(gate, i);
        const Run<T> ups = run_at(up, i);
        const Run<T> dys = run_at(dy, i);
        Run<T> dgates;
        Run<T> dups;
#pragma unroll
        for (u32 e = 0; e < RUN; ++e) {
            slopes(gates.values[e], ups.values[e], dys.values[e], dgates.values[e],
                   dups.values[e]);
        }
        run_at(dgate, i) = dgates;
        run_at(dup, i) = dups;
    }
    for (u64 i = runs * RUN + walk_start(); i < n; i += walk_step()) {
        slopes(gate[i], up[i], dy[i], dgate[i], dup[i]);
    }
}

#define KERNELS(T, SUFFIX)                                                                         \
    extern "C" __global__ void swiglu_##SUFFIX(const T *gate, const T *up, T *y, u64 n) {          \
        map(n, Activate(), y, gate, up);                                                           \
    }                                                                                              \
    extern "C" __global__ void swiglu_back_##SUFFIX(const T *gate, const T *up, const T *dy,       \
                                                    T *dgate, T *dup, u64 n) {                     \
        activate_back(gate, up, dy, dgate, dup, n);                                                \
    }

KERNELS(float, f32)
KERNELS(bf16, bf16)
