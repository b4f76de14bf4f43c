// SPDX-License-Identifier: MIT
// Which blocks stay and how many batches a sweep takes, for a device and a host with so many bytes: the check
// of what fits is this file's own, so that a processor stands for any device.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/size.h"
#include "model/golden.h"
#include "start/placement.h"

enum { BLOCKS = 8, HIDDEN = 64, WIDE = 2048, VOCABULARY = 24, BATCHES = 8 };

// ---- memory that there is ----

static uint64_t device_bytes;
static uint64_t host_bytes; // of staging, beside the device's; UINT64_MAX: the device's own

static uint64_t taken_of_device(const struct model_plan *plan) {
    uint64_t bytes = model_plan_bytes(plan, DEVICE_WEIGHTS) + model_plan_bytes(plan, DEVICE_ACTIVATIONS) +
                     model_plan_bytes(plan, DEVICE_SCRATCH);
    return host_bytes == UINT64_MAX ? bytes + model_plan_bytes(plan, DEVICE_STAGING) : bytes;
}

// Linked in place of model_check_fits.
int __wrap_model_check_fits(const struct model *model, const struct model_plan *plan, struct error *err);
int __wrap_model_check_fits(const struct model *model, const struct model_plan *plan, struct error *err) {
    (void)model;
    bool fits = taken_of_device(plan) <= device_bytes && model_plan_bytes(plan, DEVICE_STAGING) <= host_bytes;
    return fits ? STATUS_OK : error_set(err, STATUS_DEVICE, "not enough memory");
}

// ---- a model and a job ----

struct rig {
    char folder[GOLDEN_PATH];
    struct inputs inputs;
    struct model_limits limits;
    size_t layers[1];
};

static void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

static void add_tensor(json_t *header, const char *name, int rows, int columns, size_t *end) {
    size_t bytes = sizeof(float) * (size_t)rows * (size_t)size_max(1, (size_t)columns);
    json_t *shape = columns > 0 ? json_pack("[i, i]", rows, columns) : json_pack("[i]", rows);
    json_object_set_new(header, name,
                        json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape, "data_offsets",
                                  (json_int_t)*end, (json_int_t)(*end + bytes)));
    *end += bytes;
}

static json_t *list_tensors(size_t *end) {
    static const struct {
        const char *name;
        int rows;
        int columns;
    } of_block[] = {
        {"self_attn.q_proj.weight", HIDDEN, HIDDEN},   {"self_attn.k_proj.weight", HIDDEN, HIDDEN},
        {"self_attn.v_proj.weight", HIDDEN, HIDDEN},   {"self_attn.o_proj.weight", HIDDEN, HIDDEN},
        {"mlp.gate_proj.weight", WIDE, HIDDEN},        {"mlp.up_proj.weight", WIDE, HIDDEN},
        {"mlp.down_proj.weight", HIDDEN, WIDE},        {"input_layernorm.weight", HIDDEN, 0},
        {"post_attention_layernorm.weight", HIDDEN, 0}};
    json_t *header = json_object();
    char name[96];
    add_tensor(header, "model.embed_tokens.weight", VOCABULARY, HIDDEN, end);
    add_tensor(header, "model.norm.weight", HIDDEN, 0, end);
    for (int block = 0; block < BLOCKS; block++) {
        for (size_t i = 0; i < sizeof of_block / sizeof of_block[0]; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s", block, of_block[i].name);
            add_tensor(header, name, of_block[i].rows, of_block[i].columns, end);
        }
    }
    return header;
}

static void write_model(const char *folder) {
    static const char config[] =
        "{\"model_type\": \"llama\", \"num_hidden_layers\": 8, \"hidden_size\": 64, "
        "\"num_attention_heads\": 8, \"num_key_value_heads\": 8, \"head_dim\": 8, \"intermediate_size\": "
        "2048, "
        "\"vocab_size\": 24, \"max_position_embeddings\": 512, \"rms_norm_eps\": 1e-5, \"rope_theta\": 1e4, "
        "\"hidden_act\": \"silu\", \"tie_word_embeddings\": true, \"torch_dtype\": \"float32\"}";
    size_t bytes = 0;
    struct buffer file = {0};
    json_t *header = list_tensors(&bytes);
    char *text = json_dumps(header, JSON_COMPACT);
    uint64_t length = strlen(text);
    void *zeros = calloc(bytes, 1);
    buffer_append(&file, &length, sizeof length, NULL);
    buffer_append(&file, text, length, NULL);
    buffer_append(&file, zeros, bytes, NULL);
    golden_write(folder, "config.json", config, sizeof config - 1);
    golden_write(folder, "model.safetensors", file.data, file.size);
    buffer_destroy(&file);
    free(zeros);
    free(text);
    json_decref(header);
}

