// A layer's geometry, its input spikes sorted by where they go, and sums over them.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

struct Layer {
    int32_t samples, steps, in_height, in_width, in_channels, height, width, channels;
    int32_t kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x;
    int32_t groups;
};

namespace {

struct Tap { int32_t kernel, output; };

// For every input coordinate, the kernel's places that carry it, and to which output.
inline std::vector<std::vector<Tap>> taps(int in, int out, int kernel, int stride, int pad,
                                          int dilation) {
    std::vector<std::vector<Tap>> found(in);
    for (int i = 0; i < in; ++i)
        for (int k = 0; k < kernel; ++k) {
            const int place = i + pad - k * dilation;
            if (place >= 0 && place % stride == 0 && place / stride < out)
                found[i].push_back({k, place / stride});
        }
    return found;
}

inline std::vector<std::vector<Tap>> row_taps(const Layer& s) {
    return taps(s.in_height, s.height, s.kernel_height, s.stride_y, s.pad_y, s.dilation_y);
}

inline std::vector<std::vector<Tap>> column_taps(const Layer& s) {
    return taps(s.in_width, s.width, s.kernel_width, s.stride_x, s.pad_x, s.dilation_x);
}

struct Reach { int32_t output, weight; };

// Where the spikes of an input place go: from a first output on, the same steps for all places of
// a class, which lie in the same phase of the stride and reach as far.
struct Targets {
    std::vector<int32_t> first, kind;
    std::vector<std::vector<Reach>> reach;
    uint64_t channel_reciprocal;

    explicit Targets(const Layer& s) {
        const auto rows = row_taps(s), columns = column_taps(s);
        std::map<std::vector<int32_t>, int32_t> kinds;
        for (const auto& row : rows)
            for (const auto& column : columns) {
                const std::vector<Reach> found = reached(s, row, column);
                first.push_back(found.empty() ? 0 : found[0].output);
                std::vector<int32_t> steps;
                for (const Reach& r : found) {
                    steps.push_back(r.output - first.back());
                    steps.push_back(r.weight);
                }
                const auto [at, is_new] = kinds.emplace(steps, static_cast<int32_t>(reach.size()));
                kind.push_back(at->second);
                if (!is_new) continue;
                reach.push_back(found);
                for (Reach& r : reach.back()) r.output -= first.back();
            }
        channel_reciprocal = ((1ull << 32) + s.in_channels - 1) / s.in_channels;
    }

    static std::vector<Reach> reached(const Layer& s, const std::vector<Tap>& row,
                                      const std::vector<Tap>& column) {
        const int per_place = s.in_channels * (s.channels / s.groups);
        std::vector<Reach> found;
        for (const Tap a : row)
            for (const Tap b : column)
                found.push_back({(a.output * s.width + b.output) * s.channels,
                                 (a.kernel * s.kernel_width + b.kernel) * per_place});
        return found;
    }
};

struct BitPlaces {
    int32_t at[256][8] = {};
    BitPlaces() {
        for (int byte = 0; byte < 256; ++byte)
            for (int bit = 0, k = 0; bit < 8; ++bit)
                if (byte >> bit & 1) at[byte][k++] = bit;
    }
};
const BitPlaces BIT_PLACES;

// The indices of the spikes among `count` bytes, into `list`, which needs room for 8 more.
inline int find_spikes(const uint8_t* spikes, int count, int32_t* list) {
    int i = 0, found = 0;
    for (; i + 8 <= count; i += 8) {
        uint64_t word;
        std::memcpy(&word, spikes + i, 8);
        const int byte = static_cast<int>((word * 0x0102040810204080ull) >> 56);
        const int32_t* places = BIT_PLACES.at[byte];
        for (int k = 0; k < 8; ++k) list[found + k] = places[k] + i;
        found += __builtin_popcount(byte);
    }
    for (; i < count; ++i) {
        list[found] = i;
        found += spikes[i];
    }
    return found;
}

template <class A> struct Vector {
    typedef A type __attribute__((vector_size(32), aligned(sizeof(A)), may_alias));
    static constexpr int size = 32 / sizeof(A);
};

template <class A>
inline void add_row(A* __restrict sum, const A* __restrict row, int count) {
    typedef typename Vector<A>::type V;
    int i = 0;
    for (; i + Vector<A>::size <= count; i += Vector<A>::size)
        *reinterpret_cast<V*>(sum + i) += *reinterpret_cast<const V*>(row + i);
    for (; i < count; ++i) sum[i] += row[i];
}

// The spikes of a few frames, those of one channel and one class of places next to each other.
class SortedSpikes {
    const Layer& s;
    const Targets& targets;
    int inputs, neurons;
    std::vector<int32_t> found, bucket, begin;

public:
    std::vector<int32_t> at;  // first output that a spike reaches, counted from the first frame

