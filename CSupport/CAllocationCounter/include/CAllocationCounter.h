// SPDX-License-Identifier: Apache-2.0
//
// For test executables only: linking this target replaces malloc and its kin by versions that count
// and forward to glibc, so that a test can show that a step allocates nothing.

#ifndef PAFT_CALLOCATIONCOUNTER_H
#define PAFT_CALLOCATIONCOUNTER_H

#include <stdint.h>

/// Calls of malloc, calloc, realloc, memalign, posix_memalign and aligned_alloc by any thread so far.
int64_t paft_allocation_count(void);

/// Whether the calling thread's calls are watched. Tests of one process run at the same time: watch
/// the threads under test and read the watched count.
void paft_allocation_watch(int on);

/// Such calls by watched threads so far.
int64_t paft_watched_allocation_count(void);

#endif
