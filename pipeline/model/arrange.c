// SPDX-License-Identifier: MIT
#include "model/arrange.h"

#include <string.h>

#include "base/size.h"

enum { WORD = 4, WORD_BITS = 32, MOST_CODES = WORD_BITS / 4 };

// Words go through a tile: each line is a row's run of codes, so that whole lines of the cache are read and
// written, whatever the distance between rows (often a power of two, where a few rows fill a set).
enum { TILE_WORDS = 16, TILE_LINES = 128 };

static int misfit(size_t bytes, size_t out_bytes, struct error *err) {
    return error_set(err, STATUS_INTERNAL, "%zu bytes do not become %zu", bytes, out_bytes);
}

static size_t divide_up(size_t value, size_t by) {
    return value / by + (value % by != 0);
}

// Whether it is a * b * c.
static bool is_product(size_t bytes, size_t a, size_t b, size_t c) {
    size_t product;
    return size_mul(a, b, &product) && size_mul(product, c, &product) && product == bytes;
}

// ---- numbers ----

static uint32_t word_at(const unsigned char *in) {
    return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

// The elements whose bits under the mask are all set are none.
static bool all_finite_32(const unsigned char *in, size_t count, uint32_t mask) {
    uint32_t bad = 0;
    for (size_t i = 0; i < count; i++) {
        bad |= (word_at(in + WORD * i) & mask) == mask;
    }
    return bad == 0;
}

static bool all_finite_16(const unsigned char *in, size_t count, unsigned mask) {
    uint16_t bad = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned bits = (unsigned)in[2 * i] | (unsigned)in[2 * i + 1] << 8;
        bad |= (uint16_t)((bits & mask) == mask);
    }
    return bad == 0;
}

static bool all_finite_8(const unsigned char *in, size_t count, unsigned mask) {
    unsigned char bad = 0;
    for (size_t i = 0; i < count; i++) {
        bad |= (unsigned char)((in[i] & mask) == mask);
    }
    return bad == 0;
}

static bool all_finite(enum arrangement_numbers numbers, const unsigned char *in, size_t bytes) {
    switch (numbers) {
    case NUMBERS_ANY:
        return true;
    case NUMBERS_F32:
        return all_finite_32(in, bytes / 4, 0x7f800000u);
    case NUMBERS_F16:
        return all_finite_16(in, bytes / 2, 0x7c00u);
    case NUMBERS_BF16:
        return all_finite_16(in, bytes / 2, 0x7f80u);
    case NUMBERS_E8M0:
        return all_finite_8(in, bytes, 0xffu);
    case NUMBERS_E4M3:
        break;
    }
    return all_finite_8(in, bytes, 0x7fu);
}

int arrange_check(const struct arrangement *how, const unsigned char *in, size_t bytes, struct error *err) {
    return all_finite(how->numbers, in, bytes)
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "holds a number that is not finite");
}

// ---- words ----

struct words {
    const struct arrangement *how;
    const unsigned char *in;
    unsigned char *out;
    size_t row_bytes;     // of the part
    size_t codes;         // in a word
    size_t lines;         // of words: rows, or where packs_rows runs of `codes` rows
    size_t across;        // words of a line: where packs_rows columns, else runs of `codes` columns
    size_t line_stride;   // in words, from one line to the next
    size_t across_stride; // in words, from one word of a line to the next
};

static uint32_t load_word(const struct words *w, size_t line, size_t at) {
    return word_at(w->in + WORD * (line * w->line_stride + at * w->across_stride));
}

static void store_word(unsigned char *out, uint32_t word) {
    out[0] = (unsigned char)word;
    out[1] = (unsigned char)(word >> 8);
    out[2] = (unsigned char)(word >> 16);
    out[3] = (unsigned char)(word >> 24);
}

