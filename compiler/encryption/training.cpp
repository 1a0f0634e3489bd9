// Forward and backward run of one layer of SLAYER's CUBA neurons on binary spikes.
//
// Arithmetic: lava-dl 0.6.0, slayer/neuron/dynamics/leaky_integrator.py and spike/spike.py, with
// the wrap of u and the clip of v at 24 bits that the chip adds. Frames are channels last; arrays
// over time are (sample, step, height, width, channel). Sums of weights and gradients of weights
// visit the spikes alone. Samples are shared out to threads; sums over samples are made in parts
// whose number does not depend on the threads, so that results do not either.

#include <atomic>
#include <new>
#include <optional>

#include "gradients.hpp"

// What a backward run is given, and what it fills; arrays over time as above, null where marked.
struct Backprop {
    int64_t parts, next_neurons;
    const uint8_t* input;
    const float* trace;
    const float* of_counts;      // (sample, neuron)
    const float* of_spikes;      // over time, or null
    const float* of_next_drive;  // over time, of the convolution behind; null with it
    float* of_drive;             // over time; null where nobody needs it
    float* of_weight;            // (part, ...) as `weight` of the forward run; null for none
    float* of_bias;              // (part, neuron)
};

namespace {

constexpr int32_t LIMIT = 1 << 23, TOP = LIMIT - 1, ONE = 4096;
constexpr int32_t HALF_MANTISSA = 128;  // a weight's unit here, in the state's: 2 * 64

inline int32_t decayed(int32_t state, int32_t keep) {
    const int32_t size = state < 0 ? -state : state;
    const int32_t kept = (size >> 12) * keep + (((size & (ONE - 1)) * keep) >> 12);
    return state < 0 ? -kept : kept;
}

// One step of a layer's neurons. LEAKY: u or v decay otherwise than integrate-and-fire; TRACE: v
// before reset is kept.
template <bool LEAKY, bool TRACE, class A>
void fire(const A* __restrict sum, const int32_t* __restrict bias, const Neuron& neuron,
          int32_t* __restrict u, int32_t* __restrict v, uint8_t* __restrict spikes,
          float* __restrict trace, float* __restrict counts, int neurons) {
    const int32_t keep_u = neuron.keep_current, keep_v = neuron.keep_voltage;
    const int32_t threshold = neuron.threshold;
    for (int i = 0; i < neurons; ++i) {
        int32_t current = static_cast<int32_t>(sum[i]) * HALF_MANTISSA;
        if (LEAKY) current += decayed(u[i], keep_u);
        if (current > LIMIT) current -= 2 * LIMIT;
        else if (current <= -LIMIT) current += 2 * LIMIT;
        int32_t voltage = (LEAKY ? decayed(v[i], keep_v) : v[i]) + current + bias[i];
        voltage = voltage > TOP ? TOP : voltage < -TOP ? -TOP : voltage;
        if (TRACE) trace[i] = static_cast<float>(voltage) * (1.0f / ONE);
        const int32_t fired = voltage > threshold;
        spikes[i] = static_cast<uint8_t>(fired);
        counts[i] += static_cast<float>(fired);
        if (LEAKY) u[i] = current;
        v[i] = fired ? 0 : voltage;
    }
}

// A loop on `threads` threads, each with a worker of its own; false where memory ran out.
template <class MakeWorker> bool in_parallel(int count, int threads, const MakeWorker& make) {
    std::atomic<int> next{0};
    std::atomic<bool> enough{true};
#pragma omp parallel num_threads(threads)
    {
        try {
            auto work = make();
            for (int i = next++; i < count; i = next++) work(i);
        } catch (const std::bad_alloc&) {
            enough = false;
        }
    }
    return enough;
}

template <class A> struct Forward {
    const Layer& s;
    const Neuron& neuron;
    const uint8_t* input;
    const A* weight;
    const int32_t* bias;
    uint8_t* spikes;
    float *trace, *counts;
    int inputs, neurons, frames;
    SortedSpikes sorted;
    std::vector<A> sums;
    std::vector<int32_t> u, v;

    Forward(const Layer& s, const Neuron& neuron, const Targets& targets, const uint8_t* input,
            const A* weight, const int32_t* bias, uint8_t* spikes, float* trace, float* counts)
        : s(s), neuron(neuron), input(input), weight(weight), bias(bias), spikes(spikes),
          trace(trace), counts(counts), inputs(s.in_height * s.in_width * s.in_channels),
          neurons(s.height * s.width * s.channels), frames(frames_at_once(s, sizeof(A))),
          sorted(s, targets, frames), sums(static_cast<size_t>(neurons) * frames), u(neurons),
          v(neurons) {}

    void operator()(int sample) {
        const bool leaky = neuron.keep_current != 0 || neuron.keep_voltage != ONE;
        const auto step = trace ? (leaky ? fire<true, true, A> : fire<false, true, A>)
                                : (leaky ? fire<true, false, A> : fire<false, false, A>);
        float* const count = counts + static_cast<size_t>(sample) * neurons;
        std::fill(u.begin(), u.end(), 0);
        std::fill(v.begin(), v.end(), 0);
        std::fill(count, count + neurons, 0.0f);
        for (int t = 0; t < s.steps; ++t) {
            const size_t frame = static_cast<size_t>(sample) * s.steps + t, at = frame * neurons;
            if (t % frames == 0) sum_chunk(input + frame * inputs, std::min(frames, s.steps - t));
            step(sums.data() + static_cast<size_t>(t % frames) * neurons, bias, neuron, u.data(),
                 v.data(), spikes + at, trace ? trace + at : nullptr, count, neurons);
        }
    }

    void sum_chunk(const uint8_t* frame, int count) {
        std::fill(sums.begin(), sums.end(), A(0));
        sorted.sort(frame, count);
        sum_weights(sorted, s.channels / s.groups, weight, sums.data());
    }
};

template <class A>
int run_forward(const Layer& s, const Neuron& neuron, const uint8_t* input, const A* weight,
                const int32_t* bias, uint8_t* spikes, float* trace, float* counts, int threads) {
    const Targets targets(s);
    return in_parallel(s.samples, threads, [&] {
        return Forward<A>(s, neuron, targets, input, weight, bias, spikes, trace, counts);
    }) ? 0 : 1;
}

struct Backward {
    const Layer& s;
    const Neuron& neuron;
    const InputGradient* following;
    const Backprop& given;
    int neurons, inputs, frames;
    size_t weights;
    SortedSpikes sorted;
    std::vector<float> of_u, of_v, scratch;

