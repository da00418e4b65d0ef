// SPDX-License-Identifier: Apache-2.0
#include "CVector.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t xcr0(void) {
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return ((uint64_t)high << 32) | low;
}

static int has(uint32_t word, uint32_t mask) { return (word & mask) == mask; }

uint32_t paft_cpu_features(void) {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C | bit_POPCNT))
    return 0;
  const uint64_t saved = xcr0();
  if ((saved & 0x6) != 0x6) return 0; /* xmm and upper ymm halves */
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has(b, bit_AVX2 | bit_BMI | bit_BMI2)) return 0;
  uint32_t features = PAFT_CPU_AVX2;
  if ((saved & 0xE6) != 0xE6) return features; /* opmask, upper zmm halves, zmm16-31 */
  if (!has(b, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL)) return features;
  features |= PAFT_CPU_AVX512;
  const int vnni = has(c, bit_AVX512VNNI);
  const int tiles = has(d, 1u << 22 | 1u << 24 | 1u << 25 /* AMX_BF16, AMX_TILE, AMX_INT8 */);
  if (a < 1 || !vnni || !__get_cpuid_count(7, 1, &a, &b, &c, &d)) return features;
  if (!has(a, 1u << 5 /* AVX512_BF16 */)) return features;
  features |= PAFT_CPU_AVX512BF16;
  if (tiles && (saved & 0x60000) == 0x60000) features |= PAFT_CPU_AMX; /* XTILECFG, XTILEDATA */
  return features;
}

int paft_permit_tiles(void) {
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#else
uint32_t paft_cpu_features(void) { return 0; }
int paft_permit_tiles(void) { return 0; }
#endif
