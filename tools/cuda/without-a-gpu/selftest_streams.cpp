// Streams, threads and contexts: what a program gets wrong that a device would not forgive.

#include <thread>

#include "selftest.hpp"

namespace {

void *const kThreadStream = reinterpret_cast<void *>(2);

void on_a_thread(std::function<void()> f) { std::thread(std::move(f)).join(); }

// The context of this thread, made current there.
std::function<void()> with_context(std::function<void()> f) {
  void *context = nullptr;
  call(cuda, "cuCtxGetCurrent", &context);
  return [=] {
    call(cuda, "cuCtxSetCurrent", context);
    f();
  };
}

void *create(unsigned flags) {
  void *stream = nullptr;
  check(call(cuda, "cuStreamCreate", &stream, flags) == 0, "a stream");
  return stream;
}

void write(const Device<float> &to, float value, void *stream) {
  std::vector<float> values(to.n, value);
  check(call(cuda, "cuMemcpyHtoDAsync_v2", to.pointer, (const void *)values.data(), to.n * sizeof(float), stream) == 0,
        "an asynchronous copy to the device");
}

float read(const Device<float> &from, void *stream) {
  std::vector<float> values(from.n, 0.0f);
  check(call(cuda, "cuMemcpyDtoHAsync_v2", (void *)values.data(), from.pointer, from.n * sizeof(float), stream) == 0,
        "an asynchronous copy to the host");
  return values[0];
}

void plus_one(const Device<float> &from, const Device<float> &to, void *stream) {
  Pointer x = from.pointer, y = to.pointer;
  size_t n = from.n;
  check(launch("selftest_identity", 1, unsigned(n), 1, 0, {&x, &y, &n}, stream) == 0, "a launch on a stream");
}

// The thread's default stream is another one on every thread; a stream that was created is the same one.
void threads_have_their_own_default_stream() {
  for (bool created : {false, true}) {
    void *stream = created ? create(1) : kThreadStream;
    Device<float> x(std::vector<float>(4, 1.0f)), y(std::vector<float>(4, 0.0f));
    write(x, 5.0f, stream);
    plus_one(x, y, stream);
    on_a_thread(with_context([&] {
      check(read(x, stream) == (created ? 5.0f : 1.0f), "a copy that another thread asked for");
      check(read(y, stream) == (created ? 6.0f : 0.0f), "a kernel that another thread launched");
    }));
    check(read(y, stream) == 6.0f, "the thread itself waits for its own work");
    on_a_thread(with_context([&] { check(read(y, stream) == 6.0f, "then it has run for everybody"); }));
    if (created) check(call(cuda, "cuStreamDestroy_v2", stream) == 0, "the end of a stream");
  }
}

// A default stream is one of the current context; a stream that was created knows its own.
void default_streams_need_a_context() {
  void *stream = create(1);
  Pointer some[3];
  for (Pointer &p : some) check(call(cuda, "cuMemAllocAsync", &p, size_t(64), stream) == 0, "an allocation on a stream");
  void *overrun = nullptr, *params[] = {&some[0]};
  call(cuda, "cuModuleGetFunction", &overrun, module_handle, (const char *)"selftest_overrun");
  on_a_thread([&] {
    const int kInvalidContext = 201;
    Pointer p;
    check(call(cuda, "cuMemFreeAsync", some[0], kThreadStream) == kInvalidContext, "freed on the thread's stream without a context");
    check(call(cuda, "cuMemFreeAsync", some[0], (void *)nullptr) == kInvalidContext, "freed on the default stream without a context");
    check(call(cuda, "cuMemFree_v2", some[0]) == kInvalidContext, "freed without a context");
    check(call(cuda, "cuMemAllocAsync", &p, size_t(64), kThreadStream) == kInvalidContext, "allocated without a context");
    check(call(cuda, "cuStreamSynchronize", kThreadStream) == kInvalidContext, "waited for without a context");
    check(call(cuda, "cuLaunchKernel", overrun, 1u, 1u, 1u, 1u, 1u, 1u, 0u, stream, params, (void **)nullptr) == kInvalidContext,
          "launched without a context");
    void *function = nullptr;
    check(call(cuda, "cuModuleGetFunction", &function, module_handle, (const char *)"selftest_overrun") == kInvalidContext,
          "a function without a context");
    check(call(cuda, "cuMemFreeAsync", some[0], stream) == 0, "freed on a stream that was created");
  });
  check(call(cuda, "cuMemFreeAsync", some[0], stream) == 1, "it is free");
  check(call(cuda, "cuMemFreeAsync", some[1], kThreadStream) == 0, "freed on the thread's stream with a context");
  check(call(cuda, "cuMemFree_v2", some[2]) == 0, "freed with a context");
  check(call(cuda, "cuStreamDestroy_v2", stream) == 0, "the end of a stream");
  check(call(cuda, "cuStreamSynchronize", stream) == 400, "a stream that is no more");
}

void streams_wait_for_events() {
  void *first = create(1), *second = create(1), *event = nullptr;
  check(call(cuda, "cuEventCreate", &event, 2u) == 0, "an event");
  Device<float> x(std::vector<float>(4, 1.0f)), y(std::vector<float>(4, 0.0f));
  write(x, 2.0f, first);
  check(call(cuda, "cuEventRecord", event, first) == 0, "the record of an event");
  check(read(x, second) == 1.0f, "a stream that does not wait for the event");
  check(call(cuda, "cuStreamWaitEvent", second, event, 0u) == 0, "a wait for an event");
  plus_one(x, y, second);
  check(read(y, second) == 3.0f, "a stream that waits for the event");
  write(x, 4.0f, first);
  write(x, 5.0f, first);
  check(call(cuda, "cuEventRecord", event, first) == 0, "the record of an event");
  int asked = 0;
  while (call(cuda, "cuEventQuery", event) == 600 && asked < 100) asked++;
  check(asked > 0 && asked < 100 && read(x, second) == 5.0f, "an event that is asked for until it happens");
  for (void *stream : {first, second}) call(cuda, "cuStreamDestroy_v2", stream);
  call(cuda, "cuEventDestroy_v2", event);
}

// It waits for the blocking streams, the threads' own among them, and for no others.
void the_default_stream_waits_for_blocking_streams() {
  void *blocking = create(0), *other = create(1);
  Device<float> x(std::vector<float>(4, 1.0f));
  void *const none = nullptr;
  write(x, 2.0f, other);
  check(read(x, none) == 1.0f, "a stream that does not block");
  call(cuda, "cuStreamSynchronize", other);
  write(x, 3.0f, blocking);
  check(read(x, none) == 3.0f, "a stream that blocks");
  write(x, 4.0f, kThreadStream);
  check(read(x, none) == 4.0f, "the thread's stream");
  write(x, 5.0f, other);
  check(call(cuda, "cuCtxSynchronize") == 0 && read(x, none) == 5.0f, "the context waits for all");
  for (void *stream : {blocking, other}) call(cuda, "cuStreamDestroy_v2", stream);
}

// The device reads pinned memory when it comes to it, other memory before the call returns.
void pinned_memory_is_read_late() {
  void *stream = create(1), *host = nullptr;
  const size_t bytes = 4 * sizeof(float);
  check(call(cuda, "cuMemHostAlloc", &host, bytes, 0u) == 0, "pinned memory");
  float *pinned = static_cast<float *>(host), plain[4] = {1, 1, 1, 1};
  Device<float> x(4), y(4);
  for (int i = 0; i < 4; i++) pinned[i] = 1;
  call(cuda, "cuMemcpyHtoDAsync_v2", x.pointer, (const void *)pinned, bytes, stream);
  call(cuda, "cuMemcpyHtoDAsync_v2", y.pointer, (const void *)plain, bytes, stream);
  pinned[0] = plain[0] = 2;
  check(read(x, stream) == 2.0f && read(y, stream) == 1.0f, "what is copied of memory that changes");
  call(cuda, "cuMemFreeHost", host);
  call(cuda, "cuStreamDestroy_v2", stream);
}

void memory_is_not_used_after_it_was_freed() {
  check(aborts(with_context([] {
          void *first = create(1), *second = create(1);
          Device<float> x(std::vector<float>(4, 1.0f));
          Pointer y;
          call(cuda, "cuMemAllocAsync", &y, 4 * sizeof(float), second);
          size_t n = 4;
          launch("selftest_identity", 1, 4, 1, 0, {&x.pointer, &y, &n}, first);
          call(cuda, "cuMemFreeAsync", y, second);
          call(cuda, "cuStreamSynchronize", second);
          call(cuda, "cuStreamSynchronize", first);
        })), "a kernel that writes what another stream has freed");
}

}  // namespace

void test_streams() {
  threads_have_their_own_default_stream();
  default_streams_need_a_context();
  streams_wait_for_events();
  the_default_stream_waits_for_blocking_streams();
  pinned_memory_is_read_late();
  memory_is_not_used_after_it_was_freed();
}