// A line of the tile into its row, as far as the row goes.
static void write_line(const struct words *w, size_t row, size_t offset, const unsigned char *line) {
    size_t bytes = size_min(TILE_WORDS * WORD, w->row_bytes - offset);
    unsigned char *out = w->out + row * w->row_bytes + offset;
    memcpy(out, line, bytes);
    if (w->how->bits == 4 && w->how->columns % 2 == 1 && offset + bytes == w->row_bytes) {
        out[bytes - 1] &= 15;
    }
}

// One of each word's codes more. False where one has no room: it would carry into the next.
static bool add_one(uint32_t *words, size_t count, unsigned bits) {
    uint32_t ones = bits == 4 ? 0x11111111u : 0x01010101u;
    uint32_t full = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t both = words[i] & words[i] >> 1;
        both &= both >> 2;
        full |= (bits == 4 ? both : both & both >> 4) & ones;
        words[i] += ones;
    }
    return full == 0;
}

// The codes of words of as many columns, [codes][TILE_WORDS]: code k of word i becomes code i of word k.
static void transpose_codes(uint32_t words[MOST_CODES][TILE_WORDS], unsigned bits) {
    static const uint32_t masks[] = {[1] = 0x0f0f0f0fu, [2] = 0x00ff00ffu, [4] = 0x0000ffffu};
    size_t codes = WORD_BITS / bits;
    for (unsigned shift = 16; shift >= bits; shift /= 2) {
        uint32_t mask = masks[shift / 4];
        size_t apart = shift / bits;
        for (size_t i = 0; i < codes; i++) {
            for (size_t j = 0; j < TILE_WORDS && (i & apart) == 0; j++) {
                uint32_t swapped = (words[i][j] >> shift ^ words[i + apart][j]) & mask;
                words[i + apart][j] ^= swapped;
                words[i][j] ^= swapped << shift;
            }
        }
    }
}

// TILE_WORDS words of each of `codes` columns; those beyond the last row or column are zero.
static void load_columns(const struct words *w, size_t line, size_t column,
                         uint32_t words[MOST_CODES][TILE_WORDS]) {
    size_t lines = size_min(TILE_WORDS, w->lines - line);
    memset(words, 0, MOST_CODES * sizeof words[0]);
    for (size_t i = 0; i < w->codes && column + i < w->across; i++) {
        for (size_t j = 0; j < lines; j++) {
            words[i][j] = load_word(w, line + j, column + i);
        }
    }
}

// Of words that hold codes of several rows: TILE_WORDS lines of them, and the columns of a line of the tile.
static int tile_of_rows(const struct words *w, size_t line, size_t column, struct error *err) {
    static const unsigned char order[2][MOST_CODES] = {
        [ORDER_LOW_FIRST] = {0, 1, 2, 3, 4, 5, 6, 7}, [ORDER_AWQ] = {0, 2, 4, 6, 1, 3, 5, 7}};
    unsigned char tile[TILE_LINES][TILE_WORDS * WORD];
    uint32_t words[MOST_CODES][TILE_WORDS];
    for (size_t at = 0; at < TILE_WORDS && column + at * w->codes < w->across; at++) {
        load_columns(w, line, column + at * w->codes, words);
        if (w->how->is_one_less && !add_one(words[0], MOST_CODES * TILE_WORDS, w->how->bits)) {
            return error_set(err, STATUS_DATA,
                             "holds a zero point of %d, which counts one more and has no room in %u bits",
                             (1 << w->how->bits) - 1, w->how->bits);
        }
        transpose_codes(words, w->how->bits);
        for (size_t k = 0; k < w->codes; k++) {
            for (size_t j = 0; j < TILE_WORDS; j++) {
                store_word(&tile[j * w->codes + order[w->how->order][k]][at * WORD], words[k][j]);
            }
        }
    }
    size_t row = line * w->codes;
    size_t rows = size_min(TILE_WORDS * w->codes, w->how->rows - row);
    for (size_t i = 0; i < rows; i++) {
        write_line(w, row + i, column * w->how->bits / 8, tile[i]);
    }
    return STATUS_OK;
}

