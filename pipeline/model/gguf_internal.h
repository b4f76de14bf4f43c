// SPDX-License-Identifier: MIT
// What the parsers of the parts of a GGUF header share.
#ifndef STRATA_MODEL_GGUF_INTERNAL_H
#define STRATA_MODEL_GGUF_INTERNAL_H

#include <stdint.h>

#include "model/gguf.h"

// A place in the header. What was taken lies in the window.
struct gguf_cursor {
    struct gguf_window *window;
    size_t at;
};

// The next `bytes` bytes, and the cursor behind them. STATUS_DATA where they do not fit into the file or the
// limit of headers, and where the window is too short for them (window->wanted is then set). `what` names
// them.
int gguf_take(struct gguf_cursor *cursor, size_t bytes, const char *what, const unsigned char **out,
              struct error *err);
int gguf_take_u32(struct gguf_cursor *cursor, const char *what, uint32_t *out, struct error *err);
int gguf_take_u64(struct gguf_cursor *cursor, const char *what, uint64_t *out, struct error *err);

// A text of at most `longest` bytes, not terminated: UTF-8 without NUL.
int gguf_take_text(struct gguf_cursor *cursor, size_t longest, const char *what, const char **out,
                   size_t *length, struct error *err);

// STATUS_DATA unless `count` things of at least `each` bytes fit into the rest of the file.
int gguf_check_count(const struct gguf_cursor *cursor, uint64_t count, size_t each, const char *what,
                     struct error *err);

// Appends `count` values to metadata, which holds none, and sorts them.
int gguf_take_values(struct gguf_cursor *cursor, struct gguf_metadata *metadata, size_t count,
                     struct error *err);

// Appends the `count` tensors that the cursor stands before; places them in the file.
int gguf_take_tensors(struct gguf_cursor *cursor, struct tensors *tensors, size_t number, size_t count,
                      size_t alignment, struct error *err);

#endif
