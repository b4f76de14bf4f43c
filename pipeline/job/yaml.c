// SPDX-License-Identifier: MIT
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/size.h"
#include "job/habits.h"
#include "job/keys.h"

enum { LIST_MAXIMUM = 2048 }; // above SQLite's columns and any model's layers

// One job file being read: libyaml's events in order, the last one owned here.
struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    const char *name;
    const char *text;
    size_t size;
    struct job *job;
    struct job_place *places;
    struct job_place *sections;
    struct error *err;
};

static int fail(struct reader *reader, size_t line, size_t column, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int fail(struct reader *reader, size_t line, size_t column, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return error_set(reader->err, STATUS_JOB, "%s:%zu:%zu: %s", reader->name, line, column, text);
}

// Where an event begins, counted from 1.
static struct job_place place_of(const yaml_event_t *event) {
    return (struct job_place){.line = event->start_mark.line + 1, .column = event->start_mark.column + 1};
}

#define FAIL_HERE(reader, ...)                                                                               \
    fail(reader, place_of(&(reader)->event).line, place_of(&(reader)->event).column, __VA_ARGS__)

// libyaml gives bytes, not places, for what is not UTF-8.
static int fail_encoding(struct reader *reader, const char *problem) {
    size_t line = 1;
    size_t column = 1;
    size_t end = size_min(reader->parser.problem_offset, reader->size);
    for (size_t i = 0; i < end; i++) {
        unsigned char byte = (unsigned char)reader->text[i];
        if (byte == '\n') {
            line += 1;
            column = 1;
        } else if ((byte & 0xC0) != 0x80) {
            column += 1;
        }
    }
    return fail(reader, line, column, "%s", problem);
}

// True when the line (from 0) is indented with a tab.
static bool is_indented_by_tab(const struct reader *reader, size_t line) {
    const char *text = reader->text;
    const char *end = text + reader->size;
    for (; line > 0 && text != NULL; line--) {
        text = memchr(text, '\n', (size_t)(end - text));
        text = text == NULL ? NULL : text + 1;
    }
    while (text != NULL && text < end && *text == ' ') {
        text++;
    }
    return text != NULL && text < end && *text == '\t';
}

static int fail_parser(struct reader *reader) {
    const yaml_parser_t *parser = &reader->parser;
    if (parser->error == YAML_MEMORY_ERROR) {
        return error_set(reader->err, STATUS_INTERNAL, "%s: out of memory", reader->name);
    }
    const char *problem = parser->problem == NULL ? "not YAML" : parser->problem;
    if (parser->error == YAML_READER_ERROR) {
        return fail_encoding(reader, problem);
    }
    if (parser->error == YAML_SCANNER_ERROR && is_indented_by_tab(reader, parser->problem_mark.line)) {
        return fail(reader, parser->problem_mark.line + 1, parser->problem_mark.column + 1,
                    "a tab: YAML's lines are indented with spaces");
    }
    const char *around = parser->context == NULL ? "" : parser->context;
    if (strcmp(around, "while scanning a simple key") == 0) { // the place of the problem is a later line's
        return fail(reader, parser->context_mark.line + 1, parser->context_mark.column + 1,
                    "a key without a value: 'key: value' has a colon and a space");
    }
    return fail(reader, parser->problem_mark.line + 1, parser->problem_mark.column + 1, "%s%s%s", around,
                around[0] == 0 ? "" : ": ", problem);
}

// What a job file has no use for: it would only hide what is meant.
static int refuse_extras(struct reader *reader) {
    const yaml_event_t *event = &reader->event;
    const yaml_char_t *anchor = NULL;
    const yaml_char_t *tag = NULL;
    if (event->type == YAML_ALIAS_EVENT) {
        return FAIL_HERE(reader, "aliases (*%s) are not part of a job file",
                         (const char *)event->data.alias.anchor);
    }
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (anchor != NULL) {
        return FAIL_HERE(reader, "anchors (&%s) are not part of a job file", (const char *)anchor);
    }
    if (tag != NULL) {
        return FAIL_HERE(reader, "tags (%s) are not part of a job file", (const char *)tag);
    }
    return STATUS_OK;
}

static int next(struct reader *reader) {
    if (reader->has_event) {
        yaml_event_delete(&reader->event);
        reader->has_event = false;
    }
    if (!yaml_parser_parse(&reader->parser, &reader->event)) {
        return fail_parser(reader);
    }
    reader->has_event = true;
    return refuse_extras(reader);
}

// ---- values ----

static int add_item(struct reader *reader, struct job_value *value, const char *name) {
    const yaml_event_t *event = &reader->event;
    if (value->count == LIST_MAXIMUM) {
        return FAIL_HERE(reader, "more than %d values in one list", LIST_MAXIMUM);
    }
    void *block = value->items;
    TRY(memory_resize(&block, value->count + 1, sizeof *value->items, reader->err));
    value->items = block;
    struct job_place place = place_of(event);
    struct job_item *item = &value->items[value->count];
    *item = (struct job_item){.size = event->data.scalar.length,
                              .plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE,
                              .line = place.line,
                              .column = place.column};
    value->count += 1; // it owns what it has so far
    TRY(memory_zeroed(&block, item->size + 1, 1, reader->err));
    item->text = block;
    memcpy(item->text, event->data.scalar.value, item->size);
    return name == NULL ? STATUS_OK : memory_text(&item->name, name, reader->err);
}

// The names and values of a map, whose start is the event at hand.
static int read_map(struct reader *reader, const struct job_key *key, struct job_value *value) {
    value->is_map = true;
    for (;;) {
        char name[64];
        TRY(next(reader));
        if (reader->event.type == YAML_MAPPING_END_EVENT) {
            return STATUS_OK;
        }
        if (reader->event.type != YAML_SCALAR_EVENT) {
            return FAIL_HERE(reader, "%s.%s has plain names", key->section, key->name);
        }
        snprintf(name, sizeof name, "%s", (const char *)reader->event.data.scalar.value);
        TRY(next(reader));
        if (reader->event.type != YAML_SCALAR_EVENT) {
            return FAIL_HERE(reader, "%s.%s has a plain value for each name", key->section, key->name);
        }
        TRY(add_item(reader, value, name));
    }
}

// The event at hand is the value's first one.
static int read_value(struct reader *reader, const struct job_key *key, struct job_value *value) {
    if (reader->event.type == YAML_SCALAR_EVENT) {
        return add_item(reader, value, NULL);
    }
    if (reader->event.type == YAML_MAPPING_START_EVENT && key->kind == KEY_MEMORY) {
        return read_map(reader, key, value);
    }
    if (reader->event.type == YAML_MAPPING_START_EVENT) {
        return FAIL_HERE(reader, "%s.%s must be a value, not a section%s", key->section, key->name,
                         key->kind == KEY_TEXT ? " (a value that begins with a brace stands in quotes)" : "");
    }
    value->is_list = true;
    for (;;) {
        TRY(next(reader));
        if (reader->event.type == YAML_SEQUENCE_END_EVENT) {
            return STATUS_OK;
        }
        if (reader->event.type != YAML_SCALAR_EVENT) {
            return FAIL_HERE(reader, "%s.%s is a list of plain values", key->section, key->name);
        }
        TRY(add_item(reader, value, NULL));
    }
}

static int read_key(struct reader *reader, const struct job_key *key) {
    struct job_value value = {0};
    struct job_place begin = place_of(&reader->event);
    size_t item = 0;
    struct error inner = {0};
    int status;
    TRY_TO(done, status = read_value(reader, key, &value));
    status = job_key_assign(reader->job, key, &value, &item, &inner);
    if (status == STATUS_JOB) {
        size_t line = item < value.count ? value.items[item].line : begin.line;
        size_t column = item < value.count ? value.items[item].column : begin.column;
        status = fail(reader, line, column, "%s.%s %s", key->section, key->name, inner.message);
    } else if (status != STATUS_OK) {
        *reader->err = inner;
    }
done:
    job_value_destroy(&value);
    return status;
}

// ---- names ----

static const char *parent_name(const char *section) {
    return section[0] == 0 ? "the job file" : section;
}

// True when `full` ("problems.steps") lies directly in `section` ("problems", or "" for the file); *name is
// the rest.
static bool lies_in(const char *full, const char *section, const char **name) {
    size_t length = strlen(section);
    if (length > 0 && (strncmp(full, section, length) != 0 || full[length] != '.')) {
        return false;
    }
    *name = full + length + (length > 0);
    return strchr(*name, '.') == NULL;
}

// "id:problem_id", or "id problem_id", is a key and its value that YAML takes for one word: the value, or
// NULL.
static const char *joined_value(const char *word, const char *const *names, size_t count) {
    size_t length = strcspn(word, ": ");
    for (size_t i = 0; word[length] != 0 && i < count; i++) {
        if (strlen(names[i]) == length && memcmp(names[i], word, length) == 0) {
            return word + length + 1;
        }
    }
    return NULL;
}

static int unknown_key(struct reader *reader, const char *section, const char *word) {
    const char *names[JOB_KEY_MAXIMUM];
    size_t count = 0;
    for (size_t i = 0; i < job_section_count; i++) {
        count += lies_in(job_sections[i].name, section, &names[count]);
    }
    for (size_t i = 0; i < job_key_count && count < JOB_KEY_MAXIMUM; i++) {
        if (strcmp(job_keys[i].section, section) == 0) {
            names[count++] = job_keys[i].name;
        }
    }
    for (size_t i = 0; i < job_key_count; i++) {
        if (strcmp(job_keys[i].name, word) == 0) {
            return FAIL_HERE(reader, "unknown key '%s' in %s (it belongs to %s)", word, parent_name(section),
                             job_keys[i].section);
        }
    }
    const char *habit = job_habit_key(word);
    if (habit != NULL) {
        return FAIL_HERE(reader, "unknown key '%s' in %s: %s", word, parent_name(section), habit);
    }
    const char *joined = joined_value(word, names, count);
    if (joined != NULL) {
        return FAIL_HERE(reader, "'%s' is no key with a value: '%.*s: %s' is (a colon and a space)", word,
                         (int)strcspn(word, ": "), word, joined);
    }
    const char *nearest = job_nearest(word, names, count);
    if (nearest == NULL) {
        return FAIL_HERE(reader, "unknown key '%.64s' in %s", word, parent_name(section));
    }
    return FAIL_HERE(reader, "unknown key '%s' in %s (did you mean '%s'?)", word, parent_name(section),
                     nearest);
}

static int note_place(struct reader *reader, struct job_place *place, const char *word) {
    if (place->line != 0) {
        return FAIL_HERE(reader, "'%s' appears twice (first in line %zu)", word, place->line);
    }
    *place = place_of(&reader->event);
    return STATUS_OK;
}

static int read_section(struct reader *reader, const char *section);

// The event at hand is a key's name; reads its value. `word` is a copy of the name.
static int read_entry(struct reader *reader, const char *section, const char *word) {
    char full[128];
    snprintf(full, sizeof full, "%s%s%s", section, section[0] == 0 ? "" : ".", word);
    const struct job_section *inner = strchr(word, '.') == NULL ? job_section_find(full) : NULL;
    const struct job_key *key = job_key_find(section, word);
    if (inner == NULL && key == NULL) {
        return unknown_key(reader, section, word);
    }
    struct job_place *place =
        inner != NULL ? &reader->sections[inner - job_sections] : &reader->places[key - job_keys];
    TRY(note_place(reader, place, word));
    TRY(next(reader));
    if (inner == NULL) {
        return read_key(reader, key);
    }
    if (reader->event.type != YAML_MAPPING_START_EVENT) {
        return FAIL_HERE(reader, "%s must have keys ('key: value' lines)", inner->name);
    }
    return read_section(reader, inner->name);
}

// The event at hand is the start of the section's mapping. Recursion goes as deep as the sections of the
// table.
static int read_section(struct reader *reader, const char *section) {
    for (;;) {
        TRY(next(reader));
        if (reader->event.type == YAML_MAPPING_END_EVENT) {
            return STATUS_OK;
        }
        if (reader->event.type != YAML_SCALAR_EVENT) {
            return FAIL_HERE(reader, "a key of %s is a name", parent_name(section));
        }
        char word[64];
        size_t length = reader->event.data.scalar.length;
        if (length >= sizeof word || strlen((const char *)reader->event.data.scalar.value) != length) {
            return FAIL_HERE(reader, "unknown key '%.40s...' in %s",
                             (const char *)reader->event.data.scalar.value, parent_name(section));
        }
        memcpy(word, reader->event.data.scalar.value, length);
        word[length] = 0;
        TRY(read_entry(reader, section, word));
    }
}

static int read_document(struct reader *reader) {
    TRY(next(reader)); // the stream's start
    TRY(next(reader));
    if (reader->event.type == YAML_STREAM_END_EVENT) {
        return fail(reader, 1, 1, "the job file is empty");
    }
    TRY(next(reader));
    if (reader->event.type != YAML_MAPPING_START_EVENT) {
        return FAIL_HERE(reader, "a job file has sections (problems:, model:, latents:, batch:, run:)");
    }
    TRY(read_section(reader, ""));
    TRY(next(reader)); // the document's end
    TRY(next(reader));
    return reader->event.type == YAML_STREAM_END_EVENT ? STATUS_OK
                                                       : FAIL_HERE(reader, "a job file is one document");
}

int job_read_yaml(struct job *job, const char *text, size_t size, const char *name, struct job_place *places,
                  struct job_place *sections, struct error *err) {
    static const char byte_order_mark[] = "\xEF\xBB\xBF";
    if (size >= 3 && memcmp(text, byte_order_mark, 3) == 0) {
        text += 3;
        size -= 3;
    }
    struct reader reader = {.name = name,
                            .text = text,
                            .size = size,
                            .job = job,
                            .places = places,
                            .sections = sections,
                            .err = err};
    if (!yaml_parser_initialize(&reader.parser)) {
        return error_set(err, STATUS_INTERNAL, "out of memory for the YAML parser");
    }
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, size);
    int status = read_document(&reader);
    if (reader.has_event) {
        yaml_event_delete(&reader.event);
    }
    yaml_parser_delete(&reader.parser);
    return status;
}
