// The files of an export while they are written: for each split its arrays and its lines of JSON, as the
// format's layout has them. Everything about a problem may come in any order; the plan says where it goes.
#ifndef STRATA_EXPORT_OUTPUTS_H
#define STRATA_EXPORT_OUTPUTS_H

#include "export/array_store.h"
#include "export/columns.h"
#include "export/export_plan.h"

struct output_file {
    struct array_store *store;
    char *lines_path;   // NULL: no lines of JSON (the arrays hold the metadata)
    int lines;          // descriptor, -1 between writes of many files
    uint64_t line_base; // line_at of the file's first problem
    uint64_t row_base;  // row_at
};

struct output_split {
    struct output_file *files; // one, or as many as the layout's `problems` make it
    size_t file_count;
    struct column_set columns; // of split_arrays.c
};

struct export_outputs {
    const struct export_plan *plan;
    const struct export_request *request;
    char folder[PATH_SIZE];
    struct output_split *splits; // [plan->split_count]
    struct buffer line;
};

// Makes every file under `folder` (which exists). STATUS_WRITE when the disk has not the room for them.
int export_outputs_open(struct export_outputs *outputs, const struct export_plan *plan,
                        const struct export_request *request, const char *folder, struct error *err);

// Everything of a problem but its latents: spans of rows, tokens, id, metadata, line.
int export_outputs_problem(struct export_outputs *outputs, const struct export_problem *problem,
                           const struct shard_content *content, struct error *err);

// Rows [first, first + rows) of the problem for the plan's layer number `layer`, in the plan's dtype.
int export_outputs_latents(struct export_outputs *outputs, const struct export_problem *problem, size_t layer,
                           uint64_t first, uint64_t rows, const void *latents, struct error *err);

// Writes what only the plan knows, syncs and closes all files and folders.
int export_outputs_finish(struct export_outputs *outputs, struct error *err);
void export_outputs_destroy(struct export_outputs *outputs); // accepts zeros; leaves zeros

// ---- for the layouts ----

// The file that a problem goes to.
struct output_file *export_outputs_file(const struct export_outputs *outputs,
                                        const struct export_problem *problem);

// Makes the file of `size` bytes of JSON lines. keep_open false: it is opened for each write.
int export_outputs_make_lines(struct output_file *file, const char *path, uint64_t size, bool keep_open,
                              struct error *err);

// Syncs and closes the files of a split.
int export_outputs_close_files(struct export_outputs *outputs, size_t split, struct error *err);

#endif
