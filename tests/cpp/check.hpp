// SPDX-License-Identifier: MIT
// The few lines of a test framework that these tests need: TEST registers, CHECK counts, WITHIN
// says which case is being looked at, run_all() is main().
#pragma once
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*body)();
};
inline std::vector<Test> tests;
inline std::vector<std::string> context;
inline long checks = 0, failures = 0;

struct Registered {
  Registered(const char* name, void (*body)()) { tests.push_back({name, body}); }
};
struct Within {
  explicit Within(std::string what) { context.push_back(std::move(what)); }
  ~Within() { context.pop_back(); }
  Within(const Within&) = delete;
};

inline void that(bool holds, const char* file, int line, const std::string& what) {
  ++checks;
  if (holds || ++failures > 20) return;  // further ones are only counted
  std::printf("%s:%d: %s\n", file, line, what.c_str());
  for (const std::string& c : context) std::printf("  in %s\n", c.c_str());
}

// The text of the std::invalid_argument that f throws; "" if it throws nothing.
template <class F>
std::string refusal(const F& f) {
  try {
    f();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

inline int run_all() {
  for (const Test& test : tests) {
    const long before = checks;
    const Within here(test.name);
    test.body();
    that(checks > before, __FILE__, __LINE__, "the test checks nothing");
    std::printf("%-60s %8ld checks\n", test.name, checks - before);
    std::fflush(stdout);
  }
  if (failures) std::printf("%ld of %ld checks failed\n", failures, checks);
  return failures ? 1 : 0;
}

}  // namespace check

#define TEST(name)                                            \
  static void name();                                         \
  static const check::Registered name##_test = {#name, name}; \
  static void name()
#define CHECK(condition) check::that(condition, __FILE__, __LINE__, #condition)
#define CHECK_EQUAL(got, want)                                   \
  do {                                                           \
    const std::string got_ = (got), want_ = (want);              \
    check::that(got_ == want_, __FILE__, __LINE__,               \
                "got '" + got_ + "', expected '" + want_ + "'"); \
  } while (false)
