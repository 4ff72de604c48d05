// Causal attention with grouped key and value heads, forward and backward, in tiles.
//
//   attention_W:         y and lse, the log-sum-exp of each query's scaled scores
//   attention_dot:       dots, the sum of y dy over each head of each row
//   attention_back_q_W:  dq
//   attention_back_kv_W: dk and dv, summed over the query heads of a group
//
// y and dy are [rows, heads d], lse and dots [heads, rows]: the rows of all samples. Of `samples`,
// `first` is the row at which a sample begins. In q and dq it begins after as many rows of heads d
// elements, in k, v, dk and dv after `first_key` rows of kv_heads d elements. From one position to
// the next there are `q_step` elements in q and dq, from one head to the next `q_head`; `k_step`
// and `k_head` are those of k, v, dk and dv. So the heads of a position may be side by side, or the
// positions of a head.
//
// A sample has `len` queries and past + len keys. Query t has position past + t. It sees the keys j
// up to there with j < seen and, if window > 0, only the last `window` of those up to there; at
// least one. Key tiles that are hidden from a whole query tile are skipped.
//
// W is the widest head that a kernel supports: 64, 128 or 256. Use the least W >= d.
//
//   launch              tile   threads   grid
//   attention_W         64     128       [tiles of longest, heads, samples]          W <= 128
//                       32     128                                                   W = 256
//   attention_dot       8      256       [tiles of rows, heads, 1]
//   attention_back_q_W  64     256       [tiles of longest, heads, samples]   bf16,  W <= 128
//                       32     128                                            bf16,  W = 256
//                       32     128                                            f32,   W <= 128
//                       16     128                                            f32,   W = 256
//   attention_back_kv_W likewise         [tiles of past + longest, kv_heads, samples]
//
// tiles of n = ceil(n / tile); the longest sample has `longest` queries. Blocks beyond the last
// query or key of their sample return at once. With s = sizeof(T) and line = 16 ceil(d / 16) +
// 16 / s, the dynamic shared memory in bytes is
//
//   attention_W                           2 tile line s + 4 tile (tile + 8) + 4 tile
//   attention_back_q_W, _back_kv_W        4 tile line s + tile (tile + 16 / s) s + 8 tile
//
// and 0 for attention_dot. At d = 64: 37,120 (bf16) and 53,504 (f32) forward, 46,592 and 39,680
// backward; at d = 128: 53,504, 86,272, 79,360, 72,448; at d = 256: 39,040, 71,808, 70,400, 67,968.
// Above 48 KiB the attribute MAX_DYNAMIC_SHARED_SIZE_BYTES must be set.
//
// Products of bfloat16 run on tensor cores and accumulate in float; probabilities and gradients of
// scores are rounded to bfloat16 before the next product. Products of float are ordinary loops.

#include <mma.h>

#include "common.cuh"

extern __shared__ __align__(32) unsigned char shared[];

// Rows and columns of a tensor core's operands; all widths here are multiples of it.
constexpr u32 GRAIN = 16;

// Exponentials are computed as powers of two, for which the device has an instruction: scores are
// multiplied by LOG2_E in addition to their scale.
constexpr float LOG2_E = 1.44269504f;
constexpr float LN_2 = 0.693147181f;

// The data that one instruction moves.
struct alignas(16) Chunk {
    u32 words[4];
};

// Elements of T in a chunk. Lines of tiles are padded by this number, against bank conflicts.
template <class T>
constexpr u32 PAD = sizeof(Chunk) / sizeof(T);

template <bool, class Then, class>
struct Choice {
    using Type = Then;
};
template <class Then, class Else>
struct Choice<false, Then, Else> {
    using Type = Else;
};

// The positions of a thread's elements in a matrix of M x N sums.
template <class T>
struct Places;

// A matrix of M x N sums, spread over the threads of a block.
template <class T, u32 M, u32 N, u32 THREADS>
struct Sums;

template <>
struct Places<float> {
    __device__ explicit Places(float *) {}
};

template <u32 M, u32 N, u32 THREADS>
struct Sums<float, M, N, THREADS> {
    // Adjacent threads have a row of 16 columns, so that `groups` of 16 columns can be skipped
    // alike in both forms.
    static constexpr u32 DOWN = THREADS / GRAIN;
    static constexpr u32 ROWS = M / DOWN;
    static constexpr u32 COLUMNS = N / GRAIN;
    static_assert(M % DOWN == 0 && N % GRAIN == 0, "no whole rows for each thread");

    float values[ROWS][COLUMNS];

