// SPDX-License-Identifier: MIT
// From C++ objects to Python's.
#pragma once
#include <pybind11/pybind11.h>

#include <memory>
#include <utility>

namespace py = pybind11;

// The Python object that owns `given`, as py::cast(std::move(given)) makes it. But pybind11 3.1
// (and its py::init) does not check the allocation of the object, and frees `given` twice if there
// is no memory to register it. Here Python becomes the owner last.
template <class T>
py::object owned(std::unique_ptr<T> given) {
  const py::detail::type_info* type = py::detail::get_type_info(typeid(T));
  PyObject* memory = type->type->tp_alloc(type->type, 0);
  if (!memory) throw py::error_already_set();
  auto* instance = reinterpret_cast<py::detail::instance*>(memory);
  instance->allocate_layout();
  instance->owned = false;
  auto object = py::reinterpret_steal<py::object>(memory);
  py::detail::value_and_holder value = instance->get_value_and_holder();
  value.value_ptr() = given.get();
  py::detail::register_instance(instance, given.get(), type);
  value.set_instance_registered();
  new (std::addressof(value.holder<std::unique_ptr<T>>())) std::unique_ptr<T>(std::move(given));
  value.set_holder_constructed();
  instance->owned = true;
  return object;
}
