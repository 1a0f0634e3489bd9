// Vector types, and the structures that cross from Python.
#pragma once

#include <cstdint>
#include <cstring>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "planes are read as little-endian words");

namespace {

using i32x8 = int32_t __attribute__((vector_size(32)));
using f32x8 = float __attribute__((vector_size(32)));
using i16x16 = int16_t __attribute__((vector_size(32)));
using i16x8 = int16_t __attribute__((vector_size(16)));

constexpr int BLOCK = 16;             // lanes that go through time together
constexpr int32_t LIMIT = 1 << 23;    // u wraps here, v is clipped one below (fields.py)

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
  int64_t fan_in;                     // rows of a tile's weights
  int64_t entries;                    // of a tile's table: every run's bits eight at a time
  const void* weight;                 // (groups, tiles, fan_in, lanes)
  const void* table;                  // (groups, tiles, entries, 256, lanes), or null
  const void* bias;                   // (1 or neurons of a channel, groups, tiles, lanes)
  int64_t bias_step;                  // from one output place to the next: 0, or all of the above
  double keep_u, keep_v, threshold;
  double crossover;                   // share of spikes from which the table is quicker
  int64_t clips;                      // whether v may reach its limits
  int64_t subtract;                   // whether a spike takes the threshold off v, in float
  int64_t out_first, out_row, out_column, out_bytes;  // bits of the output's planes; bytes of one
};

struct Counts {
  int64_t* neurons;                   // (H, W, C): spikes over all samples and steps
  int32_t* steps;                     // (n, T)
  int64_t* clips;                     // (n,)
  void* voltage;                      // (n, H, W, C) int32 or float after the last step, or null
  int32_t* samples;                   // (n, H, W, C), or null
  uint8_t* spikes;                    // (T, n, H, W, C), or null; of a layer without padding
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

}  // namespace
