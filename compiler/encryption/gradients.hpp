// Gradients through a layer's neurons and through the convolution behind it.

#pragma once

#include "spikes.hpp"

struct Neuron {
    int32_t keep_current, keep_voltage, threshold;  // shares of 4096; on the state's scale
    float share_current, share_voltage, level, inverse_width, slope;  // of the surrogate
    int32_t linear;  // whether the surrogate is piecewise linear instead of exponential
};

namespace {

// exp(-x) of x >= 0 as 2^-k times a polynomial; relative error below 1e-7.
inline float decaying(float x) {
    float power = x * 1.44269504088896f;
    power = power < 126.0f ? power : 126.0f;
    const int32_t whole = static_cast<int32_t>(power + 0.5f);
    const float f = power - static_cast<float>(whole);
    const float series = 1.0f + f * (-0.693147180559945f + f * (0.240226506959101f
        + f * (-0.0555041086648216f + f * (0.00961812910762848f
        + f * (-0.00133335581464284f + f * 0.000154035303933816f)))));
    return series * __builtin_bit_cast(float, (127 - whole) << 23);
}

// Surrogates of a distance in widths from the threshold.
inline float exponential(float distance) { return decaying(distance); }
inline float piecewise_linear(float distance) { return distance < 1.0f ? 1.0f - distance : 0.0f; }

// One step back in time. In `drive`: the gradient of the spikes comes, that of the drive goes.
template <float SURROGATE(float)>
inline void fire_back(const Neuron& neuron, const float* __restrict trace,
                      const float* __restrict of_count, float* __restrict of_u,
                      float* __restrict of_v, float* __restrict of_bias, float* __restrict drive,
                      int neurons) {
    const float keep_u = neuron.share_current, keep_v = neuron.share_voltage;
    const float level = neuron.level, inverse = neuron.inverse_width, height = neuron.slope;
    for (int i = 0; i < neurons; ++i) {
        const float slope = height * SURROGATE(__builtin_fabsf(trace[i] - level) * inverse);
        of_v[i] = keep_v * of_v[i] + slope * (drive[i] + of_count[i]);
        of_u[i] = keep_u * of_u[i] + of_v[i];
        of_bias[i] += of_v[i];
        drive[i] = of_u[i];
    }
}

// Gradient of a convolution's input, frame by frame: every place of the input gathers from the
// outputs that it reached. Channels of the input are a multiple of 8, and in one group.
class InputGradient {
    typedef float Lane __attribute__((vector_size(32), aligned(4), may_alias));
    const Layer& s;
    const float* weight;  // (kernel row, kernel column, output channel, input channel)
    std::vector<std::vector<Tap>> rows, columns;
    std::vector<float> silence;

public:
    InputGradient(const Layer& s, const float* weight)
        : s(s), weight(weight), rows(row_taps(s)), columns(s.stride_x), silence(s.channels) {
        // of the first place of every phase; further ones are as many outputs further
        for (int phase = 0; phase < s.stride_x; ++phase)
            for (int k = 0; k < s.kernel_width; ++k) {
                const int place = phase + s.pad_x - k * s.dilation_x;
                if (place % s.stride_x == 0) columns[phase].push_back({k, place / s.stride_x});
            }
    }

    void operator()(const float* outputs, float* inputs) const {
        for (int y = 0; y < s.in_height; ++y)
            for (int phase = 0; phase < s.stride_x; ++phase) {
                const int places = (s.in_width - phase + s.stride_x - 1) / s.stride_x;
                const bool fives = (places + 4) / 5 * 5 <= (places + 3) / 4 * 4;
                fives ? row<5>(outputs, inputs, y, phase, places)
                      : row<4>(outputs, inputs, y, phase, places);
            }
    }

private:
    template <int PLACES>
    void row(const float* outputs, float* inputs, int y, int phase, int places) const {
        int c = 0;
        for (; c + 16 <= s.in_channels; c += 16)
            for (int j = 0; j < places; j += PLACES)
                gather<2, PLACES>(outputs, inputs, y, phase, j, c);
        for (; c < s.in_channels; c += 8)
            for (int j = 0; j < places; j += PLACES)
                gather<1, PLACES>(outputs, inputs, y, phase, j, c);
    }

    template <int LANES, int PLACES>
    void gather(const float* outputs, float* inputs, int y, int phase, int j, int c) const {
        Lane sum[PLACES][LANES] = {};
        for (const Tap row : rows[y])
            for (const Tap column : columns[phase]) {
                const float* from[PLACES];
                const float* line = outputs + row.output * s.width * s.channels;
                for (int i = 0; i < PLACES; ++i) {
                    const int x = column.output + j + i;
                    const bool inside = x >= 0 && x < s.width;
                    from[i] = inside ? line + x * s.channels : silence.data();
                }
                const size_t place = row.kernel * s.kernel_width + column.kernel;
                const float* first = weight + place * s.channels * s.in_channels + c;
                add_products<LANES, PLACES>(sum, from, first);
            }
        for (int i = 0; i < PLACES; ++i) {
            const int x = phase + (j + i) * s.stride_x;
            if (x >= s.in_width) break;
            float* const to = inputs + (y * s.in_width + x) * s.in_channels + c;
            for (int l = 0; l < LANES; ++l) *reinterpret_cast<Lane*>(to + 8 * l) = sum[i][l];
        }
    }

    template <int LANES, int PLACES>
    inline void add_products(Lane (&sum)[PLACES][LANES], const float* const (&from)[PLACES],
                             const float* row) const {
        const int channels = s.channels, step = s.in_channels;
        for (int o = 0; o < channels; ++o, row += step) {
            Lane factor[LANES];
            for (int l = 0; l < LANES; ++l) {
                factor[l] = *reinterpret_cast<const Lane*>(row + 8 * l);
#ifdef __AVX__
                asm("" : "+x"(factor[l]));  // in a register: loaded once, not for every place
#endif
            }
            for (int i = 0; i < PLACES; ++i)
                for (int l = 0; l < LANES; ++l) sum[i][l] += from[i][o] * factor[l];
        }
    }
};
}  // namespace
