// SPDX-License-Identifier: MIT
// Statuses of the C interface, and the text of the last error: function: argument has X, expected
// Y.
#pragma once
// A shared library made of this one exports the functions of bptt.h, and nothing else.
#pragma GCC visibility push(default)
#include "bptt.h"
#pragma GCC visibility pop
#include "kernels/interface.hpp"

namespace bptt::core {

// A text of limited length, which allocates nothing.
class Message {
 public:
  Message& operator<<(const char* text);
  Message& operator<<(Index number);
  Message& operator<<(std::size_t number);
  const char* text() const { return text_; }
  void clear() { text_[used_ = 0] = 0; }

 private:
  static constexpr int capacity = 192;
  char text_[capacity] = "";
  int used_ = 0;
};

// The message of this thread.
Message& last_error();

// Sets it; for `return refuse(...)`.
template <class... Parts>
bptt_status refuse(bptt_status status, const char* function, const Parts&... parts) {
  Message& message = last_error();
  message.clear();
  message << function << ": ";
  (message << ... << parts);
  return status;
}

}  // namespace bptt::core

// Returns from the function with the first status that is not BPTT_OK.
#define BPTT_TRY(call)                                    \
  do                                                      \
    if (const bptt_status status = (call)) return status; \
  while (false)
