// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "checkpoints/fixture.h"
#include "checkpoints/shard_reader.h"

static void ok(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%s", err->message);
    }
}

static void make_folder(char folder[PATH_SIZE]) {
    struct error err;
    char shards[PATH_SIZE];
    fixture_folder(folder);
    ok(run_folder_file(shards, folder, "shards", &err), &err);
    ok(file_make_folder(shards, &err), &err);
}

struct plan {
    struct shard_layout layout;
    enum fixture_pooling pooling;
    size_t batches;
    size_t problems; // a batch
};

static void append(struct shard_writer *writer, const struct plan *plan, size_t number) {
    struct error err;
    struct fixture_batch batch;
    // One batch of which no problem was left.
    size_t count = number == 2 ? 0 : plan->problems;
    fixture_batch_make(&batch, &plan->layout, number, number * plan->problems, count, plan->pooling);
    ok(shard_append(writer, &batch.batch, &err), &err);
    fixture_batch_free(&batch);
}

static struct shard_sealed write_whole(const char *folder, const struct plan *plan) {
    struct error err;
    struct shard_writer *writer;
    struct shard_sealed sealed;
    ok(shard_create(&writer, folder, &plan->layout, &err), &err);
    ok(shard_start(writer, 7, &err), &err);
    for (size_t i = 0; i < plan->batches; i++) {
        append(writer, plan, i);
    }
    ok(shard_seal(writer, false, &sealed, &err), &err);
    shard_destroy(writer);
    return sealed;
}

// Stops after `split` batches as a clean stop does, then goes on with a new writer.
static struct shard_sealed write_split(const char *folder, const struct plan *plan, size_t split) {
    struct error err;
    struct shard_writer *writer;
    struct shard_sealed sealed;
    char path[PATH_SIZE];
    size_t replayed;
    ok(shard_create(&writer, folder, &plan->layout, &err), &err);
    ok(shard_start(writer, 7, &err), &err);
    for (size_t i = 0; i < split; i++) {
        append(writer, plan, i);
    }
    ok(shard_seal(writer, true, &sealed, &err), &err);
    assert_string_equal(sealed.name, "part-000007.partial.h5");
    shard_destroy(writer);

    ok(run_folder_shard(path, folder, 7, true, &err), &err);
    ok(shard_create(&writer, folder, &plan->layout, &err), &err);
    ok(shard_start(writer, 7, &err), &err);
    ok(shard_replay(writer, path, &replayed, &err), &err);
    assert_int_equal(replayed, split);
    for (size_t i = split; i < plan->batches; i++) {
        append(writer, plan, i);
    }
    ok(shard_seal(writer, false, &sealed, &err), &err);
    shard_destroy(writer);
    return sealed;
}

static void check_problem(const struct shard_problem *got, const struct shard_problem *wanted, bool token_ids,
                          bool loss_mask) {
    assert_int_equal(got->id_size, wanted->id_size);
    assert_memory_equal(got->id, wanted->id, wanted->id_size);
    assert_int_equal(got->metadata_size, wanted->metadata_size);
    assert_memory_equal(got->metadata, wanted->metadata, wanted->metadata_size);
    assert_int_equal(got->ordinal, wanted->ordinal);
    assert_int_equal(got->token_count, wanted->token_count);
    assert_int_equal(got->truncated, wanted->truncated);
    assert_int_equal(got->step_count, wanted->step_count);
    assert_int_equal(got->rows, wanted->rows);
    if (token_ids) {
        assert_memory_equal(got->tokens, wanted->tokens, wanted->token_count * sizeof(int32_t));
    } else {
        assert_null(got->tokens);
    }
    if (loss_mask) {
        assert_memory_equal(got->loss_mask, wanted->loss_mask, wanted->token_count);
    } else {
        assert_null(got->loss_mask);
    }
}

