// SPDX-License-Identifier: MIT
// The gates and states of a forward pass, by name, from its tape.

// Value `which` of Cell::names, of all rows: [R, H]. The tape holds all steps in one segment.
template <class P>
void read(const BackwardCall<typename P::T>& call, int which, typename P::T* out) {
  using T = typename P::T;
  using Cell = typename P::Cell;
  constexpr Index L = lanes<T>;
  const Dims& d = call.dims;
  const Rows& rows = call.rows;
  const Index blocks = blocks_of<T>(d.H);
  const Tape<P> tape(const_cast<void*>(call.tape), d, rows);
  States<T, Cell> states{rows, d.T, d.B, blocks * L, {}, {}, {}, true, 0, 0, 0};
  for (int q = 1; q < Cell::states; ++q)
    states.initial[q] = tape.state0[q], states.steps[q] = tape.last.states[q];
  if (rows.segments) states.enter(0);
  for (Index t = 0; t < d.T; ++t) {
    const StepRows step(rows, d.T, t);
    const Index first = rows.first[t];
    for (Index j = 0; j < blocks; ++j)
      for (Index row = 0; row < step.count; ++row) {
        Vec<T> p[Cell::params + 1], k[Cell::saved + 1], s0[max_states]{},
            v[Cell::values + Cell::states]{};
        for (int i = 0; i < Cell::params; ++i)
          p[i] = load(tape.params + (j * Cell::params + i) * L);
        for (int i = 0; i < Cell::saved; ++i)
          k[i] = load(tape.last.saved + (first * blocks + j * step.count + row) * Cell::saved * L +
                      i * L);
        for (int q = 1; q < Cell::states; ++q)
          s0[q] =
              load((row < step.continuing ? states.after(q, step.previous) : states.before_first(q))
                       .at(j, row));
        Cell::read(call.options, p, k, s0, v);
        for (int q = 1; q < Cell::states; ++q)
          v[Cell::values + q - 1] = load(states.after(q, t).at(j, row));
        store(out + (first + row) * d.H + j * L, v[which].v, used_lanes<T>(j, d.H));
      }
  }
}
