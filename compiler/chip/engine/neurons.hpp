// The neuron: sixteen lanes through all steps, their state in registers.
// compiler/chip/neuron.py holds the semantics.
#pragma once

#include <type_traits>
#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "types.hpp"

namespace {

inline i32x8 widen(const int16_t* from) {
#if defined(__AVX2__)
  return (i32x8)_mm256_cvtepi16_epi32(load<__m128i>(from));
#else
  return __builtin_convertvector(load<i16x8>(from), i32x8);
#endif
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
  bool subtract;
};

// One step of eight neurons; returns where they fired. `clips` counts down.
template <class W, bool CURRENT, bool LEAK, bool CLIP>
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
  if (CLIP) {
    const i32x8 low = next < (1 - LIMIT) ? i32x8{} + (1 - LIMIT) : next;
    const i32x8 clipped = low > (LIMIT - 1) ? i32x8{} + (LIMIT - 1) : low;
    clips += clipped != next;
    next = clipped;
  }
  const i32x8 fired = next > int32_t(n.threshold);
  v = next & ~fired;
  return fired;
}

template <class W, bool CURRENT, bool LEAK, bool CLIP>
inline i32x8 advance(const Neuron& n, f32x8 arriving, f32x8 bias, f32x8& u, f32x8& v, i32x8&) {
  u = CURRENT ? u * float(n.keep_u) + arriving : arriving;
  const f32x8 next = (LEAK ? v * float(n.keep_v) : v) + u + bias;
  const i32x8 fired = next > float(n.threshold);
  const f32x8 left = n.subtract ? next - float(n.threshold) : f32x8{};
  v = fired ? left : next;
  return fired;
}

template <class S> struct Lanes {  // sixteen neurons
  S v[BLOCK];
  int32_t spikes[BLOCK];
  int64_t clips;
};

// Sixteen neurons through all steps; `emit(bits)` gets their spikes.
template <class W, bool CURRENT, bool LEAK, bool CLIP, class Emit>
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
      fired[h] = advance<W, CURRENT, LEAK, CLIP>(n, widen(sums + 8 * h), bias[h], u[h], v[h], clips[h]);
      spikes[h] -= fired[h];
    }
    emit((mask_of(fired[0]) | mask_of(fired[1]) << 8) & valid);
  }
  std::memcpy(out.v, v, sizeof(out.v));
  std::memcpy(out.spikes, spikes, sizeof(out.spikes));
  out.clips = 0;
  for (int k = 0; k < BLOCK; k++)
    if (valid >> k & 1) out.clips -= clips[k / 8][k % 8];
}

}  // namespace
