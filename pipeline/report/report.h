// SPDX-License-Identifier: MIT
// The page of `strata report`: one HTML file, complete in itself, about a run, a comparison of two, or a set
// of parts. What the ledger tells of batches, problems and shards is read here; the moment of the run, which
// strata status prints too, is the caller's to know.
#ifndef STRATA_REPORT_REPORT_H
#define STRATA_REPORT_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"

// In the head of every page, by which it is known when it is written anew.
#define REPORT_MARK "<meta name=generator content=\"strata report\">"

enum report_tone { TONE_BLUE, TONE_GREEN, TONE_AMBER, TONE_RED, TONE_GREY };

// A run at one moment. Texts are the caller's, of others, and may be NULL.
struct report_facts {
    const char *folder;
    int64_t now; // unix seconds
    bool running;
    enum report_tone tone;
    const char *state;  // "running", "finished", "stopped" ...
    const char *detail; // a sentence on it
    bool has_survey;
    uint64_t problems, done, failed, skipped, remaining;
    uint64_t tokens, tokens_total;
    uint64_t text_tokens; // of all texts, where those begin alike and fewer are computed; 0: as many are
    uint64_t batches, batches_total;
    uint64_t rows, shards, bytes, truncated, overflowed;
    uint64_t transient; // failed problems that a retry would try again
    double elapsed;     // seconds
    bool has_eta;
    double eta;
    double rate, rate_overall;  // tokens per second; 0: not known
    double predicted, measured; // tokens per second of the last launch; 0: not known
    double predicted_seconds;   // for what was left when it began
    const char *limit;          // of the predicted speed
    double wait_share;          // of the time: batches waited for data or the writer
    const char *drift;          // "steady", "warned" ...; NULL: not watched
    double drift_score;
    uint64_t disk_free;
    bool has_planned;
    uint64_t planned;    // bytes still to be written
    int64_t last_commit; // 0: none
    const char *refused, *elsewhere, *cpu_paths, *weights, *adapter, *throttle, *stage; // NULL: none
    double xid; // a GPU's error; 0: none
};

// One part of a set, or the sums of all.
struct report_part {
    const char *folder, *state, *detail; // folder NULL: it has no ledger yet, or one that cannot be read
    enum report_tone tone;
    bool has_total;
    uint64_t done, failed, skipped, problems, tokens, tokens_total, shards, bytes;
    double rate, eta; // 0: not known
};

struct report_set {
    const char *folder;
    int64_t now;
    bool running;
    struct report_part total;
    const struct report_part *parts;
    uint64_t part_count;
};

// Each appends the whole page to *html. refresh_seconds > 0: the browser is to load it anew.
int report_of_run(struct buffer *html, const struct report_facts *facts, int refresh_seconds,
                  struct error *err);
int report_of_two(struct buffer *html, const struct report_facts facts[2], int refresh_seconds,
                  struct error *err);
int report_of_set(struct buffer *html, const struct report_set *set, int refresh_seconds, struct error *err);

#endif
