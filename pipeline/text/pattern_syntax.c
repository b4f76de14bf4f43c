// SPDX-License-Identifier: MIT
#include "text/pattern_syntax.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

#include "text/pattern_walk.h"

enum { GROUP_DEPTH = 50 };

// A group, or the whole pattern.
struct group {
    size_t start;  // in `out`
    bool consumes; // its alternative under work matches at least one character
    bool empty;    // an alternative before that can match none
};

// Appends to `out` as it goes.
struct translation {
    struct pattern_walk walk;
    struct buffer *out;
    bool quantifiable; // what ends at the end of `out` may be repeated
    size_t part;       // where that begins
    bool consumes;     // it matches at least one character; not yet counted for its group
    struct group groups[GROUP_DEPTH + 1];
    size_t depth;
};

// Counts the part before for its group.
static void end_part(struct translation *to) {
    struct group *group = &to->groups[to->depth];
    group->consumes = group->consumes || to->consumes;
    to->consumes = false;
}

static void end_alternative(struct translation *to) {
    struct group *group = &to->groups[to->depth];
    end_part(to);
    group->empty = group->empty || !group->consumes;
    group->consumes = false;
}

static int append(struct translation *to, const char *text) {
    return buffer_append(to->out, text, strlen(text), to->walk.err);
}

// Passes over the text, which stands in both.
static int copy(struct translation *to, size_t size) {
    int status = buffer_append(to->out, to->walk.regex + to->walk.at, size, to->walk.err);
    to->walk.at += size;
    return status;
}

// Letters between brackets.
static int copy_letters(struct translation *to) {
    const char *letters = to->walk.regex + to->walk.at + 1;
    size_t count = 0;
    while (isalpha((unsigned char)letters[count]) && (unsigned char)letters[count] < 0x80) {
        count++;
    }
    return count > 1 && letters[count] == ']' ? copy(to, count + 2)
                                              : pattern_refuse(&to->walk, "this class under (?i:");
}

// (?i:...) holds ASCII letters, classes of them, apostrophes and alternatives only, and no pair that folds to
// one character (as "ss").
static int copy_caseless(struct translation *to) {
    static const char *const pairs[] = {"ss", "ff", "fi", "fl", "st"};
    to->part = to->out->size;
    TRY(copy(to, strlen("(?i:")));
    const char *at = to->walk.regex + to->walk.at;
    for (; *at != ')'; at = to->walk.regex + to->walk.at) {
        if (*at == '[') {
            TRY(copy_letters(to));
            continue;
        }
        if (*at == '|' && (at[-1] == '|' || at[-1] == ':' || at[1] == ')')) {
            return pattern_refuse(&to->walk, "an empty alternative under (?i:");
        }
        if (*at == '\0' || (!isalpha((unsigned char)*at) && *at != '\'' && *at != '|')) {
            return pattern_refuse(&to->walk, "anything but letters, ' and | under (?i:");
        }
        for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
            if (strncasecmp(at, pairs[i], 2) == 0) {
                return pattern_refuse(&to->walk, "a pair of letters that also folds to one character");
            }
        }
        TRY(copy(to, 1));
    }
    return copy(to, 1);
}

// `{n}`, `{n,}` or `{n,m}`; returns its length or 0.
static size_t bounds_length(const char *text, bool *exact) {
    size_t first = strspn(text + 1, "0123456789");
    if (first == 0 || first > 3) {
        return 0;
    }
    const char *rest = text + 1 + first;
    *exact = *rest == '}';
    if (*rest == ',') {
        size_t second = strspn(rest + 1, "0123456789");
        if (second > 3) {
            return 0;
        }
        rest += 1 + second;
    }
    return *rest == '}' ? (size_t)(rest + 1 - text) : 0;
}

// Puts what begins at to->part into a group.
static int wrap_part(struct translation *to) {
    TRY(append(to, "(?:)"));
    char *part = to->out->data + to->part;
    size_t size = to->out->size - to->part - 4;
    memmove(part + 3, part, size);
    memcpy(part, "(?:", 3);
    part[size + 3] = ')';
    return STATUS_OK;
}

static int copy_quantifier(struct translation *to) {
    struct pattern_walk *walk = &to->walk;
    if (!to->quantifiable) {
        return pattern_refuse(walk, "a quantifier without anything before it");
    }
    to->quantifiable = false;
    char kind = walk->regex[walk->at];
    bool bounds = kind == '{';
    bool exact = false;
    bool consumes = to->consumes;
    size_t length = bounds ? bounds_length(walk->regex + walk->at, &exact) : 1;
    if (length == 0) {
        return pattern_refuse(walk, "this use of {");
    }
    // How often an empty text is matched again is another matter to Oniguruma.
    bool repeats = kind != '?';
    bool optional = bounds ? strtol(walk->regex + walk->at + 1, NULL, 10) == 0 : kind != '+';
    if (repeats && !consumes) {
        return pattern_refuse(walk, "the repetition of what can match nothing");
    }
    to->consumes = consumes && !optional;
    TRY(copy(to, length));
    char next = walk->regex[walk->at];
    if (next == '?' || next == '+') {
        // After bounds a + repeats what is bounded, and after an exact number a ? makes it optional.
        if (bounds && next == '+' && optional) {
            return pattern_refuse(walk, "the repetition of what can match nothing");
        }
        if (bounds && (next == '+' || exact)) {
            TRY(wrap_part(to));
            to->consumes = to->consumes && next == '+';
        }
        TRY(copy(to, 1));
        next = walk->regex[walk->at];
    }
    return next != '\0' && strchr("?+*{", next) != NULL
               ? pattern_refuse(walk, "a quantifier after a quantifier")
               : STATUS_OK;
}

