// SPDX-License-Identifier: Apache-2.0
//
// What PAFTMachine needs from libomp, libnuma and the kernel and cannot say in Swift. Functions
// that can fail return 0 or an errno value; nothing here allocates after the first parallel region.

#ifndef PAFT_CMACHINE_H
#define PAFT_CMACHINE_H

#include <stddef.h>
#include <stdint.h>

// MARK: - Teams (libomp)

/// Loading this module sets the environment that libomp reads at its first call: it must leave
/// thread masks alone, keep each root's hot team to that root and never shrink a team.

/// How long the calling root's workers spin after a region before they sleep.
void paft_openmp_spin(int milliseconds);

/// The last region of a root that had `count` workers: they sleep at once, the root waits awake. A
/// worker that woke its root could still hold the root's lock when libomp frees it with the root's end.
void paft_dismiss(int count);

/// Calls body(context, 0 ..< count), each on its own thread of the calling root's team.
/// Returns the size of the team that ran, which the caller compares with `count`.
int paft_parallel(int count, void (*body)(void *context, int worker), void *context);

/// A Swift closure `(Int) -> Void` as the two words it is passed in: code and context.
typedef struct {
  const void *code;
  void *context;
} paft_closure;

/// paft_parallel for a Swift closure, called with Swift's own calling convention.
int paft_parallel_closure(int count, paft_closure body);

// MARK: - Threads

/// Names the calling thread; longer names are cut to the kernel's 15 bytes.
void paft_name_thread(const char *name);

/// The calling thread as the kernel numbers it (gettid).
int paft_thread_number(void);

/// Reads the calling thread's name into 16 bytes.
void paft_thread_name(char name[16]);

/// Binds the calling thread to these CPUs. 0 or errno.
int paft_set_affinity(const int *cpus, int count);

/// Writes the CPUs the calling thread may use, ascending; returns how many there are (it may be
/// more than `capacity`), or minus errno.
int paft_get_affinity(int *cpus, int capacity);

/// The CPU and NUMA node that the calling thread runs on. 0 or errno.
int paft_current_cpu(unsigned *cpu, unsigned *node);

/// Makes the calling thread read and write denormal floats as zero (FTZ and DAZ).
void paft_flush_denormals(void);

/// Whether the calling thread flushes denormals.
int paft_flushes_denormals(void);

// MARK: - Memory

/// Binds pages to a NUMA node (MPOL_BIND). 0 or errno.
int paft_bind_memory(void *start, size_t length, int node);

/// The node each of `count` pages lies on, or minus errno for a page (-ENOENT: never touched).
/// 0 or errno.
int paft_page_nodes(void *const *pages, size_t count, int *nodes);

size_t paft_page_size(void);

/// The largest resident set this process ever had, in bytes.
size_t paft_peak_resident(void);

/// Gives the free memory of all of malloc's arenas back to the system, where that is glibc's.
void paft_trim_heap(void);

// MARK: - Counters (perf_event_open)

/// Opens a counter of the calling thread in user mode, which counts from now on: 0 cycles,
/// 1 instructions, 2 misses of the last-level cache, 3 mispredicted branches, 4 time on a CPU in
/// nanoseconds. A descriptor, or minus errno.
int paft_counter_open(int event);

/// Reads the count, and the nanoseconds that counting was wanted and was done. 0 or errno.
int paft_counter_read(int descriptor, uint64_t values[3]);

#endif
