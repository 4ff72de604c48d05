// nvcuda::wmma: matrix fragments spread over the lanes of a warp.
//
// Which lane holds which element is unspecified on a device, so any distribution will do;
// this one interleaves, so that code that assumes runs of elements shows. An mma gathers
// the fragments of all lanes, multiplies in float and hands the results back.
//
// load_matrix_sync reads before it waits for the other lanes: what another lane wrote
// without a __syncwarp between is then seen missing. store_matrix_sync waits, then writes.
#pragma once

#include "float16.hpp"
#include "warp.hpp"

namespace nvcuda {
namespace wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };
namespace precision {
struct tf32 {};
}

namespace detail {
template <class T> struct Element { using type = T; };
template <> struct Element<precision::tf32> { using type = float; };
template <class Use, int M, int N, int K> struct Size;
template <int M, int N, int K> struct Size<matrix_a, M, N, K> { static constexpr int rows = M, columns = K; };
template <int M, int N, int K> struct Size<matrix_b, M, N, K> { static constexpr int rows = K, columns = N; };
template <int M, int N, int K> struct Size<accumulator, M, N, K> { static constexpr int rows = M, columns = N; };
template <class T> struct Allowed { static constexpr bool input = false, sum = false; };
template <> struct Allowed<__half> { static constexpr bool input = true, sum = true; };
template <> struct Allowed<__nv_bfloat16> { static constexpr bool input = true, sum = false; };
template <> struct Allowed<precision::tf32> { static constexpr bool input = true, sum = false; };
template <> struct Allowed<float> { static constexpr bool input = false, sum = true; };
inline constexpr emulator::Collective kLoad{"load_matrix_sync", emulator::complete_nothing};
inline constexpr emulator::Collective kStore{"store_matrix_sync", emulator::complete_nothing};
}  // namespace detail

template <class Use, int M, int N, int K, class T, class Layout = void>
struct fragment {
  static_assert((M == 16 && N == 16 && K == (std::is_same<T, precision::tf32>::value ? 8 : 16)) ||
                    (M == 16 && N == 16 && (K == 16 || K == 8) && std::is_same<Use, accumulator>::value) ||
                    (M == 32 && N == 8 && K == 16) || (M == 8 && N == 32 && K == 16),
                "a shape the device has no instruction for");
  static_assert(std::is_same<Use, accumulator>::value ? detail::Allowed<T>::sum : detail::Allowed<T>::input,
                "a type the device does not take here");
  static constexpr int rows = detail::Size<Use, M, N, K>::rows, columns = detail::Size<Use, M, N, K>::columns;
  static constexpr int num_elements = rows * columns / 32;
  using element_type = typename detail::Element<T>::type;
  element_type x[num_elements];
};

