// SPDX-License-Identifier: MIT
// The values that 4-bit and 8-bit codes of bitsandbytes stand for, each as a share of its block's absmax.
#ifndef STRATA_KERNELS_NF4_TABLES_H
#define STRATA_KERNELS_NF4_TABLES_H

enum { NF4_VALUES = 16, NF4_MAP = 256 };

// Quantiles of the normal distribution, normalised to [-1, 1] (Dettmers et al., "QLoRA", 2023, appendix E).
static const float nf4_values[NF4_VALUES] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

// A sign, two bits of exponent and one of fraction, divided by the largest; not in order.
static const float fp4_values[NF4_VALUES] = {
    0.0f, 0.0625f / 12,  8.0f / 12,  1.0f,  4.0f / 12,  6.0f / 12,  2.0f / 12,  3.0f / 12,
    0.0f, -0.0625f / 12, -8.0f / 12, -1.0f, -4.0f / 12, -6.0f / 12, -2.0f / 12, -3.0f / 12,
};

// The signed dynamic map of 8 bits, ascending: for each decade from 1e-6 to 1, the middles of 1, 2, 4, ... 64
// equal parts of [0.1, 1] of it, with both signs; 0 and 1 besides. Rounded where torch.linspace rounds on
// processors with fused multiply-adds, AVX2 and later; float64 stands for the fused one.
static inline void nf4_dynamic_map(float map[NF4_MAP]) {
    static const float decades[7] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
    int at = 0; // of the positive ones that are written, smallest first
    for (int decade = 0; decade < 7; decade++) {
        int parts = 1 << decade;
        float step = (1.0f - 0.1f) / (float)parts;
        for (int i = 0; i < parts; i++) {
            float bounds[2];
            for (int end = 0; end < 2; end++) { // from the nearer end of [0.1, 1]
                int k = i + end;
                bounds[end] = k < (parts + 1) / 2 ? (float)((double)0.1f + (double)step * k)
                                                  : (float)(1.0 - (double)step * (parts - k));
            }
            float value = decades[decade] * ((bounds[0] + bounds[1]) / 2);
            map[NF4_MAP / 2 + at] = value;
            map[NF4_MAP / 2 - 2 - at] = -value;
            at++;
        }
    }
    map[NF4_MAP / 2 - 1] = 0;
    map[NF4_MAP - 1] = 1;
}

#endif