    __device__ Sums() {
#pragma unroll
        for (u32 i = 0; i < ROWS; ++i) {
#pragma unroll
            for (u32 j = 0; j < COLUMNS; ++j) {
                values[i][j] = 0;
            }
        }
    }

    // Adds a b, or a b^T if TRANSPOSED, for a [M, inner] and the first `groups` times 16 columns;
    // inner is a multiple of 16.
    template <bool TRANSPOSED>
    __device__ void multiply(const float *a, u32 a_line, const float *b, u32 b_line, u32 inner,
                             u32 groups) {
        a += threadIdx.x / GRAIN * a_line;
        b += threadIdx.x % GRAIN * (TRANSPOSED ? b_line : 1);
        for (u32 k = 0; k < inner; k += RUN) {
            Run<float> left[ROWS];
#pragma unroll
            for (u32 i = 0; i < ROWS; ++i) {
                left[i] = *reinterpret_cast<const Run<float> *>(a + i * DOWN * a_line + k);
            }
#pragma unroll
            for (u32 j = 0; j < COLUMNS; ++j) {
                if (j < groups) {
                    Run<float> right;
                    if (TRANSPOSED) {
                        right = *reinterpret_cast<const Run<float> *>(b + j * GRAIN * b_line + k);
                    } else {
#pragma unroll
                        for (u32 e = 0; e < RUN; ++e) {
                            right.values[e] = b[(k + e) * b_line + j * GRAIN];
                        }
                    }
#pragma unroll
                    for (u32 i = 0; i < ROWS; ++i) {
#pragma unroll
                        for (u32 e = 0; e < RUN; ++e) {
                            values[i][j] += left[i].values[e] * right.values[e];
                        }
                    }
                }
            }
        }
    }

    __device__ void multiply_rows(const float *factors, const Places<float> &) {
#pragma unroll
        for (u32 i = 0; i < ROWS; ++i) {
            float factor = factors[threadIdx.x / GRAIN + i * DOWN];
#pragma unroll
            for (u32 j = 0; j < COLUMNS; ++j) {
                values[i][j] *= factor;
            }
        }
    }

    // Calls visit(row, column, element) for each element of this thread.
    template <class Visit>
    __device__ void each(const Places<float> &, Visit visit) {
#pragma unroll
        for (u32 i = 0; i < ROWS; ++i) {
#pragma unroll
            for (u32 j = 0; j < COLUMNS; ++j) {
                visit(threadIdx.x / GRAIN + i * DOWN, threadIdx.x % GRAIN + j * GRAIN,
                      values[i][j]);
            }
        }
    }

    // The same with the element of `other` at that position.
    template <class Visit>
    __device__ void each(const Places<float> &, Sums &other, Visit visit) {
#pragma unroll
        for (u32 i = 0; i < ROWS; ++i) {
#pragma unroll
            for (u32 j = 0; j < COLUMNS; ++j) {
                visit(threadIdx.x / GRAIN + i * DOWN, threadIdx.x % GRAIN + j * GRAIN,
                      values[i][j], other.values[i][j]);
            }
        }
    }

    __device__ void store(float *to, u32 line) const {
#pragma unroll
        for (u32 i = 0; i < ROWS; ++i) {
#pragma unroll
            for (u32 j = 0; j < COLUMNS; ++j) {
                to[(threadIdx.x / GRAIN + i * DOWN) * line + threadIdx.x % GRAIN + j * GRAIN] =
                    values[i][j];
            }
        }
    }
};

using Fragment = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, GRAIN, GRAIN, GRAIN, float>;

// The position of a thread's elements in a fragment is not specified; it is determined by loading a
// matrix of indices.
template <>
struct Places<bf16> {
    u32 numbers[Fragment::num_elements];

    // Uses GRAIN^2 floats of shared memory, which are free again afterwards.
    __device__ explicit Places(float *scratch) {
        for (u32 i = threadIdx.x; i < GRAIN * GRAIN; i += blockDim.x) {
            scratch[i] = static_cast<float>(i);
        }
        __syncthreads();
        Fragment fragment;
        nvcuda::wmma::load_matrix_sync(fragment, scratch, GRAIN, nvcuda::wmma::mem_row_major);
#pragma unroll
        for (u32 e = 0; e < Fragment::num_elements; ++e) {
            numbers[e] = static_cast<u32>(fragment.x[e]);
        }
        __syncthreads();
    }
    __device__ u32 row(u32 e) const { return numbers[e] / GRAIN; }
    __device__ u32 column(u32 e) const { return numbers[e] % GRAIN; }
};

