// SPDX-License-Identifier: MIT
// Characters, escapes and classes of a pattern.
//
// PCRE2 has neither classes within classes nor intersections of them. A class within a class is poured into
// it where that is the same; otherwise a class becomes a group that matches one character: of several sets
// the last one, where the others match at the same place.
#include <ctype.h>
#include <stdint.h>
#include <strings.h>

#include "base/utf8.h"
#include "text/pattern_walk.h"
#include "text/unicode_tables.h"

enum { CLASS_DEPTH = 16 };

// Names of \p{...}: general categories and scripts. Other properties may differ between the libraries.
static const char *const categories[] = {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc",
                                         "Me", "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Ps",
                                         "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So",
                                         "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Co", "Cn"};

// Those of tools/unicode_exceptions.py.
static const char *const scripts[] = {"Armenian", "Bengali",  "Bopomofo", "Ethiopic", "Georgian", "Greek",
                                      "Gujarati", "Gurmukhi", "Han",      "Hangul",   "Hebrew",   "Hiragana",
                                      "Kannada",  "Katakana", "Khmer",    "Lao",      "Latin",    "Malayalam",
                                      "Sinhala",  "Tamil",    "Telugu",   "Thai",     "Tibetan"};

static const char spaces[] =
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"
    "\\x{205F}\\x{3000}";

// What Oniguruma takes for a character of a word, and what only outside of brackets.
#define WORD                                                                                                 \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}"         \
    "\\x{1F170}-\\x{1F189}"
#define WORD_OUTSIDE WORD "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"
#define WORD_SET "[" WORD_OUTSIDE "]"

static bool is_hex(char c) {
    return isxdigit((unsigned char)c) != 0;
}

static int append_code(struct buffer *out, uint32_t code, struct error *err) {
    bool plain = code < 0x80 && isalnum((int)code);
    return plain ? buffer_printf(out, err, "%c", (int)code) : buffer_printf(out, err, "\\x{%X}", code);
}

// A range tells a character from the one that is matched in its place.
static void note_range(struct pattern_walk *walk, uint32_t first, uint32_t last) {
    if (!walk->splits && unicode_range_splits(first, last)) {
        walk->splits = true;
        walk->split_at = walk->at;
    }
}

static int append_property(struct pattern_walk *walk, struct buffer *out) {
    bool negated = walk->regex[walk->at + 1] == 'P';
    const char *name = walk->regex + walk->at + 2;
    const char *end = *name == '{' ? strchr(name, '}') : NULL;
    if (end == NULL) {
        return pattern_refuse(walk, "this property");
    }
    name++;
    if (*name == '^') {
        negated = !negated;
        name++;
    }
    size_t size = (size_t)(end - name);
    const char *const *lists[] = {categories, scripts};
    const size_t counts[] = {sizeof categories / sizeof *categories, sizeof scripts / sizeof *scripts};
    for (size_t list = 0; list < 2; list++) {
        for (size_t i = 0; i < counts[list]; i++) {
            const char *known = lists[list][i];
            if (strlen(known) == size && strncasecmp(known, name, size) == 0) {
                walk->at = (size_t)(end + 1 - walk->regex);
                walk->properties = true;
                return buffer_printf(out, walk->err, "\\%c{%s%s}", negated ? 'P' : 'p',
                                     list == 0 ? "" : "sc:", known);
            }
        }
    }
    return pattern_refuse(walk, "a property other than a general category or a known script");
}

