// SPDX-License-Identifier: MIT
#include "capi/error.hpp"

namespace bptt::core {

Message& Message::operator<<(const char* text) {
  while (*text && used_ < capacity - 1) text_[used_++] = *text++;
  text_[used_] = 0;
  return *this;
}

Message& Message::operator<<(std::size_t number) {
  char digits[24];
  int at = sizeof digits;
  digits[--at] = 0;
  do digits[--at] = static_cast<char>('0' + number % 10);
  while (number /= 10);
  return *this << digits + at;
}

Message& Message::operator<<(Index number) {
  const std::size_t size = static_cast<std::size_t>(number);
  return number < 0 ? *this << "-" << 0 - size : *this << size;
}

Message& last_error() {
  thread_local Message message;
  return message;
}

}  // namespace bptt::core

const char* bptt_last_error(void) { return bptt::core::last_error().text(); }

const char* bptt_status_string(bptt_status status) {
  switch (status) {
    case BPTT_OK: return "no error";
    case BPTT_INVALID_ARGUMENT: return "an argument is out of its range, null or misaligned";
    case BPTT_TOO_LARGE: return "the sizes are too large to address";
    case BPTT_WRONG_SIZE: return "a struct has another size than expected";
    case BPTT_MISMATCH: return "a tape or packed weights were made for something else";
    case BPTT_UNSUPPORTED: return "not supported by this CPU";
  }
  return "unknown status";
}

const char* bptt_version(void) { return BPTT_VERSION; }
