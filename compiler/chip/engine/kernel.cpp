// Spiking layers, event by event: whole networks on whole samples, counts out.
//
// Spikes lie in planes, one a time-step: a bit a neuron, channels last, with the zeros of the next
// layer's padding around them. A neuron's inputs are then a few runs of bits. A tile of output
// channels is summed in registers, either by adding the weight row of every bit that is set, or
// by looking up the sum of every four bits in a table; both give the same integers. The neurons of
// the tile then go through all time-steps with their state in registers.
//
// compiler/chip/engine/plan.py lays the arrays out; compiler/chip/neuron.py holds the semantics.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>
#if defined(__AVX__)
#include <immintrin.h>
#endif

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "planes are read as little-endian words");

namespace {

using i32x8 = int32_t __attribute__((vector_size(32)));
using f32x8 = float __attribute__((vector_size(32)));
using i16x16 = int16_t __attribute__((vector_size(32)));
using i16x8 = int16_t __attribute__((vector_size(16)));

constexpr int BLOCK = 16;             // lanes that go through time together
constexpr int32_t LIMIT = 1 << 23;    // u wraps here, v is clipped one below (fields.py)
constexpr int64_t BLOCK_BYTES = 24576;  // weights of a dense layer that stay in the first cache

}  // namespace

extern "C" {

// The fields of these three are those of compiler/chip/engine/native.py, in the same order.
struct Layer {
  int64_t kind;                       // 0 int16 sums, 1 int32 sums, 2 float32
  int64_t height, width;              // of the output
  int64_t row_step, column_step;      // bits from an output's first input to its neighbour's
  int64_t groups, group_step;         // and from one group's to the next one's
  int64_t outputs, tiles, lanes;      // output channels of a group, in tiles of so many lanes
  int64_t runs;                       // runs of input bits
  const int64_t* run;                 // (runs, 3): first bit, bits, steps that they are held back
  int64_t fan_in, nibbles;            // rows of a tile's weights, and of its table in fours
  const void* weight;                 // (groups, tiles, fan_in, lanes)
  const void* table;                  // (groups, tiles, nibbles, 16, lanes), or null
  const void* bias;                   // (1 or neurons of a channel, groups, tiles, lanes)
  int64_t bias_step;                  // from one output place to the next: 0, or all of the above
  double keep_u, keep_v, threshold;
  double crossover;                   // share of spikes from which the table is quicker
  int64_t out_first, out_row, out_column, out_bytes;  // bits of the output's planes; bytes of one
};

struct Counts {
  int64_t* neurons;                   // (H, W, C): spikes over all samples and steps
  int32_t* steps;                     // (n, T)
  int64_t* clips;                     // (n,)
  void* voltage;                      // (n, H, W, C) int32 or float after the last step, or null
  int32_t* samples;                   // (n, H, W, C), or null
  uint8_t* planes;                    // (n, T, out_bytes), or null
  int64_t fans;
  const int64_t* fan;                 // (fans, bits of a plane): operations that a spike causes
  int64_t* events;                    // (fans, n, T)
};

struct Job {
  int64_t samples, steps, layers, threads, block;
  int64_t height, width, channels;    // of the input
  int64_t first, row, bytes;          // bits of the input's planes; bytes of one
  const uint16_t* codes;              // (n, H, W, C): which spike train; or null
  const int64_t* train;               // (codes + 1,): where each train's steps begin
  const int32_t* times;               // steps of all trains
  const uint8_t* spikes;              // else (T, n, H, W, C): 0 or 1
  const Layer* layer;                 // (layers,)
  const Counts* counts;               // (1 + layers,): the input's come first
};

}  // extern "C"

