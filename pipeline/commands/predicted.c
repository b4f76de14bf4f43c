// SPDX-License-Identifier: MIT
#include "commands/predicted.h"

#include <inttypes.h>

#include "base/printable.h"
#include "commands/readable.h"

#define APART 0.01 // of the time spent waiting: from there on it is told beside the computing

int predicted_read(struct predicted *out, struct ledger *ledger, struct error *err) {
    *out = (struct predicted){0};
    TRY(prediction_load(&out->prediction, ledger, &out->known, err));
    return out->known ? ledger_launch_work(ledger, out->prediction.launch, &out->work, err) : STATUS_OK;
}

static double rate_of(uint64_t tokens, double seconds) {
    return tokens > 0 && seconds > 0 ? (double)tokens / seconds : 0;
}

static double computing_rate(const struct predicted *p) {
    return rate_of(p->work.tokens, p->work.compute_seconds);
}

static double wall_rate(const struct predicted *p) {
    return rate_of(p->work.tokens, p->work.compute_seconds + p->work.wait_seconds);
}

// Of `rate` over what was foretold.
static double difference(const struct predicted *p, double rate) {
    return 100 * (rate / p->prediction.tokens_per_second - 1);
}

void predicted_write(FILE *out, int indent, const struct predicted *predicted) {
    const struct prediction *p = &predicted->prediction;
    char a[READABLE_TEXT];
    char b[READABLE_TEXT];
    double computing = computing_rate(predicted);
    double wall = wall_rate(predicted);
    if (!predicted->known) {
        return;
    }
    fprintf(out, "%*spredicted   %s tokens/s", indent, "", readable_rate(p->tokens_per_second, a));
    if (computing > 0) {
        fprintf(out, ", measured %s (%+.1f %%)", readable_rate(computing, a),
                difference(predicted, computing));
    }
    if (computing > 0 && wall < (1 - APART) * computing) {
        fprintf(out, ", with waiting %s (%+.1f %%)", readable_rate(wall, a), difference(predicted, wall));
    }
    fprintf(out, "; %s for %s tokens, limit ", readable_duration(p->seconds, a),
            readable_count(p->tokens, b));
    printable_write(out, p->limit);
    fputs(", by the calibration of a ", out);
    if (p->group > 0) {
        fprintf(out, "sweep of %" PRIu64 " batches\n", p->group);
    } else {
        fputs("batch\n", out);
    }
}

static json_t *real_or_null(double value) {
    json_t *real = value > 0 ? json_real(value) : NULL;
    return real != NULL ? real : json_null();
}

json_t *predicted_json(const struct predicted *predicted) {
    const struct prediction *p = &predicted->prediction;
    const struct ledger_work *work = &predicted->work;
    if (!predicted->known) {
        return json_null();
    }
    return json_pack("{s:I, s:I, s:f, s:f, s:s, s:o, s:{s:I, s:f, s:f, s:o, s:o}}", "launch",
                     (json_int_t)p->launch, "tokens", (json_int_t)p->tokens, "seconds", p->seconds,
                     "tokens_per_second", p->tokens_per_second, "limit", p->limit, "sweep_batches",
                     p->group > 0 ? json_integer((json_int_t)p->group) : json_null(), "measured", "tokens",
                     (json_int_t)work->tokens, "compute_seconds", work->compute_seconds, "wait_seconds",
                     work->wait_seconds, "tokens_per_second", real_or_null(computing_rate(predicted)),
                     "with_waiting", real_or_null(wall_rate(predicted)));
}