static int arrange_rows(const struct words *w, struct error *err) {
    for (size_t line = 0; line < w->lines; line += TILE_WORDS) {
        for (size_t column = 0; column < w->across; column += TILE_WORDS * w->codes) {
            TRY(tile_of_rows(w, line, column, err));
        }
    }
    return STATUS_OK;
}

// Words that hold codes of one row are its codes already: they only change places.
static void tile_of_words(const struct words *w, size_t line, size_t at) {
    unsigned char tile[TILE_LINES][TILE_WORDS * WORD];
    size_t lines = size_min(TILE_LINES, w->lines - line);
    size_t count = size_min(TILE_WORDS, w->across - at);
    for (size_t j = 0; j < count; j++) {
        for (size_t i = 0; i < lines; i++) {
            store_word(&tile[i][j * WORD], load_word(w, line + i, at + j));
        }
    }
    for (size_t i = 0; i < lines; i++) {
        write_line(w, line + i, at * WORD, tile[i]);
    }
}

static void arrange_columns(const struct words *w) {
    for (size_t line = 0; line < w->lines; line += TILE_LINES) {
        for (size_t at = 0; at < w->across; at += TILE_WORDS) {
            tile_of_words(w, line, at);
        }
    }
}

static int arrange_words(unsigned char *out, size_t out_bytes, const struct arrangement *how,
                         const unsigned char *in, size_t bytes, struct error *err) {
    struct words w = {.how = how, .in = in, .out = out, .codes = WORD_BITS / how->bits};
    w.lines = how->packs_rows ? divide_up(how->rows, w.codes) : how->rows;
    w.across = how->packs_rows ? how->columns : divide_up(how->columns, w.codes);
    w.line_stride = how->is_transposed ? 1 : w.across;
    w.across_stride = how->is_transposed ? w.lines : 1;
    w.row_bytes = how->bits == 4 ? divide_up(how->columns, 2) : how->columns;
    if (!is_product(bytes, w.lines, w.across, WORD) || !is_product(out_bytes, how->rows, w.row_bytes, 1) ||
        (how->is_one_less && !how->packs_rows)) {
        return misfit(bytes, out_bytes, err);
    }
    if (how->packs_rows) {
        return arrange_rows(&w, err);
    }
    arrange_columns(&w);
    return STATUS_OK;
}

// ---- elements ----

static inline __attribute__((always_inline)) void transpose(unsigned char *out, const unsigned char *in,
                                                            size_t rows, size_t columns, size_t width) {
    enum { SIDE = 64 };
    for (size_t row = 0; row < rows; row += SIDE) {
        size_t end = size_min(rows, row + SIDE);
        for (size_t column = 0; column < columns; column++) {
            for (size_t i = row; i < end; i++) {
                memcpy(out + (i * columns + column) * width, in + (column * rows + i) * width, width);
            }
        }
    }
}

static int arrange_transposed(unsigned char *out, size_t out_bytes, const struct arrangement *how,
                              const unsigned char *in, size_t bytes, struct error *err) {
    if (bytes != out_bytes || !is_product(bytes, how->rows, how->columns, how->width)) {
        return misfit(bytes, out_bytes, err);
    }
    switch (how->width) {
    case 1:
        transpose(out, in, how->rows, how->columns, 1);
        return STATUS_OK;
    case 2:
        transpose(out, in, how->rows, how->columns, 2);
        return STATUS_OK;
    case 4:
        transpose(out, in, how->rows, how->columns, 4);
        return STATUS_OK;
    default:
        return misfit(bytes, out_bytes, err);
    }
}