    SortedSpikes(const Layer& s, const Targets& targets, int frames)
        : s(s), targets(targets), inputs(s.in_height * s.in_width * s.in_channels),
          neurons(s.height * s.width * s.channels), found(static_cast<size_t>(inputs) * frames + 8),
          bucket(found.size()), begin(targets.reach.size() * s.in_channels + 1), at(found.size()) {}

    void sort(const uint8_t* frame, int frames) {
        std::fill(begin.begin(), begin.end(), 0);
        int total = 0;
        for (int f = 0; f < frames; ++f, frame += inputs) {
            const int count = find_spikes(frame, inputs, found.data() + total);
            for (int e = total; e < total + count; ++e) {
                const int place = static_cast<int>((found[e] * targets.channel_reciprocal) >> 32);
                const int channel = found[e] - place * s.in_channels;
                bucket[e] = targets.kind[place] * s.in_channels + channel;
                found[e] = f * neurons + targets.first[place];
                ++begin[bucket[e] + 1];
            }
            total += count;
        }
        for (size_t b = 1; b < begin.size(); ++b) begin[b] += begin[b - 1];
        for (int e = 0; e < total; ++e) at[begin[bucket[e]]++] = found[e];
    }

    // visit(first spike, last spike, offset of the outputs, offset of the weights) for each bucket
    // and each of its targets.
    template <class Visit> void each(const Visit& visit) const {
        const int group_inputs = s.in_channels / s.groups, group = s.channels / s.groups;
        int from = 0;  // sorting has moved every bucket's begin to its end
        for (size_t kind = 0; kind < targets.reach.size(); ++kind)
            for (int c = 0; c < s.in_channels; ++c) {
                const int to = begin[kind * s.in_channels + c];
                if (to > from)
                    for (const Reach& r : targets.reach[kind])
                        visit(from, to, r.output + c / group_inputs * group, r.weight + c * group);
                from = to;
            }
    }
};

// sums[at[e]] += row, for all spikes e: LANES vectors of the row stay in registers.
template <int LANES, class A>
inline void spread_row(const int32_t* at, int from, int to, const A* row, A* sums) {
    typedef typename Vector<A>::type V;
    V part[LANES];
    for (int l = 0; l < LANES; ++l) part[l] = reinterpret_cast<const V*>(row)[l];
    for (int e = from; e < to; ++e)
        for (int l = 0; l < LANES; ++l) reinterpret_cast<V*>(sums + at[e])[l] += part[l];
}

// row += values[at[e]], for all spikes e.
template <int LANES>
inline void collect_row(const int32_t* at, int from, int to, const float* values, float* row) {
    typedef typename Vector<float>::type V;
    V part[LANES] = {};
    for (int e = from; e < to; ++e)
        for (int l = 0; l < LANES; ++l) part[l] += reinterpret_cast<const V*>(values + at[e])[l];
    for (int l = 0; l < LANES; ++l) reinterpret_cast<V*>(row)[l] += part[l];
}

template <class A>
void sum_weights(const SortedSpikes& spikes, int group, const A* weight, A* sums) {
    constexpr int SIZE = Vector<A>::size;
    spikes.each([&](int from, int to, int output, int place) {
        const int32_t* at = spikes.at.data();
        int c = 0;
        for (; c + 4 * SIZE <= group; c += 4 * SIZE)
            spread_row<4>(at, from, to, weight + place + c, sums + output + c);
        for (; c + SIZE <= group; c += SIZE)
            spread_row<1>(at, from, to, weight + place + c, sums + output + c);
        for (; c < group; ++c)
            for (int e = from; e < to; ++e) sums[at[e] + output + c] += weight[place + c];
    });
}

inline void add_weight_gradient(const SortedSpikes& spikes, int group, const float* drive,
                                float* gradient) {
    constexpr int SIZE = Vector<float>::size;
    spikes.each([&](int from, int to, int output, int place) {
        const int32_t* at = spikes.at.data();
        int c = 0;
        for (; c + 4 * SIZE <= group; c += 4 * SIZE)
            collect_row<4>(at, from, to, drive + output + c, gradient + place + c);
        for (; c + SIZE <= group; c += SIZE)
            collect_row<1>(at, from, to, drive + output + c, gradient + place + c);
        for (; c < group; ++c)
            for (int e = from; e < to; ++e) gradient[place + c] += drive[at[e] + output + c];
    });
}

// Frames whose values a core's cache holds.
int frames_at_once(const Layer& s, size_t bytes_of_value) {
    constexpr size_t CACHE = 256 << 10;
    const size_t neurons = static_cast<size_t>(s.height) * s.width * s.channels;
    const size_t frames = CACHE / (neurons * bytes_of_value);
    return static_cast<int>(std::min<size_t>(std::max<size_t>(frames, 1), s.steps));
}
}  // namespace
