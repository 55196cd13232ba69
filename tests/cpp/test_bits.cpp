// SPDX-License-Identifier: MIT
// The same bits: alone or in a batch, in one call or step by step, on any number of threads, with
// and without checkpoints.
#include "core/stream.hpp"
#include "threads/count.hpp"
#include "cases.hpp"

namespace {

// Sequence b of an array: of axis 1 where it has steps, or else of the one before the last.
template <class T>
Array<T> sequence(const Array<T>& a, Index b, Index steps = -1) {
  const std::size_t n = a.shape.size();
  Array<T> one(n == 3 ? std::vector<Index>{steps < 0 ? a.shape[0] : steps, 1, a.shape[2]}
                      : std::vector<Index>{1, a.shape[1]});
  const Index width = a.shape[n - 1], B = a.shape[n - 2];
  for (std::size_t i = 0; i < one.data.size(); ++i)
    one.data[i] = a.at((Index(i) / width * B + b) * width + Index(i) % width);
  return one;
}

bool has_sequences(const std::string& name) {
  return name == "x" || name == "y" || name.compare(0, 5, "state") == 0 || name == "h_mask" ||
         name.compare(0, 7, "zoneout") == 0;
}

// Sequence b alone, without steps beyond its length.
template <class T>
Problem<T> alone(const Problem<T>& p, Index b) {
  const auto pick = [&](const std::string& name, const Array<T>& a) {
    if (!has_sequences(name)) return a;
    return a.shape[0] == p.n.T && a.shape.size() == 3 && name.compare(0, 5, "state") != 0
               ? sequence(a, b, p.length(b))
               : sequence(a, b);
  };
  Problem<T> one = p.template map<T>(pick);
  one.n.T = p.length(b), one.n.B = 1, one.lengths = {};
  if (!p.resets.data.empty()) {
    one.resets = Array<std::uint8_t>({one.n.T, 1});
    for (Index t = 0; t < one.n.T; ++t) one.resets.at(t) = p.resets.at(t * p.n.B + b);
  }
  return one;
}

template <class T>
void every_sequence_alone(const Case& c, Sizes n) {
  const check::Within here(text(c, n));
  const Problem<T> p = make_problem(c, n).template cast<T>();
  on_every_isa([&] {
    const Arrays<T> whole = everything(p);
    for (Index b = 0; b < p.n.B; ++b) {
      const Problem<T> one = alone(p, b);
      Arrays<T> want;
      for (const auto& [name, a] : whole) {
        const std::string argument = name.compare(0, 2, "d ") == 0 ? name.substr(2) : name;
        if (!has_sequences(argument)) continue;
        const bool states = argument.compare(0, 5, "state") == 0;
        want[name] = states ? sequence(a, b) : sequence(a, b, one.n.T);
      }
      check_same_bits(everything(one), want);
    }
    for (const char* name : {"y", "d x"}) {  // zero where a sequence has ended
      const Array<T>& a = whole.at(name);
      for (Index i = 0; i < Index(a.data.size()); ++i) {
        const Index row = i / a.shape[2];
        if (row / p.n.B >= p.length(row % p.n.B) && a.at(i) != 0) CHECK(a.at(i) == 0);
      }
    }
  });
}

template <class T>
void any_number_of_threads(const Case& c, Sizes n) {
  const check::Within here(text(c, n));
  Problem<T> p = make_problem(c, n).template cast<T>();
  on_every_isa([&] {
    p.spec.threads = 1;
    core::BackwardSpec how;
    how.threads = 1;
    const Arrays<T> want = everything(p, how);
    for (int threads : {2, 3}) {
      const check::Within count(std::to_string(threads) + " threads");
      p.spec.threads = how.threads = threads;
      check_same_bits(everything(p, how), want);
    }
  });
}

template <class T>
void step_by_step(const Case& c, Sizes n) {
  const check::Within here(text(c, n));
  const Problem<T> p = make_problem(c, n).template cast<T>();
  on_every_isa([&] {
    const Arrays<T> whole = Run<T>(p).results;
    for (Index steps : {1, 3, 40}) {
      core::Stream<T> stream(p.spec, p.inputs());
      Arrays<T> got;
      got["y"] = Array<T>({p.n.T, p.n.B, p.P});
      for (Index t = 0; t < p.n.T; t += steps) {
        const T* x = p.in.at("x").data.data() + t * p.n.B * p.n.I;
        T* y = got["y"].data.data() + t * p.n.B * p.P;
        CHECK(stream.process(x, std::min(steps, p.n.T - t), y));
      }
      for (int q = 0; q < p.states; ++q) {
        Array<T>& s = got["state" + std::to_string(q)] = Array<T>({p.n.B, stream.width(q)});
        std::copy_n(stream.state(q), s.data.size(), s.data.begin());
      }
      check_same_bits(got, whole);
    }
  });
}

bool can_stream(const Case& c) {
  return !c.lengths && !c.resets && !c.h_mask && !c.zoneout && !c.spec.reverse && !c.spec.skip &&
         c.spec.dilation == 1;
}

// The weights are packed with other arguments than those of the call, and gone before it.
template <class T>
void with_packed_weights(const Case& c, Sizes n) {
  const check::Within here(text(c, n));
  Problem<T> p = make_problem(c, n).template cast<T>();
  p.spec.train = false;
  on_every_isa([&] {
    const Arrays<T> want = Run<T>(p).results;
    Problem<T> gone = p;
    core::Inputs<T> given = gone.inputs();
    given.lengths = {}, given.resets = {};
    given.x.shape[0] = given.x.shape[1] = 0;
    for (core::Tensor<const T>& state : given.state) state = {};
    if (given.h_mask) given.h_mask.shape[0] = 0;
    for (core::Tensor<const T>& z : given.zoneout)
      if (z) z.shape[0] = z.shape[1] = 0;
    const core::Prepared<T> prepared(p.spec, given);
    CHECK(prepared.bytes() > 0 && prepared.weights());
    for (auto& [name, a] : gone.in) std::fill(a.data.begin(), a.data.end(), T(7));
    core::Inputs<T> in = prepared.inputs();
    const core::Inputs<T> call = p.inputs();
    in.x = call.x, in.lengths = call.lengths, in.resets = call.resets, in.h_mask = call.h_mask;
    std::copy_n(call.state, core::max_states, in.state);
    std::copy_n(call.zoneout, 2, in.zoneout);
    const core::Plan<T> plan(prepared, in);
    Arrays<T> got = want;
    core::Outputs<T> o{};
    for (auto& [name, a] : got) std::fill(a.data.begin(), a.data.end(), T(0));
    o.y = got["y"].data.data();
    for (int q = 0; q < p.states; ++q) o.state[q] = got["state" + std::to_string(q)].data.data();
    CHECK(plan.forward(in, o, nullptr, buffer(plan.forward_scratch_bytes()).get()));
    check_same_bits(got, want);
  });
}

bool stop_at_once(void* context) {
  ++*static_cast<int*>(context);
  return true;
}

}  // namespace

