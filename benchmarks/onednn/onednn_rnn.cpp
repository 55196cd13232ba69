// SPDX-License-Identifier: MIT
// One recurrent layer of oneDNN behind four C functions, for python/bptt/bench/peers/onednn.py.
//
// Weights and their gradients have PyTorch's layout, [gate][output][input]. oneDNN computes with a
// layout of its own choice: weights are reordered into it in each call, or once on request. oneDNN
// adds its gradients of weights and biases to the existing values.
#include <cstdint>
#include <cstring>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using dnnl::memory;
using Tag = memory::format_tag;
using Arguments = std::unordered_map<int, memory>;

// All arrays are C-contiguous and belong to the caller; from dy on, they are null for inference.
struct Problem {
  std::int64_t T, B, I, H;
  float *x, *w_ih, *w_hh, *bias;  // [T, B, I], [G, H, I], [G, H, H], [biases, H]
  float* y;                       // [T, B, H]
  float* dy;                      // [T, B, H]
  float *dx, *dw_ih, *dw_hh, *dbias, *dh0, *dc0;
};

// A copy from one layout to another.
struct Copy {
  memory from, to;
  dnnl::reorder reorder;
  Copy(const memory& a, const memory& b) : from(a), to(b), reorder(from, to) {}
};

struct Layer {
  virtual ~Layer() = default;
  virtual void run(float* const* state, float* const* final) = 0;
};

struct Rnn {
  using Forward = dnnl::vanilla_rnn_forward;
  using Backward = dnnl::vanilla_rnn_backward;
  static constexpr int gates = 1, biases = 1, states = 1;
  static auto options(dnnl::prop_kind pass) {
    return std::make_tuple(pass, dnnl::algorithm::eltwise_tanh,
                           dnnl::rnn_direction::unidirectional_left2right);
  }
};
struct Lstm {
  using Forward = dnnl::lstm_forward;
  using Backward = dnnl::lstm_backward;
  static constexpr int gates = 4, biases = 4, states = 2;
  static auto options(dnnl::prop_kind pass) {
    return std::make_tuple(pass, dnnl::rnn_direction::unidirectional_left2right);
  }
};
struct Gru {
  using Forward = dnnl::lbr_gru_forward;
  using Backward = dnnl::lbr_gru_backward;
  static constexpr int gates = 3, biases = 4, states = 1;
  static auto options(dnnl::prop_kind pass) {
    return std::make_tuple(pass, dnnl::rnn_direction::unidirectional_left2right);
  }
};

// Hides how versions 2 and 3 differ in describing a primitive.
template <class Primitive, class Arguments, class... Hint>
typename Primitive::primitive_desc describe(const dnnl::engine& engine, const Arguments& arguments,
                                            const Hint&... hint) {
  return std::apply(
      [&](const auto&... a) {
#if DNNL_VERSION_MAJOR >= 3
        return typename Primitive::primitive_desc(engine, a..., hint...);
#else
        return typename Primitive::primitive_desc(typename Primitive::desc(a...), engine, hint...);
#endif
      },
      arguments);
}

template <class Cell>
class LayerOf : public Layer {
 public:
  LayerOf(const Problem& problem, bool train, bool repack)
      : p_(problem), train_(train), repack_(repack) {
    const auto pass =
        train ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
    forward_desc_ = describe<typename Cell::Forward>(engine_, forward_arguments(pass));
    forward_ = typename Cell::Forward(forward_desc_);
    given_ = {{DNNL_ARG_SRC_LAYER, memory(sequence(p_.I), engine_, p_.x)},
              {DNNL_ARG_SRC_ITER, memory(state(), engine_, nullptr)},
              {DNNL_ARG_BIAS, memory(bias(), engine_, p_.bias)},
              {DNNL_ARG_DST_LAYER, memory(sequence(p_.H), engine_, p_.y)},
              {DNNL_ARG_DST_ITER, memory(state(), engine_, nullptr)}};
    if (Cell::states > 1) {
      given_.insert({DNNL_ARG_SRC_ITER_C, memory(state(), engine_, nullptr)});
      given_.insert({DNNL_ARG_DST_ITER_C, memory(state(), engine_, nullptr)});
    }
    if (train) given_.insert({DNNL_ARG_WORKSPACE, fresh(forward_desc_.workspace_desc())});
    forward_given_ = given_;
    add_weights(forward_given_, forward_desc_, forward_packs_);
    if (train) prepare_backward();
    copy(forward_packs_);
    stream_.wait();
  }

  void run(float* const* state, float* const* final) override {
    const int from[] = {DNNL_ARG_SRC_ITER, DNNL_ARG_SRC_ITER_C};
    const int to[] = {DNNL_ARG_DST_ITER, DNNL_ARG_DST_ITER_C};
    for (int q = 0; q < Cell::states; ++q) {
      given_.at(from[q]).set_data_handle(state[q]);
      given_.at(to[q]).set_data_handle(final[q]);
    }
    if (repack_) copy(forward_packs_);
    forward_.execute(stream_, forward_given_);
    if (train_) run_backward();
    stream_.wait();
  }

 private:
  memory::desc described(memory::dims dims, Tag tag) const {
    return memory::desc(dims, memory::data_type::f32, tag);
  }
  memory::desc sequence(std::int64_t width) const {
    return described({p_.T, p_.B, width}, Tag::tnc);
  }
  memory::desc state() const { return described({1, 1, p_.B, p_.H}, Tag::ldnc); }
  memory::desc bias() const { return described({1, 1, Cell::biases, p_.H}, Tag::ldgo); }
  memory::desc weights(std::int64_t inputs, Tag tag) const {
    return described({1, 1, inputs, Cell::gates, p_.H}, tag);
  }
  memory fresh(const memory::desc& desc) const {
    memory m(desc, engine_);
    std::memset(m.get_data_handle(), 0, desc.get_size());
    return m;
  }