template <u32 M, u32 N, u32 THREADS>
struct Sums<bf16, M, N, THREADS> {
    // Warps form two rows; the fragments of a warp are a block of rows and every ACROSS-th column,
    // so that skipped columns are skipped for all warps alike.
    static constexpr u32 DOWN = 2;
    static constexpr u32 ACROSS = THREADS / WARP / DOWN;
    static constexpr u32 ROWS = M / GRAIN / DOWN;
    static constexpr u32 COLUMNS = N / GRAIN / ACROSS;
    static_assert(M % (GRAIN * DOWN) == 0 && N % (GRAIN * ACROSS) == 0, "no whole fragments");

    Fragment values[ROWS][COLUMNS];

    __device__ Sums() {
#pragma unroll
        for (u32 i = 0; i < ROWS; ++i) {
#pragma unroll
            for (u32 j = 0; j < COLUMNS; ++j) {
                nvcuda::wmma::fill_fragment(values[i][j], 0.0f);
            }
        }
    }

    // Counted in fragments.
    __device__ static u32 row(u32 i) { return threadIdx.x / WARP / ACROSS * ROWS + i; }
    __device__ static u32 column(u32 j) { return threadIdx.x / WARP % ACROSS + j * ACROSS; }

    template <bool TRANSPOSED>
    __device__ void multiply(const bf16 *a, u32 a_line, const bf16 *b, u32 b_line, u32 inner,
                             u32 groups) {
        using namespace nvcuda::wmma;
        using Order = typename Choice<TRANSPOSED, col_major, row_major>::Type;
        a += row(0) * GRAIN * a_line;
        for (u32 k = 0; k < inner; k += GRAIN) {
            fragment<matrix_a, GRAIN, GRAIN, GRAIN, bf16, row_major> left[ROWS];
#pragma unroll
            for (u32 i = 0; i < ROWS; ++i) {
                load_matrix_sync(left[i], a + i * GRAIN * a_line + k, a_line);
            }
#pragma unroll
            for (u32 j = 0; j < COLUMNS; ++j) {
                u32 first = column(j) * GRAIN;
                if (column(j) < groups) {
                    fragment<matrix_b, GRAIN, GRAIN, GRAIN, bf16, Order> right;
                    const bf16 *from = TRANSPOSED ? b + first * b_line + k : b + k * b_line + first;
                    load_matrix_sync(right, from, b_line);
#pragma unroll
                    for (u32 i = 0; i < ROWS; ++i) {
                        mma_sync(values[i][j], left[i], right, values[i][j]);
                    }
                }
            }
        }
    }

    __device__ void multiply_rows(const float *factors, const Places<bf16> &places) {
#pragma unroll
        for (u32 i = 0; i < ROWS; ++i) {
#pragma unroll
            for (u32 e = 0; e < Fragment::num_elements; ++e) {
                float factor = factors[row(i) * GRAIN + places.row(e)];
#pragma unroll
                for (u32 j = 0; j < COLUMNS; ++j) {
                    values[i][j].x[e] *= factor;
                }
            }
        }
    }

    template <class Visit>
    __device__ void each(const Places<bf16> &places, Visit visit) {
#pragma unroll
        for (u32 i = 0; i < ROWS; ++i) {
#pragma unroll
            for (u32 j = 0; j < COLUMNS; ++j) {
#pragma unroll
                for (u32 e = 0; e < Fragment::num_elements; ++e) {
                    visit(row(i) * GRAIN + places.row(e), column(j) * GRAIN + places.column(e),
                          values[i][j].x[e]);
                }
            }
        }
    }

    template <class Visit>
    __device__ void each(const Places<bf16> &places, Sums &other, Visit visit) {
#pragma unroll
        for (u32 i = 0; i < ROWS; ++i) {
#pragma unroll
            for (u32 j = 0; j < COLUMNS; ++j) {
#pragma unroll
                for (u32 e = 0; e < Fragment::num_elements; ++e) {
                    visit(row(i) * GRAIN + places.row(e), column(j) * GRAIN + places.column(e),
                          values[i][j].x[e], other.values[i][j].x[e]);
                }
            }
        }
    }

    __device__ void store(float *to, u32 line) const {
#pragma unroll
        for (u32 i = 0; i < ROWS; ++i) {
#pragma unroll
            for (u32 j = 0; j < COLUMNS; ++j) {
                nvcuda::wmma::store_matrix_sync(
                    to + row(i) * GRAIN * line + column(j) * GRAIN, values[i][j], line,
                    nvcuda::wmma::mem_row_major);
            }
        }
    }
};

// The keys that a query sees, by the rule in the head of this file.
struct Band {
    u32 past;
    u32 window;
    u32 seen;

