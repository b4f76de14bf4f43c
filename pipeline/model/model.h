// SPDX-License-Identifier: MIT
// A model on its devices: weights resident before the first batch, and one forward pass over a packed batch
// that stops after the last wanted block. The devices are the model's: a caller opens one, gives it to the
// model, and asks the model from then on.
//
// Several devices, of one kind, either have the whole model each (MODEL_SPLIT_BATCHES) or some of its blocks
// each (MODEL_SPLIT_LAYERS): then the residual stream goes from one to the next. A lane is what computes a
// sweep: one device, or all of them where they compute it together. The bits are those of one device.
//
// Life: model_open (reads config and headers, checks every tensor's name, shape and dtype; reads no weights)
//    -> model_check_device -> model_add_device, for each; model_set_split
//    -> model_plan (bytes it will take), model_check_fits, model_check_matmuls -> model_reserve
//    -> model_load (reads the files once) -> model_tune -> model_check -> model_check_resident -> model_seal
//    -> model_forward and model_wait for every batch -> model_close, which closes the devices too.
//
// Where the largest batch is not known yet the weights can come first: model_plan_weights ->
// model_reserve_weights -> model_load_weights, and then model_plan -> model_reserve -> model_set_limits.
//
// Threads. One thread at a time calls a model that has devices: the one that opened them. Only model_clock
// may be called beside it.
//
// Hidden states are numbered as transformers numbers them: hidden_states[0] is the embedding output,
// hidden_states[i] (1 <= i < layers) the residual stream after block i (counting from 1),
// hidden_states[layers] the last block's output after the final norm. config_pre_norm stands for that output
// before the final norm.
#ifndef STRATA_MODEL_MODEL_H
#define STRATA_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/log.h"
#include "kernels/device.h"
#include "kernels/shapes.h"
#include "model/config.h"

struct model;
struct device_sample; // kernels/telemetry.h

// Opens the checkpoint, a folder with config.json and model.safetensors or model.safetensors.index.json with
// its shards, or a GGUF file with its parts. STATUS_DATA, with file, tensor and reason, for anything wrong,
// missing, extra, truncated or hostile.
int model_open(struct model **out, const char *folder, struct error *err);
void model_close(struct model *model); // accepts NULL; closes its devices

const struct model_config *model_config_of(const struct model *model);
uint64_t model_parameters(const struct model *model); // of the whole checkpoint
uint64_t model_file_bytes(const struct model *model); // all weight files

// What was passed over in the files because no hidden state needs it: a line each, "" when there is nothing.
const char *model_notes(const struct model *model);

// ---- an adapter ----

// Merges the LoRA adapter of a folder that peft saved into the weights when they are loaded: W + scale * B A
// in float32, rounded once to the computation's dtype. Once, right after model_open. STATUS_DATA for anything
// in it that is wrong, not used or not supported. What was passed over in it is added to model_notes.
int model_set_adapter(struct model *model, const char *folder, struct error *err);

// Of its files, part of the model's own too; "" without one. And "LoRA of rank 8 on 14 matrices", appended.
const char *model_adapter_fingerprint(const struct model *model);
int model_adapter_text(const struct model *model, struct buffer *out, struct error *err);

// ---- how weights are held ----

enum model_quantize { // matrices of blocks that the checkpoint has as numbers, quantised when they are loaded
    MODEL_QUANTIZE_NONE,
    MODEL_QUANTIZE_NF4,        // as bitsandbytes does, scales in float32
    MODEL_QUANTIZE_NF4_DOUBLE, // scales quantised too
    MODEL_QUANTIZE_INT8,       // a scale a row, as LLM.int8 without outliers
};

struct model_weight_options {
    bool expands_at_load;   // packed matrices are stored as computed, not expanded for each matmul
    bool rounds_to_float16; // packed numbers are rounded to float16 first, as gptqmodel computes with them
    enum model_quantize quantize;
};

// Once, before anything is planned. STATUS_JOB where the checkpoint is not of the kind that an option is for,
// or an adapter adds to weights that stay packed. What is quantised has the adapter in it.
int model_set_weight_options(struct model *model, const struct model_weight_options *options,
                             struct error *err);