// Figures by the plainest loop, norms aside, which are compared within rounding.
static void check_statistics(struct shard_reader *reader, size_t layer, const void *stored) {
    const struct shard_content *content = shard_reader_content(reader);
    struct error err;
    size_t hidden = content->hidden;
    double *figures = fixture_take(4 * hidden, sizeof(double));
    struct shard_statistics got = {figures, figures + hidden, figures + 2 * hidden, figures + 3 * hidden, 0,
                                   0};
    ok(shard_reader_statistics(reader, layer, &got, &err), &err);
    double norms = 0;
    double *norm = fixture_take(content->rows, sizeof(double));
    for (size_t j = 0; j < hidden; j++) {
        double sum = 0;
        double squares = 0;
        double least = INFINITY;
        double most = -INFINITY;
        for (size_t i = 0; i < content->rows; i++) {
            float value;
            dtype_convert(&value, DTYPE_F32,
                          (const char *)stored + (i * hidden + j) * dtype_size(content->dtype),
                          content->dtype, 1);
            sum += (double)value;
            squares += (double)value * (double)value;
            norm[i] += (double)value * (double)value;
            least = fmin(least, (double)value);
            most = fmax(most, (double)value);
        }
        assert_memory_equal(&got.sum[j], &sum, sizeof sum);
        assert_memory_equal(&got.sum_of_squares[j], &squares, sizeof squares);
        assert_true(got.minimum[j] == least && got.maximum[j] == most);
    }
    for (size_t i = 0; i < content->rows; i++) {
        norms += sqrt(norm[i]);
    }
    assert_true(isfinite(got.norm_sum));
    assert_true(fabs(got.norm_sum - norms) <= 1e-12 * norms);
    assert_int_equal(got.rows, content->rows);
    free(norm);
    free(figures);
}

static void check_content(const char *folder, const struct plan *plan) {
    struct error err;
    struct shard_reader *reader;
    char path[PATH_SIZE];
    ok(run_folder_shard(path, folder, 7, false, &err), &err);
    ok(shard_reader_open(&reader, path, &err), &err);
    const struct shard_content *content = shard_reader_content(reader);
    size_t row_size = plan->layout.hidden * dtype_size(plan->layout.dtype);
    assert_int_equal(content->number, 7);
    assert_int_equal(content->dtype, plan->layout.dtype);
    assert_int_equal(content->batches, plan->batches);
    assert_string_equal(shard_reader_attribute(reader, "template"), fixture_attributes[2].value);
    assert_string_equal(shard_reader_attribute(reader, "empty"), "");
    assert_null(shard_reader_attribute(reader, "nothing"));
    void *stored[3];
    for (size_t layer = 0; layer < 3; layer++) {
        assert_int_equal(content->layers[layer], fixture_layers[layer]);
        stored[layer] = fixture_take(content->rows, row_size);
        ok(shard_reader_latents(reader, layer, 0, content->rows, stored[layer], &err), &err);
        check_statistics(reader, layer, stored[layer]);
    }
    size_t problem = 0;
    size_t row = 0;
    for (size_t i = 0; i < plan->batches; i++) {
        struct fixture_batch wanted;
        fixture_batch_make(&wanted, &plan->layout, i, i * plan->problems, i == 2 ? 0 : plan->problems,
                           plan->pooling);
        assert_int_equal(content->batch_number[i], i);
        assert_int_equal(content->batch_offset[i], problem);
        for (size_t layer = 0; layer < 3; layer++) {
            assert_memory_equal((char *)stored[layer] + row * row_size, wanted.latents[layer],
                                wanted.batch.row_count * row_size);
        }
        for (size_t j = 0; j < wanted.batch.row_count; j++) {
            assert_memory_equal(&content->row[row + j], &wanted.rows[j], sizeof wanted.rows[j]);
        }
        for (size_t j = 0; j < wanted.batch.problem_count; j++, problem++) {
            check_problem(&content->problem[problem], &wanted.problems[j], plan->layout.token_ids,
                          plan->layout.loss_mask);
        }
        row += wanted.batch.row_count;
        fixture_batch_free(&wanted);
    }
    assert_int_equal(content->problems, problem);
    assert_int_equal(content->rows, row);
    for (size_t layer = 0; layer < 3; layer++) {
        free(stored[layer]);
    }
    shard_reader_close(reader);
}