static int open_group(struct translation *to) {
    static const char *const opens[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    struct pattern_walk *walk = &to->walk;
    end_part(to);
    if (pattern_at(walk, "(?i:")) {
        to->quantifiable = true;
        to->consumes = true;
        return copy_caseless(to);
    }
    to->quantifiable = false;
    size_t size = 0;
    for (size_t i = 0; i < sizeof(opens) / sizeof(opens[0]); i++) {
        size = pattern_at(walk, opens[i]) ? strlen(opens[i]) : size;
    }
    char next = walk->regex[walk->at + 1];
    if (size == 0 && (next == '?' || next == '*')) {
        return pattern_refuse(walk, "this kind of group");
    }
    if (to->depth == GROUP_DEPTH) {
        return pattern_refuse(walk, "a group so deep within others");
    }
    to->groups[++to->depth] = (struct group){.start = to->out->size};
    if (size > 0) {
        return copy(to, size);
    }
    walk->at++;
    return append(to, "(?:"); // nothing refers to what it matched
}

static int close_group(struct translation *to) {
    if (to->depth == 0) {
        return pattern_refuse(&to->walk, "an end of a group that was not opened");
    }
    end_alternative(to);
    const struct group *group = &to->groups[to->depth--];
    const char *text = to->out->data + group->start;
    to->part = group->start;
    to->quantifiable = strncmp(text, "(?:", 3) == 0 || strncmp(text, "(?>", 3) == 0;
    to->consumes = to->quantifiable && !group->empty;
    return copy(to, 1);
}

// A line of Oniguruma begins at the start of the text and after a line feed that does not end it, and ends
// before a line feed and at the end of the text.
static int append_anchor(struct translation *to, const char *text) {
    end_part(to);
    to->quantifiable = false;
    to->walk.at++;
    return append(to, text);
}

static int translate_part(struct translation *to) {
    end_part(to);
    to->quantifiable = true;
    to->consumes = true;
    to->part = to->out->size;
    switch (to->walk.regex[to->walk.at]) {
    case '\\':
        return pattern_escape(&to->walk, to->out);
    case '[':
        return pattern_class(&to->walk, to->out);
    case '.':
        return copy(to, 1);
    default:
        return pattern_character(&to->walk, to->out);
    }
}

static int translate_next(struct translation *to) {
    if (pattern_at(&to->walk, "\\A") || pattern_at(&to->walk, "\\z")) {
        end_part(to);
        to->quantifiable = false;
        return copy(to, 2);
    }
    if (pattern_at(&to->walk, "\\b") || pattern_at(&to->walk, "\\B")) {
        end_part(to);
        to->quantifiable = false;
        return pattern_boundary(&to->walk, to->out);
    }
    switch (to->walk.regex[to->walk.at]) {
    case '^':
        return append_anchor(to, "(?:\\A|(?<=\\n)(?!\\z))");
    case '$':
        return append_anchor(to, "(?:(?=\\n)|\\z)");
    case '(':
        return open_group(to);
    case ')':
        return close_group(to);
    case '*':
    case '+':
    case '?':
    case '{':
        return copy_quantifier(to);
    case '|':
        to->quantifiable = false;
        end_alternative(to);
        return copy(to, 1);
    default:
        return translate_part(to);
    }
}

// *again: it must be translated with white space spelled out.
static int translate(struct buffer *out, bool spell, bool *substitutes, bool *again, const char *regex,
                     struct error *err) {
    struct translation to = {.walk = {.regex = regex, .spell = spell, .err = err}, .out = out};
    while (regex[to.walk.at] != '\0') {
        int status = translate_next(&to);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (to.depth > 0) {
        return pattern_refuse(&to.walk, "a group without an end");
    }
    if (to.walk.properties && to.walk.splits) {
        to.walk.at = to.walk.split_at;
        return pattern_refuse(&to.walk,
                              "beside properties, a range that ends among characters new to Unicode");
    }
    *substitutes = to.walk.properties || (to.walk.spaces && !to.walk.splits);
    *again = to.walk.spaces && to.walk.splits;
    return STATUS_OK;
}

int pattern_translate(struct buffer *out, bool *substitutes, const char *regex, struct error *err) {
    bool again = false;
    TRY(translate(out, false, substitutes, &again, regex, err));
    if (!again) {
        return STATUS_OK;
    }
    buffer_clear(out);
    return translate(out, true, substitutes, &again, regex, err);
}
