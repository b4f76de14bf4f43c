// SPDX-License-Identifier: MIT
// The state space in double precision, and seeded numbers that it is computed with.
#ifndef STRATA_TESTS_KERNELS_STATE_SPACE_REFERENCE_H
#define STRATA_TESTS_KERNELS_STATE_SPACE_REFERENCE_H

#include "device_testing.h"

struct sizes {
    size_t heads;
    size_t head_dim;
    size_t groups;
    size_t state;
    size_t taps;
    size_t norm_groups;
    bool bias;
    float least; // of steps
    float most;
    bool extreme; // steps of nothing or huge ones, decays that forget all or nothing
};

// ---- what a case computes with ----

struct numbers {                     // in host memory
    struct device_state_space space; // sizes
    bool has_bias;
    size_t width;
    size_t out_width;
    float *in; // [tokens, width]
    float *convolution;
    float *bias;
    float *decay;
    float *step_bias;
    float *skip;
    float *norm;
};

static inline struct numbers take_numbers(const struct sizes *sizes, size_t tokens, enum dtype dtype) {
    struct device_state_space space = {.heads = sizes->heads,
                                       .head_dim = sizes->head_dim,
                                       .groups = sizes->groups,
                                       .state = sizes->state,
                                       .taps = sizes->taps,
                                       .norm_groups = sizes->norm_groups,
                                       .epsilon = 1e-5f,
                                       .step_least = sizes->least,
                                       .step_most = sizes->most};
    size_t width = device_state_space_width(&space);
    size_t mixed = device_state_space_mixed(&space);
    size_t heads = space.heads;
    struct numbers n = {
        .space = space,
        .has_bias = sizes->bias,
        .width = width,
        .out_width = device_state_space_out(&space),
        .in = random_numbers(1, tokens * width, 2.0f, dtype),
        .convolution = random_numbers(2, mixed * space.taps, 0.7f, dtype),
        .bias = random_numbers(7, mixed, 0.5f, dtype),
        .decay = random_numbers(3, heads, sizes->extreme ? 6.0f : 1.5f, dtype),
        .step_bias = random_numbers(4, heads, 1.0f, dtype),
        .skip = random_numbers(8, heads, 1.0f, dtype),
        .norm = random_numbers(5, device_state_space_out(&space), 1.5f, dtype),
    };
    uint64_t seed = 6;
    for (size_t t = 0; sizes->extreme && t < tokens; t++) {
        for (size_t i = width - heads; i < width; i++) {
            double at = random_unit(&seed);
            n.in[t * width + i] = at < 0.15  ? -90.0f
                                  : at > 0.9 ? 90.0f
                                  : at > 0.8 ? -14.0f
                                             : n.in[t * width + i];
        }
    }
    return n;
}

static inline void numbers_free(struct numbers *n) {
    free(n->in);
    free(n->convolution);
    free(n->bias);
    free(n->decay);
    free(n->step_bias);
    free(n->skip);
    free(n->norm);
}

// ---- in double precision ----

static inline double at_rounding(double value, enum dtype dtype) {
    return dtype == DTYPE_F32 ? value : (double)round_to((float)value, dtype);
}

static inline double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

static inline double softplus(double x) {
    return x > 20 ? x : log1p(exp(x));
}

struct wanted {        // of one text, beside each number how far a device's may be off
    double *mixed;     // [tokens, mixed]
    double *mixed_off; // of x, B and C that were rounded the other way, too
    double *out;       // [tokens, out_width]
    double *off;
    double *state; // [heads, state, head_dim] after it
    double *state_off;
};

static inline void wanted_free(struct wanted *wanted) {
    free(wanted->mixed);
    free(wanted->mixed_off);
    free(wanted->out);
    free(wanted->off);
    free(wanted->state);
    free(wanted->state_off);
}

static inline double rounding(const struct bed *bed,
                              double size) { // of a number that is rounded the other way
    return bed->dtype == DTYPE_F32 ? 0 : 4 * bed_epsilon(bed) * size + 2 * bed_least(bed);
}

static inline void wanted_mixed(const struct bed *bed, const struct numbers *n, const float *in,
                                size_t tokens, struct wanted *wanted) {
    size_t columns = device_state_space_mixed(&n->space);
    size_t taps = n->space.taps;
    for (size_t t = 0; t < tokens; t++) {
        for (size_t c = 0; c < columns; c++) {
            double sum = n->has_bias ? (double)n->bias[c] : 0;
            double terms = fabs(sum);
            for (size_t i = 0; i < taps && i <= t; i++) {
                double x = (double)in[(t - i) * n->width + n->out_width + c];
                double product = (double)n->convolution[c * taps + taps - 1 - i] * x;
                sum += product;
                terms += fabs(product);
            }
            sum = at_rounding(sum, bed->dtype);
            wanted->mixed[t * columns + c] = at_rounding(sum * sigmoid(sum), bed->dtype);
            wanted->mixed_off[t * columns + c] = 8 * F32_EPSILON * terms + rounding(bed, fabs(sum));
        }
    }
}

struct step { // of a head's token
    double size;
    double size_off;
    double factor;
    double factor_off;
};