namespace {

template <class W> struct Native;
template <> struct Native<int16_t> { using Vector = i16x16; using State = int32_t; };
template <> struct Native<int32_t> { using Vector = i32x8; using State = int32_t; };
template <> struct Native<float> { using Vector = f32x8; using State = float; };

template <class V> inline V load(const void* from) {
  V value;
  std::memcpy(&value, from, sizeof(V));
  return value;
}

inline uint64_t word_at(const uint8_t* plane, int64_t bit, int64_t bits) {
  const uint8_t* from = plane + (bit >> 3);
  const int shift = bit & 7;
  uint64_t word = load<uint64_t>(from) >> shift | uint64_t(from[8]) << 1 << (63 - shift);
  return bits < 64 ? word & ((uint64_t(1) << bits) - 1) : word;
}

// Adds to `sum` the weight rows of the bits that are set in one word.
template <class V, int N>
inline void add_rows(V (&sum)[N], uint64_t word, const V* rows) {
  while (word) {
    const V* row = rows + int64_t(__builtin_ctzll(word)) * N;
    for (int k = 0; k < N; k++) sum[k] += row[k];
    word &= word - 1;
  }
}

template <class V, int N>
inline void add_fours(V (&sum)[N], uint64_t word, int64_t bits, const V* table) {
  for (; bits > 0; bits -= 4, word >>= 4, table += 16 * N) {
    const V* row = table + int64_t(word & 15) * N;
    for (int k = 0; k < N; k++) sum[k] += row[k];
  }
}

// Sums of one tile at one output place, for every step.
template <class V, int N, bool TABLE>
void sum_place(const Layer& l, const uint8_t* planes, int64_t in_bytes, int64_t steps,
               int64_t origin, const V* base, V* out) {
  for (int64_t t = 0; t < steps; t++) {
    V sum[N] = {};
    const V* rows = base;
    for (const int64_t* r = l.run; r != l.run + 3 * l.runs; r += 3) {
      const uint8_t* plane = planes + (t - r[2]) * in_bytes;
      for (int64_t done = 0; done < r[1]; done += 64) {
        const int64_t bits = std::min<int64_t>(64, r[1] - done);
        const uint64_t word = r[2] > t ? 0 : word_at(plane, origin + r[0] + done, bits);
        if (TABLE) {
          add_fours<V, N>(sum, word, bits, rows);
          rows += (bits + 3) / 4 * 16 * N;
        } else {
          add_rows<V, N>(sum, word, rows);
          rows += bits * N;
        }
      }
    }
    for (int k = 0; k < N; k++) out[t * N + k] = sum[k];
  }
}

// The same for a layer with one output place and several samples, block by block of its weights.
template <class V, int N>
void sum_dense(const Layer& l, const uint8_t* planes, int64_t in_bytes, int64_t samples,
               int64_t steps, int64_t origin, const V* rows, V* out) {
  std::memset(static_cast<void*>(out), 0, samples * steps * N * sizeof(V));
  const int64_t block = std::max<int64_t>(1, BLOCK_BYTES / int64_t(64 * N * sizeof(V))) * 64;
  for (const int64_t* r = l.run; r != l.run + 3 * l.runs; r += 3) {
    for (int64_t done = 0; done < r[1]; done += block) {
      const int64_t end = std::min(r[1], done + block);
      for (int64_t b = 0; b < samples; b++) {
        for (int64_t t = r[2]; t < steps; t++) {
          const uint8_t* plane = planes + (b * steps + t - r[2]) * in_bytes;
          V* to = out + (b * steps + t) * N;
          V sum[N];
          for (int k = 0; k < N; k++) sum[k] = to[k];
          for (int64_t at = done; at < end; at += 64)
            add_rows<V, N>(sum, word_at(plane, origin + r[0] + at, std::min<int64_t>(64, end - at)),
                           rows + (at - done) * N);
          for (int k = 0; k < N; k++) to[k] = sum[k];
        }
      }
      rows += (end - done) * N;
    }
  }
}

inline i32x8 widen(const int16_t* from) {
  return __builtin_convertvector(load<i16x8>(from), i32x8);
}
inline i32x8 widen(const int32_t* from) { return load<i32x8>(from); }
inline f32x8 widen(const float* from) { return load<f32x8>(from); }

inline unsigned mask_of(i32x8 mask) {
#if defined(__AVX__)
  return _mm256_movemask_ps(_mm256_castsi256_ps((__m256i)mask));
#else
  unsigned bits = 0;
  for (int k = 0; k < 8; k++) bits |= unsigned(mask[k] & 1) << k;
  return bits;
#endif
}

inline i32x8 decay(i32x8 state, int32_t keep) {  // toward0(state * keep / 4096)
  const i32x8 size = state < 0 ? -state : state;
  const i32x8 kept = (size >> 12) * keep + (((size & 4095) * keep) >> 12);
  return state < 0 ? -kept : kept;
}

struct Neuron {  // what does not change over the steps of a block of lanes
  const void* sums;
  int64_t steps, lanes;
  const void* bias;
  double keep_u, keep_v, threshold;
};

// One step of eight neurons; returns where they fired. `clips` counts down.
template <class W, bool CURRENT, bool LEAK>
inline i32x8 advance(const Neuron& n, i32x8 arriving, i32x8 bias, i32x8& u, i32x8& v,
                     i32x8& clips) {
  i32x8 drive = arriving << 6;
  if (CURRENT) drive += decay(u, int32_t(n.keep_u));
  if (CURRENT || !std::is_same<W, int16_t>::value) {  // else 16 bits shifted stay within 24
    drive += (drive > LIMIT) & (-2 * LIMIT);
    drive += (drive <= -LIMIT) & (2 * LIMIT);
    u = drive;
  }
  i32x8 next = (LEAK ? decay(v, int32_t(n.keep_v)) : v) + (drive + bias);
  const i32x8 low = next < (1 - LIMIT) ? i32x8{} + (1 - LIMIT) : next;
  const i32x8 clipped = low > (LIMIT - 1) ? i32x8{} + (LIMIT - 1) : low;
  clips += clipped != next;
  const i32x8 fired = clipped > int32_t(n.threshold);
  v = clipped & ~fired;
  return fired;
}

template <class W, bool CURRENT, bool LEAK>
inline i32x8 advance(const Neuron& n, f32x8 arriving, f32x8 bias, f32x8& u, f32x8& v, i32x8&) {
  u = CURRENT ? u * float(n.keep_u) + arriving : arriving;
  const f32x8 next = (LEAK ? v * float(n.keep_v) : v) + u + bias;
  const i32x8 fired = next > float(n.threshold);
  v = (f32x8)((i32x8)next & ~fired);
  return fired;
}

template <class S> struct Lanes {  // sixteen neurons
  S v[BLOCK];
  int32_t spikes[BLOCK];
  int64_t clips;
};

// Sixteen neurons through all steps; `emit(t, bits)` gets their spikes.
template <class W, bool CURRENT, bool LEAK, class Emit>
void integrate(const Neuron& n, unsigned valid, Lanes<typename Native<W>::State>& out, Emit emit) {
  using S = typename Native<W>::State;
  using V = typename Native<S>::Vector;
  V u[2] = {}, v[2] = {};
  i32x8 spikes[2] = {}, clips[2] = {};
  const V bias[2] = {load<V>(n.bias), load<V>(static_cast<const S*>(n.bias) + 8)};
  const W* sums = static_cast<const W*>(n.sums);
  for (int64_t t = 0; t < n.steps; t++, sums += n.lanes) {
    i32x8 fired[2];
    for (int h = 0; h < 2; h++) {
      fired[h] = advance<W, CURRENT, LEAK>(n, widen(sums + 8 * h), bias[h], u[h], v[h], clips[h]);
      spikes[h] -= fired[h];
    }
    emit(t, (mask_of(fired[0]) | mask_of(fired[1]) << 8) & valid);
  }
  std::memcpy(out.v, v, sizeof(out.v));
  std::memcpy(out.spikes, spikes, sizeof(out.spikes));
  out.clips = 0;
  for (int k = 0; k < BLOCK; k++)
    if (valid >> k & 1) out.clips -= clips[k / 8][k % 8];
}

// One thread's memory.
struct Workspace {
  std::vector<std::vector<uint8_t>> planes;    // of the input and every layer: (block, T, bytes)
  std::vector<std::vector<int64_t>> neurons;   // spikes of the samples that this thread ran
  std::vector<i32x8> sums;
};

struct Place {  // where the results of one tile at one output place go
  int64_t sample;                      // in the job
  uint8_t* planes;                     // of that sample
  int64_t neuron;                      // first neuron, channels last
  int64_t bit;
  int64_t outputs;                     // lanes that are neurons
  int64_t all;                         // neurons of the layer
  int64_t* neurons;
};

template <class W, bool CURRENT, bool LEAK>
void fire_tile(const Layer& l, const Counts& c, Neuron n, const Place& p) {
  using S = typename Native<W>::State;
  for (int64_t lane = 0; lane < p.outputs; lane += BLOCK) {
    const int64_t count = std::min<int64_t>(BLOCK, p.outputs - lane);
    Lanes<S> lanes;
    int32_t* steps = c.steps + p.sample * n.steps;
    const int shift = (p.bit + lane) & 7;
    uint8_t* to = p.planes + ((p.bit + lane) >> 3);
    integrate<W, CURRENT, LEAK>(n, (1u << count) - 1, lanes, [&](int64_t t, unsigned bits) {
      steps[t] += __builtin_popcount(bits);
      const uint32_t merged = load<uint32_t>(to) | bits << shift;
      std::memcpy(to, &merged, 4);
      to += l.out_bytes;
    });
    n.sums = static_cast<const W*>(n.sums) + BLOCK;
    n.bias = static_cast<const S*>(n.bias) + BLOCK;
    c.clips[p.sample] += lanes.clips;
    const int64_t at = p.sample * p.all + p.neuron + lane;
    for (int64_t k = 0; k < count; k++) p.neurons[p.neuron + lane + k] += lanes.spikes[k];
    if (c.samples) std::memcpy(c.samples + at, lanes.spikes, count * sizeof(int32_t));
    if (c.voltage) std::memcpy(static_cast<S*>(c.voltage) + at, lanes.v, count * sizeof(S));
  }
}

struct Step {  // one layer on one block of samples
  const Job& job;
  int64_t index, sample, samples;      // layer; first sample; how many
  Workspace& work;
  const Layer& layer() const { return job.layer[index]; }
  int64_t in_bytes() const { return index ? job.layer[index - 1].out_bytes : job.bytes; }
  const uint8_t* input(int64_t b) const {
    return work.planes[index].data() + b * job.steps * in_bytes();
  }
};

template <class W>
void fire(const Step& s, int64_t b, int64_t tile, int64_t place, const void* sums) {
  const Layer& l = s.layer();
  const int64_t group = tile / l.tiles, part = tile % l.tiles, all = l.groups * l.outputs;
  const int64_t channel = group * l.outputs + part * l.lanes;
  const int64_t y = place / l.width, x = place % l.width;
  const Place where = {s.sample + b,
                       s.work.planes[s.index + 1].data() + b * s.job.steps * l.out_bytes,
                       place * all + channel,
                       l.out_first + y * l.out_row + x * l.out_column + channel,
                       std::min(l.lanes, l.outputs - part * l.lanes),
                       l.height * l.width * all,
                       s.work.neurons[s.index + 1].data()};
  using S = typename Native<W>::State;
  const S* bias = static_cast<const S*>(l.bias) + place * l.bias_step + tile * l.lanes;
  const Neuron n = {sums, s.job.steps, l.lanes, bias, l.keep_u, l.keep_v, l.threshold};
  const bool current = l.keep_u != 0, leak = l.keep_v != (l.kind == 2 ? 1 : 4096);
  const Counts& c = s.job.counts[s.index + 1];
  if (current && leak) return fire_tile<W, true, true>(l, c, n, where);
  if (current) return fire_tile<W, true, false>(l, c, n, where);
  if (leak) return fire_tile<W, false, true>(l, c, n, where);
  fire_tile<W, false, false>(l, c, n, where);
}

bool worth_a_table(const Step& s, int64_t b) {
  const Layer& l = s.layer();
  if (!l.table) return false;
  const int32_t* steps = s.job.counts[s.index].steps + (s.sample + b) * s.job.steps;
  int64_t spikes = 0;
  for (int64_t t = 0; t < s.job.steps; t++) spikes += steps[t];
  return double(spikes) >= l.crossover * double(s.job.steps) * double(s.work.neurons[s.index].size());
}

template <class W, int N>
void run_places(const Step& s) {
  using V = typename Native<W>::Vector;
  const Layer& l = s.layer();
  V* sums = reinterpret_cast<V*>(s.work.sums.data());
  for (int64_t b = 0; b < s.samples; b++) {
    const bool table = worth_a_table(s, b);
    const int64_t size = (table ? 16 * l.nibbles : l.fan_in) * N;
    for (int64_t tile = 0; tile < l.groups * l.tiles; tile++) {
      const V* weight = static_cast<const V*>(table ? l.table : l.weight) + tile * size;
      for (int64_t place = 0; place < l.height * l.width; place++) {
        const int64_t origin = place / l.width * l.row_step + place % l.width * l.column_step +
                               tile / l.tiles * l.group_step;
        (table ? sum_place<V, N, true> : sum_place<V, N, false>)(
            l, s.input(b), s.in_bytes(), s.job.steps, origin, weight, sums);
        fire<W>(s, b, tile, place, sums);
      }
    }
  }
}

template <class W, int N>
void run_dense(const Step& s) {
  using V = typename Native<W>::Vector;
  const Layer& l = s.layer();
  V* sums = reinterpret_cast<V*>(s.work.sums.data());
  for (int64_t tile = 0; tile < l.groups * l.tiles; tile++) {
    const V* weight = static_cast<const V*>(l.weight) + tile * l.fan_in * N;
    sum_dense<V, N>(l, s.input(0), s.in_bytes(), s.samples, s.job.steps,
                    tile / l.tiles * l.group_step, weight, sums);
    for (int64_t b = 0; b < s.samples; b++) fire<W>(s, b, tile, 0, sums + b * s.job.steps * N);
  }
}

template <class W, int N>
void run_sized(const Step& s) {
  const Layer& l = s.layer();
  (l.height * l.width == 1 ? run_dense<W, N> : run_places<W, N>)(s);
}

template <class W>
void run_layer(const Step& s) {
  constexpr int unit = 32 / sizeof(W);
  const int64_t vectors = s.layer().lanes / unit;
  if (vectors == 8) return run_sized<W, 8>(s);
  if (vectors == 4) return run_sized<W, 4>(s);
  if (vectors == 2) return run_sized<W, 2>(s);
  if constexpr (unit == BLOCK) run_sized<W, 1>(s);
}

void encode_trains(const Job& j, int64_t n, uint8_t* planes, int64_t* neurons) {
  int32_t* steps = j.counts[0].steps + n * j.steps;
  const int64_t row = j.width * j.channels;
  const uint16_t* code = j.codes + n * j.height * row;
  for (int64_t y = 0; y < j.height; y++)
    for (int64_t x = 0; x < row; x++, code++, neurons++) {
      const int64_t bit = j.first + y * j.row + x;
      const int64_t begin = j.train[*code], end = j.train[*code + 1];
      *neurons += end - begin;
      for (int64_t k = begin; k < end; k++) {
        steps[j.times[k]]++;
        planes[j.times[k] * j.bytes + (bit >> 3)] |= uint8_t(1 << (bit & 7));
      }
    }
}

void pack_spikes(const Job& j, int64_t n, uint8_t* planes, int64_t* neurons) {
  constexpr uint64_t gather = 0x0102040810204080;  // eight bytes of 0 or 1 to the top byte's bits
  const int64_t row = j.width * j.channels;
  for (int64_t t = 0; t < j.steps; t++)
    for (int64_t y = 0; y < j.height; y++) {
      const uint8_t* from = j.spikes + ((t * j.samples + n) * j.height + y) * row;
      for (int64_t x = 0; x < row; x += 8) {
        uint64_t eight = 0;
        std::memcpy(&eight, from + x, std::min<int64_t>(8, row - x));
        if (!eight) continue;
        unsigned bits = eight * gather >> 56;
        const int64_t bit = j.first + y * j.row + x;
        uint8_t* to = planes + t * j.bytes + (bit >> 3);
        const uint16_t merged = load<uint16_t>(to) | bits << (bit & 7);
        std::memcpy(to, &merged, 2);
        j.counts[0].steps[n * j.steps + t] += __builtin_popcount(bits);
        for (; bits; bits &= bits - 1) neurons[y * row + x + __builtin_ctz(bits)]++;
      }
    }
}

// Sums of the tables over the spikes of a plane, and a copy of the planes, where asked for.
void read_planes(const Job& j, const Counts& c, int64_t n, const uint8_t* planes, int64_t bytes) {
  if (c.planes) std::memcpy(c.planes + n * j.steps * bytes, planes, j.steps * bytes);
  if (!c.fans) return;
  for (int64_t t = 0; t < j.steps; t++)
    for (int64_t at = 0; at < bytes * 8; at += 64) {
      const int64_t bits = std::min<int64_t>(64, bytes * 8 - at);
      for (uint64_t word = word_at(planes + t * bytes, at, bits); word; word &= word - 1)
        for (int64_t f = 0; f < c.fans; f++)
          c.events[(f * j.samples + n) * j.steps + t] +=
              c.fan[f * bytes * 8 + at + __builtin_ctzll(word)];
    }
}

void run_block(const Job& j, int64_t sample, int64_t samples, Workspace& work) {
  for (auto& planes : work.planes) std::fill(planes.begin(), planes.end(), 0);
  for (int64_t index = 0; index <= j.layers; index++) {
    const int64_t bytes = index ? j.layer[index - 1].out_bytes : j.bytes;
    if (index) {
      const Step step = {j, index - 1, sample, samples, work};
      const int64_t kind = step.layer().kind;
      (kind == 0 ? run_layer<int16_t> : kind == 1 ? run_layer<int32_t> : run_layer<float>)(step);
    }
    for (int64_t b = 0; b < samples; b++) {
      uint8_t* planes = work.planes[index].data() + b * j.steps * bytes;
      if (!index)
        (j.codes ? encode_trains : pack_spikes)(j, sample + b, planes, work.neurons[0].data());
      read_planes(j, j.counts[index], sample + b, planes, bytes);
    }
  }
}

Workspace make_workspace(const Job& j) {
  constexpr int64_t slack = 16;  // words are read and written past the last bit
  Workspace work;
  int64_t sums = 0;
  for (int64_t index = 0; index <= j.layers; index++) {
    const Layer* l = index ? j.layer + index - 1 : nullptr;
    work.planes.emplace_back(j.block * j.steps * (l ? l->out_bytes : j.bytes) + slack);
    work.neurons.emplace_back(l ? l->height * l->width * l->groups * l->outputs
                                : j.height * j.width * j.channels);
    if (l) sums = std::max(sums, j.block * j.steps * l->lanes * int64_t(l->kind ? 4 : 2));
  }
  work.sums.resize(sums / int64_t(sizeof(i32x8)) + 1);
  return work;
}

}  // namespace

// Runs all samples; 0, or 1 where memory ran out.
extern "C" int run_network(const Job* job) {
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex adding;
  const auto work_on = [&]() {
    try {
      Workspace work = make_workspace(*job);
      for (int64_t at; (at = next.fetch_add(job->block)) < job->samples;)
        run_block(*job, at, std::min(job->block, job->samples - at), work);
      const std::lock_guard<std::mutex> lock(adding);
      for (int64_t index = 0; index <= job->layers; index++)
        for (size_t k = 0; k < work.neurons[index].size(); k++)
          job->counts[index].neurons[k] += work.neurons[index][k];
    } catch (const std::bad_alloc&) {
      failed = true;
    }
  };
  std::vector<std::thread> others;
  try {
    for (int64_t k = 1; k < job->threads; k++) others.emplace_back(work_on);
  } catch (const std::exception&) {  // fewer threads than asked for do the same work
  }
  work_on();
  for (std::thread& other : others) other.join();
  return failed ? 1 : 0;
}
