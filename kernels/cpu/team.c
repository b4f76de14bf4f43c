// SPDX-License-Identifier: MIT
// See team.h.
#include "kernels/cpu/team.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/size.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/processors.h"

// Seconds that who waits spins: longer than most gaps between phases; where others want the processor, far
// under one turn of it.
#define SPIN_ALONE 100e-6
#define SPIN_CROWDED 5e-6
#define SHORT_STINT 100e-6
#define KEPT_WAITING 500e-6 // without running, where it wanted to: others use the processors
#define CROWDED_SECONDS 0.1 // that this is remembered

enum {
    LINE = 64,
    TURN_NANOSECONDS = 250000,
    SPINS = 32,            // between looks at the clock
    PIECE_BYTES = 8 << 10, // a microsecond or two of work
    PIECES_A_MEMBER = 8,
};

#define REMAINING UINT64_C(0x7fffffff) // of a ticket: pieces left
#define PERSONAL UINT64_C(0x80000000)  // its owner's alone
#define GENERATION_SHIFT 32

struct member {
    _Alignas(LINE) _Atomic uint64_t ticket; // of the pieces that it owns: generation, personal, remaining
    size_t end;                             // of these pieces; read by those who hold one
    _Atomic uint64_t worked;                // nanoseconds
    _Atomic clockid_t clock;                // of its processor time
    struct cpu_team *team;
    pthread_t thread;
    bool started;
};

struct cpu_team {
    size_t count;
    bool spins;
    const struct cpu_nodes *nodes;
    struct member *members;
    // What the phase is about: written between phases, read by those who hold a piece.
    cpu_team_task *run;
    const void *job;
    _Alignas(LINE) atomic_uint generation; // a new phase, or the end
    atomic_uint sleeping;                  // members that sleep until it changes
    atomic_bool closing;
    _Alignas(LINE) atomic_uint left;             // pieces of the phase that are not done
    atomic_bool awaited;                         // the caller sleeps until there are none
    _Alignas(LINE) _Atomic double crowded_until; // on the monotonic clock
};

// ---- waiting ----