    __device__ u32 start(u32 t) const {
        u32 next = past + t + 1;
        return window > 0 && next > window ? next - window : 0;
    }
    __device__ u32 end(u32 t) const {
        u32 next = past + t + 1;
        return next < seen ? next : seen;
    }
    __device__ bool sees(u32 t, u32 key) const { return key >= start(t) && key < end(t); }
    // Whether the queries t .. t + count - 1 all see the keys key .. key + count - 1.
    __device__ bool sees_all(u32 t, u32 key, u32 count) const {
        return key >= start(t + count - 1) && key + count <= end(t);
    }
};

// A product that 32 bits may not hold; factors of 64 bits would take more registers.
__device__ inline u64 wide_product(u32 a, u32 b) { return static_cast<u64>(a) * b; }

// The sizes of an attention, and its strides, by the head of this file.
struct Sizes {
    u32 heads;
    u32 kv_heads;
    u32 rows;
    u32 past;
    u32 q_step;
    u32 k_step;
    u64 q_head;
    u64 k_head;
    u32 d;
    u32 window;
    float scale;

    // The elements of a sample's head in q and dq.
    __device__ u64 of_queries(const Sample &sample, u32 head) const {
        return wide_product(sample.first, width()) + head * q_head;
    }
    // The same in k, v, dk and dv.
    __device__ u64 of_keys(const Sample &sample, u32 kv_head) const {
        return wide_product(sample.first_key, kv_heads * d) + kv_head * k_head;
    }
    // The distance of rows of y and dy.
    __device__ u32 width() const { return heads * d; }
    __device__ Band band(const Sample &sample) const { return Band{past, window, sample.seen}; }
};

// The layout of a head's lines in shared memory.
template <class T>
struct Lines {
    // The width of a head, and the width padded with zeros to whole grains.
    u32 d;
    u32 wide;

    __device__ explicit Lines(u32 d) : d(d), wide((d + GRAIN - 1) / GRAIN * GRAIN) {}
    __device__ u32 line() const { return wide + PAD<T>; }
    __device__ u32 groups() const { return wide / GRAIN; }

    // Copies `rows` lines with a distance of `stride` elements; the rest, up to TILE lines and
    // `wide` columns, becomes zero. W bounds d.
    template <u32 TILE, u32 W, u32 THREADS>
    __device__ void load(T *to, const T *__restrict__ from, u32 stride, u32 rows) const {
        constexpr u32 WIDTH = PAD<T>;
        u64 address = reinterpret_cast<u64>(from);
        if (d % WIDTH == 0 && stride % WIDTH == 0 && address % sizeof(Chunk) == 0) {
            // Threads that read one line of 128 bytes together.
            constexpr u32 BESIDE = 8;
            constexpr u32 DOWN = THREADS / BESIDE;
            constexpr u32 STEPS = (TILE + DOWN - 1) / DOWN;
            u32 first = threadIdx.x / BESIDE;
#pragma unroll
            for (u32 step = 0; step < W / WIDTH / BESIDE; ++step) {
                u32 at = (threadIdx.x % BESIDE + step * BESIDE) * WIDTH;
                // All loads of a step are issued before the first one is used.
                Chunk chunks[STEPS];
#pragma unroll
                for (u32 i = 0; i < STEPS; ++i) {
                    u32 row = first + i * DOWN;
                    chunks[i] = Chunk{{0, 0, 0, 0}};
                    if (row < rows && at < d) {
                        const T *chunk = from + wide_product(row, stride) + at;
                        chunks[i] = *reinterpret_cast<const Chunk *>(chunk);
                    }
                }
#pragma unroll
                for (u32 i = 0; i < STEPS; ++i) {
                    u32 row = first + i * DOWN;
                    if (row < TILE && at < wide) {
                        *reinterpret_cast<Chunk *>(to + row * line() + at) = chunks[i];
                    }
                }
            }
        } else {
            for (u32 row = threadIdx.x / WARP; row < TILE; row += THREADS / WARP) {
                for (u32 at = threadIdx.x % WARP; at < wide; at += WARP) {
                    bool inside = row < rows && at < d;
                    to[row * line() + at] =
                        inside ? from[wide_product(row, stride) + at] : from_float<T>(0.0f);
                }
            }
        }
    }
};

// Copies one value per row, for `rows` rows, times `factor`; the rest, up to TILE, becomes zero.
template <u32 TILE>
__device__ void load_values(float *to, const float *from, u32 rows, float factor) {
    for (u32 i = threadIdx.x; i < TILE; i += blockDim.x) {
        to[i] = i < rows ? from[i] * factor : 0.0f;
    }
}

__device__ inline u32 at_most(u32 x, u32 limit) { return x < limit ? x : limit; }

