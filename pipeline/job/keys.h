// SPDX-License-Identifier: MIT
// The table of keys, for this room only: everything known about a key of the job file stands in one row.
#ifndef STRATA_JOB_KEYS_H
#define STRATA_JOB_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/memory.h"
#include "job/job.h"

enum key_kind {
    KEY_TEXT,    // char *
    KEY_PATH,    // char *, resolved against the job file's folder
    KEY_INTEGER, // int64_t
    KEY_NUMBER,  // double
    KEY_BOOLEAN, // bool
    KEY_DTYPE,   // enum dtype, one of `choices`
    KEY_POOLING, // enum pooling, one of `choices`
    KEY_CHOICE,  // int: which of `choices`
    KEY_DEVICES, // char ** and its count: auto, cpu, cuda:all, or cuda:N, of which there may be a list
    KEY_LAYERS,  // char ** and its count, whole numbers and names; NULL: all
    KEY_TEXTS,   // char ** and its count; NULL: not given
    KEY_MEMORY,  // memory_gb and device_memory: a number, or one for the host and for each GPU
};

struct job_key {
    const char *section; // "problems"; "problems.steps" is the section inside it
    const char *name;
    enum key_kind kind;
    size_t offset;       // of the field in struct job
    size_t count_offset; // of the field that counts a list
    double minimum;      // of numbers; of texts: the fewest bytes
    double maximum;
    const char *choices;  // "float32|float16|bfloat16"; of a list of texts: what they are
    const char *standard; // the default as a job file would write it; NULL: none
    const char *absent;   // what holds without a value, where `standard` cannot say it
    bool required;
    bool identity;        // may change a byte of the output
    bool unless_standard; // ... but its standard (or nothing) is what versions did that did not have it:
                          // then it says nothing
    const char *help;
};

struct job_section {
    const char *name;
    const char *help;
};

enum { JOB_KEY_MAXIMUM = 64 };

extern const struct job_key job_keys[];
extern const size_t job_key_count;
extern const struct job_section job_sections[];
extern const size_t job_section_count;

const struct job_key *job_key_find(const char *section, const char *name); // NULL when there is none
const struct job_section *job_section_find(const char *name);

// What a YAML value says: one scalar, a list of scalars, or scalars with names.
struct job_item {
    char *name; // in a map
    char *text;
    size_t size;
    bool plain; // written without quotes
    size_t line, column;
};

struct job_value {
    bool is_list;
    bool is_map;
    struct job_item *items;
    size_t count;
};

void job_value_destroy(struct job_value *value); // accepts zeros; leaves zeros

// Checks the value and stores it in the key's field. STATUS_JOB with what is wrong; *item is then the item at
// fault.
int job_key_assign(struct job *job, const struct job_key *key, const struct job_value *value, size_t *item,
                   struct error *err);

// Appends the field's value as text, as a job file would write it (a missing text is nothing at all).
int job_key_print(const struct job *job, const struct job_key *key, struct buffer *out, struct error *err);

// Frees what the field owns.
void job_key_clear(struct job *job, const struct job_key *key);

// Reads the YAML text into *job; places[i] is where job_keys[i] was written (line 0: nowhere), sections[i]
// likewise.
struct job_place {
    size_t line, column;
};

int job_read_yaml(struct job *job, const char *text, size_t size, const char *name, struct job_place *places,
                  struct job_place *sections, struct error *err);

#endif
