// SPDX-License-Identifier: MIT
#include "commands/parts_progress.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/printable.h"
#include "base/size.h"
#include "checkpoints/ledger.h"
#include "checkpoints/run_set.h"
#include "checkpoints/survey_file.h"

#define READ_SECONDS 1.0 // between two looks at the ledgers
#define TICK 0.1
enum { END_SECONDS = 5, WORDS_MOST = 1 << 16 };

// ---- one part ----

int parts_folder_of(char out[PATH_SIZE], const char *folder, size_t part, size_t count, struct error *err) {
    const struct run_part number = {.index = part, .count = count};
    return run_set_part_path(out, folder, &number, err);
}

static void take_totals(struct part_figures *figures, const struct ledger_totals *totals) {
    figures->done = totals->done;
    figures->failed = totals->failed;
    figures->skipped = totals->skipped;
    figures->rows = totals->rows;
    figures->shards = totals->shards;
    figures->bytes = totals->bytes;
    figures->accounted = totals->done + totals->failed + totals->skipped;
    figures->computed = totals->tokens;
    figures->rate = 0;
}

// What a running launch has computed beyond that.
static void take_live(struct part_figures *figures, const struct ledger_progress *live) {
    if (strcmp(live->stage, "running") == 0) {
        figures->accounted = size_max(figures->accounted, live->problems);
        figures->computed = size_max(figures->computed, live->tokens);
        figures->rate = live->tokens_per_second;
    }
}

static int read_moment(struct part_figures *figures, struct ledger *ledger, bool runs, struct error *err) {
    struct ledger_survey survey = {0};
    struct ledger_progress live = {0};
    struct ledger_totals totals;
    bool has_live = false;
    bool is_surveyed = false;
    ledger_hurry(ledger);
    TRY(ledger_read_begin(ledger, err));
    TRY(ledger_survey(ledger, &survey, &is_surveyed, err));
    TRY(ledger_progress(ledger, &live, &has_live, err));
    TRY(ledger_totals(ledger, &totals, err));
    TRY(ledger_read_end(ledger, err));
    figures->problems = survey.problems;
    figures->tokens = survey.tokens;
    take_totals(figures, &totals);
    if (runs && has_live) {
        take_live(figures, &live);
    }
    return STATUS_OK;
}

// A ledger that is not there yet, or that its runner holds, is read another time.
static void read_part(struct parts_progress *progress, size_t part, bool runs) {
    char folder[PATH_SIZE];
    struct part_figures figures = {0};
    struct ledger *ledger;
    struct error ignored;
    if (parts_folder_of(folder, progress->folder, part, progress->count, &ignored) != STATUS_OK ||
        ledger_open_read(&ledger, folder, &ignored) != STATUS_OK) {
        return;
    }
    if (read_moment(&figures, ledger, runs, &ignored) == STATUS_OK) {
        progress->figures[part] = figures;
    }
    ledger_close(ledger);
}

// ---- all of them ----

// The survey, made by the first part to run.
static void read_plan(struct parts_progress *progress) {
    struct survey_file survey = {0};
    char path[PATH_SIZE];
    struct error ignored;
    bool found = false;
    if (!progress->planned &&
        path_join(path, sizeof path, progress->folder, RUN_SET_SURVEY, &ignored) == STATUS_OK &&
        survey_file_read(&survey, path, &found, &ignored) == STATUS_OK && found) {
        progress->problems = survey.blocks.rows;
        progress->planned = true;
    }
    survey_file_destroy(&survey);
}

static void add_up(const struct parts_progress *progress, struct part_figures *sums) {
    *sums = (struct part_figures){0};
    for (size_t i = 0; i < progress->count; i++) {
        const struct part_figures *figures = &progress->figures[i];
        sums->problems += figures->problems;
        sums->tokens += figures->tokens;
        sums->accounted += figures->accounted;
        sums->computed += figures->computed;
        sums->done += figures->done;
        sums->failed += figures->failed;
        sums->skipped += figures->skipped;
        sums->rows += figures->rows;
        sums->shards += figures->shards;
        sums->bytes += figures->bytes;
        sums->rate += figures->rate;
    }
}

// Of texts that no part has looked at yet there are taken to be as many tokens as in the others.
static double seconds_left(const struct parts_progress *progress, const struct part_figures *sums) {
    if (!progress->planned || sums->problems == 0 || !(sums->rate > 0)) {
        return 0;
    }
    double all = (double)sums->tokens * ((double)progress->problems / (double)sums->problems);
    double left = all - (double)sums->computed;
    return left > 0 ? left / sums->rate : 0;
}

static void show(struct parts_progress *progress, const struct part_figures *sums, bool now) {
    char note[64];
    pthread_mutex_lock(&progress->lock);
    snprintf(note, sizeof note, "%zu of %zu parts finished, %zu running", progress->finished, progress->count,
             progress->running);
    pthread_mutex_unlock(&progress->lock);
    struct display_state state = {.stage = "running",
                                  .done = sums->accounted,
                                  .all = progress->problems,
                                  .unit = "problems",
                                  .rate = sums->rate,
                                  .seconds_left = seconds_left(progress, sums),
                                  .note = note};
    display_update(&progress->display, &state, now);
}

