// SPDX-License-Identifier: MIT
#include "targets/caches.hpp"

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <stdexcept>

#include "targets/cpu_caches.hpp"

#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace bptt::core {
namespace {

std::atomic<Index> first{0}, second{0}, third{0};  // zeros: not read yet

// Reads one size, such as "512k", and moves `text` behind it; 0: it is none.
Index parse_size(const char*& text) {
  if (*text < '0' || *text > '9') return 0;
  char* end = nullptr;
  errno = 0;
  const long long n = std::strtoll(text, &end, 10);
  const int shift = *end == 'k' || *end == 'K' ? 10 : *end == 'm' || *end == 'M' ? 20 : 0;
  text = end + (shift > 0);
  constexpr long long most = 1LL << 40;
  return errno || n > most >> shift ? 0 : static_cast<Index>(n << shift);
}

Caches parse(const std::string& list, const char* source) {
  Caches sizes;
  const char* text = list.c_str();
  bool good = true;
  for (Index* size : {&sizes.first, &sizes.second, &sizes.third}) {
    if (size != &sizes.first) good = good && *text++ == ',';
    good = good && (*size = parse_size(text)) > 0;
  }
  if (!good || *text)
    throw std::invalid_argument(std::string(source) + " is '" + list +
                                "', expected the sizes of three caches, such as 32k,512k,32m");
  return sizes;
}

// As the operating system says, where it does.
Caches system_caches() {
  Caches found = cpu_caches();
#if defined(__APPLE__)
  const auto read = [](const char* name, Index& size) {
    std::int64_t n = 0;
    std::size_t bytes = sizeof n;
    if (sysctlbyname(name, &n, &bytes, nullptr, 0) == 0 && n > 0) size = static_cast<Index>(n);
  };
  read("hw.l1dcachesize", found.first);
  read("hw.l2cachesize", found.second);
  found.third = found.second;
  read("hw.l3cachesize", found.third);
#elif defined(__linux__) && !defined(__x86_64__)
  for (int i = 0; i < 8; ++i) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i) + "/";
    int level = 0;
    std::string type, text;
    if (!(std::ifstream(folder + "level") >> level) || !(std::ifstream(folder + "type") >> type) ||
        !(std::ifstream(folder + "size") >> text) || type == "Instruction")
      continue;
    const char* p = text.c_str();
    const Index size = parse_size(p);
    if (size && 1 <= level && level <= 3)
      (level == 1 ? found.first : level == 2 ? found.second : found.third) = size;
  }
#endif
  return found;
}

Caches read() {
  const char* own = std::getenv("BPTT_CACHES");
  return own && *own ? parse(own, "BPTT_CACHES") : system_caches();
}

}  // namespace

Caches caches() {
  if (!third.load(std::memory_order_acquire)) set_caches("", "BPTT_CACHES");
  return {first.load(std::memory_order_relaxed), second.load(std::memory_order_relaxed),
          third.load(std::memory_order_relaxed)};
}

void set_caches(const std::string& list, const char* source) {
  const Caches sizes = list.empty() ? read() : parse(list, source);
  first.store(sizes.first, std::memory_order_relaxed);
  second.store(sizes.second, std::memory_order_relaxed);
  third.store(sizes.third, std::memory_order_release);
}

std::string to_string(const Caches& sizes) {
  std::string list;
  for (Index size : {sizes.first, sizes.second, sizes.third}) {
    if (!list.empty()) list += ',';
    const bool mega = size % (Index(1) << 20) == 0, kilo = size % (Index(1) << 10) == 0;
    list += std::to_string(mega ? size >> 20 : kilo ? size >> 10 : size);
    list += mega ? "m" : kilo ? "k" : "";
  }
  return list;
}

}  // namespace bptt::core
