// SPDX-License-Identifier: MIT
// A few bits of an array, which show a change between two calls.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace bptt::core {

// A hash in four chains, so that no word waits for the one before it. The shift brings the highest
// bits of the product (a sign, say) down to where the next product spreads them.
class Fingerprint {
 public:
  explicit Fingerprint(std::size_t bytes) : total_(bytes) {}

  void add(const unsigned char* p, std::size_t bytes) {
    std::uint64_t a = chains_[0], b = chains_[1], c = chains_[2], d = chains_[3];  // in registers
    for (; bytes >= 32; p += 32, bytes -= 32) {
      mix(a, word(p, 8)), mix(b, word(p + 8, 8));
      mix(c, word(p + 16, 8)), mix(d, word(p + 24, 8));
    }
    chains_[0] = a, chains_[1] = b, chains_[2] = c, chains_[3] = d;
    for (int i = 0; bytes; ++i) {
      const std::size_t n = bytes < 8 ? bytes : 8;
      mix(chains_[i], word(p, n));
      p += n, bytes -= n;
    }
  }
  std::uint64_t value() const {
    std::uint64_t all = total_;
    for (const std::uint64_t chain : chains_) mix(all, chain);
    return all;
  }

 private:
  static std::uint64_t word(const unsigned char* p, std::size_t bytes) {
    std::uint64_t w = 0;
    std::memcpy(&w, p, bytes);
    return w;
  }
  static void mix(std::uint64_t& chain, std::uint64_t w) {
    const std::uint64_t product = (chain ^ w) * 0x9e3779b97f4a7c15u;
    chain = product ^ product >> 32;
  }

  std::uint64_t chains_[4] = {1, 2, 3, 4};
  std::uint64_t total_;
};

// Hashes every bit of an array of up to 1 KiB, and of a larger one 64 bytes in each of 16 equal
// parts, the first and the last bytes among them, at places without a common stride. So any eighth
// of the array holds 64 bytes of the hash.
inline std::uint64_t fingerprint(const void* data, std::size_t bytes) {
  constexpr std::size_t parts = 16, looked_at = 64, unit = 1 << 16;
  const auto* p = static_cast<const unsigned char*>(data);
  Fingerprint bits(bytes);
  if (bytes <= parts * looked_at) {
    bits.add(p, bytes);
    return bits.value();
  }
  const std::size_t part = bytes / parts, rest = part - looked_at;
  for (std::size_t i = 0; i + 1 < parts; ++i) {
    const std::size_t golden = i * 40503 % unit;  // a fraction of unit
    const std::size_t start = i * part + rest / unit * golden + rest % unit * golden / unit;
    bits.add(p + start / 16 * 16, looked_at);  // whole numbers of any type
  }
  bits.add(p + (bytes - looked_at), looked_at);
  return bits.value();
}

// Hashes every bit.
inline std::uint64_t digest(const void* data, std::size_t bytes) {
  Fingerprint bits(bytes);
  bits.add(static_cast<const unsigned char*>(data), bytes);
  return bits.value();
}

}  // namespace bptt::core
