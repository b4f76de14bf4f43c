// What operations are told beside their buffers (operations.h): texts, heads, shapes. Back ends, and code
// that only counts or lays out, need these and no operation: adding one does not build them again.
#ifndef STRATA_KERNELS_SHAPES_H
#define STRATA_KERNELS_SHAPES_H

#include <stddef.h>
#include <stdint.h>

// The texts of a packed batch, one after another without padding: text i is tokens starts[i]..starts[i + 1].
struct device_texts {
    const int32_t *starts;      // [count + 1] in device memory
    const int32_t *host_starts; // the same numbers in host memory (for the grid)
    size_t count;
    // Where the batch is a slice of one text, its tokens from number `before` on, a multiple of DEVICE_SLICE:
    // keys and values of the text's tokens up to the slice's end, as device_keep kept them. NULL: whole
    // texts.
    const void *kept;
    size_t before;
};

// A multiple of every back end's tile of queries, so that a slice's tiles are those of the whole text, and
// with them every bit.
enum { DEVICE_SLICE = 192 };

enum device_store {
    DEVICE_STORE, // out = x * W^T + bias
    DEVICE_ADD,   // out = out + (x * W^T + bias): the residual add. Halves: the product is rounded, then the
                  // sum
};

struct device_heads {
    size_t heads;    // query heads
    size_t kv_heads; // key and value heads; divides heads: query head h reads kv head h / (heads / kv_heads)
    size_t head_dim; // even
};

struct device_attention {
    struct device_heads heads;
    float scale;    // of the scores, usually head_dim^-1/2
    size_t window;  // keys seen by a query, itself included; 0: all before it
    size_t longest; // tokens of the longest text in any batch: what scratch was planned for
};

struct device_shape { // of a model's blocks
    struct device_heads heads;
    size_t hidden;
    size_t intermediate;
};

struct device_refusal { // of a shape
    enum device_dimension {
        DEVICE_HIDDEN,
        DEVICE_INTERMEDIATE,
        DEVICE_HEADS,
        DEVICE_KV_HEADS,
        DEVICE_HEAD_DIM
    } dimension;   // the one that is refused
    char can[128]; // which ones are not: "multiples of 8 up to 256"
};

#endif
