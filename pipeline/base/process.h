// SPDX-License-Identifier: MIT
// What a process is born with, put in order before anything else runs: standard descriptors and signals; and
// the memory that it has come to.
#ifndef STRATA_BASE_PROCESS_H
#define STRATA_BASE_PROCESS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

// First thing in main, before any library's call. A standard descriptor that is closed is taken by one that
// answers as a closed one does, so that no file opened later gets its number and with it what is printed. A
// file that grows past its limit (SIGXFSZ) is a failed write, not the end of the process.
void process_prepare(void);

// The signals that ask for a clean stop: what people, batch systems, timers and a failing power supply send.
// Those that the process was started with ignored (nohup, a shell's background job) or that something else
// handles are left out: waiting for one would undo that.
void process_stop_signals(sigset_t *out);

// Blocks them in this thread, and so in all made later: they wait until the run listens.
void process_hold_stop_signals(void);

// Waits so long for one that is held and takes it: its number; 0: none came.
int process_take_stop(double seconds);

// "SIGTERM"; "" for one that does not ask for a stop.
const char *process_signal_name(int number);

// Sent by machines, as often as they like: the kernel sends SIGXCPU every second, a shell that goes away and
// the terminal a SIGHUP each. No number of them means that somebody is in a hurry.
bool process_signal_repeats(int number);

uint64_t process_memory(void);      // resident bytes of this process; 0 when unknown
uint64_t process_memory_peak(void); // the most so far

#endif
