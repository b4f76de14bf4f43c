// SPDX-License-Identifier: MIT
#include "model/rope.h"

#include <math.h>
#include <stdint.h>

// Powers, cosines and sines are taken in double and rounded once: within half a unit of any float32
// implementation.
static float power(float base, float exponent) {
    return (float)pow((double)base, (double)exponent);
}

// 1 / base^(2 i / rotated), the exponent in float32.
static float plain_frequency(float base, size_t i, size_t rotated) {
    return 1.0f / power(base, (float)(2 * i) / (float)rotated);
}

// NTK: theta * (factor * length / M - (factor - 1))^(d / (d - 2)). transformers computes it in double when
// the model is made (length = M) and in float32 for a longer text, whose length is a tensor there.
static float dynamic_base(const struct model_config *config, const struct rope_config *rope, size_t length) {
    size_t rotated = config_rope_rotated(config, rope);
    double exponent = (double)rotated / (double)(rotated - 2);
    if (length <= config->max_positions) {
        double positions = (double)config->max_positions;
        double stretch = rope->factor * positions / positions - (rope->factor - 1);
        return (float)(rope->theta * pow(stretch, exponent));
    }
    float stretch =
        (float)rope->factor * (float)length / (float)config->max_positions - (float)(rope->factor - 1);
    return (float)rope->theta * power(stretch, (float)exponent);
}

// Short wavelengths stay, long ones are divided by the factor, those between are blended.
static float llama3_frequency(const struct rope_config *rope, float frequency) {
    float wavelength = (float)(2 * M_PI) / frequency;
    float longest = (float)(rope->original_positions / rope->low_freq_factor);
    float shortest = (float)(rope->original_positions / rope->high_freq_factor);
    float factor = (float)rope->factor;
    if (wavelength > longest) {
        return frequency / factor;
    }
    if (wavelength < shortest) {
        return frequency;
    }
    if (rope->high_freq_factor == rope->low_freq_factor) { // there is nothing between
        return frequency / factor;
    }
    float smooth = ((float)rope->original_positions / wavelength - (float)rope->low_freq_factor) /
                   (float)(rope->high_freq_factor - rope->low_freq_factor);
    return (1.0f - smooth) * frequency / factor + smooth * frequency;
}

// The dimension whose wavelength turns `rotations` times over the original context.
static double yarn_dimension(const struct rope_config *rope, size_t rotated, double rotations) {
    double turns = rope->original_positions / (rotations * 2 * M_PI);
    return (double)rotated * log(turns) / (2 * log(rope->theta));
}

static void yarn_frequencies(const struct rope_config *rope, size_t rotated, float *out) {
    double low = yarn_dimension(rope, rotated, rope->beta_fast);
    double high = yarn_dimension(rope, rotated, rope->beta_slow);
    if (rope->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, (double)rotated - 1);
    if (low == high) {
        high += 0.001; // no division by zero: a step instead of a ramp
    }
    for (size_t i = 0; i < rotated / 2; i++) {
        float turns = power((float)rope->theta, (float)(2 * i) / (float)rotated);
        float ramp = ((float)i - (float)low) / (float)(high - low);
        float kept = 1.0f - fminf(fmaxf(ramp, 0.0f), 1.0f);
        out[i] = 1.0f / ((float)rope->factor * turns) * (1.0f - kept) + 1.0f / turns * kept;
    }
}

size_t rope_common_positions(const struct model_config *config) {
    return config->rope.kind == ROPE_DYNAMIC ? config->max_positions
           : config->rope.kind == ROPE_LONG  ? (size_t)config->rope.original_positions
                                             : SIZE_MAX;
}

bool rope_is_own(const struct model_config *config, size_t length) {
    return length > rope_common_positions(config);
}

static void other_frequencies(const struct model_config *config, const struct rope_config *rope,
                              size_t length, float *out) {
    size_t rotated = config_rope_rotated(config, rope);
    float base = rope->kind == ROPE_DYNAMIC ? dynamic_base(config, rope, length) : (float)rope->theta;
    for (size_t i = 0; i < rotated / 2; i++) {
        float frequency = plain_frequency(base, i, rotated);
        if (rope->kind == ROPE_LINEAR) {
            frequency /= (float)rope->factor;
        } else if (rope->kind == ROPE_LLAMA3) {
            frequency = llama3_frequency(rope, frequency);
        }
        out[i] = frequency;
    }
}

// 1 / (factor * base^(2 i / rotated)).
static void long_frequencies(const struct rope_config *rope, size_t rotated, size_t length, float *out) {
    bool is_long = (double)length > rope->original_positions;
    const float *divisors = is_long ? rope->long_divisors : rope->divisors;
    for (size_t i = 0; i < rotated / 2; i++) {
        out[i] = 1.0f / (divisors[i] * power((float)rope->theta, (float)(2 * i) / (float)rotated));
    }
}

void rope_frequencies(const struct model_config *config, const struct rope_config *rope, size_t length,
                      float *out) {
    size_t rotated = config_rope_rotated(config, rope);
    if (rope->kind == ROPE_LONG) {
        long_frequencies(rope, rotated, length, out);
    } else if (rope->kind == ROPE_YARN) {
        yarn_frequencies(rope, rotated, out);
    } else {
        other_frequencies(config, rope, length, out);
    }
    for (size_t i = 0; rope->kind != ROPE_LONG && rope->divisors != NULL && i < rotated / 2; i++) {
        out[i] /= rope->divisors[i];
    }
    for (size_t i = rotated / 2 - rope->still; i < rotated / 2; i++) {
        out[i] = 0;
    }
    for (size_t i = 0; rope->turns_back && i < rotated / 2; i++) {
        out[i] = -out[i];
    }
}

void rope_rows(const struct model_config *config, const struct rope_config *rope, const float *frequencies,
               size_t first, size_t count, float *cosine, float *sine) {
    size_t half = config_rope_rotated(config, rope) / 2;
    float scale = (float)rope->attention_factor;
    for (size_t row = 0; row < count; row++) {
        for (size_t i = 0; i < half; i++) {
            double angle = (double)((float)(first + row) * frequencies[i]);
            cosine[row * half + i] = (float)cos(angle) * scale;
            sine[row * half + i] = (float)sin(angle) * scale;
        }
    }
}

float rope_query_scale(const struct model_config *config, size_t position) {
    if (config->query_step > 0) {
        float steps = floorf(((float)position + 1.0f) / (float)config->query_step);
        return (float)log1p((double)steps) * (float)config->query_beta + 1.0f;
    }
    float turns = floorf((float)position / (float)config->rope.original_positions);
    return 1.0f + (float)config->query_beta * (float)log(1.0 + (double)turns);
}

float rope_slope(size_t heads, size_t head) {
    size_t closest = 1;
    while (closest * 2 <= heads) {
        closest *= 2;
    }
    if (head < closest) {
        return power((float)pow(2, -8.0 / (double)closest), (float)(head + 1));
    }
    return power((float)pow(2, -4.0 / (double)closest), (float)(2 * (head - closest) + 1));
}