    Backward(const Layer& s, const Neuron& neuron, const Targets& targets,
             const InputGradient* following, const Backprop& given)
        : s(s), neuron(neuron), following(following), given(given),
          neurons(s.height * s.width * s.channels),
          inputs(s.in_height * s.in_width * s.in_channels),
          frames(frames_at_once(s, sizeof(float))),
          weights(static_cast<size_t>(s.kernel_height) * s.kernel_width * s.in_channels
                  * (s.channels / s.groups)),
          sorted(s, targets, frames), of_u(neurons), of_v(neurons),
          scratch(given.of_drive ? 0 : static_cast<size_t>(neurons) * frames) {}

    void operator()(int part) {
        float* const of_weight = given.of_weight ? given.of_weight + part * weights : nullptr;
        float* const of_bias = given.of_bias + static_cast<size_t>(part) * neurons;
        if (of_weight) std::fill(of_weight, of_weight + weights, 0.0f);
        std::fill(of_bias, of_bias + neurons, 0.0f);
        const int64_t samples = s.samples, begin = part * samples / given.parts;
        for (int64_t n = begin; n < (part + 1) * samples / given.parts; ++n) {
            std::fill(of_u.begin(), of_u.end(), 0.0f);
            std::fill(of_v.begin(), of_v.end(), 0.0f);
            for (int end = s.steps; end > 0; end -= frames)
                chunk(n, std::max(0, end - frames), end, of_weight, of_bias);
        }
    }

