// SPDX-License-Identifier: MIT
// The threads of this process that compute beside the caller's.
#pragma once
#include <functional>

#include "threads/barrier.hpp"

namespace bptt::core {

// Called every few milliseconds of a long call, on the calling thread; true stops the call.
struct StopRequest {
  bool (*requested)(void*) = nullptr;
  void* context = nullptr;
};

// The calling thread alone; refers to `stop`.
inline Team alone_until(StopRequest& stop) {
  Team team = alone;
  team.context = &stop;
  team.stopped = [](void* s, int) {
    const auto* request = static_cast<StopRequest*>(s);
    return request->requested && request->requested(request->context);
  };
  return team;
}

struct ThreadPool;

// The threads for one call. There are fewer than asked for, down to the caller's own alone, while
// another call has them or the system gives no more; nobody waits for them.
class PoolLease {
 public:
  explicit PoolLease(int size);
  ~PoolLease();
  PoolLease(const PoolLease&) = delete;
  PoolLease& operator=(const PoolLease&) = delete;
  int size() const { return size_; }

  // work(team) once for each rank at the same time, rank 0 on the calling thread; false: the stop
  // request ended it. `work` must not throw.
  bool run(StopRequest stop, const std::function<void(const Team&)>& work);

 private:
  static ThreadPool* take(int size);
  ThreadPool* pool_;
  int size_ = 1;
};

}  // namespace bptt::core