// Shows what was said.
static void tell(struct parts_progress *progress) {
    pthread_mutex_lock(&progress->lock);
    struct buffer words = progress->words;
    size_t lost = progress->lost;
    progress->words = (struct buffer){0};
    progress->lost = 0;
    pthread_mutex_unlock(&progress->lock);
    if (words.size == 0) {
        return;
    }
    display_end(&progress->display);
    for (size_t at = 0; at < words.size;) {
        const char *end = memchr(words.data + at, '\n', words.size - at);
        size_t length = end == NULL ? words.size - at : (size_t)(end - words.data) - at;
        printable_write_bytes(stderr, words.data + at, length);
        fputc('\n', stderr);
        at += length + 1;
    }
    if (lost > 0) {
        fprintf(stderr, "strata: %zu more events, which could not be shown in time\n", lost);
    }
    fflush(stderr);
    buffer_destroy(&words);
}

// Whether there is something to read of a part; *runs: now.
static bool take_fresh(struct parts_progress *progress, size_t part, bool *runs) {
    pthread_mutex_lock(&progress->lock);
    bool fresh = progress->fresh[part] && !progress->ends;
    progress->fresh[part] = false;
    *runs = progress->state[part] == SUPERVISED_RUNNING;
    pthread_mutex_unlock(&progress->lock);
    return fresh;
}

static bool is_over(struct parts_progress *progress) {
    pthread_mutex_lock(&progress->lock);
    bool ends = progress->ends;
    pthread_mutex_unlock(&progress->lock);
    return ends;
}

static void read_all(struct parts_progress *progress) {
    struct part_figures sums;
    read_plan(progress);
    for (size_t i = 0; i < progress->count; i++) {
        bool runs;
        if (take_fresh(progress, i, &runs)) {
            read_part(progress, i, runs);
            tell(progress);
        }
    }
    add_up(progress, &sums);
    show(progress, &sums, false);
}

static void *watch_parts(void *context) {
    struct parts_progress *progress = context;
    double read = -READ_SECONDS;
    for (; !is_over(progress); clock_sleep(TICK)) {
        tell(progress);
        if (progress->display.out != NULL && clock_seconds() - read >= READ_SECONDS) {
            read_all(progress);
            read = clock_seconds();
        }
    }
    tell(progress);
    return NULL;
}

int parts_progress_start(struct parts_progress *progress, const char *folder, size_t parts, FILE *out,
                         struct error *err) {
    *progress = (struct parts_progress){.folder = folder, .count = parts};
    pthread_mutex_init(&progress->lock, NULL);
    display_start(&progress->display, out);
    TRY(memory_zeroed(&progress->figures, parts, sizeof *progress->figures, err));
    TRY(memory_zeroed(&progress->state, parts, sizeof *progress->state, err));
    TRY(memory_zeroed(&progress->fresh, parts, sizeof *progress->fresh, err));
    memset(progress->fresh, true, parts);
    if (pthread_create(&progress->thread, NULL, watch_parts, progress) != 0) {
        return error_set(err, STATUS_INTERNAL, "cannot start the thread of the progress line");
    }
    progress->started = true;
    return STATUS_OK;
}

void parts_progress_take(struct parts_progress *progress, const struct supervised *parts) {
    pthread_mutex_lock(&progress->lock);
    progress->running = progress->finished = 0;
    for (size_t i = 0; i < progress->count; i++) {
        bool runs = parts[i].state == SUPERVISED_RUNNING;
        progress->fresh[i] = progress->fresh[i] || runs || progress->state[i] != parts[i].state;
        progress->state[i] = parts[i].state;
        progress->running += runs;
        progress->finished += parts[i].state == SUPERVISED_ENDED && parts[i].exit_code == 0;
    }
    pthread_mutex_unlock(&progress->lock);
}

// Without memory a word is lost, not a part.
static void note(struct parts_progress *progress, const char *text, const char *lines) {
    struct error ignored;
    if (buffer_printf(&progress->words, &ignored, "strata: %s\n", text) != STATUS_OK) {
        return;
    }
    for (const char *at = lines == NULL ? "" : lines; *at != 0;) {
        size_t length = strcspn(at, "\n");
        if (buffer_printf(&progress->words, &ignored, "  %.*s\n", (int)length, at) != STATUS_OK) {
            return;
        }
        at += length + (at[length] == '\n');
    }
}

void parts_progress_say(struct parts_progress *progress, const char *text, const char *lines) {
    pthread_mutex_lock(&progress->lock);
    if (progress->words.size < WORDS_MOST) {
        note(progress, text, lines);
    } else {
        progress->lost++;
    }
    pthread_mutex_unlock(&progress->lock);
}

// False when the thread hangs: the process ends without it.
static bool end_thread(struct parts_progress *progress) {
    struct timespec until;
    pthread_mutex_lock(&progress->lock);
    progress->ends = true;
    pthread_mutex_unlock(&progress->lock);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += END_SECONDS;
    if (progress->started && pthread_timedjoin_np(progress->thread, NULL, &until) != 0) {
        return false;
    }
    progress->started = false;
    return true;
}

bool parts_progress_end(struct parts_progress *progress, struct part_figures *sums) {
    if (!end_thread(progress)) {
        return false;
    }
    read_plan(progress);
    for (size_t i = 0; i < progress->count; i++) {
        read_part(progress, i, false);
    }
    add_up(progress, sums);
    if (progress->display.out != NULL) {
        show(progress, sums, true);
    }
    display_end(&progress->display);
    return true;
}

bool parts_progress_destroy(struct parts_progress *progress) {
    if (progress->started && !end_thread(progress)) {
        return false;
    }
    free(progress->figures);
    free(progress->state);
    free(progress->fresh);
    buffer_destroy(&progress->words);
    return true;
}
