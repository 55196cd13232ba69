// SPDX-License-Identifier: MIT
// Runs long work without the GIL and lets Ctrl-C end it.
#pragma once
#include <pybind11/pybind11.h>

#include <chrono>
#include <exception>
#include <thread>

#include "threads/pool.hpp"

namespace core = bptt::core;
namespace py = pybind11;

// The thread that Python delivers signals to; set when the module is loaded.
inline unsigned long main_thread = 0;

// Releases the GIL, and takes it back. A thread that comes back while the interpreter is shutting
// down must never return into it: Python before 3.14 would end it by an exception that no
// destructor survives, so it sleeps instead.
class GilRelease {
 public:
  GilRelease() : state_(PyEval_SaveThread()) {}
  void take_back() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }
  // Lets Ctrl-C reach a long call: Python's signal handlers run only when the main thread asks.
  static bool signal_arrived(void* context) {
    auto* self = static_cast<GilRelease*>(context);
    const auto now = std::chrono::steady_clock::now();
    if (!self->asked_) self->last_ = now, self->asked_ = true;  // short calls need no clock
    if (now - self->last_ < std::chrono::milliseconds(25)) return false;
    self->last_ = now;
    if (PyThread_get_thread_ident() != main_thread) return false;
    PyEval_RestoreThread(self->state_);
    const bool arrived = PyErr_CheckSignals() != 0;
    self->state_ = PyEval_SaveThread();
    return arrived;
  }

 private:
  PyThreadState* state_;
  std::chrono::steady_clock::time_point last_;
  bool asked_ = false;
};

// Runs f(stop request) without the GIL; f returns false when a signal stopped it.
template <class F>
void run_interruptibly(const F& f) {
  bool finished = false;
  std::exception_ptr error;
  GilRelease gil;
  try {
    finished = f(core::StopRequest{&GilRelease::signal_arrived, &gil});
  } catch (...) {
    error = std::current_exception();
  }
  gil.take_back();
  if (error) std::rethrow_exception(error);
  if (!finished) throw py::error_already_set();
}