constexpr u32 FORWARD_THREADS = 128;
template <u32 W>
constexpr u32 FORWARD_TILE = W > 128 ? 32 : 64;

// One block computes a tile of queries of one head, with a running softmax over its keys.
template <class T, u32 W>
__device__ void attend(const T *q, const T *k, const T *v, const Sample *samples, T *y, float *lse,
                       const Sizes &sizes) {
    constexpr u32 TILE = FORWARD_TILE<W>;
    constexpr u32 THREADS = FORWARD_THREADS;
    // The scores' lines; probabilities overwrite them, so their lines have the same length in
    // bytes.
    constexpr u32 SCORES = TILE + 8;
    constexpr u32 WEIGHTS = SCORES * (sizeof(float) / sizeof(T));
    // Threads that share a query's scores, and the number of scores of each.
    constexpr u32 SHARE = THREADS / TILE;
    constexpr u32 OWN = TILE / SHARE;
    const float power = sizes.scale * LOG2_E;

    // The last queries see most keys, so they start first.
    const u32 first = (gridDim.x - 1 - blockIdx.x) * TILE;
    const u32 head = blockIdx.y;
    const Sample sample = samples[blockIdx.z];
    if (first >= sample.len) {
        return;
    }
    const u32 rows = at_most(sample.len - first, TILE);
    const Band band = sizes.band(sample);
    const u32 d = sizes.d;
    const Lines<T> lines(d);
    const u32 line = lines.line();
    const u32 place = sample.first + first;
    const u64 context = sizes.of_keys(sample, head / (sizes.heads / sizes.kv_heads));
    q += sizes.of_queries(sample, head) + wide_product(first, sizes.q_step);
    k += context;
    v += context;

    T *queries = reinterpret_cast<T *>(shared);
    T *context_tile = queries + TILE * line;
    float *scores = reinterpret_cast<float *>(context_tile + TILE * line);
    T *weights = reinterpret_cast<T *>(scores);
    float *factors = scores + TILE * SCORES;

    const Places<T> places(scores);
    lines.template load<TILE, W, THREADS>(queries, q, sizes.q_step, rows);

    const u32 own_row = threadIdx.x / SHARE;
    const u32 part = threadIdx.x % SHARE;
    const bool real = own_row < rows;
    const u32 start = real ? band.start(first + own_row) : 0;
    const u32 end = real ? band.end(first + own_row) : 0;
    float top = -INFINITY;
    float sum = 0;
    Sums<T, TILE, W, THREADS> mixed;

    const u32 finish = band.end(first + rows - 1);
    for (u32 base = band.start(first); base < finish; base += TILE) {
        const u32 count = at_most(finish - base, TILE);
        __syncthreads();
        lines.template load<TILE, W, THREADS>(context_tile, k + wide_product(base, sizes.k_step),
                                              sizes.k_step, count);
        __syncthreads();
        {
            Sums<T, TILE, TILE, THREADS> products;
            products.template multiply<true>(queries, line, context_tile, line, lines.wide,
                                             TILE / GRAIN);
            products.store(scores, SCORES);
        }
        __syncthreads();
        lines.template load<TILE, W, THREADS>(context_tile, v + wide_product(base, sizes.k_step),
                                              sizes.k_step, count);

        float own[OWN];
        float highest = top;
#pragma unroll
        for (u32 i = 0; i < OWN; i += RUN) {
            const u32 column = i * SHARE + part * RUN;
            const auto run = *reinterpret_cast<Run<float> *>(scores + own_row * SCORES + column);
#pragma unroll
            for (u32 e = 0; e < RUN; ++e) {
                // Keys before the first one wrap around to large numbers.
                const bool seen = base + column + e - start < end - start;
                own[i + e] = seen ? run.values[e] * power : -INFINITY;
                highest = fmaxf(highest, own[i + e]);
            }
        }
        for (u32 apart = 1; apart < SHARE; apart *= 2) {
            highest = fmaxf(highest, __shfl_xor_sync(ALL_LANES, highest, apart));
        }
        // The weights overwrite scores that another lane has read.
        __syncwarp();
        // A query that has seen no key yet would subtract infinity from infinity.
        const float origin = highest == -INFINITY ? 0.0f : highest;
        float added = 0;
#pragma unroll
        for (u32 i = 0; i < OWN; i += RUN) {
            Run<T> run;
#pragma unroll
            for (u32 e = 0; e < RUN; ++e) {
                const float weight = exp2f(own[i + e] - origin);
                added += weight;
                run.values[e] = from_float<T>(weight);
            }
            *reinterpret_cast<Run<T> *>(weights + own_row * WEIGHTS + i * SHARE + part * RUN) = run;
        }
        for (u32 apart = 1; apart < SHARE; apart *= 2) {
            added += __shfl_xor_sync(ALL_LANES, added, apart);
        }
        const float factor = exp2f(top - origin);
        top = highest;
        sum = sum * factor + added;
        if (part == 0) {
            factors[own_row] = factor;
        }
        __syncthreads();
        mixed.multiply_rows(factors, places);
        mixed.template multiply<false>(weights, WEIGHTS, context_tile, line, TILE, lines.groups());
    }

    __syncthreads();
    if (part == 0) {
        factors[own_row] = sum > 0 ? 1.0f / sum : 0.0f;
        if (real) {
            lse[wide_product(head, sizes.rows) + place + own_row] = top * LN_2 + logf(sum);
        }
    }
    __syncthreads();
    mixed.multiply_rows(factors, places);
    y += wide_product(place, sizes.width()) + head * d;
    mixed.each(places, [&](u32 row, u32 column, float &value) {
        if (row < rows && column < d) {
            y[wide_product(row, sizes.width()) + column] = from_float<T>(value);
        }
    });
}

