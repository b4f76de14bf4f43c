// A weight that its file has in a packed format, from an odd byte on and in more than one step: rows of whole
// blocks come to lie in a matrix that is kept in the format, and in no other. The format is the test's own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/operations.h"
#include "kernels/weight_format.h"
#include "model/stage.h"

// The last block of a row has 4 numbers; a row takes 257 blocks, and all rows more than 8 MiB.
enum { ROWS = 3700, COLUMNS = 4100, BLOCK_BYTES = 9, ROW_BYTES = 257 * BLOCK_BYTES, BEGIN = 3 };

// Nothing is computed with it here, so that it need not be expanded.
static const struct weight_format packed = {.name = "packed", .block = 16, .bytes = BLOCK_BYTES};

static const struct weight_row rows[] = {{.name = "layers.{i}.m.weight",
                                          .role = ROLE_WEIGHT,
                                          .form = FORM_MATRIX,
                                          .rows = DIM_INTERMEDIATE,
                                          .columns = DIM_HIDDEN,
                                          .place = offsetof(struct block_weights, down)}};
static const struct weight_table table = {rows, 1};

static void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

struct setting {
    struct model model; // one block on one device
    struct checkpoint_file file;
    struct tensor tensor;
    const struct tensor *in_files[1];
    struct weight_use use;
    struct block_weights block;
    FILE *stream;
    unsigned char *bytes; // of the file
    void *staging;
};

static void write_file(struct setting *setting) {
    uint32_t number = 17;
    size_t size = BEGIN + (size_t)ROWS * ROW_BYTES;
    setting->bytes = malloc(size);
    setting->stream = tmpfile();
    assert_true(setting->bytes != NULL && setting->stream != NULL);
    for (size_t i = 0; i < size; i++) {
        number = number * 1664525 + 1013904223;
        setting->bytes[i] = (unsigned char)(number >> 24);
    }
    assert_int_equal(fwrite(setting->bytes, 1, size, setting->stream), size);
    assert_int_equal(fflush(setting->stream), 0);
    setting->file = (struct checkpoint_file){.path = (char *)(uintptr_t) "packed.bin",
                                             .name = "packed.bin",
                                             .descriptor = fileno(setting->stream),
                                             .size = size};
}

// The matrix is kept in `kept`; NULL: stored as computed.
static void take(struct setting *setting, const struct weight_format *kept) {
    struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
    struct device_plan plan = {.tokens = 1};
    struct error err = {0};
    struct device *device;
    must(device_open(&device, "cpu", &options, &err), &err);
    must(device_plan_matrix(&plan, device, kept, ROWS, COLUMNS, &err), &err);
    must(device_plan_add(&plan, DEVICE_STAGING, (size_t)ROWS * ROW_BYTES, &err), &err);
    must(device_reserve(device, &plan, &err), &err);
    must(device_matrix_take(device, &setting->block.down, kept, ROWS, COLUMNS, &err), &err);
    must(device_take(device, DEVICE_STAGING, (size_t)ROWS * ROW_BYTES, &setting->staging, &err), &err);
    setting->model.stages[0] =
        (struct stage){.device = device, .weights = {.blocks = &setting->block, .block_count = 1}};
    setting->model.stage_count = 1;
}

static void start(struct setting *setting, const struct weight_format *kept) {
    static char text[] = "{}";
    *setting = (struct setting){0};
    write_file(setting);
    setting->tensor = (struct tensor){.name = (char *)(uintptr_t) "m",
                                      .format = &packed,
                                      .rank = 2,
                                      .shape = {ROWS, COLUMNS},
                                      .begin = BEGIN,
                                      .end = setting->file.size};
    setting->in_files[0] = &setting->tensor;
    setting->use = (struct weight_use){.row = rows};
    setting->model.config =
        (struct model_config){.weights = &table, .layers = 1, .hidden = COLUMNS, .intermediate = ROWS};
    setting->model.config_text = (struct buffer){.data = text, .size = sizeof text - 1};
    setting->model.uses = &setting->use;
    setting->model.checkpoint = (struct checkpoint){
        .files = &setting->file,
        .count = 1,
        .tensors = {.entries = &setting->tensor, .count = 1, .in_files = setting->in_files}};
    take(setting, kept);
}

static void end(struct setting *setting) {
    device_close(setting->model.stages[0].device);
    fclose(setting->stream);
    free(setting->bytes);
}

static void rows_of_whole_blocks_are_kept_as_they_are(void **state) {
    (void)state;
    struct setting setting;
    struct error err = {0};
    struct device_fence fence;
    start(&setting, &packed);
    struct device *device = setting.model.stages[0].device;
    must(load_files(&setting.model, true, &(struct model_load_options){0}, &err), &err);
    must(device_download(device, setting.staging, setting.block.down.data, (size_t)ROWS * ROW_BYTES, &err),
         &err);
    must(device_fence(device, &fence, &err), &err);
    must(device_wait(device, fence, NULL, &err), &err);
    assert_memory_equal(setting.staging, setting.bytes + BEGIN, (size_t)ROWS * ROW_BYTES);
    end(&setting);
}

static void a_matrix_of_another_format_refuses_them(void **state) {
    (void)state;
    struct setting setting;
    struct error err = {0};
    start(&setting, NULL);
    assert_int_equal(load_files(&setting.model, true, &(struct model_load_options){0}, &err),
                     STATUS_INTERNAL);
    if (strstr(err.message, "packed.bin: tensor 'm': ") == NULL ||
        strstr(err.message, "packed do not") == NULL) {
        fail_msg("%s", err.message);
    }
    end(&setting);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_whole_blocks_are_kept_as_they_are),
        cmocka_unit_test(a_matrix_of_another_format_refuses_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
