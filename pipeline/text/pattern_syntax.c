#include "text/pattern_syntax.h"

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

// A walk over a pattern.
struct walk {
    const char *regex;
    size_t at;
    bool quantifiable; // the part before `at` may be repeated
    struct error *err;
};

static int refuse(const struct walk *walk, const char *what) {
    return error_set(walk->err, STATUS_DATA, "%s at byte %zu is not supported", what, walk->at);
}

static bool starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

// \p{L}: general categories only; scripts and other properties may differ between the libraries.
static int check_property(struct walk *walk) {
    static const char *const names[] = {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc",
                                        "Me", "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Ps",
                                        "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So",
                                        "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Co", "Cn"};
    const char *name = walk->regex + walk->at + 2;
    const char *end = *name == '{' ? strchr(name, '}') : NULL;
    if (end != NULL) {
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            if (strlen(names[i]) == (size_t)(end - name - 1) &&
                strncmp(names[i], name + 1, strlen(names[i])) == 0) {
                walk->at = (size_t)(end + 1 - walk->regex);
                return STATUS_OK;
            }
        }
    }
    return refuse(walk, "a property other than a general category");
}

static int check_escape(struct walk *walk) {
    char next = walk->regex[walk->at + 1];
    if (next == 'p' || next == 'P') {
        return check_property(walk);
    }
    if (next == 'x' && walk->regex[walk->at + 2] == '{') {
        const char *digits = walk->regex + walk->at + 3;
        size_t count = strspn(digits, "0123456789abcdefABCDEF");
        if (count > 0 && count <= 6 && digits[count] == '}') {
            walk->at += 4 + count;
            return STATUS_OK;
        }
    }
    bool punctuation = (unsigned char)next < 0x80 && ispunct((unsigned char)next);
    if (next == '\0' || (strchr("dDsSrntf", next) == NULL && !punctuation && next != ' ')) {
        return refuse(walk, "this escape");
    }
    walk->at += 2;
    return STATUS_OK;
}

static int check_class(struct walk *walk) {
    size_t open = walk->at++;
    if (walk->regex[walk->at] == '^') {
        walk->at++;
    }
    if (walk->regex[walk->at] == ']') {
        return refuse(walk, "an empty character class");
    }
    while (walk->regex[walk->at] != ']') {
        const char *rest = walk->regex + walk->at;
        int status = STATUS_OK;
        if (*rest == '\0') {
            walk->at = open;
            return refuse(walk, "a character class without an end");
        }
        if (*rest == '\\') {
            status = check_escape(walk);
        } else if (*rest == '[' || starts_with(rest, "&&")) {
            status = refuse(walk, "a class within a class");
        } else {
            walk->at++;
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    walk->at++;
    return STATUS_OK;
}

// (?i:...) holds ASCII letters, apostrophes and alternatives only, and no pair that folds to one character
// (as "ss").
static int check_caseless(struct walk *walk) {
    static const char *const pairs[] = {"ss", "ff", "fi", "fl", "st"};
    walk->at += strlen("(?i:");
    while (walk->regex[walk->at] != ')') {
        char c = walk->regex[walk->at];
        if (c == '\0' || (!isalpha((unsigned char)c) && c != '\'' && c != '|')) {
            return refuse(walk, "anything but letters, ' and | under (?i:");
        }
        for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
            if (strncasecmp(walk->regex + walk->at, pairs[i], 2) == 0) {
                return refuse(walk, "a pair of letters that also folds to one character");
            }
        }
        walk->at++;
    }
    walk->at++;
    return STATUS_OK;
}

// `{n}`, `{n,}` or `{n,m}`; returns its length or 0.
static size_t bounds_length(const char *text) {
    size_t first = strspn(text + 1, "0123456789");
    if (first == 0 || first > 3) {
        return 0;
    }
    const char *rest = text + 1 + first;
    if (*rest == ',') {
        size_t second = strspn(rest + 1, "0123456789");
        if (second > 3) {
            return 0;
        }
        rest += 1 + second;
    }
    return *rest == '}' ? (size_t)(rest + 1 - text) : 0;
}

static int check_quantifier(struct walk *walk) {
    if (!walk->quantifiable) {
        return refuse(walk, "a quantifier without anything before it");
    }
    walk->quantifiable = false;
    bool bounds = walk->regex[walk->at] == '{';
    size_t length = bounds ? bounds_length(walk->regex + walk->at) : 1;
    if (length == 0) {
        return refuse(walk, "this use of {");
    }
    walk->at += length;
    // After bounds, `?` and `+` mean something else to Oniguruma than to PCRE2.
    if (!bounds && (walk->regex[walk->at] == '?' || walk->regex[walk->at] == '+')) {
        walk->at++;
    }
    if (walk->regex[walk->at] != '\0' && strchr("?+*{", walk->regex[walk->at]) != NULL) {
        return refuse(walk, "a quantifier after a quantifier");
    }
    return STATUS_OK;
}

static int check_group(struct walk *walk) {
    static const char *const opens[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    const char *rest = walk->regex + walk->at;
    walk->quantifiable = false;
    if (starts_with(rest, "(?i:")) {
        walk->quantifiable = true;
        return check_caseless(walk);
    }
    for (size_t i = 0; i < sizeof(opens) / sizeof(opens[0]); i++) {
        if (starts_with(rest, opens[i])) {
            walk->at += strlen(opens[i]);
            return STATUS_OK;
        }
    }
    if (rest[1] == '?' || rest[1] == '*') {
        return refuse(walk, "this kind of group");
    }
    walk->at++;
    return STATUS_OK;
}

static int check_next(struct walk *walk) {
    switch (walk->regex[walk->at]) {
    case '^':
    case '$':
        return refuse(walk, "an anchor");
    case '(':
        return check_group(walk);
    case '*':
    case '+':
    case '?':
    case '{':
        return check_quantifier(walk);
    case '|':
        walk->quantifiable = false;
        walk->at++;
        return STATUS_OK;
    case '\\':
        walk->quantifiable = true;
        return check_escape(walk);
    case '[':
        walk->quantifiable = true;
        return check_class(walk);
    default:
        walk->quantifiable = true;
        walk->at++;
        return STATUS_OK;
    }
}

int pattern_check_syntax(const char *regex, struct error *err) {
    struct walk walk = {.regex = regex, .err = err};
    while (regex[walk.at] != '\0') {
        int status = check_next(&walk);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}
