// SPDX-License-Identifier: MIT
// Prepared inference: layers, one above the other and in one or both directions, that keep their
// packed weights.
#pragma once
#include "core/prepared.hpp"
#include "gil.hpp"
#include "streams.hpp"
#include "targets/select.hpp"

// Prepared layers of any number type. Immutable: calls may run in several threads at once.
struct AnyPrepared {
  virtual ~AnyPrepared() = default;
  // x: (T, B, I); state: None, an array (rows, B, width) or, of several states, a tuple of them,
  // where each cell has as many rows as its dilation; lengths: None or (B,); resets: None, or a
  // tuple of (T, B) for either direction; out: None, or an array for y apart from all others.
  // Returns (y, final state), or None where an argument is not as the core needs it.
  virtual py::object call(py::handle x, py::handle state, py::handle lengths, py::handle resets,
                          py::handle out) const = 0;
  std::size_t bytes = 0;
  std::string isa = core::active_isa();
};

template <class T>
class PreparedOf : public AnyPrepared {
 public:
  // cells: of each layer one for each direction; residual: for each layer, is its input added to
  // its output?
  PreparedOf(std::vector<core::Prepared<T>> cells, std::vector<bool> residual)
      : cells_(std::move(cells)),
        residual_(std::move(residual)),
        directions_(cells_.size() / residual_.size()) {
    for (const core::Prepared<T>& cell : cells_) {
      bytes += cell.bytes();
      first_row_.push_back(rows_);
      rows_ += cell.spec().dilation;
    }
  }

  py::object call(py::handle x, py::handle state, py::handle lengths, py::handle resets,
                  py::handle out) const override {
    Call c;
    if (!read(x, state, lengths, resets, c)) return py::none();
    py::object y = given_or_new<T, 3>(out, {c.steps, c.B, width(0) * directions()});
    if (!y) return py::none();
    std::array<py::object, max_states> finals;
    for (int q = 0; q < states(); ++q) {
      auto s = make<T, 3>({rows_, c.B, width(q)});
      c.state_n[q] = s.mutable_data();
      finals[static_cast<std::size_t>(q)] = std::move(s);
    }
    run_interruptibly([&](core::StopRequest stop) { return run(c, data_of<T>(y), stop); });
    if (states() == 1) return py::make_tuple(std::move(y), std::move(finals[0]));
    py::tuple last(static_cast<std::size_t>(states()));
    for (std::size_t q = 0; q < last.size(); ++q) last[q] = std::move(finals[q]);
    return py::make_tuple(std::move(y), std::move(last));
  }

 private:
  struct Call {
    py::ssize_t steps, B;
    const T* x;
    const T* state[max_states] = {};  // null: zeros
    py::ssize_t initial_B = 0;        // rows of each cell's state: B, or B + 1, see core::Inputs
    T* state_n[max_states] = {};
    core::Tensor<const std::int64_t> lengths;
    core::Tensor<const std::uint8_t> resets[2];
  };

  int states() const { return cells_[0].cell().states; }
  py::ssize_t directions() const { return static_cast<py::ssize_t>(directions_); }
  py::ssize_t width(int q) const {
    const core::Inputs<T>& in = cells_[0].inputs();
    return q && in.w_hr ? in.w_hr.shape[1] : in.w_hh.shape[1] / cells_[0].cell().operands;
  }

  bool read(py::handle x, py::handle state, py::handle lengths, py::handle resets, Call& c) const {
    if (!usable<T>(x)) return false;
    const core::Tensor<const T> in = view<T>(x);
    if (in.ndim != 3 || in.shape[2] != cells_[0].inputs().w_ih.shape[1]) return false;
    c.x = in.data, c.steps = in.shape[0], c.B = in.shape[1];
    if (!lengths.is_none()) {
      if (!usable<std::int64_t>(lengths)) return false;
      c.lengths = view<std::int64_t>(lengths);
      if (c.lengths.ndim != 1 || c.lengths.shape[0] != c.B) return false;
      for (py::ssize_t b = 0; b < c.B; ++b)
        if (c.lengths.data[b] < 0 || c.lengths.data[b] > c.steps) return false;
    }
    for (std::size_t d = 0; d < directions_ && !resets.is_none(); ++d) {
      const py::handle mask = PyTuple_GET_ITEM(resets.ptr(), static_cast<Py_ssize_t>(d));
      if (!usable<bool>(mask)) return false;
      c.resets[d] = view<std::uint8_t>(mask);
    }
    if (state.is_none()) return true;
    if (states() == 1) return read_state(state, c, 0);
    if (!PyTuple_Check(state.ptr()) || PyTuple_GET_SIZE(state.ptr()) != states()) return false;
    for (int q = 0; q < states(); ++q)
      if (!read_state(PyTuple_GET_ITEM(state.ptr(), q), c, q)) return false;
    return true;
  }
  bool read_state(py::handle state, Call& c, int q) const {
    if (!usable<T>(state)) return false;
    const core::Tensor<const T> s = view<T>(state);
    c.state[q] = s.data;
    const py::ssize_t B = s.ndim == 3 ? s.shape[1] : 0;
    if (!c.initial_B) c.initial_B = B;
    return s.ndim == 3 && s.shape[0] == rows_ && B == c.initial_B &&
           (B == c.B || (c.resets[0] && B == c.B + 1)) && s.shape[2] == width(q);
  }

