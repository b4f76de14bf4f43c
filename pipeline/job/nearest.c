// SPDX-License-Identifier: MIT
#include <ctype.h>
#include <string.h>

#include "base/size.h"
#include "job/job.h"

enum { WORD_MAXIMUM = 48 };

static int same(char a, char b) {
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

// Edits (insert, delete, replace, swap of neighbours) between two words, letters' case aside.
static size_t distance(const char *a, size_t a_size, const char *b, size_t b_size) {
    size_t rows[3][WORD_MAXIMUM + 1];
    size_t *before = rows[0];
    size_t *last = rows[1];
    size_t *row = rows[2];
    for (size_t j = 0; j <= b_size; j++) {
        last[j] = j;
    }
    for (size_t i = 1; i <= a_size; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t replaced = last[j - 1] + (size_t)!same(a[i - 1], b[j - 1]);
            row[j] = size_min(replaced, size_min(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1])) {
                row[j] = size_min(row[j], before[j - 2] + 1);
            }
        }
        size_t *reused = before;
        before = last;
        last = row;
        row = reused;
    }
    return last[b_size];
}

const char *job_nearest(const char *word, const char *const *candidates, size_t count) {
    size_t size = strlen(word);
    const char *nearest = NULL;
    size_t least = SIZE_MAX;
    if (size == 0 || size > WORD_MAXIMUM) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        size_t other = strlen(candidates[i]);
        if (other > WORD_MAXIMUM) {
            continue;
        }
        size_t edits = distance(word, size, candidates[i], other);
        size_t longer = size_max(size, other);
        // A third of the longer word may be wrong; a word of which nothing is right is never near.
        if (edits < least && edits <= (longer + 2) / 3 && edits < longer) {
            least = edits;
            nearest = candidates[i];
        }
    }
    return nearest;
}