  // The descriptors for forward and backward: x, states, weights, bias, y, final states.
  auto arrays() const {
    const auto w_ih = weights(p_.I, Tag::any), w_hh = weights(p_.H, Tag::any);
    if constexpr (Cell::states > 1)
      return std::make_tuple(sequence(p_.I), state(), state(), w_ih, w_hh, bias(), sequence(p_.H),
                             state(), state());
    else
      return std::make_tuple(sequence(p_.I), state(), w_ih, w_hh, bias(), sequence(p_.H), state());
  }
  auto forward_arguments(dnnl::prop_kind pass) const {
    return std::tuple_cat(Cell::options(pass), arrays());
  }

  memory user(std::int64_t inputs, float* data) const {
    return memory(weights(inputs, Tag::ldgoi), engine_, data);
  }
  template <class Desc>
  void add_weights(Arguments& arguments, const Desc& desc, std::vector<Copy>& packs) {
    const memory w_ih(desc.weights_layer_desc(), engine_), w_hh(desc.weights_iter_desc(), engine_);
    arguments.insert({{DNNL_ARG_WEIGHTS_LAYER, w_ih}, {DNNL_ARG_WEIGHTS_ITER, w_hh}});
    packs = {Copy(user(p_.I, p_.w_ih), w_ih), Copy(user(p_.H, p_.w_hh), w_hh)};
  }
  void copy(std::vector<Copy>& copies) {
    for (Copy& c : copies) c.reorder.execute(stream_, c.from, c.to);
  }

  void prepare_backward() {
    const auto desc = describe<typename Cell::Backward>(
        engine_, std::tuple_cat(Cell::options(dnnl::prop_kind::backward), arrays(), arrays()),
        forward_desc_);
    backward_ = typename Cell::Backward(desc);
    backward_given_ = given_;
    add_weights(backward_given_, desc, backward_packs_);
    const Arguments gradients = {
        {DNNL_ARG_DIFF_SRC_LAYER, memory(sequence(p_.I), engine_, p_.dx)},
        {DNNL_ARG_DIFF_SRC_ITER, memory(state(), engine_, p_.dh0)},
        {DNNL_ARG_DIFF_WEIGHTS_LAYER, fresh(desc.diff_weights_layer_desc())},
        {DNNL_ARG_DIFF_WEIGHTS_ITER, fresh(desc.diff_weights_iter_desc())},
        {DNNL_ARG_DIFF_BIAS, memory(bias(), engine_, p_.dbias)},
        {DNNL_ARG_DIFF_DST_LAYER, memory(sequence(p_.H), engine_, p_.dy)},
        {DNNL_ARG_DIFF_DST_ITER, fresh(state())}};
    backward_given_.insert(gradients.begin(), gradients.end());
    if (Cell::states > 1) {
      backward_given_.insert({DNNL_ARG_DIFF_SRC_ITER_C, memory(state(), engine_, p_.dc0)});
      backward_given_.insert({DNNL_ARG_DIFF_DST_ITER_C, fresh(state())});
    }
    const memory& dw_ih = gradients.at(DNNL_ARG_DIFF_WEIGHTS_LAYER);
    const memory& dw_hh = gradients.at(DNNL_ARG_DIFF_WEIGHTS_ITER);
    sums_ = {dw_ih, dw_hh, gradients.at(DNNL_ARG_DIFF_BIAS)};
    unpacks_ = {Copy(dw_ih, user(p_.I, p_.dw_ih)), Copy(dw_hh, user(p_.H, p_.dw_hh))};
  }

  void run_backward() {
    copy(backward_packs_);
    for (memory& sum : sums_) std::memset(sum.get_data_handle(), 0, sum.get_desc().get_size());
    backward_.execute(stream_, backward_given_);
    copy(unpacks_);
  }

  Problem p_;
  bool train_, repack_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  typename Cell::Forward::primitive_desc forward_desc_;
  typename Cell::Forward forward_;
  typename Cell::Backward backward_;
  Arguments given_, forward_given_, backward_given_;  // copies of a memory share its data
  std::vector<Copy> forward_packs_, backward_packs_, unpacks_;
  std::vector<memory> sums_;
};

std::string last_error;

}  // namespace

EXPORT const char* bptt_onednn_version() {
  static const std::string text = [] {
    const dnnl::version_t& v = *dnnl::version();
    return std::to_string(v.major) + "." + std::to_string(v.minor) + "." + std::to_string(v.patch);
  }();
  return text.c_str();
}

EXPORT const char* bptt_onednn_error() { return last_error.c_str(); }

// Returns null on failure.
EXPORT void* bptt_onednn_load(const char* cell, bool train, bool repack, const Problem* problem) {
  try {
    if (!std::strcmp(cell, "rnn")) return new LayerOf<Rnn>(*problem, train, repack);
    if (!std::strcmp(cell, "lstm")) return new LayerOf<Lstm>(*problem, train, repack);
    return new LayerOf<Gru>(*problem, train, repack);
  } catch (const std::exception& error) {
    last_error = error.what();
    return nullptr;
  }
}

// Returns false on failure. `state` and `final` are [B, H] each, for h and, with LSTM, c.
EXPORT bool bptt_onednn_run(void* layer, float* const* state, float* const* final) {
  try {
    static_cast<Layer*>(layer)->run(state, final);
    return true;
  } catch (const std::exception& error) {
    last_error = error.what();
    return false;
  }
}

EXPORT void bptt_onednn_free(void* layer) { delete static_cast<Layer*>(layer); }