// hidden 37 is no multiple of a vector; 1500 float32 makes chunks of 699 rows, of which the token rows fill
// several.
static const struct plan plans[] = {
    {{.hidden = 37, .dtype = DTYPE_F32, .token_ids = true}, FIXTURE_STEPS, 5, 9},
    {{.hidden = 37, .dtype = DTYPE_F16, .token_ids = false}, FIXTURE_STEPS, 5, 9},
    {{.hidden = 64, .dtype = DTYPE_BF16, .token_ids = true}, FIXTURE_MEAN, 4, 13},
    {{.hidden = 530, .dtype = DTYPE_F16, .token_ids = true}, FIXTURE_TOKENS, 4, 5},
    {{.hidden = 1500, .dtype = DTYPE_F32, .token_ids = true}, FIXTURE_TOKENS, 6, 21},
    {{.hidden = 1, .dtype = DTYPE_BF16, .token_ids = false}, FIXTURE_TOKENS, 1, 1},
    {{.hidden = 8, .dtype = DTYPE_F32, .token_ids = true}, FIXTURE_MEAN, 0, 1},
    {{.hidden = 24, .dtype = DTYPE_F16, .token_ids = true, .loss_mask = true}, FIXTURE_STEPS, 5, 9},
};

static struct plan plan_at(size_t i) {
    struct plan plan = plans[i];
    plan.layout = fixture_layout(plans[i].layout.hidden, plans[i].layout.dtype, plans[i].layout.token_ids);
    plan.layout.loss_mask = plans[i].layout.loss_mask;
    return plan;
}

static void round_trip(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        char folder[PATH_SIZE];
        struct plan plan = plan_at(i);
        make_folder(folder);
        struct shard_sealed sealed = write_whole(folder, &plan);
        char hex[DIGEST_HEX];
        char path[PATH_SIZE];
        struct error err;
        uint64_t bytes;
        ok(run_folder_shard(path, folder, 7, false, &err), &err);
        ok(digest_file(path, hex, &err), &err);
        ok(file_size(path, &bytes, &err), &err);
        assert_string_equal(sealed.name, "part-000007.h5");
        assert_string_equal(sealed.sha256, hex);
        assert_int_equal(sealed.bytes, bytes);
        check_content(folder, &plan);
        fixture_folder_remove(folder);
    }
}

static void same_bytes_twice_and_after_every_stop(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        char folder[PATH_SIZE];
        struct plan plan = plan_at(i);
        make_folder(folder);
        struct shard_sealed first = write_whole(folder, &plan);
        struct shard_sealed second = write_whole(folder, &plan);
        assert_string_equal(first.sha256, second.sha256);
        for (size_t split = 0; split <= plan.batches; split++) {
            struct shard_sealed resumed = write_split(folder, &plan, split);
            assert_string_equal(resumed.name, first.name);
            assert_string_equal(resumed.sha256, first.sha256);
            assert_int_equal(resumed.rows, first.rows);
            assert_int_equal(resumed.tokens, first.tokens);
        }
        fixture_folder_remove(folder);
    }
}

