// SPDX-License-Identifier: MIT
// An export format is one row: what people read of it, what it can hold, and how its files are written. A
// format is a file format_NAME.c that defines its row, and a word in EXPORT_FORMATS; --format, the help and
// the writing go by the rows.
#ifndef STRATA_EXPORT_FORMAT_H
#define STRATA_EXPORT_FORMAT_H

#include "export/array_store.h"
#include "export/export_plan.h"

struct export_outputs; // outputs.h

// In the order of the help.
#define EXPORT_FORMATS(row) row(safetensors) row(npy) row(hdf5) row(rjepa)

struct output_piece; // outputs.h

// How a piece lies in files while it is written; see outputs.h.
struct export_layout {
    // In one piece at most, of a split of so many; NULL: no bound.
    uint64_t (*most_problems)(uint64_t split_problems);
    // Makes the piece's files.
    int (*open)(struct export_outputs *outputs, struct output_piece *piece, struct error *err);
    // Everything of a problem but its latents and its line of JSON; NULL: there is nothing else.
    int (*problem)(struct export_outputs *outputs, const struct export_problem *problem,
                   const struct shard_content *content, struct error *err);
    // Rows [first, first + rows) of the problem for the plan's layer number `layer`; they may be changed.
    int (*latents)(struct export_outputs *outputs, const struct export_problem *problem, size_t layer,
                   uint64_t first, uint64_t rows, void *latents, struct error *err);
    // Writes what is left; NULL: nothing is.
    int (*finish)(struct export_outputs *outputs, struct output_piece *piece, struct error *err);
    bool indexed; // a split of several files has an index of them
};

// What the line of JSON beside a problem's rows is made of.
struct line_source {
    const struct export_plan *plan;
    const struct export_request *request;
    const struct export_problem *problem;
    const struct shard_content *content; // of its shard
    json_t *metadata;                    // an object
};

struct export_format {
    const char *name;
    const char *help; // of `strata help export`: what it makes of a split S; may have several lines
    // Refuses or converts what the format cannot hold, once layers and dtype are chosen; NULL: it holds all.
    int (*settle)(struct export_plan *plan, const struct export_request *request, struct error *err);
    bool (*fill_line)(json_t *line, const struct line_source *source); // false: out of memory, or not UTF-8
    const struct export_layout *layout;

    // Of a layout in which a piece is one set of arrays (split_arrays.c).
    const char *ending;    // of the piece's file; "": it is a folder
    size_t array_overhead; // most bytes that a file has for an array beside its numbers
    size_t file_overhead;  // and by itself
    size_t open_an_array;  // files or objects that are open while a piece is written
    bool as_shard;         // names are paths as in a shard, ids and metadata are arrays too; no lines of JSON
    int (*make)(struct array_store **out, const char *path, const struct array_set *set, struct error *err);
};

#define DECLARE_FORMAT(name) extern const struct export_format export_format_##name;
EXPORT_FORMATS(DECLARE_FORMAT)
#undef DECLARE_FORMAT

extern const struct export_layout export_split_arrays;  // split_arrays.c
extern const struct export_layout export_shuffled_rows; // shuffled_rows.c

// The layout that the request is written in.
const struct export_layout *export_layout_of(const struct export_request *request);

// The fill_line of a format without one of its own.
bool export_format_fill_line(json_t *line, const struct line_source *source);

// Appends the line of JSON (with its newline) that describes a problem beside the arrays.
int export_format_line(struct buffer *line, const struct export_plan *plan,
                       const struct export_request *request, const struct export_problem *problem,
                       const struct shard_content *content, struct error *err);

#endif
