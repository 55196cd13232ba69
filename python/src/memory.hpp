// SPDX-License-Identifier: MIT
// A pool of memory for tapes, workspaces and large results: a fresh piece of several megabytes
// costs a page fault per 4 KiB, which can take as long as the computation.
#pragma once
#include <algorithm>
#include <cstddef>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

// Keeps released pieces up to a limit, and frees the oldest first.
class Pool {
 public:
  static Pool& instance() {
    static Pool* pool = new Pool;  // never destroyed: arrays may outlive every destructor
    return *pool;
  }

  // At least `bytes`, 64-byte aligned; the size is rounded up to what give() must be told.
  void* take(std::size_t& bytes) {
    const std::size_t unit = bytes >= huge ? huge : bytes >= pooled ? pooled : 64;
    const std::size_t rounded = (bytes + unit - 1) / unit * unit;
    if (rounded < bytes) throw std::bad_alloc();
    bytes = rounded;
    if (void* piece = reuse(bytes)) return piece;
    void* piece = ::operator new(bytes, alignment(bytes));
#if defined(__linux__)
    if (bytes >= huge) madvise(piece, bytes, MADV_HUGEPAGE);
#endif
    return piece;
  }

  void give(void* piece, std::size_t bytes) noexcept {
    // A thread that cannot lock at once does without the pool: no thread waits, and a process
    // forked while another thread held the lock never hangs.
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock || bytes < pooled || bytes > limit / 2) return release({piece, bytes});
    try {
      pieces_.push_back({piece, bytes});
    } catch (const std::bad_alloc&) {
      return release({piece, bytes});
    }
    held_ += bytes;
    while (held_ > limit) {
      held_ -= pieces_.front().bytes;
      release(pieces_.front());
      pieces_.erase(pieces_.begin());
    }
  }

 private:
  struct Piece {
    void* memory;
    std::size_t bytes;
  };
  static constexpr std::size_t pooled = std::size_t(1) << 16;  // below, malloc is as good
  static constexpr std::size_t huge = std::size_t(1) << 21;    // from here on, huge pages
#if defined(__SANITIZE_ADDRESS__)
  static constexpr std::size_t limit =
      0;  // a piece used again would hide errors from the sanitizer
#else
  static constexpr std::size_t limit = std::size_t(1) << 28;
#endif

  static std::align_val_t alignment(std::size_t bytes) {
    return std::align_val_t(bytes >= huge ? huge : 64);
  }
  static void release(Piece piece) noexcept {
    ::operator delete(piece.memory, alignment(piece.bytes));
  }

  // The smallest piece that is large enough and not half as large again.
  void* reuse(std::size_t& bytes) {
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock) return nullptr;
    auto best = pieces_.end();
    for (auto p = pieces_.begin(); p != pieces_.end(); ++p)
      if (p->bytes >= bytes && p->bytes <= bytes + bytes / 2 &&
          (best == pieces_.end() || p->bytes <= best->bytes))
        best = p;
    if (best == pieces_.end()) return nullptr;
    void* memory = best->memory;
    bytes = best->bytes;
    held_ -= bytes;
    pieces_.erase(best);
    return memory;
  }

  std::mutex mutex_;
  std::vector<Piece> pieces_;  // oldest first
  std::size_t held_ = 0;
};

class Buffer {
 public:
  explicit Buffer(std::size_t bytes) : bytes_(bytes) {
    if (bytes) data_ = Pool::instance().take(bytes_);
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (data_) Pool::instance().give(data_, bytes_);
  }
  void* get() const { return data_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
};
