// SPDX-License-Identifier: MIT
#include "text/unicode_tables.h"

#include <utf8proc.h>

#include "base/utf8.h"
#include "text/aligned.h"

struct code_range {
    uint32_t first;
    uint32_t last;
};

// class_substitutes: code points first..last are matched as `third`. lower_exceptions: `first` becomes
// `last`, then `third` when that is not 0.
struct code_substitute {
    uint32_t first;
    uint32_t last;
    uint32_t third;
};

#include "text/unicode_tables.inc"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static bool in_ranges(const struct code_range *ranges, size_t count, uint32_t code) {
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (ranges[middle].last < code) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && ranges[low].first <= code;
}

static const struct code_substitute *find_substitute(uint32_t code) {
    size_t low = 0;
    size_t high = COUNT(class_substitutes);
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (class_substitutes[middle].last < code) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool hit = low < COUNT(class_substitutes) && class_substitutes[low].first <= code;
    return hit ? &class_substitutes[low] : NULL;
}

size_t unicode_find_substitute(const char *text, size_t size, size_t from) {
    size_t at = from;
    while (at < size) {
        if ((unsigned char)text[at] < 0x80) {
            at++;
            continue;
        }
        uint32_t code = 0;
        size_t step = utf8_decode(text + at, size - at, &code);
        if (code >= class_substitutes[0].first && find_substitute(code) != NULL) {
            return at;
        }
        at += step == 0 ? 1 : step;
    }
    return size;
}

size_t unicode_substitute(char *text, size_t size) {
    uint32_t code = 0;
    size_t step = utf8_decode(text, size, &code);
    const struct code_substitute *substitute = find_substitute(code);
    return substitute == NULL ? step : utf8_write(substitute->third, text);
}

bool unicode_range_splits(uint32_t first, uint32_t last) {
    for (size_t i = 0; i < COUNT(class_substitutes); i++) {
        const struct code_substitute *entry = &class_substitutes[i];
        bool has_stand_in = entry->third >= first && entry->third <= last;
        bool has_all = entry->first >= first && entry->last <= last;
        bool has_any = entry->last >= first && entry->first <= last;
        if (has_stand_in ? !has_all : has_any) {
            return true;
        }
    }
    return false;
}

bool unicode_nfc_active(uint32_t code) {
    return code >= 0x300 && in_ranges(nfc_active_ranges, COUNT(nfc_active_ranges), code);
}

bool unicode_normal_active(uint32_t code) {
    return code >= 0xA0 && in_ranges(normal_active_ranges, COUNT(normal_active_ranges), code);
}

bool unicode_is_word(uint32_t code) {
    return in_ranges(word_ranges, COUNT(word_ranges), code);
}

bool unicode_is_numeric(uint32_t code) {
    if (code < 0x80) {
        return code >= '0' && code <= '9';
    }
    return in_ranges(numeric_ranges, COUNT(numeric_ranges), code);
}

bool unicode_is_punctuation(uint32_t code) {
    if (code < 0x80) {
        return (code >= '!' && code <= '/') || (code >= ':' && code <= '@') || (code >= '[' && code <= '`') ||
               (code >= '{' && code <= '~');
    }
    return in_ranges(punctuation_ranges, COUNT(punctuation_ranges), code);
}

bool unicode_is_space(uint32_t code) {
    return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F ||
           code == 0x205F || code == 0x3000;
}

size_t unicode_lower(uint32_t code, uint32_t out[2]) {
    for (size_t i = 0; i < COUNT(lower_exceptions); i++) {
        if (lower_exceptions[i].first == code) {
            out[0] = lower_exceptions[i].last;
            out[1] = lower_exceptions[i].third;
            return out[1] == 0 ? 1 : 2;
        }
    }
    out[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
    return 1;
}
