// SPDX-License-Identifier: Apache-2.0

#include "CAllocationCounter.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static _Atomic int64_t all_calls;
static _Atomic int64_t watched_calls;
static _Thread_local int watched;

static void note(void) {
  atomic_fetch_add_explicit(&all_calls, 1, memory_order_relaxed);
  if (watched) atomic_fetch_add_explicit(&watched_calls, 1, memory_order_relaxed);
}

int64_t paft_allocation_count(void) { return atomic_load(&all_calls); }
int64_t paft_watched_allocation_count(void) { return atomic_load(&watched_calls); }
void paft_allocation_watch(int on) { watched = on; }

// free is left alone: what these hand out is glibc's own memory.

void *malloc(size_t size) {
  note();
  return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
  note();
  return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
  note();
  return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size) {
  note();
  return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  note();
  return __libc_memalign(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size) {
  if (alignment % sizeof(void *) != 0 || alignment == 0 || (alignment & (alignment - 1)) != 0)
    return EINVAL;
  note();
  void *memory = __libc_memalign(alignment, size);
  if (memory == NULL) return ENOMEM;
  *result = memory;
  return 0;
}