static void sleep_while(atomic_uint *word, unsigned value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(atomic_uint *word, int count) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void note_crowd(struct cpu_team *team, double now, double kept_waiting) {
    if (kept_waiting > KEPT_WAITING) {
        atomic_store_explicit(&team->crowded_until, now + CROWDED_SECONDS, memory_order_relaxed);
    }
}

// True when the word came to be (or not to be) `value` within the time to spin.
static bool spin_until(struct cpu_team *team, atomic_uint *word, unsigned value, bool equal) {
    double began = clock_seconds();
    bool crowded = began < atomic_load_explicit(&team->crowded_until, memory_order_relaxed);
    double limit = !team->spins ? 0 : crowded ? SPIN_CROWDED : SPIN_ALONE;
    double before = began;
    for (;;) {
        for (int i = 0; i < SPINS; i++) {
            if ((atomic_load_explicit(word, memory_order_acquire) == value) == equal) {
                return true;
            }
            relax();
        }
        double now = clock_seconds();
        note_crowd(team, now, now - before);
        if (now - began >= limit) {
            return false;
        }
        before = now;
    }
}

static void wait_for_phase(struct cpu_team *team, unsigned seen) {
    if (spin_until(team, &team->generation, seen, false)) {
        return;
    }
    atomic_fetch_add(&team->sleeping, 1); // before the look: who changes the word then sees a sleeper
    while (atomic_load(&team->generation) == seen) {
        sleep_while(&team->generation, seen);
    }
    atomic_fetch_sub(&team->sleeping, 1);
}

static void wait_for_end(struct cpu_team *team) {
    if (spin_until(team, &team->left, 0, true)) {
        return;
    }
    atomic_store(&team->awaited, true);
    for (unsigned left = atomic_load(&team->left); left > 0; left = atomic_load(&team->left)) {
        sleep_while(&team->left, left);
    }
    atomic_store(&team->awaited, false);
}

// ---- pieces ----

static bool take_piece(struct member *queue, bool own, size_t *piece) {
    uint64_t ticket = atomic_load_explicit(&queue->ticket, memory_order_relaxed);
    while ((ticket & REMAINING) > 0 && (own || (ticket & PERSONAL) == 0)) {
        if (atomic_compare_exchange_weak_explicit(&queue->ticket, &ticket, ticket - 1, memory_order_acquire,
                                                  memory_order_relaxed)) {
            *piece = queue->end - (size_t)(ticket & REMAINING);
            return true;
        }
    }
    return false;
}

static uint64_t nanoseconds(clockid_t clock) {
    struct timespec time = {0};
    return clock_gettime(clock, &time) == 0 ? (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec
                                            : 0;
}

struct stint {
    uint64_t clock; // of processor time
    double began;
};

static struct stint begin_stint(void) {
    return (struct stint){nanoseconds(CLOCK_THREAD_CPUTIME_ID), clock_seconds()};
}

// Looking at the clock of processor time takes as long as a small piece: a stint that was over before any
// other thread could have had a turn was all work.
static void end_stint(struct cpu_team *team, size_t self, struct stint stint) {
    double now = clock_seconds();
    double took = now - stint.began;
    uint64_t worked =
        took < SHORT_STINT ? (uint64_t)(took * 1e9) : nanoseconds(CLOCK_THREAD_CPUTIME_ID) - stint.clock;
    atomic_fetch_add_explicit(&team->members[self].worked, worked, memory_order_relaxed);
    note_crowd(team, now, took - 1e-9 * (double)worked);
}

// Does what is left of the phase, its own pieces first.
static void take_part(struct cpu_team *team, size_t self) {
    unsigned done = 0;
    struct stint stint = {0};
    for (size_t i = 0; i < team->count; i++) {
        size_t piece;
        while (take_piece(&team->members[(self + i) % team->count], i == 0, &piece)) {
            stint = done++ == 0 ? begin_stint() : stint;
            team->run(team->job, piece, self);
        }
    }
    if (done > 0) {
        end_stint(team, self, stint);
        if (atomic_fetch_sub(&team->left, done) == done && atomic_load(&team->awaited)) {
            wake(&team->left, 1);
        }
    }
}

static void open_queue(struct member *queue, unsigned generation, struct share share, bool personal) {
    queue->end = share.end;
    atomic_store_explicit(&queue->ticket,
                          (uint64_t)generation << GENERATION_SHIFT | (personal ? PERSONAL : 0) |
                              (uint64_t)(share.end - share.first),
                          memory_order_release);
}

static void note_clock(struct member *member, pthread_t thread) {
    clockid_t clock;
    if (pthread_getcpuclockid(thread, &clock) == 0) {
        atomic_store_explicit(&member->clock, clock, memory_order_relaxed);
    }
}

static void run_alone(struct cpu_team *team, size_t pieces, cpu_team_task *run, const void *job) {
    struct stint stint = begin_stint();
    for (size_t piece = 0; piece < pieces; piece++) {
        run(job, piece, 0);
    }
    end_stint(team, 0, stint);
}

void cpu_team_run(struct cpu_team *team, enum cpu_team_order order, size_t pieces, cpu_team_task *run,
                  const void *job) {
    struct member *members = team->members;
    if (pieces == 0) {
        return;
    }
    note_clock(&members[0], pthread_self());
    if (pieces == 1 || team->count == 1) {
        run_alone(team, pieces, run, job);
        return;
    }
    unsigned generation = atomic_load_explicit(&team->generation, memory_order_relaxed) + 1;
    team->run = run;
    team->job = job;
    atomic_store_explicit(&team->left, (unsigned)pieces, memory_order_relaxed);
    if (order == CPU_TEAM_QUEUE) {
        open_queue(&members[0], generation, (struct share){0, pieces}, false);
    } else {
        for (size_t m = 0; m < team->count; m++) {
            open_queue(&members[m], generation, share_of(pieces, team->count, m), order == CPU_TEAM_EACH);
        }
    }
    atomic_store(&team->generation, generation);
    if (atomic_load(&team->sleeping) > 0) {
        wake(&team->generation, order == CPU_TEAM_EACH ? INT_MAX : (int)(pieces - 1));
    }
    take_part(team, 0);
    wait_for_end(team);
}

// ---- threads ----

struct attributes { // the kernel's struct sched_attr, as of its first version
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime; // of an ordinary thread: the turn that it asks for, nanoseconds
    uint64_t deadline;
    uint64_t period;
};

// Asks for short turns, which come as much more often: a member that has a piece in hand and must wait for
// its turn keeps the others waiting at the end of the phase. The share of the processor stays the same.
// Linux 6.12 and later; a wish elsewhere too.
static void ask_for_short_turns(void) {
    struct attributes attributes = {.size = sizeof attributes};
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) == 0 &&
        attributes.policy == SCHED_OTHER) {
        attributes.size = sizeof attributes;
        attributes.runtime = TURN_NANOSECONDS;
        syscall(SYS_sched_setattr, 0, &attributes, 0);
    }
}

