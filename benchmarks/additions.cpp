// How fast the processor adds rows of 16-bit weights that lie in its first cache.
#include <cstdint>

using Row = int16_t __attribute__((vector_size(32)));

extern "C" void add_rows(const Row* rows, int64_t count, int64_t repeats, Row* total) {
  constexpr int wide = 8;  // a row of 128 weights, summed in registers
  Row sum[wide] = {};
  for (int64_t r = 0; r < repeats; r++) {
    for (int64_t k = 0; k < count; k++) {
      for (int w = 0; w < wide; w++) sum[w] += rows[k * wide + w];
    }
    asm volatile("" ::: "memory");  // the rows are read again each time
  }
  for (int w = 0; w < wide; w++) total[w] = sum[w];
}