    void chunk(int64_t sample, int from, int to, float* of_weight, float* of_bias) {
        const size_t frame = static_cast<size_t>(sample) * s.steps + from;
        float* const drive = given.of_drive ? given.of_drive + frame * neurons : scratch.data();
        for (int t = to - from - 1; t >= 0; --t)
            step(sample, frame + t, drive + static_cast<size_t>(t) * neurons, of_bias);
        if (!of_weight) return;
        sorted.sort(given.input + frame * inputs, to - from);
        add_weight_gradient(sorted, s.channels / s.groups, drive, of_weight);
    }

    void step(int64_t sample, size_t frame, float* drive, float* of_bias) {
        if (following)
            (*following)(given.of_next_drive + frame * given.next_neurons, drive);
        else
            std::fill(drive, drive + neurons, 0.0f);
        if (given.of_spikes) add_row(drive, given.of_spikes + frame * neurons, neurons);
        const auto back = neuron.linear ? fire_back<piecewise_linear> : fire_back<exponential>;
        back(neuron, given.trace + frame * neurons, given.of_counts + sample * neurons,
             of_u.data(), of_v.data(), of_bias, drive, neurons);
    }
};

// Gradient of a dense layer's weights, (input, output), for the inputs of one block.
struct DenseWeights {
    static constexpr int BLOCK = 64;
    const Layer& s;
    const uint8_t* input;
    const float* of_drive;
    float* of_weight;
    int inputs;
    int32_t list[BLOCK + 8];

    void operator()(int block) {
        const int begin = block * BLOCK, count = std::min(BLOCK, inputs - begin);
        std::fill(of_weight + static_cast<size_t>(begin) * s.channels,
                  of_weight + static_cast<size_t>(begin + count) * s.channels, 0.0f);
        const size_t frames = static_cast<size_t>(s.samples) * s.steps;
        for (size_t f = 0; f < frames; ++f) {
            const int spikes = find_spikes(input + f * inputs + begin, count, list);
            for (int e = 0; e < spikes; ++e)
                add_row(of_weight + static_cast<size_t>(begin + list[e]) * s.channels,
                        of_drive + f * s.channels, s.channels);
        }
    }
};
}  // namespace

extern "C" {

// Spikes and their counts (sample, neuron), and v before reset in `trace` unless that is null.
// weight: (kernel row, kernel column, input channel, channel of the group) in half mantissas,
// whose sums fit the type; bias: a neuron, on the state's scale. Returns 1 where memory ran out.
int forward16(const Layer* layer, const Neuron* neuron, const uint8_t* input, const int16_t* weight,
              const int32_t* bias, uint8_t* spikes, float* trace, float* counts, int threads) {
    return run_forward(*layer, *neuron, input, weight, bias, spikes, trace, counts, threads);
}

int forward32(const Layer* layer, const Neuron* neuron, const uint8_t* input, const int32_t* weight,
              const int32_t* bias, uint8_t* spikes, float* trace, float* counts, int threads) {
    return run_forward(*layer, *neuron, input, weight, bias, spikes, trace, counts, threads);
}

// Gradients of a layer. `next`: null, or the convolution behind it, with its weight (kernel row,
// kernel column, output channel, input channel). Returns 1 where memory ran out.
int backward(const Layer* layer, const Neuron* neuron, const Backprop* given, const Layer* next,
             const float* next_weight, int threads) {
    const Targets targets(*layer);
    std::optional<InputGradient> following;
    if (next) following.emplace(*next, next_weight);
    return in_parallel(static_cast<int>(given->parts), threads, [&] {
        return Backward(*layer, *neuron, targets, following ? &*following : nullptr, *given);
    }) ? 0 : 1;
}

// Gradient of a dense layer's weight (input, output) from that of its drive.
int dense_weights(const Layer* layer, const uint8_t* input, const float* of_drive, float* of_weight,
                  int threads) {
    const int inputs = layer->in_height * layer->in_width * layer->in_channels;
    const int blocks = (inputs + DenseWeights::BLOCK - 1) / DenseWeights::BLOCK;
    return in_parallel(blocks, threads, [&] {
        return DenseWeights{*layer, input, of_drive, of_weight, inputs, {}};
    }) ? 0 : 1;
}
}
