// SPDX-License-Identifier: MIT
#include "start/surveyor.h"

#include <errno.h>
#include <time.h>

static bool goes_on(void *context, uint64_t problems) {
    struct surveyor *surveyor = context;
    atomic_store(&surveyor->problems, problems);
    return !surveyor_is_stopped(surveyor) && !surveyor->options.stopped(surveyor->options.context);
}

static int make(struct surveyor *surveyor, struct survey *out, struct error *err) {
    const struct surveyor_options *options = &surveyor->options;
    uint64_t problems;
    if (options->known == NULL) {
        return survey_make(out, options->source, options->preparer, &options->limits, options->wish, NULL,
                           goes_on, surveyor, err);
    }
    *out = *options->known;
    return survey_digest(options->source, &problems, out->totals.problems_sha256, err);
}

static void *surveyor_main(void *context) {
    struct surveyor *surveyor = context;
    struct survey survey;
    struct error err = {0};
    int status = make(surveyor, &survey, &err);
    pthread_mutex_lock(&surveyor->lock);
    surveyor->survey = survey;
    surveyor->status = status;
    surveyor->err = err;
    surveyor->done = true;
    pthread_cond_broadcast(&surveyor->ended);
    pthread_mutex_unlock(&surveyor->lock);
    return NULL;
}

static void destroy_lock(struct surveyor *surveyor) {
    pthread_cond_destroy(&surveyor->ended);
    pthread_mutex_destroy(&surveyor->lock);
}

int surveyor_start(struct surveyor *surveyor, const struct surveyor_options *options, struct error *err) {
    pthread_condattr_t attributes;
    *surveyor = (struct surveyor){.options = *options};
    atomic_init(&surveyor->problems, 0);
    atomic_init(&surveyor->stop, false);
    pthread_mutex_init(&surveyor->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&surveyor->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    int problem = pthread_create(&surveyor->thread, NULL, surveyor_main, surveyor);
    if (problem != 0) {
        destroy_lock(surveyor);
        errno = problem;
        return error_set_errno(err, STATUS_INTERNAL, "cannot start the thread that surveys the problems");
    }
    surveyor->running = true;
    return STATUS_OK;
}

bool surveyor_wait(struct surveyor *surveyor, double seconds) {
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += (long)(seconds * 1e9);
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    pthread_mutex_lock(&surveyor->lock);
    int result = 0;
    while (!surveyor->done && seconds > 0 && result != ETIMEDOUT) {
        result = pthread_cond_timedwait(&surveyor->ended, &surveyor->lock, &end);
    }
    bool done = surveyor->done;
    pthread_mutex_unlock(&surveyor->lock);
    return done;
}

uint64_t surveyor_problems(const struct surveyor *surveyor) {
    return atomic_load(&surveyor->problems);
}

void surveyor_stop(struct surveyor *surveyor) {
    atomic_store(&surveyor->stop, true);
}

bool surveyor_is_stopped(const struct surveyor *surveyor) {
    return atomic_load(&surveyor->stop);
}

int surveyor_finish(struct surveyor *surveyor, struct survey *out, struct error *err) {
    pthread_join(surveyor->thread, NULL);
    surveyor->running = false;
    destroy_lock(surveyor);
    *out = surveyor->survey;
    if (surveyor->status != STATUS_OK) {
        *err = surveyor->err;
    }
    return surveyor->status;
}
