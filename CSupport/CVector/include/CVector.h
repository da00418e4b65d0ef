// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stdint.h>

/* What this CPU and its operating system can run. A bit is set only when every feature its kernel
   module is compiled for is there and the OS saves the registers (XCR0). */
enum {
  PAFT_CPU_AVX2 = 1,       /* avx2 fma f16c bmi2 */
  PAFT_CPU_AVX512 = 2,     /* + avx512 f bw dq vl */
  PAFT_CPU_AVX512BF16 = 4, /* + avx512_bf16 avx512_vnni */
};
uint32_t paft_cpu_features(void);