// One warp for each dot product.
template <class T>
__device__ void dot_rows(const T *y, const T *dy, float *dots, u32 heads, u32 rows, u32 d) {
    const u32 row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= rows) {
        return;
    }
    const u64 at = wide_product(row, heads * d) + blockIdx.y * d;
    float sum = 0;
    for (u32 i = threadIdx.x % WARP; i < d; i += WARP) {
        sum += to_float(y[at + i]) * to_float(dy[at + i]);
    }
    sum = warp_fold(sum, Add());
    if (threadIdx.x % WARP == 0) {
        dots[wide_product(blockIdx.y, rows) + row] = sum;
    }
}

template <class T, u32 W>
constexpr u32 BACK_TILE = (sizeof(T) == sizeof(float) ? 32 : 64) / (W > 128 ? 2 : 1);
template <class T, u32 W>
constexpr u32 BACK_THREADS = BACK_TILE<T, W> == 64 ? 256 : 128;
// Blocks per multiprocessor for which registers are allocated: two where that does not spill.
template <class T, u32 W>
constexpr u32 BACK_Q_BLOCKS = BACK_TILE<T, W> == 64 ? 2 : 1;
template <class T, u32 W>
constexpr u32 BACK_KV_BLOCKS = BACK_TILE<T, W> == 64 && W == 64 ? 2 : 1;

// One block computes the gradient of a tile of queries of one head. With the probabilities p =
// exp(score - lse), the gradient of the score is p (dy v^T - dots) scale.
template <class T, u32 W>
__device__ void back_to_queries(const T *q, const T *k, const T *v, const Sample *samples,
                                const T *dy, const float *lse, const float *dots, T *dq,
                                const Sizes &sizes) {
    constexpr u32 TILE = BACK_TILE<T, W>;
    constexpr u32 THREADS = BACK_THREADS<T, W>;
    constexpr u32 SLOPES = TILE + PAD<T>;
    const float scale = sizes.scale;
    const float power = scale * LOG2_E;

    const u32 first = (gridDim.x - 1 - blockIdx.x) * TILE;
    const u32 head = blockIdx.y;
    const Sample sample = samples[blockIdx.z];
    if (first >= sample.len) {
        return;
    }
    const u32 rows = at_most(sample.len - first, TILE);
    const Band band = sizes.band(sample);
    const u32 d = sizes.d;
    const Lines<T> lines(d);
    const u32 line = lines.line();
    const u32 place = sample.first + first;
    const u64 query = sizes.of_queries(sample, head) + wide_product(first, sizes.q_step);
    const u64 entry = wide_product(head, sizes.rows) + place;
    const u64 context = sizes.of_keys(sample, head / (sizes.heads / sizes.kv_heads));
    k += context;
    v += context;

    T *queries = reinterpret_cast<T *>(shared);
    T *gradients = queries + TILE * line;
    T *key_tile = gradients + TILE * line;
    T *value_tile = key_tile + TILE * line;
    T *slopes = value_tile + TILE * line;
    float *sums = reinterpret_cast<float *>(slopes + TILE * SLOPES);
    float *means = sums + TILE;

    const Places<T> places(reinterpret_cast<float *>(shared));
    dy += wide_product(place, sizes.width()) + head * d;
    lines.template load<TILE, W, THREADS>(queries, q + query, sizes.q_step, rows);
    lines.template load<TILE, W, THREADS>(gradients, dy, sizes.width(), rows);
    load_values<TILE>(sums, lse + entry, rows, LOG2_E);
    load_values<TILE>(means, dots + entry, rows, 1.0f);

    Sums<T, TILE, W, THREADS> total;
    const u32 finish = band.end(first + rows - 1);
    for (u32 base = band.start(first); base < finish; base += TILE) {
        const u32 count = at_most(finish - base, TILE);
        const u64 at = wide_product(base, sizes.k_step);
        __syncthreads();
        lines.template load<TILE, W, THREADS>(key_tile, k + at, sizes.k_step, count);
        lines.template load<TILE, W, THREADS>(value_tile, v + at, sizes.k_step, count);
        __syncthreads();
        Sums<T, TILE, TILE, THREADS> scores;
        scores.template multiply<true>(queries, line, key_tile, line, lines.wide, TILE / GRAIN);
        Sums<T, TILE, TILE, THREADS> changes;
        changes.template multiply<true>(gradients, line, value_tile, line, lines.wide,
                                        TILE / GRAIN);
        const bool whole = band.sees_all(first, base, TILE);
        scores.each(places, changes, [&](u32 row, u32 column, float &score, float &change) {
            const bool seen = whole || band.sees(first + row, base + column);
            const float weight = seen ? exp2f(score * power - sums[row]) : 0.0f;
            slopes[row * SLOPES + column] = from_float<T>(weight * (change - means[row]) * scale);
        });
        __syncthreads();
        total.template multiply<false>(slopes, SLOPES, key_tile, line, TILE, lines.groups());
    }
    dq += query;
    total.each(places, [&](u32 row, u32 column, float &value) {
        if (row < rows && column < d) {
            dq[wide_product(row, sizes.q_step) + column] = from_float<T>(value);
        }
    });
}

