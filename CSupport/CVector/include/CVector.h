// SPDX-License-Identifier: Apache-2.0
//
// What Swift cannot say about vectors: CPU detection, and verbs that must become one or a few
// instructions. A verb exists only in modules compiled for its instruction set, so a baseline
// module cannot call one by accident. Everything is inlined into the caller; nothing here has
// state.
#pragma once
#include <stddef.h>
#include <stdint.h>

/* What this CPU and its operating system can run. A bit is set only when every feature its kernel
   module is compiled for is there and the OS saves the registers (XCR0). */
enum {
  PAFT_CPU_AVX2 = 1,       /* avx2 fma f16c bmi2 */
  PAFT_CPU_AVX512 = 2,     /* + avx512 f bw dq vl */
  PAFT_CPU_AVX512BF16 = 4, /* + avx512_bf16 avx512_vnni */
  PAFT_CPU_AMX = 8,        /* + amx_tile amx_bf16 amx_int8 */
};
uint32_t paft_cpu_features(void);
/* Asks Linux for the tile registers of this process, which it keeps back until asked: 1 if they may
   be used. Without the permission the first tile instruction would be a SIGILL. */
int paft_permit_tiles(void);

#ifdef __AVX2__
#include <immintrin.h>

#define PAFT_VERB static inline __attribute__((always_inline))

/* Stops the compiler from keeping loaded operands alive across it (and spilling them). */
PAFT_VERB void paft_reload(void) { __asm__ volatile("" ::: "memory"); }
/* Without the libm call that errno would ask for. */
PAFT_VERB double paft_inverse_root(double x) {
  return 1.0 / _mm_cvtsd_f64(_mm_sqrt_sd(_mm_setzero_pd(), _mm_set_sd(x)));
}
PAFT_VERB void paft_prefetch(const float *p) { __builtin_prefetch(p, 1, 3); }
/* Makes streaming stores visible before whatever is stored later: once, at the end of a kernel. */
PAFT_VERB void paft_fence(void) { _mm_sfence(); }
/* To be read, into the first level, and into the second. */
PAFT_VERB void paft_prefetch_near(const void *p) { __builtin_prefetch(p, 0, 3); }
PAFT_VERB void paft_prefetch_far(const void *p) { __builtin_prefetch(p, 0, 2); }

#define PAFT_LANES 8
#include "CVectorVerbs.inc"
#include "CVectorOptimizer.inc"
#include "CVectorTranspose.inc"
#include "CVectorBytes.inc"
#undef PAFT_LANES
#endif

#ifdef __AVX512F__
#define PAFT_LANES 16
#include "CVectorVerbs.inc"
#include "CVectorBytes.inc"
#include "CVectorOptimizer.inc"
#undef PAFT_LANES
#endif

#ifdef __AMX_TILE__
#include "CVectorTiles.inc"
#endif

#ifdef __aarch64__
#include <arm_neon.h>

#define PAFT_VERB static inline __attribute__((always_inline))
#include "CVectorNEON.inc"
#define PAFT_LANES 4
#include "CVectorOptimizer.inc"
#undef PAFT_LANES
#endif
