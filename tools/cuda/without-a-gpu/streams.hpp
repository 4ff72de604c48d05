// Streams: work that was asked for and has not run yet.
//
// On a device, work runs at some time between the call that asks for it and the wait that needs it.
// Here it runs as late as it may: only a wait runs it, or a queue that has grown too long. Who reads
// on one stream what another stream was asked to write, without waiting for it, reads what was there
// before.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "memory.hpp"

namespace emulator {

struct Work {
  uint64_t number;  // in the order of the calls, over all streams
  size_t bytes;     // of memory that is held until it has run
  std::function<void()> run;
};

// What one stream has to do, in order.
struct Queue {
  int device;
  bool blocking;  // the default stream of the context waits for it
  std::deque<Work> waiting;
  uint64_t done = 0;  // the number of the last work that has run
  size_t held = 0;

  bool has_run(uint64_t number) const { return number <= done; }
};

class Streams {
 public:
  explicit Streams(Memory &memory) : memory(memory) {
    const char *text = getenv("EMULATED_DELAY");
    if (text && *text) delay = size_t(atoll(text));
  }

  std::shared_ptr<Queue> create(int device, bool blocking) {
    // A thread that has ended leaves a queue that nobody adds to.
    for (size_t i = queues.size(); i-- > 0;)
      if (queues[i].use_count() == 1 && queues[i]->waiting.empty()) queues.erase(queues.begin() + long(i));
    queues.push_back(std::make_shared<Queue>(Queue{device, blocking}));
    return queues.back();
  }

  // Adds work that holds `bytes` of memory; its number.
  uint64_t add(Queue &queue, size_t bytes, std::function<void()> run) {
    uint64_t number = next++;
    queue.waiting.push_back({number, bytes, std::move(run)});
    queue.held += bytes;
    while (queue.waiting.size() > delay || (queue.held > kHeld && !queue.waiting.empty())) step(queue);
    return number;
  }

  // Frees `allocation` once the work that `queue` has been given so far is done. Work on other streams may
  // still reach it: it stays poisoned until that has run.
  void free_later(Queue &queue, const Freed &allocation) {
    add(queue, allocation.bytes, [this, allocation] { memory.bury(allocation, next); });
  }
  void free_now(const Freed &allocation) {
    memory.bury(allocation, next);
    forget();
  }

  void run(Queue &queue) {
    while (!queue.waiting.empty()) step(queue);
  }
  void run_until(Queue &queue, uint64_t number) {
    while (!queue.has_run(number) && !queue.waiting.empty()) step(queue);
  }
  void run_all(int device, bool only_blocking = false) {
    for (size_t i = 0; i < queues.size(); i++)
      if (queues[i]->device == device && (queues[i]->blocking || !only_blocking)) run(*queues[i]);
  }

  // Runs the first work that waits.
  void step(Queue &queue) {
    run_first(queue);
    if (memory.buried) forget();
  }

 private:
  static constexpr size_t kHeld = 256 << 20;

  Memory &memory;
  size_t delay = 512;
  uint64_t next = 1;
  std::vector<std::shared_ptr<Queue>> queues;

  void run_first(Queue &queue) {
    Work work = std::move(queue.waiting.front());
    queue.waiting.pop_front();
    queue.held -= work.bytes;
    work.run();
    queue.done = work.number;
  }

  // Gives back what no waiting work can reach. A stream that nobody waits for must not keep all memory.
  void forget() {
    for (;;) {
      Queue *last = oldest();
      memory.forget_before(last ? last->waiting.front().number : next);
      if (!last || memory.buried <= kHeld) return;
      run_first(*last);
    }
  }

  // The stream whose first work has waited longest.
  Queue *oldest() {
    Queue *found = nullptr;
    for (auto &queue : queues)
      if (!queue->waiting.empty() && (!found || queue->waiting.front().number < found->waiting.front().number))
        found = queue.get();
    return found;
  }
};

}  // namespace emulator
