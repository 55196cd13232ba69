// SPDX-License-Identifier: MIT
// From C++ exceptions to Python's.
#pragma once
#include <pybind11/pybind11.h>

#include <new>
#include <stdexcept>

namespace py = pybind11;

// Sets Python's exception for the one in flight.
inline void set_python_error() {
  try {
    throw;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_RuntimeError, error.what());
  }
}
