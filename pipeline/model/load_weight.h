// One tensor of a file into its place on a stage (private to loading; load.c calls it in the order of the
// files).
#ifndef STRATA_MODEL_LOAD_WEIGHT_H
#define STRATA_MODEL_LOAD_WEIGHT_H

#include "model/reader.h"
#include "model/stage.h"

// A weight of several tensors that is expanded when it is loaded, until all of them came.
struct gathering {
    unsigned char *parts; // in host memory, laid out as weight_layout says; NULL: nothing came yet
    size_t components;    // that came
};

struct loader_bytes { // grows, and is used again
    unsigned char *data;
    size_t size;
};

struct loader {
    struct model *model;
    struct reader *reader;
    struct gathering *gathered;  // [model->match.count]
    struct loader_bytes aligned; // what does not lie on its boundaries or in order in the file is copied here
    struct loader_bytes whole;   // of a tensor that is rearranged
    struct loader_bytes part;    // what becomes of it
};

int loader_prepare(struct loader *loader, struct error *err);
void loader_destroy(struct loader *loader); // all but the reader

int load_tensor(struct loader *loader, struct stage *stage, const struct tensor *tensor,
                struct weight_use use, struct error *err);

#endif