static int arrange_heads(unsigned char *out, size_t out_bytes, const struct arrangement *how,
                         const unsigned char *in, size_t bytes, struct error *err) {
    size_t line = how->columns * how->width; // bytes of a row
    size_t rows = 0;                         // of a head
    for (size_t part = 0; part < how->parts; part++) {
        rows += how->part_rows[part];
    }
    if (bytes != out_bytes || !is_product(bytes, how->rows, how->columns, how->width) ||
        how->heads * rows != how->rows) {
        return misfit(bytes, out_bytes, err);
    }
    size_t before = 0; // rows of a head's parts before this one
    for (size_t part = 0; part < how->parts; part++) {
        size_t count = how->part_rows[part];
        for (size_t h = 0; h < how->heads; h++) {
            memcpy(out + (how->heads * before + h * count) * line, in + (h * rows + before) * line,
                   count * line);
        }
        before += count;
    }
    return STATUS_OK;
}

// One expert's rows; each is a row of the file, or a column.
static void arrange_expert(unsigned char *out, const struct arrangement *how, size_t rows,
                           const unsigned char *in) {
    size_t width = how->width;
    for (size_t r = 0; r < rows; r++) {
        size_t half = rows / 2;
        size_t from = how->alternates ? 2 * (r % half) + r / half : r;
        if (!how->is_transposed) {
            memcpy(out + r * how->columns * width, in + from * how->columns * width, how->columns * width);
            continue;
        }
        for (size_t c = 0; c < how->columns; c++) {
            memcpy(out + (r * how->columns + c) * width, in + (c * rows + from) * width, width);
        }
    }
}

static int arrange_experts(unsigned char *out, size_t out_bytes, const struct arrangement *how,
                           const unsigned char *in, size_t bytes, struct error *err) {
    if (bytes != out_bytes || !is_product(bytes, how->rows, how->columns, how->width) || how->experts == 0 ||
        how->rows % how->experts != 0 || (how->alternates && how->rows / how->experts % 2 != 0)) {
        return misfit(bytes, out_bytes, err);
    }
    size_t each = bytes / how->experts;
    for (size_t e = 0; e < how->experts; e++) {
        arrange_expert(out + e * each, how, how->rows / how->experts, in + e * each);
    }
    return STATUS_OK;
}

static int arrange_indices(unsigned char *out, size_t out_bytes, const struct arrangement *how,
                           const unsigned char *in, size_t bytes, struct error *err) {
    size_t count = bytes / WORD;
    if (bytes % WORD != 0 || !is_product(out_bytes, count, sizeof(uint16_t), 1)) {
        return misfit(bytes, out_bytes, err);
    }
    size_t groups = size_min(how->groups, (size_t)UINT16_MAX + 1);
    for (size_t i = 0; i < count; i++) {
        uint32_t number = word_at(in + WORD * i);
        if (number >= groups) {
            return error_set(err, STATUS_DATA, "input %zu is of group %ld, outside the %zu groups", i,
                             (long)(int32_t)number, groups);
        }
        out[2 * i] = (unsigned char)number;
        out[2 * i + 1] = (unsigned char)(number >> 8);
    }
    return STATUS_OK;
}

// ---- any ----

int arrange(unsigned char *out, size_t out_bytes, const struct arrangement *how, const unsigned char *in,
            size_t bytes, struct error *err) {
    TRY(arrange_check(how, in, bytes, err));
    switch (how->kind) {
    case ARRANGE_AS_IS:
        break;
    case ARRANGE_WORDS:
        return arrange_words(out, out_bytes, how, in, bytes, err);
    case ARRANGE_TRANSPOSED:
        return arrange_transposed(out, out_bytes, how, in, bytes, err);
    case ARRANGE_INDICES:
        return arrange_indices(out, out_bytes, how, in, bytes, err);
    case ARRANGE_HEADS:
        return arrange_heads(out, out_bytes, how, in, bytes, err);
    case ARRANGE_EXPERTS:
        return arrange_experts(out, out_bytes, how, in, bytes, err);
    }
    if (bytes != out_bytes) {
        return misfit(bytes, out_bytes, err);
    }
    memcpy(out, in, bytes);
    return STATUS_OK;
}
