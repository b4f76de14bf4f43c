// Work items of one operation: each thread takes those that it owns first, then what others have not begun.
#ifndef STRATA_KERNELS_CPU_WORK_H
#define STRATA_KERNELS_CPU_WORK_H

#include "kernels/cpu/cpu_device.h"

enum { WORK_QUEUE_BYTES = 256 }; // at the front of each thread's scratch, which `run` leaves alone

// By every thread of a team, which returns when no item is left to begin: runs items [0, count). A thread's
// scratch is scratch_bytes at cpu->thread_scratch + its number * scratch_bytes; that of the thread that runs
// an item is handed to `run`. Neighbouring items belong to one thread.
void cpu_work(const struct cpu_device *cpu, size_t scratch_bytes, size_t count,
              void (*run)(const void *job, size_t item, unsigned char *scratch), const void *job);

#endif