// Appends how the matrices of blocks are held, with a final 0 that is not counted: "BF16", "awq", "Q4_K and
// Q6_K". Part of a run's identity where any is packed (model_is_packed).
int model_weight_formats(const struct model *model, struct buffer *out, struct error *err);
bool model_is_packed(const struct model *model);

struct model_weight_bytes { // of all weights up to hidden state `last`, as they are held
    uint64_t packed;        // matrices that are kept packed
    uint64_t computed;      // what is stored as computed
    uint64_t expanded;      // what the packed ones would take stored as computed
    uint64_t largest;       // of them: the scratch to expand into
};

void model_weight_bytes(const struct model *model, size_t last, enum dtype dtype,
                        struct model_weight_bytes *out);

// ---- devices ----

enum { MODEL_DEVICES = 8 }; // that a model can be spread over

// Whether the device is built for this model's shapes, known before any memory is taken: STATUS_DEVICE naming
// the key of config.json, its value and what the device can do.
int model_check_device(const struct model *model, const struct device *device, struct error *err);
int model_config_check(const struct model_config *config, const struct device *device, struct error *err);

// Gives the model a device, which it closes, and the device's name, for messages ("cuda:1"); after an error
// it is still the caller's. Before anything is planned. STATUS_DEVICE where it is of another kind than the
// devices before it: their results may differ in bits.
int model_add_device(struct model *model, struct device *device, const char *name, struct error *err);

enum model_split {       // what several devices share between them
    MODEL_SPLIT_BATCHES, // batches: every device has all blocks
    MODEL_SPLIT_LAYERS,  // blocks, all of them resident: a batch goes from device to device
};

// Before anything is planned.
void model_set_split(struct model *model, enum model_split split);
enum model_split model_split_of(const struct model *model);

size_t model_devices(const struct model *model); // added so far
const char *model_device_name(const struct model *model, size_t index);

// Sweeps that can be computed side by side, once the placement is set: the devices, where each has all
// weights of its own, otherwise one.
size_t model_lanes(const struct model *model);
const char *model_lane_name(const struct model *model, size_t lane); // "cuda:1", "cuda:0 to cuda:3"

// Sweeps that a lane should have queued so that it never waits for the host. 1: it does not queue.
size_t model_lane_sweeps(const struct model *model);

// All devices of a model, told as one: they are of one kind, and memory is added up. One of them.
void model_describe(const struct model *model, struct device_description *out);
void model_describe_device(const struct model *model, size_t index, struct device_description *out);
void model_residency(const struct model *model, size_t index, struct device_residency *out);

// What the own monitoring of a lane's devices said last: of one that reports an error, otherwise of the last.
void model_sample(const struct model *model, size_t lane, struct device_sample *out);

// Seconds of processor time that the devices' threads on this host had until now (device_clock). From any
// thread. Negative: they compute elsewhere.
double model_clock(const struct model *model);

// For messages about numbers that came out not finite: the largest one of the computation's dtype and what to
// do about it, after a semicolon; "" where that is float32's.
const char *model_range_remedy(const struct model *model);

// How matmuls are computed, as model_tune chose on the first device and bound the others to
// (device_algorithms), appended; and the choices of an earlier run, before model_tune
// (device_set_algorithms).
int model_algorithms(const struct model *model, struct buffer *text, struct error *err);
int model_set_algorithms(struct model *model, const char *text, bool binding, struct error *err);

// From now on no memory is taken on the devices.
void model_seal(struct model *model);

// ---- where weights lie ----

enum model_weights_at {     // of the blocks that are not resident
    MODEL_WEIGHTS_RESIDENT, // there are none
    MODEL_WEIGHTS_HOST, // staging memory, as the device has them, once they were read; where it is the host's
    MODEL_WEIGHTS_DISK, // their files, which are read again in every sweep
};

// How the blocks of a model come to its device. With fewer resident blocks than are wanted the model is
// computed layer by layer: a sweep takes a group of batches through one block after the other, and those that
// are not resident come into slots on the device while others compute. The results have the bits of a model
// that is resident.
struct model_placement {
    enum model_weights_at at;
    size_t resident; // blocks, the first ones; MODEL_WEIGHTS_RESIDENT: all, whatever this says
};