// One block computes the gradients of a tile of keys and values of one key head, looping over the
// query tiles of all its query heads. All matrices of scores have keys as rows and queries as
// columns.
template <class T, u32 W>
__device__ void back_to_context(const T *q, const T *k, const T *v, const Sample *samples,
                                const T *dy, const float *lse, const float *dots, T *dk, T *dv,
                                const Sizes &sizes) {
    constexpr u32 TILE = BACK_TILE<T, W>;
    constexpr u32 THREADS = BACK_THREADS<T, W>;
    constexpr u32 WEIGHTS = TILE + PAD<T>;
    const float scale = sizes.scale;
    const float power = scale * LOG2_E;

    const u32 first = blockIdx.x * TILE;
    const u32 kv_head = blockIdx.y;
    const Sample sample = samples[blockIdx.z];
    const u32 keys = sizes.past + sample.len;
    if (first >= keys) {
        return;
    }
    const u32 group = sizes.heads / sizes.kv_heads;
    const u32 rows = at_most(keys - first, TILE);
    const Band band = sizes.band(sample);
    const u32 d = sizes.d;
    const Lines<T> lines(d);
    const u32 line = lines.line();
    const u64 context = sizes.of_keys(sample, kv_head) + wide_product(first, sizes.k_step);

    T *key_tile = reinterpret_cast<T *>(shared);
    T *value_tile = key_tile + TILE * line;
    T *queries = value_tile + TILE * line;
    T *gradients = queries + TILE * line;
    T *weights = gradients + TILE * line;
    float *sums = reinterpret_cast<float *>(weights + TILE * WEIGHTS);
    float *means = sums + TILE;

    const Places<T> places(reinterpret_cast<float *>(shared));
    lines.template load<TILE, W, THREADS>(key_tile, k + context, sizes.k_step, rows);
    lines.template load<TILE, W, THREADS>(value_tile, v + context, sizes.k_step, rows);

    // The queries that see one of these keys.
    const u32 past = sizes.past;
    const u32 start = first > past ? first - past : 0;
    u32 finish = 0;
    if (first < sample.seen) {
        const u64 end = static_cast<u64>(at_most(first + rows, sample.seen)) - 1 + sizes.window;
        if (sizes.window == 0 || end >= static_cast<u64>(past) + sample.len) {
            finish = sample.len;
        } else {
            finish = end > past ? end - past : 0;
        }
    }

    Sums<T, TILE, W, THREADS> key_sums;
    Sums<T, TILE, W, THREADS> value_sums;
    for (u32 head = kv_head * group; head < (kv_head + 1) * group; ++head) {
        for (u32 base = start; base < finish; base += TILE) {
            const u32 count = at_most(finish - base, TILE);
            const u32 place = sample.first + base;
            const u64 query = sizes.of_queries(sample, head) + wide_product(base, sizes.q_step);
            const u64 entry = wide_product(head, sizes.rows) + place;
            const T *row_gradients = dy + wide_product(place, sizes.width()) + head * d;
            __syncthreads();
            lines.template load<TILE, W, THREADS>(queries, q + query, sizes.q_step, count);
            lines.template load<TILE, W, THREADS>(gradients, row_gradients, sizes.width(), count);
            load_values<TILE>(sums, lse + entry, count, LOG2_E);
            load_values<TILE>(means, dots + entry, count, 1.0f);
            __syncthreads();
            // Probabilities at first, then the gradients of the scores.
            Sums<T, TILE, TILE, THREADS> changes;
            changes.template multiply<true>(key_tile, line, queries, line, lines.wide,
                                            TILE / GRAIN);
            const bool whole = band.sees_all(base, first, TILE);
            // Queries beyond the tile's rows have zero gradients.
            changes.each(places, [&](u32 row, u32 column, float &change) {
                const bool seen = whole || band.sees(base + column, first + row);
                change = seen ? exp2f(change * power - sums[column]) : 0.0f;
                weights[row * WEIGHTS + column] = from_float<T>(change);
            });
            {
                Sums<T, TILE, TILE, THREADS> others;
                others.template multiply<true>(value_tile, line, gradients, line, lines.wide,
                                               TILE / GRAIN);
                changes.each(places, others, [&](u32, u32 column, float &change, float &other) {
                    change *= (other - means[column]) * scale;
                });
            }
            __syncthreads();
            value_sums.template multiply<false>(weights, WEIGHTS, gradients, line, TILE,
                                                lines.groups());
            __syncthreads();
            changes.each(places, [&](u32 row, u32 column, float &change) {
                weights[row * WEIGHTS + column] = from_float<T>(change);
            });
            __syncthreads();
            key_sums.template multiply<false>(weights, WEIGHTS, queries, line, TILE,
                                              lines.groups());
        }
    }
    const auto write = [&](Sums<T, TILE, W, THREADS> &from, T *to) {
        from.each(places, [&](u32 row, u32 column, float &value) {
            if (row < rows && column < d) {
                to[wide_product(row, sizes.k_step) + column] = from_float<T>(value);
            }
        });
    };
    write(key_sums, dk + context);
    write(value_sums, dv + context);
}

