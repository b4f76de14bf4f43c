// SPDX-License-Identifier: MIT
// survey.sqlite of a set of parts: what reading the whole query found, so that each part reads only
// its own rows. Written aside and published whole, never changed; read without a lock, from any node.
#ifndef STRATA_CHECKPOINTS_SURVEY_FILE_H
#define STRATA_CHECKPOINTS_SURVEY_FILE_H

#include "base/row_block.h"
#include "checkpoints/identity.h"

struct survey_file {
    char problems_sha256[DIGEST_HEX]; // of all rows, as in the identity of an undivided run
    char ids_sha256[DIGEST_HEX];      // of all ids, in the query's order, each a field (digest_field)
    struct row_blocks blocks;         // owned
    struct identity identity;         // of the job, as far as the survey depends on it
    char sha256[DIGEST_HEX];          // of all that is above; filled by writing and reading
};

// Fills sha256.
int survey_file_hash(struct survey_file *survey, struct error *err);

// Publishes PATH. STATUS_WRITE.
int survey_file_write(struct survey_file *survey, const char *path, struct error *err);

// *found is false when there is no such file. STATUS_DATA when it is damaged or no survey. The caller
// destroys *survey.
int survey_file_read(struct survey_file *survey, const char *path, bool *found, struct error *err);

void survey_file_destroy(struct survey_file *survey); // accepts zeros; leaves zeros

// The rows [*first, *end) of part `index` of `count`: so many blocks that the parts before it have
// index/count of all bytes, a row counting as one more. A function of the survey and the numbers alone.
void survey_file_part(const struct survey_file *survey, uint64_t index, uint64_t count, uint64_t *first,
                      uint64_t *end);

// The same of all parts at once: part i has the rows [(*begins)[i], (*begins)[i + 1]). The caller frees
// *begins.
int survey_file_parts(const struct survey_file *survey, uint64_t count, uint64_t **begins, struct error *err);

#endif