// Before memory is made; may be changed until then.
void model_set_placement(struct model *model, const struct model_placement *placement);

// Where the others come from; MODEL_WEIGHTS_RESIDENT where all stay.
enum model_weights_at model_placed_at(const struct model *model);

// Of the blocks before hidden state `last`, those that come into slots in every sweep.
size_t model_streamed(const struct model *model, size_t last);

// ---- memory ----

struct model_limits {
    const size_t *layers; // ascending transformers indices wanted; config_pre_norm: before the final norm
    size_t layer_count;
    size_t tokens;      // most tokens that are computed at once: of a batch, and of a slice of a longer text
    size_t texts;       // most texts in a batch
    size_t rows;        // most pooled rows in a batch
    size_t longest;     // most tokens in one text, with those that it goes on from
    size_t longest_own; // most that are computed of one text, or of the head; 0: `longest`. Where that is
                        // more than `tokens`: model_limits_slice
    size_t head;        // tokens of the head, which texts may go on from (model_set_head); 0: there is none
    enum device_keeping keeping; // of its keys and values
    bool head_rows;              // spans lie in it: its hidden states are kept too
    enum dtype stored;           // of pooled rows
    size_t slots;                // batches whose outputs may be unread at once (staging copies), at least 2
    size_t group;                // batches of a sweep, each with its residual stream, on a device; 0: one
    size_t members;              // residual streams, at least `group`; 0: as many
};

// Blocks that are computed for the wanted hidden states.
static inline size_t model_blocks_wanted(const struct model_config *config,
                                         const struct model_limits *limits) {
    return config_blocks_for(config, limits->layers[limits->layer_count - 1]);
}

// A text of more than limits.tokens is a batch of its own, which runs in slices of limits.tokens. Each is a
// member of the sweep, with a residual stream. A block computes one slice after the other, over the keys and
// values that it kept of those before: one block's, as the next one's take their place. The results have the
// bits of a batch that holds the whole text.

// Most tokens that are computed of one text, or of the head.
static inline size_t model_longest_own(const struct model_limits *limits) {
    return limits->longest_own > 0 ? limits->longest_own : limits->longest;
}

// Members of a sweep that a batch of so many tokens takes: 1, or as many as it has slices.
size_t model_batch_members(const struct model_limits *limits, size_t tokens);

// Where model_longest_own is more than limits->tokens: brings the tokens down to a size that slices have, the
// texts with them, and the members up to what the longest text takes. False where there are too few tokens
// for a slice.
bool model_limits_slice(struct model_limits *limits);

// Batches of a full sweep: the group, where weights stream on each of the devices, which then compute a sweep
// together: a block is read once for all of them.
size_t model_sweep_batches(const struct model *model);

struct model_plan { // of memory, for each device
    struct device_plan devices[MODEL_DEVICES];
    // MODEL_SPLIT_LAYERS: of each device, behind the last one the end. About as many blocks each; where a
    // device has no room for its share, others with room have more.
    size_t first_block[MODEL_DEVICES + 1];
};

// What weights (blocks up to the last wanted one), activations, scratch and staging take. Staging is the
// first device's, for all. STATUS_JOB where the devices cannot share the blocks: there are fewer of them, or
// some are not resident.
int model_plan(const struct model *model, const struct model_limits *limits, struct model_plan *plan,
               struct error *err);

// The same if the matrices of blocks, which the checkpoint has as numbers, were quantised when they are
// loaded. STATUS_JOB where they are packed already.
int model_plan_quantised(const struct model *model, const struct model_limits *limits,
                         enum model_quantize how, struct model_plan *plan, struct error *err);

// The same if packed weights stayed packed (model_weight_options.expands_at_load is false).
int model_plan_kept(const struct model *model, const struct model_limits *limits, struct model_plan *plan,
                    struct error *err);

// The weights alone: of the blocks before hidden state `last`, the last wanted transformers index.
int model_plan_weights(const struct model *model, size_t last, struct model_plan *plan, struct error *err);

// With what the devices' back ends add for themselves: what model_reserve takes and model_residency reports.
int model_plan_whole(const struct model *model, const struct model_plan *plan, struct model_plan *whole,
                     struct error *err);