#define DOT_KERNEL(T, SUFFIX)                                                                      \
    extern "C" __global__ void attention_dot_##SUFFIX(const T *y, const T *dy, float *dots,        \
                                                      u32 heads, u32 rows, u32 d) {                \
        dot_rows(y, dy, dots, heads, rows, d);                                                     \
    }

// The parameters that a kernel collects.
#define SIZES                                                                                      \
    u32 heads, u32 kv_heads, u32 rows, u32 past, u32 q_step, u32 k_step, u64 q_head, u64 k_head,   \
        u32 d, u32 window, float scale
#define COLLECTED                                                                                  \
    Sizes { heads, kv_heads, rows, past, q_step, k_step, q_head, k_head, d, window, scale }

#define KERNELS(T, SUFFIX, W)                                                                      \
    extern "C" __global__ void __launch_bounds__(FORWARD_THREADS, 1)                               \
        attention_##W##_##SUFFIX(const T *q, const T *k, const T *v, const Sample *samples, T *y,  \
                                 float *lse, SIZES) {                                              \
        attend<T, W>(q, k, v, samples, y, lse, COLLECTED);                                         \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(BACK_THREADS<T, W>, BACK_Q_BLOCKS<T, W>)          \
        attention_back_q_##W##_##SUFFIX(const T *q, const T *k, const T *v, const Sample *samples, \
                                        const T *dy, const float *lse, const float *dots, T *dq,   \
                                        SIZES) {                                                   \
        back_to_queries<T, W>(q, k, v, samples, dy, lse, dots, dq, COLLECTED);                     \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(BACK_THREADS<T, W>, BACK_KV_BLOCKS<T, W>)         \
        attention_back_kv_##W##_##SUFFIX(const T *q, const T *k, const T *v,                       \
                                         const Sample *samples, const T *dy, const float *lse,     \
                                         const float *dots, T *dk, T *dv, SIZES) {                 \
        back_to_context<T, W>(q, k, v, samples, dy, lse, dots, dk, dv, COLLECTED);                 \
    }

DOT_KERNEL(float, f32)
DOT_KERNEL(bf16, bf16)
KERNELS(float, f32, 64)
KERNELS(float, f32, 128)
KERNELS(float, f32, 256)
KERNELS(bf16, bf16, 64)
KERNELS(bf16, bf16, 128)
KERNELS(bf16, bf16, 256)