// As on a GPU, whose slots are two and whose staging is the host's; or on a processor.
static void open_rig(struct rig *rig, bool gpu, enum job_weights weights) {
    struct error err = {0};
    const struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
    struct device *device;
    *rig = (struct rig){.layers = {BLOCKS}};
    golden_folder(rig->folder);
    write_model(rig->folder);
    must(model_open(&rig->inputs.model, rig->folder, &err), &err);
    must(device_open(&device, "cpu", &options, &err), &err);
    must(model_add_device(rig->inputs.model, device, "cpu", &err), &err);
    rig->inputs.device = (struct device_description){.queues = gpu, .host_staging = gpu};
    rig->inputs.job.weights = (int)weights;
    rig->inputs.job.resident_blocks = INT32_MAX;
    rig->inputs.survey.totals.batches = BATCHES;
    rig->limits = (struct model_limits){.layers = rig->layers,
                                        .layer_count = 1,
                                        .tokens = 256,
                                        .texts = 64,
                                        .rows = 64,
                                        .longest = 256,
                                        .stored = DTYPE_F32,
                                        .slots = 2};
    device_bytes = UINT64_MAX;
    host_bytes = gpu ? UINT64_MAX - 1 : UINT64_MAX;
}

static void close_rig(struct rig *rig) {
    model_close(rig->inputs.model);
    golden_remove(rig->folder);
}

static enum model_weights_at place_of(const struct rig *rig) {
    return rig->inputs.job.weights == JOB_WEIGHTS_HOST ? MODEL_WEIGHTS_HOST : MODEL_WEIGHTS_DISK;
}

// What a placement takes.
static struct model_plan plan_of(struct rig *rig, size_t resident, size_t group) {
    struct error err = {0};
    struct model_plan plan;
    struct model_limits limits = rig->limits;
    const struct model_placement placement = {
        .at = resident == BLOCKS ? MODEL_WEIGHTS_RESIDENT : place_of(rig), .resident = resident};
    limits.group = group;
    limits.slots = inputs_slots(&rig->inputs, group);
    model_set_placement(rig->inputs.model, &placement);
    must(model_plan(rig->inputs.model, &limits, &plan, &err), &err);
    return plan;
}

static uint64_t needs(struct rig *rig, size_t resident, size_t group) {
    const struct model_plan plan = plan_of(rig, resident, group);
    return taken_of_device(&plan);
}

static uint64_t needs_of_host(struct rig *rig, size_t resident, size_t group) {
    const struct model_plan plan = plan_of(rig, resident, group);
    return model_plan_bytes(&plan, DEVICE_STAGING);
}

static int choose(struct rig *rig, struct model_limits *limits) {
    struct error err = {0};
    struct model_plan plan;
    *limits = rig->limits;
    int status = placement_choose(&rig->inputs, limits, &plan, &err);
    assert_true(status == STATUS_OK || status == STATUS_DEVICE);
    if (status == STATUS_OK) {
        assert_int_equal(limits->slots, inputs_slots(&rig->inputs, limits->group));
        assert_true(taken_of_device(&plan) <= device_bytes);
    }
    return status;
}

static void chooses(struct rig *rig, size_t resident, size_t group) {
    struct model_limits limits;
    assert_int_equal(choose(rig, &limits), STATUS_OK);
    assert_int_equal(BLOCKS - model_streamed(rig->inputs.model, BLOCKS), resident);
    assert_int_equal(limits.group, group);
}

static void refuses(struct rig *rig) {
    struct model_limits limits;
    assert_int_equal(choose(rig, &limits), STATUS_DEVICE);
}

// ---- tests ----

static void all_blocks_stay_where_they_fit(void **state) {
    (void)state;
    static const enum job_weights weights[] = {JOB_WEIGHTS_RESIDENT, JOB_WEIGHTS_HOST, JOB_WEIGHTS_DISK};
    for (size_t i = 0; i < 6; i++) {
        struct rig rig;
        open_rig(&rig, i % 2 == 1, weights[i / 2]);
        device_bytes = needs(&rig, BLOCKS, 1);
        chooses(&rig, BLOCKS, 1);
        close_rig(&rig);
    }
}

// Where all but two fit beside a slot and a group, all fit without.
static void a_processor_keeps_the_most_blocks_that_fit(void **state) {
    (void)state;
    struct rig rig;
    open_rig(&rig, false, JOB_WEIGHTS_DISK);
    for (size_t resident = 0; resident + 2 < BLOCKS; resident++) {
        device_bytes = needs(&rig, resident, BATCHES);
        chooses(&rig, resident, BATCHES);
        device_bytes += needs(&rig, 1, BATCHES) - needs(&rig, 0, BATCHES) - 1;
        chooses(&rig, resident, BATCHES);
    }
    close_rig(&rig);
}

static void two_slots_take_an_even_number_of_blocks(void **state) {
    (void)state;
    struct rig rig;
    open_rig(&rig, true, JOB_WEIGHTS_HOST);
    for (size_t resident = 0; resident + 2 < BLOCKS; resident++) {
        device_bytes = needs(&rig, resident, 8);
        chooses(&rig, resident / 2 * 2, 8);
    }
    rig.layers[0] = BLOCKS - 1; // an odd number of blocks: then an odd number stays, or none
    device_bytes = needs(&rig, 4, 8);
    struct model_limits limits;
    assert_int_equal(choose(&rig, &limits), STATUS_OK);
    assert_int_equal(model_streamed(rig.inputs.model, BLOCKS - 1), 4);
    close_rig(&rig);
}

