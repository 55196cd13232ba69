// SPDX-License-Identifier: MIT
// Loaded before Python starts (LD_PRELOAD): lets the n-th allocation that bptt's module asks for
// fail, be it by itself or through the C++ library. Those of Python and NumPy are left alone.
#include <dlfcn.h>
#include <execinfo.h>

#include <cstddef>
#include <cstring>
#include <new>

namespace {

// Of this thread: how many more succeed before one fails, and how many there were. Less than 0:
// none is counted.
thread_local long left = -1;
thread_local long count = 0;
thread_local bool busy = false;  // this file itself is allocating

bool contains(const char* text, const char* part) { return text && std::strstr(text, part); }

// Who asks, when the frames of this file and of the C++ library are left out?
bool asked_by_core() {
  void* frames[12];
  const int depth = backtrace(frames, 12);
  for (int i = 1; i < depth; ++i) {
    Dl_info info;
    if (!dladdr(frames[i], &info)) return false;
    if (contains(info.dli_fname, "fail_allocation") || contains(info.dli_fname, "libstdc++"))
      continue;
    return contains(info.dli_fname, "_core.");
  }
  return false;
}

bool fails() {
  if (left < 0 || busy) return false;
  busy = true;
  const bool counted = asked_by_core();
  busy = false;
  if (!counted) return false;
  ++count;
  if (left > 0) return --left, false;
  left = -1;  // once
  return true;
}

// The function of this name that would be called without this file.
template <class Function>
Function next(Function, const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

void* loaded[1];
const int warm = backtrace(loaded, 1);  // which loads a library the first time

}  // namespace

extern "C" {

// The allocation after `succeed` more fails; less than 0: none.
void fail_after(long succeed) { left = succeed, count = 0; }
long allocations() { return count; }

void* aligned_alloc(std::size_t alignment, std::size_t size) {
  static const auto real = next(&aligned_alloc, "aligned_alloc");
  return fails() ? nullptr : real(alignment, size);
}
}

// The module calls malloc through these alone.
void* operator new(std::size_t size) {
  static const auto real = next<void* (*)(std::size_t)>(nullptr, "_Znwm");
  if (fails()) throw std::bad_alloc();
  return real(size);
}
void* operator new(std::size_t size, const std::nothrow_t& tag) noexcept {
  static const auto real =
      next<void* (*)(std::size_t, const std::nothrow_t&)>(nullptr, "_ZnwmRKSt9nothrow_t");
  return fails() ? nullptr : real(size, tag);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  static const auto real =
      next<void* (*)(std::size_t, std::align_val_t)>(nullptr, "_ZnwmSt11align_val_t");
  if (fails()) throw std::bad_alloc();
  return real(size, alignment);
}