size_t model_plan_bytes(const struct model_plan *plan, enum device_purpose purpose); // on all devices

// The weights of a plan alone, or activations and scratch, or nothing: never staging.
struct model_plan model_plan_part(const struct model_plan *plan, bool weights, bool batch);

// Whether the plan fits (device_check_fits), on each device and the host's memory for all of them together,
// and its staging alone into the host's memory (device_host_fits). STATUS_DEVICE naming a device that it does
// not fit on.
int model_check_fits(const struct model *model, const struct model_plan *plan, struct error *err);
bool model_host_fits(const struct model *model, const struct model_plan *plan);

// Whether the matmuls of batches of limits->tokens can be computed: STATUS_DEVICE as model_check_device.
int model_check_matmuls(struct model *model, const struct model_limits *limits, struct error *err);

// Makes the memory of a plan (device_reserve), of its weights before the rest (device_reserve_weights).
int model_reserve_weights(struct model *model, const struct model_plan *plan, struct error *err);
int model_reserve(struct model *model, const struct model_plan *plan, struct error *err);

// ---- weights ----

enum model_hashes {     // of the weight files, from an earlier launch on this machine (hash_cache.h)
    MODEL_HASHES_MADE,  // not used: every file is hashed
    MODEL_HASHES_KNOWN, // used where they are there
    MODEL_HASHES_KEPT,  // and kept for later launches where they are not
};

struct model_load_options {
    enum model_hashes hashes;
    double timeout_seconds; // no byte for this long ends the load (STATUS_DEVICE); 0: never
    struct log *log;        // says what it waits for after 30 s without a byte; may be NULL
    // False ends the load (STATUS_STOPPED). May be NULL.
    bool (*progress)(void *context, uint64_t bytes_done, uint64_t bytes_all, double seconds);
    // Called now and then while a sweep waits for blocks that are read again: what takes time then is the
    // files, which timeout_seconds is for, not the device. May be NULL. The context stays until model_close.
    void (*reads_again)(void *context);
    void *context;
};

// Takes device memory and reads the weights into it. The fingerprint of all weight files is made on the way.
// Of a file whose hashes are known what no device holds is not read.
int model_load(struct model *model, const struct model_limits *limits,
               const struct model_load_options *options, struct error *err);

// The same in two steps: the weights as soon as their memory is there; the rest, once the limits are known
// and model_reserve made its memory. The last of limits->layers is `last`.
int model_load_weights(struct model *model, size_t last, const struct model_load_options *options,
                       struct error *err);
int model_set_limits(struct model *model, const struct model_limits *limits, struct error *err);

// Names config.json and every byte of the weight files, whatever their names: 64 hex digits, valid after
// model_load_weights or model_fingerprint_files. It is the SHA-256 of
//   the field "strata model, pieces of 4 MiB" and the field config.json (a field: its size as 8 little-endian
//   bytes, then its bytes), which is empty for GGUF files, whose metadata is among their bytes;
//   for each weight file, in the order of their names: its size (8 little-endian bytes), then the 32 bytes of
//   the SHA-256 of each 4 MiB of it, the last piece as long as it is.
// So several threads can make it. It is stored in ledgers and shards: another definition needs another key in
// a run's identity (`model.fingerprint`) and another first field.
const char *model_fingerprint(const struct model *model);

// Makes the fingerprint without loading. Reads every file once whose hashes are not known. `options` may be
// NULL.
int model_fingerprint_files(struct model *model, const struct model_load_options *options, struct error *err);

// ---- before the first batch ----

// The head: tokens that many texts begin with, computed once (where weights stream once a sweep), whose keys
// and values, or the state that they leave, stay for the texts of batches that go on from them. ids
// [limits.head], each < vocabulary. After model_tune; waits until it is computed.
int model_set_head(struct model *model, const int32_t *ids, struct error *err);

// Tokens up to which texts can go on from others and from the head: longer ones have rotary frequencies of
// their own. And whether texts of a batch can go on from each other, not from the head alone.
size_t model_shares_up_to(const struct model *model);
bool model_shares_in_batches(const struct model *model);