  // False: stopped.
  bool run(const Call& c, T* y, core::StopRequest stop) const {
    const std::size_t layers = residual_.size();
    const auto bytes_of_h = static_cast<std::size_t>(c.steps * c.B * width(0)) * sizeof(T);
    const Buffer below(layers > 1 ? 2 * directions_ * bytes_of_h : 0),
        halves(directions_ > 1 ? 2 * bytes_of_h : 0);
    const py::ssize_t n = c.steps * c.B * width(0);
    const T* x = c.x;
    for (std::size_t k = 0; k < layers; ++k) {
      T* out = k + 1 == layers ? y : static_cast<T*>(below.get()) + (k % 2 ? n * directions() : 0);
      T* half = directions_ == 1 ? out : static_cast<T*>(halves.get());
      for (std::size_t d = 0; d < directions_; ++d)
        if (!run_cell(c, k * directions_ + d, x, half + static_cast<py::ssize_t>(d) * n, stop))
          return false;
      if (directions_ > 1) join(half, c.steps * c.B, out);
      if (residual_[k]) add(x, c, out);
      x = out;
    }
    return true;
  }

  bool run_cell(const Call& c, std::size_t k, const T* x, T* y, core::StopRequest stop) const {
    const core::Prepared<T>& cell = cells_[k];
    const py::ssize_t dilation = cell.spec().dilation;
    core::Inputs<T> in = cell.inputs();
    core::Outputs<T> out{};
    in.x = {x, {c.steps, c.B, in.w_ih.shape[1]}};
    in.lengths = c.lengths, in.resets = c.resets[k % directions_];
    out.y = y;
    for (int q = 0; q < states(); ++q) {
      const py::ssize_t H = width(q), row = first_row_[k] * H;
      out.state[q] = c.state_n[q] + row * c.B;
      if (!c.state[q]) continue;
      const T* initial = c.state[q] + row * c.initial_B;
      in.state[q] = {initial, {dilation, c.initial_B, H}};
      if (dilation == 1) in.state[q] = {initial, {c.initial_B, H}};
    }
    const core::Plan<T> plan(cell, in);
    const Buffer scratch(plan.forward_scratch_bytes());
    return plan.forward(in, out, nullptr, scratch.get(), stop);
  }

  // h of both directions, [2][rows][width], as [rows][2 * width].
  void join(const T* halves, py::ssize_t rows, T* out) const {
    const py::ssize_t H = width(0);
    for (py::ssize_t r = 0; r < rows; ++r)
      for (py::ssize_t d = 0; d < 2; ++d) out = std::copy_n(halves + (d * rows + r) * H, H, out);
  }

  // Adds the input of a layer to its output, but not beyond the lengths.
  void add(const T* x, const Call& c, T* y) const {
    const py::ssize_t wide = width(0) * directions();
    for (py::ssize_t t = 0; t < c.steps; ++t)
      for (py::ssize_t b = 0; b < c.B; ++b, x += wide, y += wide)
        for (py::ssize_t i = 0; (!c.lengths || t < c.lengths.data[b]) && i < wide; ++i)
          y[i] += x[i];
  }

  std::vector<core::Prepared<T>> cells_;
  std::vector<bool> residual_;
  std::size_t directions_;
  std::vector<py::ssize_t> first_row_;  // of each cell in the arrays of the states
  py::ssize_t rows_ = 0;
};

// Prepared layers of type T, or null if the arrays are of another type.
template <class T>
std::unique_ptr<AnyPrepared> prepared_of(const std::vector<GivenLayer>& given,
                                         const std::vector<bool>& residual, bool reverse) {
  std::vector<core::Prepared<T>> cells;
  for (std::size_t k = 0; k < given.size(); ++k) {
    if (!given[k].arrays.template all_usable<T>()) return nullptr;
    core::Spec spec = given[k].spec;
    spec.reverse = reverse || k % (given.size() / residual.size()) == 1;
    cells.emplace_back(spec, given[k].arrays.template inputs<T>());
  }
  return std::make_unique<PreparedOf<T>>(std::move(cells), residual);
}

// cells: of each layer one for each direction; reverse: with one direction, is it this one?
inline py::object make_prepared(const std::string& caller, const std::string& cell,
                                const std::vector<LayerArguments>& cells,
                                const std::vector<bool>& residual, bool reverse) {
  std::vector<GivenLayer> given;
  for (const LayerArguments& one : cells) given.emplace_back(caller, cell, one);
  if (auto all = prepared_of<float>(given, residual, reverse)) return owned(std::move(all));
  if (auto all = prepared_of<double>(given, residual, reverse)) return owned(std::move(all));
  throw py::type_error(caller + ": weights are no C-contiguous arrays of one type");
}

inline void bind_prepared(py::module_& m) {
  py::class_<AnyPrepared>(m, "Prepared")
      .def("__call__", &AnyPrepared::call)
      .def_readonly("nbytes", &AnyPrepared::bytes)
      .def_readonly("isa", &AnyPrepared::isa);
  m.def("prepare", &make_prepared);
}