static inline struct step step_of(const struct bed *bed, const struct numbers *n, const float *in, size_t h) {
    const struct device_state_space *space = &n->space;
    double dt = (double)in[n->width - space->heads + h] + (double)n->step_bias[h];
    double size = at_rounding(softplus(at_rounding(dt, bed->dtype)), bed->dtype);
    struct step step = {
        .size = fmin(fmax(size, at_rounding(space->step_least, bed->dtype)),
                     at_rounding(space->step_most, bed->dtype)),
        .size_off = (4 + 2 * fabs(dt)) * F32_EPSILON * size + rounding(bed, size * (1 + fabs(dt))),
    };
    double rate = exp((double)n->decay[h]);
    step.factor = exp(-rate * step.size);
    step.factor_off = step.factor * (rate * step.size_off + 8 * F32_EPSILON * (1 + rate * step.size)) + 1e-37;
    return step;
}

// Of column p of head h. Returns y; *y_off as above. Errors of different steps have nothing to do with each
// other.
static inline double step_column(const struct numbers *n, const struct step *step, const double *mixed,
                                 const double *mixed_off, size_t h, size_t p, struct wanted *wanted,
                                 double *y_off) {
    const struct device_state_space *space = &n->space;
    size_t group = h / (space->heads / space->groups);
    size_t x = h * space->head_dim + p;
    size_t b = n->out_width + group * space->state;
    size_t c = b + space->groups * space->state;
    double u = step->size * mixed[x];
    double u_off = step->size * mixed_off[x] + step->size_off * fabs(mixed[x]);
    double y = 0;
    *y_off = 0;
    for (size_t i = 0; i < space->state; i++) {
        size_t at = (h * space->state + i) * space->head_dim + p;
        double before = wanted->state[at];
        double h_off = step->factor * wanted->state_off[at];
        double now = step->factor * before + u * mixed[b + i];
        double fresh = step->factor_off * fabs(before) + fabs(u) * mixed_off[b + i] +
                       u_off * fabs(mixed[b + i]) +
                       4 * F32_EPSILON * (step->factor * fabs(before) + fabs(u * mixed[b + i]));
        h_off = sqrt(h_off * h_off + fresh * fresh);
        wanted->state[at] = now;
        wanted->state_off[at] = h_off;
        y += now * mixed[c + i];
        *y_off += h_off * fabs(mixed[c + i]) + fabs(now) * mixed_off[c + i] +
                  16 * F32_EPSILON * fabs(now * mixed[c + i]);
    }
    double skip = (double)n->skip[h];
    *y_off += fabs(skip) * (mixed_off[x] + 4 * F32_EPSILON * fabs(mixed[x]));
    return y + skip * mixed[x];
}

// One group of columns of a token, in place.
static inline void wanted_norm(const struct bed *bed, const struct numbers *n, const float *in, double *out,
                               double *off, size_t first, size_t width) {
    double squares = 0;
    double all_off = 0;
    for (size_t j = first; j < first + width; j++) {
        double gate = (double)in[j] * sigmoid((double)in[j]);
        out[j] *= gate;
        off[j] = off[j] * fabs(gate) + 32 * F32_EPSILON * fabs(out[j]);
        squares += out[j] * out[j];
        all_off += off[j] * off[j];
    }
    double inverse = 1 / sqrt(squares / (double)width + (double)n->space.epsilon);
    all_off = sqrt(all_off / (double)width) * inverse; // of the norm's divisor
    for (size_t j = first; j < first + width; j++) {
        double normed = out[j] * inverse;
        double weight = (double)n->norm[j];
        out[j] = at_rounding(normed * weight, bed->dtype);
        off[j] = (off[j] * inverse + all_off * fabs(normed)) * fabs(weight) + 2 * bed_least(bed);
        off[j] += (2 * bed_epsilon(bed) + 16 * F32_EPSILON) * fabs(out[j]);
    }
}

static inline struct wanted wanted_text(const struct bed *bed, const struct numbers *n, const float *in,
                                        size_t tokens) {
    const struct device_state_space *space = &n->space;
    size_t columns = device_state_space_mixed(space);
    size_t states = n->out_width * space->state;
    struct wanted wanted = {
        .mixed = calloc(tokens * columns + 1, sizeof(double)),
        .mixed_off = calloc(tokens * columns + 1, sizeof(double)),
        .out = calloc(tokens * n->out_width + 1, sizeof(double)),
        .off = calloc(tokens * n->out_width + 1, sizeof(double)),
        .state = calloc(states, sizeof(double)),
        .state_off = calloc(states, sizeof(double)),
    };
    assert_true(wanted.mixed != NULL && wanted.mixed_off != NULL && wanted.out != NULL &&
                wanted.off != NULL && wanted.state != NULL && wanted.state_off != NULL);
    wanted_mixed(bed, n, in, tokens, &wanted);
    for (size_t t = 0; t < tokens; t++) {
        double *out = wanted.out + t * n->out_width;
        double *off = wanted.off + t * n->out_width;
        for (size_t h = 0; h < space->heads; h++) {
            struct step step = step_of(bed, n, in + t * n->width, h);
            for (size_t p = 0; p < space->head_dim; p++) {
                size_t j = h * space->head_dim + p;
                out[j] = step_column(n, &step, wanted.mixed + t * columns, wanted.mixed_off + t * columns, h,
                                     p, &wanted, &off[j]);
            }
        }
        size_t width = n->out_width / space->norm_groups;
        for (size_t first = 0; first < n->out_width; first += width) {
            wanted_norm(bed, n, in + t * n->width, out, off, first, width);
        }
    }
    return wanted;
}

#endif
