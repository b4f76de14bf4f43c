// SPDX-License-Identifier: MIT
#include "kernels/low_rank.h"

#include "base/size.h"

// Numbers whose sums stay in the first cache while the rank is gone through, in streams of `a` that the
// processor reads ahead. With few sums, in registers, each step would touch another line of the same set:
// rows of `a` often lie a power of two apart. Rank 16, 4,096 columns, one core of a Xeon that had other work
// too: 8 * 10^9 operations/s, with sums in registers 3.
enum { RUN = 512, AT_ONCE = 4 };

static void add_products(float *restrict sums, const float *restrict a, const float *restrict b,
                         size_t columns, size_t count) {
    const float *restrict a1 = a + columns;
    const float *restrict a2 = a1 + columns;
    const float *restrict a3 = a2 + columns;
    for (size_t i = 0; i < count; i++) {
        sums[i] = sums[i] + b[0] * a[i] + b[1] * a1[i] + b[2] * a2[i] + b[3] * a3[i];
    }
}

static void add_product(float *restrict sums, const float *restrict a, float b, size_t count) {
    for (size_t i = 0; i < count; i++) {
        sums[i] += b * a[i];
    }
}

// Returns 0, or a NaN where something that was added is not finite.
static float add_run(float *restrict numbers, const struct low_rank *delta, const float *b, size_t column,
                     size_t count) {
    float sums[RUN] = {0};
    float odd = 0;
    size_t k = 0;
    const float *a = delta->a + column;
    for (; k + AT_ONCE <= delta->rank; k += AT_ONCE) {
        add_products(sums, a + k * delta->columns, b + k, delta->columns, count);
    }
    for (; k < delta->rank; k++) {
        add_product(sums, a + k * delta->columns, b[k], count);
    }
    for (size_t i = 0; i < count; i++) {
        float added = delta->scale * sums[i];
        odd += 0 * added;
        numbers[i] += added;
    }
    return odd;
}

static bool add_row(float *numbers, const struct low_rank *delta, const float *b) {
    float odd = 0;
    for (size_t column = 0; column < delta->columns; column += RUN) {
        odd += add_run(numbers + column, delta, b, column, size_min(RUN, delta->columns - column));
    }
    return odd == 0;
}

bool low_rank_add(float *numbers, const struct low_rank *delta, size_t row, size_t count, int threads) {
    bool finite = true;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(&& : finite)
    for (size_t i = 0; i < count; i++) {
        finite = add_row(numbers + i * delta->columns, delta, delta->b + (row + i) * delta->rank) && finite;
    }
    return finite;
}