// Cut into other batches, a run's problems keep their bits, and so do the figures, which are added in row
// order.
static void other_batches_same_rows(void **state) {
    (void)state;
    struct error err;
    const size_t sizes[] = {1, 7, 60};
    unsigned char *first = NULL;
    double *sums = NULL;
    struct plan plan = plan_at(4);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char folder[PATH_SIZE];
        char path[PATH_SIZE];
        struct shard_writer *writer;
        struct shard_sealed sealed;
        struct shard_reader *reader;
        make_folder(folder);
        ok(shard_create(&writer, folder, &plan.layout, &err), &err);
        ok(shard_start(writer, 0, &err), &err);
        for (size_t done = 0; done < 60;) {
            struct fixture_batch batch;
            size_t count = sizes[i] < 60 - done ? sizes[i] : 60 - done;
            fixture_batch_make(&batch, &plan.layout, done, done, count, plan.pooling);
            ok(shard_append(writer, &batch.batch, &err), &err);
            fixture_batch_free(&batch);
            done += count;
        }
        ok(shard_seal(writer, false, &sealed, &err), &err);
        shard_destroy(writer);
        ok(run_folder_shard(path, folder, 0, false, &err), &err);
        ok(shard_reader_open(&reader, path, &err), &err);
        size_t rows = shard_reader_content(reader)->rows;
        size_t bytes = rows * 1500 * 4;
        unsigned char *latents = fixture_take(bytes, 1);
        double *figures = fixture_take(4 * 1500 + 1, sizeof(double));
        struct shard_statistics statistics = {figures, figures + 1500, figures + 3000, figures + 4500, 0, 0};
        ok(shard_reader_latents(reader, 1, 0, rows, latents, &err), &err);
        ok(shard_reader_statistics(reader, 1, &statistics, &err), &err);
        figures[6000] = statistics.norm_sum;
        shard_reader_close(reader);
        if (first == NULL) {
            first = latents;
            sums = figures;
        } else {
            assert_memory_equal(first, latents, bytes);
            assert_memory_equal(sums, figures, 6001 * sizeof(double));
            free(latents);
            free(figures);
        }
        fixture_folder_remove(folder);
    }
    free(first);
    free(sums);
}

static void refuses_what_cannot_be(void **state) {
    (void)state;
    struct error err;
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    struct shard_writer *writer;
    struct fixture_batch batch;
    make_folder(folder);
    struct plan plan = plan_at(0);
    ok(run_folder_shard(path, folder, 0, false, &err), &err);
    strcat(path, ".tmp");

    fixture_batch_make(&batch, &plan.layout, 0, 0, 9, FIXTURE_STEPS);
    ((float *)batch.latents[1])[5] = NAN;
    ok(shard_create(&writer, folder, &plan.layout, &err), &err);
    ok(shard_start(writer, 0, &err), &err);
    assert_int_equal(shard_append(writer, &batch.batch, &err), STATUS_INTERNAL);
    assert_non_null(strstr(err.message, "not finite"));
    assert_true(file_exists(path));
    shard_destroy(writer);
    assert_false(file_exists(path));
    fixture_batch_free(&batch);

    fixture_batch_make(&batch, &plan.layout, 0, 0, 9, FIXTURE_STEPS);
    batch.batch.row_count--;
    ok(shard_create(&writer, folder, &plan.layout, &err), &err);
    ok(shard_start(writer, 0, &err), &err);
    assert_int_equal(shard_append(writer, &batch.batch, &err), STATUS_INTERNAL);
    shard_destroy(writer);
    fixture_batch_free(&batch);

    size_t backwards[] = {3, 1};
    struct shard_layout bad = plan.layout;
    bad.layers = backwards;
    bad.layer_count = 2;
    assert_int_equal(shard_create(&writer, folder, &bad, &err), STATUS_INTERNAL);
    fixture_folder_remove(folder);

    ok(shard_create(&writer, "/nonexistent/folder", &plan.layout, &err), &err);
    assert_int_equal(shard_start(writer, 0, &err), STATUS_WRITE);
    assert_non_null(strstr(err.message, "No such file or directory"));
    shard_destroy(writer);
}

// A file that was not closed, or is not a shard, is refused on open.
static void refuses_damaged_files(void **state) {
    (void)state;
    struct error err;
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    struct shard_reader *reader;
    make_folder(folder);
    struct plan plan = plan_at(0);
    struct shard_sealed sealed = write_whole(folder, &plan);
    ok(run_folder_shard(path, folder, 7, false, &err), &err);
    for (uint64_t size = 0; size < sealed.bytes; size += 1 + sealed.bytes / 23) {
        assert_int_equal(truncate(path, (off_t)(sealed.bytes - 1 - size)), 0);
        assert_int_equal(shard_reader_open(&reader, path, &err), STATUS_DATA);
        assert_non_null(strstr(err.message, path));
    }
    assert_int_equal(shard_reader_open(&reader, folder, &err), STATUS_DATA);
    fixture_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(same_bytes_twice_and_after_every_stop),
        cmocka_unit_test(other_batches_same_rows),
        cmocka_unit_test(refuses_what_cannot_be),
        cmocka_unit_test(refuses_damaged_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
