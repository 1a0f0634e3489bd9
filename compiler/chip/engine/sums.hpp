// Sums of weights of the spikes that arrive: a tile of output channels, all steps.
#pragma once

#include <algorithm>
#include <vector>

#include "types.hpp"

namespace {

constexpr int64_t BLOCK_BYTES = 24576;  // weights of a dense layer that stay in the first cache

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

struct Chunk {  // up to 56 bits of one run, which one load holds wherever they begin
  const uint8_t* from;
  int64_t shift, bits, row;            // `row` of the weights is the first bit's
  uint64_t word(int64_t at) const {
    return load<uint64_t>(from + at) >> shift & ((uint64_t(1) << bits) - 1);
  }
};

// The inputs of one output place, whose first bit is `origin`.
void find_chunks(const Layer& l, const uint8_t* planes, int64_t origin, std::vector<Chunk>& out) {
  out.clear();
  int64_t row = 0;
  for (const int64_t* r = l.run; r != l.run + 3 * l.runs; row += r[1], r += 3)
    for (int64_t done = 0; done < r[1]; done += 56) {
      const int64_t bit = origin + r[0] + done;
      out.push_back({planes + (bit >> 3), bit & 7, std::min<int64_t>(56, r[1] - done), row + done});
    }
}

// Sums of one tile at one output place, for every step, row by row.
template <class V, int N>
void sum_rows(const std::vector<Chunk>& chunks, int64_t in_bytes, int64_t steps, const V* weight,
              V* out) {
  for (int64_t t = 0; t < steps; t++, out += N) {
    V sum[N] = {};
    for (const Chunk& c : chunks)
      add_rows<V, N>(sum, c.word(t * in_bytes), weight + c.row * N);
    for (int k = 0; k < N; k++) out[k] = sum[k];
  }
}

// The same from the table: adds one chunk's sums, eight bits at a time. COUNT is the number of
// entries, 0 where it is not known beforehand.
template <class V, int N, int COUNT>
void add_entries(const Chunk& c, int64_t in_bytes, int64_t steps, const V* table, V* out) {
  const int64_t count = COUNT ? COUNT : (c.bits + 7) / 8;
  for (int64_t t = 0; t < steps; t++, out += N) {
    uint64_t word = c.word(t * in_bytes);
    V sum[N];
    for (int k = 0; k < N; k++) sum[k] = out[k];
    const V* rows = table;
    for (int64_t i = 0; i < count; i++, word >>= 8, rows += 256 * N)
      for (int k = 0; k < N; k++) sum[k] += rows[int64_t(word & 255) * N + k];
    for (int k = 0; k < N; k++) out[k] = sum[k];
  }
}

template <class V, int N>
void sum_table(const std::vector<Chunk>& chunks, int64_t in_bytes, int64_t steps, const V* table,
               V* out) {
  std::memset(static_cast<void*>(out), 0, steps * N * sizeof(V));
  for (const Chunk& c : chunks) {
    const int64_t count = (c.bits + 7) / 8;
    const auto add = count == 1   ? add_entries<V, N, 1>
                     : count == 2 ? add_entries<V, N, 2>
                     : count == 3 ? add_entries<V, N, 3>
                                  : add_entries<V, N, 0>;
    add(c, in_bytes, steps, table, out);
    table += count * 256 * N;
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

}  // namespace