// Bytes that a token of the head takes in all blocks before hidden state `last`; what the whole head takes
// beside that, whatever its length (states of mixers other than attention).
uint64_t model_head_token_bytes(const struct model *model, size_t last, enum dtype dtype,
                                enum device_keeping keeping);
uint64_t model_head_state_bytes(const struct model *model, size_t last, enum dtype dtype);

// Chooses how each shape of matmul is computed, on devices that have a choice (device_matmul_tune): the first
// one chooses, the others do as it does. `goes_on` (may be NULL) is called before each shape; false ends the
// tuning (STATUS_STOPPED). STATUS_DEVICE naming a device that cannot do as the first does.
int model_tune(struct model *model, bool (*goes_on)(void *context), void *context, struct error *err);

struct model_resident {
    size_t pieces; // weights, tables, activations and scratch, each a piece of an arena
    uint64_t bytes;
};

// Asks the devices where each piece lies. STATUS_DEVICE, saying where, for one that does not lie on its own.
int model_check_resident(const struct model *model, struct model_resident *out, struct error *err);

// One small pass over seeded ids on every lane, where devices compute a sweep together one on each of them;
// STATUS_DATA naming the first layer with NaN or infinity.
int model_check(struct model *model, struct error *err);

// ---- batches ----

// A packed batch in host memory; the caller keeps it until the pass was waited for.
struct model_batch {
    const int32_t *ids;              // [tokens], each < vocabulary
    const int32_t *starts;           // [texts + 1], starts[0] = 0, starts[texts] = tokens
    const struct device_span *spans; // [rows] of one text each, with what it goes on from
    // [texts] What texts go on from: a text of the batch with a lower number, up to any of its tokens, or the
    // head, of models with other mixers than attention all of the head and nothing else. A text of more than
    // limits.tokens of its own goes on from the head alone. NULL: each text is here from its first token on.
    const struct device_origin *origins;
    size_t tokens; // more than limits.tokens only where it is one text
    size_t texts;
    size_t rows;
    size_t slot; // which staging copy takes the outputs, < limits.slots
};

// Where a finished batch's outputs lie: staging (host) memory, valid until the slot is used again.
struct model_output {
    const void **rows;                      // [layer_count] -> [rows, hidden] of limits.stored
    const struct device_row_check **checks; // [layer_count] -> [rows]
};

// Whether a sweep holds these batches. Together they take up to limits.members of a device
// (model_batch_members); of several devices that compute the sweep side by side, each batch goes to the one
// that has the fewest members of those before it.
bool model_sweep_holds(const struct model *model, const struct model_batch *const *batches, size_t count);

// Which of so many devices side by side that is, when they have so many members of it.
size_t model_sweep_turn(size_t devices, const size_t used[MODEL_DEVICES]);

// Queues a sweep in a lane: uploads, all blocks up to the last wanted one, each with all batches before the
// next block, so that weights that are not resident come once; pooling, downloads. Each batch has a slot of
// its own; all are complete at the same time, the sweep's end.
int model_sweep(struct model *model, size_t lane, const struct model_batch *const *batches, size_t count,
                struct error *err);

// Tokens of the head that a sweep with this batch computes beside its own, on each device side by side: 0
// where the head was computed before the first batch, or where no text of the batch goes on from it.
size_t model_sweep_head(const struct model *model, const struct model_batch *batch);

// model_sweep of one batch, in lane 0.
int model_forward(struct model *model, const struct model_batch *batch, struct error *err);

// Waits until the outputs of the batch queued last in a slot are complete. times may be NULL: of its whole
// sweep by the devices' own clocks; of several devices that compute at the same time, those of the one that
// computed longest.
int model_wait(struct model *model, size_t slot, struct device_times *times, struct error *err);

// Whether model_wait would not wait.
int model_reached(struct model *model, size_t slot, bool *reached, struct error *err);

// The output buffers of a slot.
void model_outputs(const struct model *model, size_t slot, struct model_output *out);

// Floating-point operations of a packed batch through the first `blocks` blocks: 2 * parameters a token in
// the blocks plus 2 * heads * head_dim * (T + 1) a token and block for causal attention over a text of T
// tokens. hidden_states[i] takes i blocks.
double model_flops(const struct model *model, size_t blocks, size_t tokens, double squared_lengths);

#endif