TEST(of_every_sequence_alone) {
  for (Case c : all_cases()) {
    if (c.spec.dilation > 1) continue;  // states of other shapes; see test_forward
    c.lengths = true;
    every_sequence_alone<float>(c, {7, 9, 5, 17});
    every_sequence_alone<double>(c, {5, 3, 1, 3});
  }
}

// Enough sequences for each rank to take a share, and few sequences with many units, of which each
// rank takes a share.
TEST(on_any_number_of_threads) {
  for (Case c : plain_cases())
    for (Sizes n : {Sizes{5, 3, 19, 437}, Sizes{6, 16, 19, 171}}) {
      const int gates = make_problem(c, {1, 1, 1, 1}).gates;
      n.H = static_cast<Index>(double(n.H) / std::sqrt(gates)) | 1;
      any_number_of_threads<float>(c, n);
      c.lengths = c.spec.reverse = true;
      any_number_of_threads<double>(c, n);
    }
}

TEST(step_by_step) {
  int streams = 0;
  for (const Case& c : all_cases())
    if (can_stream(c)) {
      ++streams;
      step_by_step<float>(c, {7, 3, 5, 17}), step_by_step<double>(c, {70, 1, 5, 3});
    }
  CHECK(streams > 20);
}

TEST(with_packed_weights) {
  for (const Case& c : all_cases()) {
    with_packed_weights<float>(c, {7, 3, 5, 17});
    with_packed_weights<double>(c, {3, 1, 5, 3});
  }
}

// In the least memory that the core accepts, as its error message for less says.
TEST(with_checkpoints) {
  int all = 0, smaller = 0;
  for (const Case& c : all_cases()) {
    const Sizes n = {400, 3, 3, 5};  // ten chunks of the backward loop
    const check::Within here(text(c, n));
    Problem<double> p = make_problem(c, n);
    on_every_isa([&] {
      const auto tape_bytes = [&] { return core::Plan<double>(p.spec, p.inputs()).tape_bytes(); };
      p.spec.checkpoint = core::Spec::off;
      const std::size_t whole = tape_bytes();
      const Arrays<double> want = everything(p);
      p.spec.checkpoint = core::Spec::bytes, p.spec.max_bytes = 0;
      const std::string said = check::refusal(tape_bytes),
                        start = "forward: checkpoint is 0, expected at least ";
      CHECK_EQUAL(said.substr(0, start.size()), start);
      if (said.size() <= start.size()) return;
      p.spec.max_bytes = std::stoul(said.substr(start.size()));
      ++all, smaller += tape_bytes() < whole;
      check_same_bits(everything(p), want);
    });
  }
  CHECK(all > 0 && smaller > all / 2);
}

TEST(without_a_tape) {
  for (const Case& c : all_cases()) {
    const check::Within here(c.id);
    Problem<float> p = make_problem(c, {7, 3, 5, 17}).cast<float>();
    on_every_isa([&] {
      p.spec.train = true;
      const Arrays<float> want = Run<float>(p).results;
      p.spec.train = false;
      const Run<float> run(p);
      CHECK(run.plan.tape_bytes() == 0);
      check_same_bits(run.results, want);
    });
  }
}

TEST(a_call_stops_on_request) {
  const Problem<float> p = make_problem(plain("lstm"), {100, 16, 64, 128}).cast<float>();
  on_every_isa([&] {
    int asked = 0;
    Run<float> run(p);
    core::Outputs<float> o{};
    o.y = run.results["y"].data.data();
    for (int q = 0; q < 2; ++q) o.state[q] = run.results["state" + std::to_string(q)].data.data();
    const Buffer scratch = buffer(run.plan.forward_scratch_bytes());
    CHECK(!run.plan.forward(p.inputs(), o, run.tape.get(), scratch.get(), {stop_at_once, &asked}));
    CHECK(asked > 0);
  });
}

int main() { return check::run_all(); }