static void the_job_bounds_what_stays(void **state) {
    (void)state;
    struct rig rig;
    open_rig(&rig, false, JOB_WEIGHTS_DISK);
    rig.inputs.job.resident_blocks = 3;
    chooses(&rig, 3, BATCHES);
    device_bytes = needs(&rig, 1, BATCHES);
    chooses(&rig, 1, BATCHES);
    rig.inputs.job.resident_blocks = BLOCKS;
    device_bytes = needs(&rig, BLOCKS, 1);
    chooses(&rig, BLOCKS, 1);
    close_rig(&rig);
    open_rig(&rig, true, JOB_WEIGHTS_DISK);
    rig.inputs.job.resident_blocks = 3;
    chooses(&rig, 2, 8);
    rig.inputs.job.resident_blocks = 0;
    chooses(&rig, 0, 8);
    close_rig(&rig);
}

// As many batches as outweigh the reading, and no more than there are.
static void groups_are_of_so_many_tokens(void **state) {
    (void)state;
    static const struct {
        bool gpu;
        size_t tokens;
        size_t group;
    } cases[] = {{false, 8192, 2}, {false, 6000, 3}, {false, 512, BATCHES}, {false, 32768, 1},
                 {true, 8192, 8},  {true, 16384, 4}, {true, 1024, BATCHES}};
    struct rig rig;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        open_rig(&rig, cases[i].gpu, JOB_WEIGHTS_DISK);
        rig.inputs.job.resident_blocks = 2;
        rig.limits.tokens = cases[i].tokens;
        chooses(&rig, 2, cases[i].group);
        close_rig(&rig);
    }
}

static void groups_are_halved_until_they_fit(void **state) {
    (void)state;
    struct rig rig;
    open_rig(&rig, true, JOB_WEIGHTS_DISK);
    for (size_t group = BATCHES; group > 0; group /= 2) {
        device_bytes = needs(&rig, 0, group);
        chooses(&rig, 0, group);
    }
    rig.inputs.job.batch_group = 5; // which is not halved
    refuses(&rig);
    device_bytes = needs(&rig, 0, 5);
    chooses(&rig, 0, 5);
    close_rig(&rig);
}

static void nothing_fits(void **state) {
    (void)state;
    struct rig rig;
    open_rig(&rig, false, JOB_WEIGHTS_DISK);
    device_bytes = needs(&rig, 0, 1) - 1;
    refuses(&rig);
    rig.inputs.job.weights = JOB_WEIGHTS_HOST; // of a processor: its own memory
    device_bytes = needs(&rig, BLOCKS, 1) - 1;
    refuses(&rig);
    rig.inputs.job.weights = JOB_WEIGHTS_RESIDENT;
    refuses(&rig);
    close_rig(&rig);
}

// The more blocks stay, the fewer are kept in the host's memory.
static void the_host_has_room_for_some(void **state) {
    (void)state;
    struct rig rig;
    open_rig(&rig, true, JOB_WEIGHTS_HOST);
    device_bytes = needs(&rig, 6, 8);
    uint64_t enough = needs_of_host(&rig, 6, 8);
    uint64_t more = needs_of_host(&rig, 4, 8);
    assert_true(enough < more);
    host_bytes = enough;
    chooses(&rig, 6, 8);
    device_bytes = needs(&rig, 4, 8);
    rig.inputs.job.batch_group = 8;
    refuses(&rig); // 4 blocks would fit on the device
    host_bytes = more;
    chooses(&rig, 4, 8);
    close_rig(&rig);
}

static void another_way_is_foreseen(void **state) {
    (void)state;
    struct rig rig;
    struct error err = {0};
    struct placement_found found;
    struct buffer text = {0};
    open_rig(&rig, true, JOB_WEIGHTS_RESIDENT);
    device_bytes = needs(&rig, 4, 8);
    refuses(&rig);
    must(placement_foresee(&rig.inputs, &rig.limits, JOB_WEIGHTS_DISK, &found, &err), &err);
    assert_int_equal(found.resident, 4);
    assert_int_equal(found.group, 8);
    rig.limits.group = found.group;
    must(placement_describe(&rig.inputs, &rig.limits, &text, &err), &err);
    assert_string_equal(text.data, "4 of 8 blocks stay, 4 come from their files for every 8 batches");
    buffer_destroy(&text);
    assert_int_equal(placement_foresee(&rig.inputs, &rig.limits, JOB_WEIGHTS_RESIDENT, &found, &err),
                     STATUS_DEVICE);
    close_rig(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_blocks_stay_where_they_fit),
        cmocka_unit_test(a_processor_keeps_the_most_blocks_that_fit),
        cmocka_unit_test(two_slots_take_an_even_number_of_blocks),
        cmocka_unit_test(the_job_bounds_what_stays),
        cmocka_unit_test(groups_are_of_so_many_tokens),
        cmocka_unit_test(groups_are_halved_until_they_fit),
        cmocka_unit_test(nothing_fits),
        cmocka_unit_test(the_host_has_room_for_some),
        cmocka_unit_test(another_way_is_foreseen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
