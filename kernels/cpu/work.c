// See work.h.
#include "kernels/cpu/work.h"

#include <omp.h>
#include <stdatomic.h>

struct queue { // of the items that one thread owns
    atomic_size_t next;
    size_t end;
};
_Static_assert(sizeof(struct queue) <= WORK_QUEUE_BYTES, "a queue fits before the rest of the scratch");

void cpu_work(const struct cpu_device *cpu, size_t scratch_bytes, size_t count,
              void (*run)(const void *job, size_t item, unsigned char *scratch), const void *job) {
    size_t threads = (size_t)omp_get_num_threads();
    size_t self = (size_t)omp_get_thread_num();
    unsigned char *scratch = cpu->thread_scratch + self * scratch_bytes;
    cpu_nodes_stay(&cpu->nodes);
    struct share mine = share_of(count, threads, self);
    struct queue *own = (struct queue *)(void *)scratch;
    atomic_init(&own->next, mine.first);
    own->end = mine.end;
#pragma omp barrier
    for (size_t i = 0; i < threads; i++) {
        struct queue *queue =
            (struct queue *)(void *)(cpu->thread_scratch + (self + i) % threads * scratch_bytes);
        for (;;) {
            size_t item = atomic_fetch_add(&queue->next, 1);
            if (item >= queue->end) {
                break;
            }
            run(job, item, scratch);
        }
    }
}
