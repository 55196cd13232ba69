// SPDX-License-Identifier: MIT
// Bad arguments are refused before any work: std::invalid_argument, "caller: argument has X,
// expected Y".
#include "core/stream.hpp"
#include "threads/count.hpp"
#include "cases.hpp"

namespace {

// The error message for a valid problem after one change.
template <class F>
std::string refusal(const Case& c, const F& change) {
  Problem<double> p = make_problem(c, {5, 3, 2, 4});
  p.spec.caller = "here";
  change(p);
  return check::refusal([&] { core::Plan<double>(p.spec, p.inputs()); });
}
template <class F>
std::string of_lstm(const F& change) {
  return refusal(plain("lstm"), change);
}
auto reshaped(const char* name, std::vector<Index> shape) {
  return [=](Problem<double>& p) { p.in[name] = Array<double>(shape); };
}

}  // namespace

TEST(shapes) {
  const auto said = [](const char* name, std::vector<Index> shape) {
    return of_lstm(reshaped(name, std::move(shape)));
  };
  CHECK_EQUAL(said("x", {5, 6}), "here: x has shape (5, 6), expected (T, B, I), 3 dimensions");
  CHECK_EQUAL(said("x", {5, 3, 0}), "here: x has shape (5, 3, 0), expected I of 1 or more");
  CHECK_EQUAL(said("w_ih", {16, 3}), "here: w_ih has shape (16, 3), expected (4*H, I) = (16, 2)");
  CHECK_EQUAL(said("w_hh", {4, 16}), "here: w_hh has shape (4, 16), expected (4*H, H) = (64, 16)");
  CHECK_EQUAL(said("w_hh", {0, 0}), "here: w_hh has shape (0, 0), expected H of 1 or more");
  CHECK_EQUAL(said("b_ih", {4}), "here: b_ih has shape (4,), expected (4*H,) = (16,)");
  CHECK_EQUAL(said("b_hh", {16, 1}), "here: b_hh has shape (16, 1), expected (4*H,) = (16,)");
  CHECK_EQUAL(said("state0", {4, 3}), "here: state[0] has shape (4, 3), expected (B, H) = (3, 4)");
  CHECK_EQUAL(said("peepholes", {2, 4}),
              "here: peepholes has shape (2, 4), expected (3, H) = (3, 4)");
  CHECK_EQUAL(said("w_hr", {2, 4}), "here: w_hr has shape (2, 4), expected (P, H) = (4, 4)");
}

TEST(negative_sizes) {  // NumPy arrays have none
  const Problem<double> p = make_problem(plain("lstm"), {5, 3, 2, 4});
  const auto said = [&](int axis) {
    core::Inputs<double> in = p.inputs();
    in.x.shape[axis] = -1;
    return check::refusal([&] { core::Plan<double>(p.spec, in); });
  };
  CHECK(said(0).find("x has shape (-1, 3, 2), expected T, B of 0 or more") != std::string::npos);
  CHECK(said(1).find("x has shape (5, -1, 2), expected T, B of 0 or more") != std::string::npos);
}

TEST(lengths) {
  const auto said = [](std::vector<std::int64_t> lengths) {
    return of_lstm([&](Problem<double>& p) {
      p.lengths.shape = {Index(lengths.size())}, p.lengths.data = lengths;
    });
  };
  CHECK_EQUAL(said({1, 5, 0}), "");
  CHECK_EQUAL(said({1, 6, 0}), "here: lengths[1] is 6, expected 0..T = 0..5");
  CHECK_EQUAL(said({1, 2, -1}), "here: lengths[2] is -1, expected 0..T = 0..5");
  CHECK_EQUAL(said({1, 2}), "here: lengths has shape (2,), expected (B,) = (3,)");
}

TEST(options) {
  const auto said = [](const auto& change) {
    return of_lstm([&](Problem<double>& p) { change(p.spec); });
  };
  using core::Spec;
  CHECK_EQUAL(said([](Spec&) {}), "");
  CHECK_EQUAL(said([](Spec& s) { s.cell = "lstn"; }),
              "here: cell is 'lstn', expected one of rnn, lstm, gru, slstm, mgu, lstm1997");
  CHECK_EQUAL(said([](Spec& s) { s.activation = "tan"; }),
              "here: activation is 'tan', expected one of tanh, relu, leaky_relu, sigmoid, "
              "identity, hard_sigmoid, elu, softsign, softplus, thresholded_relu, scaled_tanh, "
              "affine");
  CHECK_EQUAL(said([](Spec& s) { s.activation = {"elu", {1, 2}}; }),
              "here: activation has 2 parameters, expected 1 of elu");
  CHECK_EQUAL(said([](Spec& s) { s.gate_activation = {"affine", {1, 1.0 / 0.0}}; }),
              "here: gate_activation has parameter inf, expected a finite number");
  CHECK_EQUAL(said([](Spec& s) { s.forget_gate = "both"; }),
              "here: forget_gate is 'both', expected one of own, coupled, none");
  CHECK_EQUAL(said([](Spec& s) { s.threads = -1; }),
              "here: threads is -1, expected 1..1024, or 0 for the default");
  CHECK_EQUAL(said([](Spec& s) { s.dilation = 0; }), "here: dilation is 0, expected 1 or more");
  CHECK_EQUAL(said([](Spec& s) { s.skip = -1; }), "here: skip is -1, expected 0 or more");
  CHECK_EQUAL(said([](Spec& s) { s.skip = 3, s.dilation = 2; }),
              "here: skip is 3, expected a multiple of dilation = 2");
  CHECK_EQUAL(said([](Spec& s) { s.leak = 2; }), "here: leak is 2.000000, expected 1 or less");
  CHECK_EQUAL(said([](Spec& s) { s.cell_clip = NAN; }),
              "here: cell_clip is nan, expected more than 0");
  CHECK_EQUAL(said([](Spec& s) { s.zoneout[1] = 1.5; }),
              "here: zoneout is 1.500000, expected 0..1");
  CHECK_EQUAL(said([](Spec& s) { s.bf16 = true; }).substr(0, 42),
              "here: bf16 is set, expected float32 and an");
}

