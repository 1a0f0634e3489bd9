// Spiking layers, event by event: whole networks on whole samples, counts out.
//
// Spikes lie in planes, one a time-step: a bit a neuron, channels last, with the zeros of the next
// layer's padding around them. A neuron's inputs are then a few runs of bits. A tile of output
// channels is summed in registers, either by adding the weight row of every bit that is set, or
// by looking up the sum of every eight bits in a table; both give the same integers. The neurons of
// the tile then go through all time-steps with their state in registers.
//
// compiler/chip/engine/plan.py lays the arrays out; compiler/chip/neuron.py holds the semantics.

#include <atomic>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

#include "neurons.hpp"
#include "sums.hpp"

namespace {

// One thread's memory.
struct Workspace {
  std::vector<std::vector<uint8_t>> planes;    // of the input and every layer: (block, T, bytes)
  std::vector<std::vector<int64_t>> neurons;   // spikes of the samples that this thread ran
  std::vector<i32x8> sums;
  std::vector<Chunk> chunks;
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

template <class W, bool CURRENT, bool LEAK, bool CLIP>
void fire_tile(const Layer& l, const Counts& c, Neuron n, const Place& p) {
  using S = typename Native<W>::State;
  for (int64_t lane = 0; lane < p.outputs; lane += BLOCK) {
    const int64_t count = std::min<int64_t>(BLOCK, p.outputs - lane);
    Lanes<S> lanes;
    const int shift = (p.bit + lane) & 7;
    uint8_t* to = p.planes + ((p.bit + lane) >> 3);
    integrate<W, CURRENT, LEAK, CLIP>(n, (1u << count) - 1, lanes, [&](unsigned bits) {
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
  const Neuron n = {sums, s.job.steps, l.lanes, bias, l.keep_u, l.keep_v, l.threshold,
                    l.subtract != 0};
  const bool current = l.keep_u != 0, leak = l.keep_v != (l.kind == 2 ? 1 : 4096);
  const Counts& c = s.job.counts[s.index + 1];
  if (current && leak) return fire_tile<W, true, true, true>(l, c, n, where);
  if (current) return fire_tile<W, true, false, true>(l, c, n, where);
  if (leak) return fire_tile<W, false, true, true>(l, c, n, where);
  if (l.clips) return fire_tile<W, false, false, true>(l, c, n, where);
  fire_tile<W, false, false, false>(l, c, n, where);
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
    const int64_t size = (table ? 256 * l.entries : l.fan_in) * N;
    const auto sum = table ? sum_table<V, N> : sum_rows<V, N>;
    for (int64_t tile = 0; tile < l.groups * l.tiles; tile++) {
      const V* weight = static_cast<const V*>(table ? l.table : l.weight) + tile * size;
      for (int64_t place = 0; place < l.height * l.width; place++) {
        const int64_t origin = place / l.width * l.row_step + place % l.width * l.column_step +
                               tile / l.tiles * l.group_step;
        find_chunks(l, s.input(b), origin, s.work.chunks);
        sum(s.work.chunks, s.in_bytes(), s.job.steps, weight, sums);
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
  const int64_t row = j.width * j.channels;
  const uint16_t* code = j.codes + n * j.height * row;
  for (int64_t y = 0; y < j.height; y++)
    for (int64_t x = 0; x < row; x++, code++, neurons++) {
      const int64_t bit = j.first + y * j.row + x;
      const int64_t begin = j.train[*code], end = j.train[*code + 1];
      *neurons += end - begin;
      for (int64_t k = begin; k < end; k++)
        planes[j.times[k] * j.bytes + (bit >> 3)] |= uint8_t(1 << (bit & 7));
    }
}

// ORs eight bytes of 0 or 1, as bits, into a plane.
inline void merge_eight(uint64_t eight, uint8_t* plane, int64_t bit) {
  uint8_t* to = plane + (bit >> 3);
  const uint64_t bits = eight * 0x0102040810204080 >> 56;
  const uint16_t merged = load<uint16_t>(to) | bits << (bit & 7);
  std::memcpy(to, &merged, 2);
}

void pack_spikes(const Job& j, int64_t n, uint8_t* planes, int64_t* neurons) {
  const int64_t row = j.width * j.channels, all = j.height * row, eights = row / 8 * 8;
  std::vector<uint16_t> counts(all);
  for (int64_t t = 0; t < j.steps; t++, planes += j.bytes) {
    const uint8_t* from = j.spikes + (t * j.samples + n) * all;
    for (int64_t k = 0; k < all; k++) counts[k] += from[k];
    for (int64_t y = 0; y < j.height; y++, from += row) {
      const int64_t bit = j.first + y * j.row;
      for (int64_t x = 0; x < eights; x += 8) merge_eight(load<uint64_t>(from + x), planes, bit + x);
      uint64_t rest = 0;
      std::memcpy(&rest, from + eights, row - eights);
      merge_eight(rest, planes, bit + eights);
    }
  }
  for (int64_t k = 0; k < all; k++) neurons[k] += counts[k];
}

// Writes bits as bytes of 0 and 1.
void unpack(const uint8_t* plane, int64_t bits, uint8_t* to) {
  constexpr uint64_t ones = 0x0101010101010101, each = 0x8040201008040201;
  const auto eight = [&](int64_t at) {
    return ((plane[at / 8] * ones & each) + 0x7f7f7f7f7f7f7f7f) >> 7 & ones;
  };
  const int64_t eights = bits / 8 * 8;
  for (int64_t at = 0; at < eights; at += 8) {
    const uint64_t bytes = eight(at);
    std::memcpy(to + at, &bytes, 8);
  }
  const uint64_t rest = eight(eights);
  std::memcpy(to + eights, &rest, bits - eights);
}

// Spikes of every step; sums of the tables over them and the spikes themselves, where asked for.
void read_planes(const Job& j, const Counts& c, int64_t n, const uint8_t* planes, int64_t bytes,
                 int64_t neurons) {
  for (int64_t t = 0; t < j.steps; t++) {
    int64_t spikes = 0;
    for (int64_t at = 0; at < bytes; at += 8)
      spikes += __builtin_popcountll(load<uint64_t>(planes + t * bytes + at));
    c.steps[n * j.steps + t] = int32_t(spikes);
  }
  for (int64_t t = 0; c.spikes && t < j.steps; t++)
    unpack(planes + t * bytes, neurons, c.spikes + (t * j.samples + n) * neurons);
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
      read_planes(j, j.counts[index], sample + b, planes, bytes,
                  int64_t(work.neurons[index].size()));
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
