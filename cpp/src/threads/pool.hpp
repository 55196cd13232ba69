// SPDX-License-Identifier: MIT
#pragma once
#include <functional>

#include "core/plan.hpp"
#include "kernels/interface.hpp"

namespace bptt::core {

struct Crew;

// The threads for one call. There are fewer than asked for, down to the caller's own alone, while
// another call has them or the system gives no more; nobody waits for them.
class Lease {
 public:
  explicit Lease(int size);
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  int size() const { return size_; }

  // work(team) once for each rank at the same time, rank 0 on the calling thread; false: the stop
  // request ended it. `work` must not throw.
  bool run(StopRequest stop, const std::function<void(const Team&)>& work);

 private:
  static Crew* take(int size);
  Crew* crew_;
  int size_ = 1;
};

}  // namespace bptt::core
