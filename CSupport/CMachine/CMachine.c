// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CMachine.h"

#include <errno.h>
#include <limits.h>
#include <linux/perf_event.h>
#include <malloc.h>
#include <numaif.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

// MARK: - Teams

// Declared here instead of including omp.h, which belongs to another compiler's tree.
int omp_get_thread_num(void);
int omp_get_num_threads(void);
void kmp_set_blocktime(int milliseconds);

// When the program is loaded, before there are threads: setenv beside another thread's getenv may
// crash it.
__attribute__((constructor)) static void configure_openmp(void) {
  setenv("KMP_AFFINITY", "disabled", 1);   // else each root is reset to the process's mask
  setenv("KMP_HOT_TEAMS_MODE", "1", 1);    // else spare workers may move to another root
  setenv("OMP_DYNAMIC", "false", 1);       // else teams shrink under load: other bits
  setenv("KMP_WARNINGS", "0", 0);
  unsetenv("OMP_THREAD_LIMIT");            // a limit would cut teams short
  unsetenv("OMP_PROC_BIND");               // would bring libomp's own placement back
  unsetenv("OMP_PLACES");
}

void paft_openmp_spin(int milliseconds) { kmp_set_blocktime(milliseconds); }

void paft_dismiss(int count) {
  kmp_set_blocktime(INT_MAX);
#pragma omp parallel num_threads(count) default(none)
  {
    if (omp_get_thread_num() != 0) kmp_set_blocktime(0);
  }
}

int paft_parallel(int count, void (*body)(void *context, int worker), void *context) {
  int size = 0;
#pragma omp parallel num_threads(count) default(none) shared(size, body, context)
  {
    int worker = omp_get_thread_num();
    if (worker == 0) size = omp_get_num_threads();
    body(context, worker);
  }
  return size;
}

typedef __attribute__((swiftcall)) void (*closure_code)(
    intptr_t worker, __attribute__((swift_context)) void *context);

static void call_closure(void *closure, int worker) {
  const paft_closure *body = closure;
  ((closure_code)body->code)(worker, body->context);
}

int paft_parallel_closure(int count, paft_closure body) {
  return paft_parallel(count, call_closure, &body);
}

// MARK: - Threads

void paft_name_thread(const char *name) {
  char cut[16];
  snprintf(cut, sizeof cut, "%s", name);
  pthread_setname_np(pthread_self(), cut);
}

int paft_thread_number(void) { return (int)syscall(SYS_gettid); }

void paft_thread_name(char name[16]) { pthread_getname_np(pthread_self(), name, 16); }

// Room for more CPUs than any kernel is built for (CONFIG_NR_CPUS is at most 8192).
enum { mask_cpus = 1 << 14, mask_bytes = mask_cpus / 8 };

int paft_set_affinity(const int *cpus, int count) {
  unsigned char mask[mask_bytes] = {0};
  for (int i = 0; i < count; i++) {
    if (cpus[i] < 0 || cpus[i] >= mask_cpus) return EINVAL;
    mask[cpus[i] / 8] |= (unsigned char)(1u << (cpus[i] % 8));
  }
  return sched_setaffinity(0, sizeof mask, (const cpu_set_t *)mask) == 0 ? 0 : errno;
}

int paft_get_affinity(int *cpus, int capacity) {
  unsigned char mask[mask_bytes] = {0};
  if (sched_getaffinity(0, sizeof mask, (cpu_set_t *)mask) != 0) return -errno;
  int found = 0;
  for (int cpu = 0; cpu < mask_cpus; cpu++) {
    if (!(mask[cpu / 8] >> (cpu % 8) & 1)) continue;
    if (found < capacity) cpus[found] = cpu;
    found++;
  }
  return found;
}

int paft_current_cpu(unsigned *cpu, unsigned *node) {
  return syscall(SYS_getcpu, cpu, node, NULL) == 0 ? 0 : errno;
}

#if defined(__x86_64__)
enum { flush_bits = 0x8040 };  // MXCSR: flush to zero, denormals are zero
void paft_flush_denormals(void) { _mm_setcsr(_mm_getcsr() | flush_bits); }
int paft_flushes_denormals(void) { return (_mm_getcsr() & flush_bits) == flush_bits; }
#else
void paft_flush_denormals(void) {}
int paft_flushes_denormals(void) { return 0; }
#endif

// MARK: - Memory

int paft_bind_memory(void *start, size_t length, int node) {
  enum { word_bits = 8 * sizeof(unsigned long), nodes = 1024 };
  unsigned long mask[nodes / word_bits] = {0};
  if (node < 0 || node >= nodes) return EINVAL;
  mask[node / word_bits] = 1ul << (node % word_bits);
  // The kernel reads one bit less than it is told.
  return mbind(start, length, MPOL_BIND, mask, nodes + 1, 0) == 0 ? 0 : errno;
}

int paft_page_nodes(void *const *pages, size_t count, int *nodes) {
  return move_pages(0, count, (void **)pages, NULL, nodes, 0) == 0 ? 0 : errno;
}

size_t paft_page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

size_t paft_peak_resident(void) {
  // Of this program alone: what getrusage tells begins with the memory of the process it was started by.
  FILE *status = fopen("/proc/self/status", "re");
  if (status != NULL) {
    char line[256];
    unsigned long long kibibytes = 0;
    while (fgets(line, sizeof line, status) != NULL && sscanf(line, "VmHWM: %llu", &kibibytes) != 1) {}
    fclose(status);
    if (kibibytes > 0) return (size_t)kibibytes * 1024;
  }
  struct rusage usage;
  return getrusage(RUSAGE_SELF, &usage) == 0 ? (size_t)usage.ru_maxrss * 1024 : 0;
}

void paft_trim_heap(void) {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

// MARK: - Counters

int paft_counter_open(int event) {
  static const struct { uint32_t type; uint64_t config; } events[] = {
      {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES},
      {PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS},
      {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES},
      {PERF_TYPE_HARDWARE, PERF_COUNT_HW_BRANCH_MISSES},
      {PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK},
  };
  if (event < 0 || event >= (int)(sizeof events / sizeof *events)) return -EINVAL;
  struct perf_event_attr attributes = {
      .type = events[event].type,
      .size = sizeof attributes,
      .config = events[event].config,
      .read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
      .exclude_kernel = 1,  // all that is allowed without privileges
      .exclude_hv = 1,
  };
  long descriptor = syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
  return descriptor < 0 ? -errno : (int)descriptor;
}

int paft_counter_read(int descriptor, uint64_t values[3]) {
  ssize_t got = read(descriptor, values, 3 * sizeof *values);
  return got < 0 ? errno : got == 3 * sizeof *values ? 0 : EIO;
}
