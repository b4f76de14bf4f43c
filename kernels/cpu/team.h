// SPDX-License-Identifier: MIT
// The threads that compute: they take the pieces of one phase after another. Private to kernels/cpu.
//
// A team of OpenMP waits at the end of a phase until every thread has come by, and spins while it waits: on a
// machine that others use, where a thread may not run for milliseconds, two such threads are slower than one
// (measured: 417 s for 9 s of work). Here
// - a phase ends when its pieces are done, whoever did them: a thread that does not run holds nothing up but
//   the piece that it has begun, and one that comes late finds the next phase;
// - pieces are taken one by one, so that threads which run do the work of those that do not;
// - who waits gives its processor up: after 100 microseconds, which spares a wake-up at most of a small
//   batch's phases; after 5 where a member was kept from running in the last tenth of a second; at once where
//   threads outnumber processors;
// - a phase of one piece wakes nobody.
//
// What a thread worked is measured within pieces by its own clock of processor time, so that neither waiting
// nor a neighbour counts.
//
// How the late one is kept out: a queue of pieces is one number, the phase's generation and how many pieces
// are left, and is taken from by compare-and-exchange. Whoever holds a piece of a phase keeps that phase from
// ending, so it may read what the phase is about; who holds none has read nothing else.
#ifndef STRATA_KERNELS_CPU_TEAM_H
#define STRATA_KERNELS_CPU_TEAM_H

#include <stddef.h>

#include "base/error.h"
#include "kernels/cpu/nodes.h"

struct cpu_team;

enum cpu_team_order {
    CPU_TEAM_SHARES, // neighbouring pieces belong to a member, who helps others when it has done its own
    CPU_TEAM_QUEUE,  // each member gets pieces in ascending order
    CPU_TEAM_EACH,   // piece i is member i's, and no other's: one for each
};

// `member` (from 0, the caller) tells members apart: each has scratch of its own, say.
typedef void cpu_team_task(const void *job, size_t piece, size_t member);

// Starts members - 1 threads; the caller of cpu_team_run is the first member. They stay on `nodes`, which
// outlive the team, and share `processors` processors. STATUS_INTERNAL when the system refuses a thread.
int cpu_team_open(struct cpu_team **out, size_t members, const struct cpu_nodes *nodes, size_t processors,
                  struct error *err);
void cpu_team_close(struct cpu_team *team); // accepts NULL

// Runs pieces [0, pieces), fewer than 2^31, and returns when all are done. By one thread at a time.
void cpu_team_run(struct cpu_team *team, enum cpu_team_order order, size_t pieces, cpu_team_task *run,
                  const void *job);

size_t cpu_team_members(const struct cpu_team *team);

// Seconds of processor time that all members spent within pieces of phases that are over.
double cpu_team_worked(const struct cpu_team *team);

// Seconds of processor time of all members until now, waiting included: grows while a phase goes on. From any
// thread; the one that opened the team counts as a member.
double cpu_team_clock(const struct cpu_team *team);

// How many pieces `count` units of `bytes` each are worth: as small as keeps the threads evenly busy, but of
// so many bytes that taking a piece costs little beside its work. *each: units of a piece, the last one's
// fewer.
size_t cpu_team_pieces(const struct cpu_team *team, size_t count, size_t bytes, size_t *each);

#endif