// The code point of an escape of four, of two, or of any number of hexadecimal digits in braces.
static int read_code(struct pattern_walk *walk, uint32_t *code) {
    const char *digits = walk->regex + walk->at + 2;
    bool braced = *digits == '{' && digits[-1] == 'x';
    size_t wanted = digits[-1] == 'u' ? 4 : 2;
    digits += braced;
    size_t count = 0;
    *code = 0;
    while (count < (braced ? 6U : wanted) && is_hex(digits[count])) {
        char c = (char)tolower((unsigned char)digits[count++]);
        *code = *code * 16 + (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    bool ended = braced ? count > 0 && digits[count] == '}' : count == wanted;
    // Without braces \xHH is a byte, which is a character only in ASCII.
    bool byte = !braced && wanted == 2 && *code >= 0x80;
    if (!ended || byte || *code > 0x10FFFF || (*code >= 0xD800 && *code <= 0xDFFF)) {
        return pattern_refuse(walk, "this code point");
    }
    walk->at = (size_t)(digits + count + braced - walk->regex);
    return STATUS_OK;
}

// An escape that stands for one code point. *single: it is one; else nothing was read.
static int read_single_escape(struct pattern_walk *walk, bool *single, uint32_t *code) {
    static const char letters[] = "tnrfvae";
    static const unsigned char codes[] = {'\t', '\n', '\r', '\f', '\v', 0x07, 0x1B};
    char next = walk->regex[walk->at + 1];
    const char *letter = next == 0 ? NULL : strchr(letters, next);
    bool punctuation = (unsigned char)next < 0x80 && ispunct((unsigned char)next);
    *single = true;
    if (next == 'x' || next == 'u') {
        return read_code(walk, code);
    }
    if (letter != NULL || punctuation || next == ' ') {
        *code = letter != NULL ? codes[letter - letters] : (unsigned char)next;
        walk->at += 2;
        return STATUS_OK;
    }
    *single = false;
    return STATUS_OK;
}

// An escape that stands for a set of characters, as a member of a class.
static int append_set_escape(struct pattern_walk *walk, struct buffer *out) {
    char next = walk->regex[walk->at + 1];
    if (next == 'p' || next == 'P') {
        return append_property(walk, out);
    }
    if (next == 0 || strchr("dDsSw", next) == NULL) {
        return pattern_refuse(walk, "this escape");
    }
    if (next == 'w') {
        walk->at += 2;
        walk->properties = true;
        return buffer_printf(out, walk->err, WORD);
    }
    bool space = next == 's' || next == 'S';
    if (space && walk->spell) {
        walk->at += 2;
        return next == 's'
                   ? buffer_printf(out, walk->err, "%s", spaces)
                   : pattern_refuse(walk, "beside a range that ends among new characters, \\S in a class");
    }
    walk->at += 2;
    walk->spaces = walk->spaces || space;
    walk->properties = walk->properties || !space;
    return buffer_printf(out, walk->err, "\\%c", next);
}

int pattern_escape(struct pattern_walk *walk, struct buffer *out) {
    bool single = false;
    uint32_t code = 0;
    TRY(read_single_escape(walk, &single, &code));
    if (single) {
        note_range(walk, code, code);
        return append_code(out, code, walk->err);
    }
    char next = walk->regex[walk->at + 1];
    if (next == 'w' || next == 'W') {
        walk->at += 2;
        walk->properties = true;
        return buffer_printf(out, walk->err, next == 'w' ? WORD_SET : "[^" WORD_OUTSIDE "]");
    }
    if (next == 'S' && walk->spell) {
        walk->at += 2;
        return buffer_printf(out, walk->err, "[^%s]", spaces);
    }
    TRY(buffer_printf(out, walk->err, "["));
    TRY(append_set_escape(walk, out));
    return buffer_printf(out, walk->err, "]");
}

int pattern_boundary(struct pattern_walk *walk, struct buffer *out) {
    bool inside = walk->regex[walk->at + 1] == 'B';
    walk->at += 2;
    walk->properties = true;
    return buffer_printf(out, walk->err,
                         inside ? "(?:(?<=" WORD_SET ")(?=" WORD_SET ")|(?<!" WORD_SET ")(?!" WORD_SET "))"
                                : "(?:(?<=" WORD_SET ")(?!" WORD_SET ")|(?<!" WORD_SET ")(?=" WORD_SET "))");
}

static int read_character(struct pattern_walk *walk, uint32_t *code) {
    const char *text = walk->regex + walk->at;
    size_t size = utf8_decode(text, strlen(text), code);
    walk->at += size;
    return size > 0 ? STATUS_OK : pattern_refuse(walk, "a byte that is not UTF-8");
}

int pattern_character(struct pattern_walk *walk, struct buffer *out) {
    uint32_t code = 0;
    TRY(read_character(walk, &code));
    note_range(walk, code, code);
    return append_code(out, code, walk->err);
}

// ---- classes ----

// What a class, or a part of it, matches.
struct set {
    struct buffer members; // for a class of PCRE2, between its brackets
    struct buffer others;  // alternatives to them, each after a |
};

static void set_destroy(struct set *set) {
    buffer_destroy(&set->members);
    buffer_destroy(&set->others);
}

// Appends what matches one character of the set, which is not empty.
static int append_set(struct buffer *out, const struct set *set, struct error *err) {
    if (set->others.size == 0) {
        return buffer_printf(out, err, "[%s]", set->members.data);
    }
    TRY(set->members.size == 0 ? buffer_printf(out, err, "(?:")
                               : buffer_printf(out, err, "(?:[%s]|", set->members.data));
    TRY(buffer_append(out, set->others.data + 1, set->others.size - 1, err));
    return buffer_printf(out, err, ")");
}

// A character of a class: a range may begin or end with it.
static int read_bound(struct pattern_walk *walk, bool *single, uint32_t *code) {
    if (walk->regex[walk->at] == '\\') {
        return read_single_escape(walk, single, code);
    }
    *single = true;
    if (walk->regex[walk->at] == 0) {
        return pattern_refuse(walk, "a character class without an end");
    }
    return read_character(walk, code);
}

static int read_member(struct pattern_walk *walk, struct buffer *members) {
    bool single = false;
    uint32_t first = 0;
    bool dash = walk->regex[walk->at] == '-';
    TRY(read_bound(walk, &single, &first));
    if (!single) {
        TRY(append_set_escape(walk, members));
        // Oniguruma takes some such dashes for themselves and refuses others.
        bool ranges = walk->regex[walk->at] == '-' && walk->regex[walk->at + 1] != ']';
        return ranges ? pattern_refuse(walk, "a dash after a set of characters") : STATUS_OK;
    }
    uint32_t last = first;
    if (walk->regex[walk->at] == '-' && walk->regex[walk->at + 1] != ']') {
        walk->at++;
        char next = walk->regex[walk->at];
        if (dash || next == '[' || next == '-' || pattern_at(walk, "&&")) {
            return pattern_refuse(walk, "this use of a dash");
        }
        TRY(read_bound(walk, &single, &last));
        bool dashes = walk->regex[walk->at] == '-' && walk->regex[walk->at + 1] != ']';
        if (!single || last < first || dashes) {
            return pattern_refuse(walk, "this range");
        }
    }
    note_range(walk, first, last);
    TRY(append_code(members, first, walk->err));
    TRY(last == first ? STATUS_OK : buffer_printf(members, walk->err, "-"));
    return last == first ? STATUS_OK : append_code(members, last, walk->err);
}

static int read_class(struct pattern_walk *walk, int depth, struct set *out);

// Members up to the end of the class or to the next &&.
static int read_union(struct pattern_walk *walk, int depth, struct set *out) {
    while (walk->regex[walk->at] != ']' && !pattern_at(walk, "&&")) {
        if (walk->regex[walk->at] == '[') {
            TRY(read_class(walk, depth + 1, out));
        } else {
            TRY(read_member(walk, &out->members));
        }
    }
    return out->members.size + out->others.size > 0 ? STATUS_OK : pattern_refuse(walk, "an empty set");
}

// The sets between && of a class: `before` gets a look ahead for each but the last one.
static int read_sets(struct pattern_walk *walk, int depth, struct buffer *before, struct set *last) {
    TRY(read_union(walk, depth, last));
    while (pattern_at(walk, "&&")) {
        walk->at += 2;
        TRY(buffer_printf(before, walk->err, "(?="));
        TRY(append_set(before, last, walk->err));
        TRY(buffer_printf(before, walk->err, ")"));
        set_destroy(last);
        TRY(read_union(walk, depth, last));
    }
    walk->at++;
    return STATUS_OK;
}

// Adds a class that is not a plain list of members to the alternatives.
static int add_other(struct set *out, bool negated, const struct buffer *before, const struct set *last,
                     struct error *err) {
    bool plain = before->size == 0 && last->others.size == 0;
    if (plain) {
        return buffer_printf(&out->others, err, "|[^%s]", last->members.data);
    }
    TRY(buffer_printf(&out->others, err, negated ? "|(?:(?!%s" : "|(?:%s",
                      before->size == 0 ? "" : before->data));
    TRY(append_set(&out->others, last, err));
    return buffer_printf(&out->others, err, negated ? ")[\\s\\S])" : ")");
}

// Adds a class to the set around it.
static int read_class(struct pattern_walk *walk, int depth, struct set *out) {
    struct buffer before = {0};
    struct set last = {0};
    if (depth > CLASS_DEPTH) {
        return pattern_refuse(walk, "a class so deep within others");
    }
    walk->at++;
    bool negated = walk->regex[walk->at] == '^';
    walk->at += negated;
    if (walk->regex[walk->at] == ']' || (walk->regex[walk->at] == ':' && depth > 0)) {
        return pattern_refuse(walk, walk->regex[walk->at] == ']' ? "an empty character class"
                                                                 : "a class by its POSIX name");
    }
    int status;
    TRY_TO(done, status = read_sets(walk, depth, &before, &last));
    if (!negated && before.size == 0) {
        if (last.members.size > 0) {
            TRY_TO(done,
                   status = buffer_append(&out->members, last.members.data, last.members.size, walk->err));
        }
        if (last.others.size > 0) {
            TRY_TO(done, status = buffer_append(&out->others, last.others.data, last.others.size, walk->err));
        }
    } else {
        status = add_other(out, negated, &before, &last, walk->err);
    }
done:
    buffer_destroy(&before);
    set_destroy(&last);
    return status;
}

int pattern_class(struct pattern_walk *walk, struct buffer *out) {
    struct set set = {0};
    int status;
    TRY_TO(done, status = read_class(walk, 0, &set));
    // A negated list, which is the only alternative, needs no group.
    bool alone = set.members.size == 0 && set.others.size > 2 && set.others.data[1] == '[' &&
                 strchr(set.others.data + 1, '|') == NULL;
    status = alone ? buffer_append(out, set.others.data + 1, set.others.size - 1, walk->err)
                   : append_set(out, &set, walk->err);
done:
    set_destroy(&set);
    return status;
}