TEST(buffers) {
  const Problem<double> p = make_problem(plain("gru"), {5, 3, 2, 4});
  const Run<double> run(p);
  const Buffer room = buffer(1 << 20);
  Array<double> y({5, 3, 4}), state({3, 4});
  core::Outputs<double> o{};
  o.y = y.data.data(), o.state[0] = state.data.data();
  const auto said = [&](void* tape, void* scratch) {
    return check::refusal([&] { run.plan.forward(p.inputs(), o, tape, scratch); });
  };
  char* const good = static_cast<char*>(room.get());
  const std::string tape = std::to_string(run.plan.tape_bytes()),
                    scratch = std::to_string(run.plan.forward_scratch_bytes());
  CHECK_EQUAL(said(nullptr, good), "forward: tape is null or not 64-byte aligned, expected " +
                                       tape + " bytes at a multiple of 64");
  CHECK_EQUAL(said(good, good + (1 << 19) + 8),
              "forward: scratch is null or not 64-byte aligned, expected " + scratch +
                  " bytes at a multiple of 64");
  CHECK_EQUAL(said(good, good + (1 << 19)), "");
}

TEST(of_backward) {
  const Problem<double> p = make_problem(plain("rnn"), {5, 3, 2, 4});
  const Run<double> run(p);
  const auto said = [&](const auto& change) {
    core::BackwardSpec how;
    Problem<double> other = p;
    change(how, other.out);
    const Run<double> again(other);
    return check::refusal([&] { again.gradients(how); });
  };
  using Spec = core::BackwardSpec;
  using Out = Arrays<double>;
  CHECK_EQUAL(said([](Spec&, Out&) {}), "");
  CHECK_EQUAL(said([](Spec&, Out& d) { d["y"] = Array<double>({5, 3, 5}); }),
              "backward: dy has shape (5, 3, 5), expected (T, B, H) = (5, 3, 4)");
  CHECK_EQUAL(said([](Spec& s, Out&) { s.cut = -1; }), "backward: cut is -1, expected 1 or more");
  CHECK_EQUAL(said([](Spec& s, Out&) { s.clip.kind = core::StepClip::norm; }),
              "backward: step_clip has bound 0.000000, expected more than 0");
  CHECK_EQUAL(said([](Spec& s, Out&) { s.clip.target = core::StepClip::c; }),
              "backward: step_clip has target 'c', expected 'h' or 'gates': the cell has no c");
}

TEST(of_packed_weights) {
  Problem<float> p = make_problem(plain("lstm"), {5, 3, 2, 4}).cast<float>();
  p.spec.caller = "here";
  const auto packing = [&] {
    return check::refusal([&] { core::Prepared<float>(p.spec, p.inputs()); });
  };
  CHECK_EQUAL(packing(), "here: train is set, expected inference");
  p.spec.train = false;
  CHECK_EQUAL(packing(), "");
  const core::Prepared<float> prepared(p.spec, p.inputs());
  core::Inputs<float> in = prepared.inputs();
  in.x = p.inputs().x;
  const auto calling = [&] { return check::refusal([&] { core::Plan<float>(prepared, in); }); };
  CHECK_EQUAL(calling(), "");
  in.h_mask = in.state[0] = p.inputs().state[0];
  CHECK_EQUAL(calling(),
              "here: h_mask or zoneout of each step is given, expected them when the weights were "
              "packed");
  in.h_mask = {}, in.x.shape[2] = 3;
  CHECK_EQUAL(calling(), "here: w_ih has shape (16, 2), expected (4*H, I) = (16, 3)");
  p.in["w_hh"] = Array<float>({16, 3});
  CHECK_EQUAL(packing(), "here: w_hh has shape (16, 3), expected (4*H, H) = (12, 3)");
}

TEST(of_weights_of_8_bits) {
  const auto said = of_lstm([](Problem<double>& p) { p.spec.int8 = true, p.spec.train = false; });
  CHECK_EQUAL(said, "here: int8 is set, expected float32 and inference");
  Problem<float> p = make_problem(plain("lstm"), {5, 3, 2, 4}).cast<float>();
  p.spec.caller = "here", p.spec.int8 = true;
  const auto planning = [&] {
    return check::refusal([&] { core::Plan<float>(p.spec, p.inputs()); });
  };
  CHECK_EQUAL(planning(), "here: int8 is set, expected float32 and inference");
  p.spec.train = false;
  CHECK_EQUAL(planning(), "");
  p.spec.cell_clip = 1;
  CHECK_EQUAL(planning(),
              "here: weights is int8, which lstm has no kernels for with these options");
}

TEST(of_streams) {
  Problem<double> p = make_problem(plain("gru"), {5, 3, 2, 4});
  p.spec.reverse = true;
  CHECK_EQUAL(check::refusal([&] { core::Stream<double>(p.spec, p.inputs()); }),
              "forward: lengths, resets, reverse or dilation are given, expected a stream without");
}

TEST(of_settings) {
  CHECK_EQUAL(check::refusal([] { core::set_threads(-1); }),
              "set_num_threads: threads is -1, expected 0..most = 0..1024");
  CHECK_EQUAL(check::refusal([] { core::set_isa("z80"); }).substr(0, 41),
              "isa is 'z80', expected one that runs here");
}

int main() { return check::run_all(); }