static void *member_main(void *context) {
    struct member *self = context;
    struct cpu_team *team = self->team;
    size_t number = (size_t)(self - team->members);
    ask_for_short_turns();
    if (!processors_bind(team->count, number)) {
        cpu_nodes_stay(team->nodes, team->count, number);
    }
    for (;;) {
        unsigned seen = atomic_load_explicit(&team->generation, memory_order_acquire);
        if (atomic_load(&team->closing)) {
            return NULL;
        }
        take_part(team, number);
        wait_for_phase(team, seen);
    }
}

static int start_threads(struct cpu_team *team, struct error *err) {
    int refused = 0;
    for (size_t m = 1; refused == 0 && m < team->count; m++) {
        struct member *member = &team->members[m];
        refused = pthread_create(&member->thread, NULL, member_main, member);
        member->started = refused == 0;
        if (member->started) {
            note_clock(member, member->thread);
        }
    }
    return refused == 0 ? STATUS_OK
                        : error_set(err, STATUS_INTERNAL, "cannot start %zu threads to compute with: %s",
                                    team->count, strerror(refused));
}

int cpu_team_open(struct cpu_team **out, size_t members, const struct cpu_nodes *nodes, size_t processors,
                  struct error *err) {
    *out = NULL;
    struct cpu_team *team = aligned_alloc(LINE, round_up(sizeof *team, LINE));
    struct member *all = aligned_alloc(LINE, members * sizeof *all);
    if (team == NULL || all == NULL) {
        free(team);
        free(all);
        return error_set(err, STATUS_INTERNAL, "no memory for a team of %zu threads", members);
    }
    memset(team, 0, sizeof *team);
    memset(all, 0, members * sizeof *all);
    team->count = members;
    team->nodes = nodes;
    team->members = all;
    team->spins = members <= processors;
    for (size_t m = 0; m < members; m++) {
        all[m].team = team;
        atomic_init(&all[m].clock, CLOCK_THREAD_CPUTIME_ID);
    }
    note_clock(&all[0], pthread_self());
    ask_for_short_turns();
    int status = start_threads(team, err);
    if (status != STATUS_OK) {
        cpu_team_close(team);
        return status;
    }
    *out = team;
    return STATUS_OK;
}

void cpu_team_close(struct cpu_team *team) {
    if (team == NULL) {
        return;
    }
    atomic_store(&team->closing, true);
    atomic_fetch_add(&team->generation, 1);
    wake(&team->generation, INT_MAX);
    for (size_t m = 1; m < team->count; m++) {
        if (team->members[m].started) {
            pthread_join(team->members[m].thread, NULL);
        }
    }
    free(team->members);
    free(team);
}

// ---- figures ----

size_t cpu_team_members(const struct cpu_team *team) {
    return team->count;
}

double cpu_team_worked(const struct cpu_team *team) {
    uint64_t all = 0;
    for (size_t m = 0; m < team->count; m++) {
        all += atomic_load_explicit(&team->members[m].worked, memory_order_relaxed);
    }
    return 1e-9 * (double)all;
}

double cpu_team_clock(const struct cpu_team *team) {
    uint64_t all = 0;
    for (size_t m = 0; m < team->count; m++) {
        clockid_t clock = atomic_load_explicit(&team->members[m].clock, memory_order_relaxed);
        all += clock == CLOCK_THREAD_CPUTIME_ID ? 0 : nanoseconds(clock); // the caller has not come yet
    }
    return 1e-9 * (double)all;
}

size_t cpu_team_pieces(const struct cpu_team *team, size_t count, size_t bytes, size_t *each) {
    size_t least = size_max(PIECE_BYTES / size_max(bytes, 1), 1); // units
    size_t pieces = size_max(size_min(count / least, team->count * PIECES_A_MEMBER), 1);
    *each = size_max((count + pieces - 1) / pieces, 1);
    return (count + *each - 1) / *each;
}