namespace detail {

template <class F>
void check_address(const void *pointer, unsigned stride) {
  if (reinterpret_cast<uintptr_t>(pointer) % 32) emulator::fail("wmma: the pointer is not aligned to 32 bytes");
  if (stride * sizeof(typename F::element_type) % 16) emulator::fail("wmma: the stride is not a multiple of 16 bytes");
}

// The place in memory of this lane's element i.
template <class F>
size_t place(int i, unsigned stride, bool by_rows) {
  int e = i * 32 + int(emulator::lane()), row = e / F::columns, column = e % F::columns;
  return by_rows ? size_t(row) * stride + column : size_t(column) * stride + row;
}

template <class F>
void load(F &f, const typename F::element_type *p, unsigned stride, bool by_rows) {
  check_address<F>(p, stride);
  for (int i = 0; i < F::num_elements; i++) f.x[i] = p[place<F>(i, stride, by_rows)];
  emulator::collective(kLoad, 0xffffffffu, 0);
}

inline float input(float x, precision::tf32) { return __uint_as_float(__float_as_uint(x) & ~0x1fffu); }
template <class T> float input(T x, T) { return float(x); }

template <class D, class A, class B, class C>
struct Operands { D *d; const A *a; const B *b; const C *c; };

template <class T, class D, class A, class B, class C>
void multiply(emulator::Warp &warp, uint32_t lanes) {
  if (lanes != 0xffffffffu) emulator::fail("mma_sync: not all lanes of the warp take part");
  constexpr int m = A::rows, k = A::columns, n = B::columns;
  float a[m * k], b[k * n], c[m * n];
  for (int lane = 0; lane < 32; lane++) {
    auto *o = reinterpret_cast<Operands<D, A, B, C> *>(warp.value[lane]);
    for (int i = 0; i < A::num_elements; i++) a[i * 32 + lane] = input(o->a->x[i], T());
    for (int i = 0; i < B::num_elements; i++) b[i * 32 + lane] = input(o->b->x[i], T());
    for (int i = 0; i < C::num_elements; i++) c[i * 32 + lane] = float(o->c->x[i]);
  }
  for (int row = 0; row < m; row++)
    for (int inner = 0; inner < k; inner++)
      for (int column = 0; column < n; column++)
        c[row * n + column] += a[row * k + inner] * b[inner * n + column];
  for (int lane = 0; lane < 32; lane++) {
    auto *o = reinterpret_cast<Operands<D, A, B, C> *>(warp.value[lane]);
    for (int i = 0; i < D::num_elements; i++) o->d->x[i] = c[i * 32 + lane];
  }
}

}  // namespace detail

template <class Use, int M, int N, int K, class T, class Layout, class V>
void fill_fragment(fragment<Use, M, N, K, T, Layout> &f, const V &value) {
  for (auto &x : f.x) x = value;
}

template <class Use, int M, int N, int K, class T, class Layout>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout> &f,
                      const typename detail::Element<T>::type *p, unsigned stride) {
  static_assert(!std::is_same<Layout, void>::value, "an accumulator's layout is named in the call");
  detail::load(f, p, stride, std::is_same<Layout, row_major>::value);
}

template <int M, int N, int K, class T>
void load_matrix_sync(fragment<accumulator, M, N, K, T> &f, const typename detail::Element<T>::type *p,
                      unsigned stride, layout_t layout) {
  detail::load(f, p, stride, layout == mem_row_major);
}

template <int M, int N, int K, class T>
void store_matrix_sync(typename detail::Element<T>::type *p, const fragment<accumulator, M, N, K, T> &f,
                       unsigned stride, layout_t layout) {
  using F = fragment<accumulator, M, N, K, T>;
  detail::check_address<F>(p, stride);
  emulator::collective(detail::kStore, 0xffffffffu, 0);
  for (int i = 0; i < F::num_elements; i++) p[detail::place<F>(i, stride, layout == mem_row_major)] = f.x[i];
}

template <int M, int N, int K, class T, class LayoutA, class LayoutB, class D, class C>
void mma_sync(fragment<accumulator, M, N, K, D> &d, const fragment<matrix_a, M, N, K, T, LayoutA> &a,
              const fragment<matrix_b, M, N, K, T, LayoutB> &b, const fragment<accumulator, M, N, K, C> &c) {
  static_assert(std::is_same<T, __half>::value || std::is_same<D, float>::value, "only halves sum in halves");
  using FA = fragment<matrix_a, M, N, K, T, LayoutA>;
  using FB = fragment<matrix_b, M, N, K, T, LayoutB>;
  using FC = fragment<accumulator, M, N, K, C>;
  using FD = fragment<accumulator, M, N, K, D>;
  static constexpr emulator::Collective operation{"mma_sync", detail::multiply<T, FD, FA, FB, FC>};
  detail::Operands<FD, FA, FB, FC> operands{&d, &a, &b, &c};
  emulator::collective(operation, 0xffffffffu, reinterpret_cast<uint64_t>(&operands));
}

inline float __float_to_tf32(float x) {
  return __uint_as_float((__float_as_uint(x) + 0x1000u) & ~0x1fffu);
}

}  // namespace wmma
}  // namespace nvcuda
