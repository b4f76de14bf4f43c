// SPDX-License-Identifier: MIT
// A small run over the real shard writer and ledger, for the fault sweeps of test_faults.py:
//   tool_commit FOLDER SHARDS [commit-before-rename] [partial] [bfloat16 | float32]
// Opens the run directory, recovers, and writes what is missing of SHARDS shards of 2 batches. After each
// commit its shard's number goes to standard output in one write. "commit-before-rename" plants that bug, to
// show that the sweep finds it. "partial" stops within the second shard, once, as a clean stop does. Ends by
// _exit with the exit code of the error, as the runner does.
#include <unistd.h>

#include "base/log.h"
#include "checkpoints/fixture.h"
#include "checkpoints/recovery.h"

enum { BATCHES = 2, PROBLEMS = 5 };

struct tool {
    const char *path;
    uint64_t shards;
    bool early;   // the planted bug
    bool partial; // stop once within shard 1
    struct run_folder folder;
    struct ledger *ledger;
    struct shard_writer *writer;
    struct shard_layout layout;
    uint64_t epoch;
};

static int begin(struct tool *tool, struct error *err) {
    struct identity stored = {0};
    struct identity now = {0};
    struct ledger_survey survey = {.problems = tool->shards * BATCHES * PROBLEMS, .problems_sha256 = "none"};
    bool found = false;
    int status = ledger_identity(tool->ledger, &stored, &found, err);
    if (status == STATUS_OK && !found) {
        status = identity_add(&now, "tool", "commit", err);
        if (status == STATUS_OK) {
            status = ledger_begin(tool->ledger, &now, &survey, err);
        }
    }
    identity_destroy(&stored);
    identity_destroy(&now);
    if (status == STATUS_OK) {
        status = ledger_launch(tool->ledger, 1, &tool->epoch, err);
    }
    return status == STATUS_OK ? ledger_launch_works(tool->ledger, err) : status;
}

static int commit(struct tool *tool, const struct fixture_batch *batches, const struct shard_sealed *sealed,
                  uint64_t shard, struct error *err) {
    struct ledger_problem problems[BATCHES * PROBLEMS];
    struct ledger_batch figures[BATCHES];
    bool durable;
    for (uint32_t i = 0; i < BATCHES; i++) {
        fixture_ledger_problems(problems + i * PROBLEMS, &batches[i].batch, i * PROBLEMS);
        figures[i] = fixture_ledger_batch(&batches[i].batch, tool->epoch);
    }
    const struct ledger_commit record = {
        .shard = sealed,
        .position = {.shards = shard + 1, .batches = (shard + 1) * BATCHES},
        .problems = problems,
        .problem_count = BATCHES * PROBLEMS,
        .batches = figures,
        .batch_count = BATCHES,
        .finished = shard + 1 == tool->shards,
    };
    return ledger_commit(tool->ledger, &record, &durable, err);
}

// What the writer will say of a shard, known beforehand from the first run: only the planted bug needs it.
static int commit_early(struct tool *tool, const struct fixture_batch *batches, uint64_t shard,
                        struct error *err) {
    struct shard_sealed guess = {.sha256 = "guess", .bytes = 1};
    run_folder_shard_name(guess.name, shard, false);
    for (size_t i = 0; i < BATCHES; i++) {
        guess.problems += PROBLEMS;
        guess.rows += batches[i].batch.row_count;
        for (size_t j = 0; j < PROBLEMS; j++) {
            guess.tokens += batches[i].problems[j].token_count;
        }
    }
    return commit(tool, batches, &guess, shard, err);
}

static int stop_cleanly(struct tool *tool, uint64_t shard, struct error *err) {
    struct shard_sealed sealed;
    struct ledger_partial partial = {.shard = shard, .batches = 1, .record = "record", .record_size = 6};
    int status = shard_seal(tool->writer, true, &sealed, err);
    if (status == STATUS_OK) {
        memcpy(partial.name, sealed.name, sizeof partial.name);
        memcpy(partial.sha256, sealed.sha256, sizeof partial.sha256);
        status = ledger_set_partial(tool->ledger, &partial, err);
    }
    return status == STATUS_OK ? error_set(err, STATUS_STOPPED, "stopped within shard 1") : status;
}

static int acknowledge(uint64_t shard, struct error *err) {
    char line[32];
    int length = snprintf(line, sizeof line, "%llu\n", (unsigned long long)shard);
    if (write(STDOUT_FILENO, line, (size_t)length) != length) {
        return error_set_errno(err, STATUS_WRITE, "cannot acknowledge");
    }
    return STATUS_OK;
}

static int write_shard(struct tool *tool, uint64_t shard, bool resume, struct error *err) {
    struct fixture_batch batches[BATCHES];
    struct shard_sealed sealed;
    char path[PATH_SIZE];
    size_t replayed = 0;
    for (size_t i = 0; i < BATCHES; i++) {
        uint64_t number = shard * BATCHES + i;
        fixture_batch_make(&batches[i], &tool->layout, number, number * PROBLEMS, PROBLEMS, FIXTURE_STEPS);
    }
    int status = shard_start(tool->writer, shard, err);
    if (status == STATUS_OK && resume) {
        status = run_folder_shard(path, tool->path, shard, true, err);
        if (status == STATUS_OK) {
            status = shard_replay(tool->writer, path, &replayed, err);
        }
    }
    for (size_t i = replayed; status == STATUS_OK && i < BATCHES; i++) {
        status = shard_append(tool->writer, &batches[i].batch, err);
        if (status == STATUS_OK && tool->partial && shard == 1 && i == 0) {
            status = stop_cleanly(tool, shard, err);
        }
    }
    if (status == STATUS_OK && tool->early) {
        status = commit_early(tool, batches, shard, err);
    }
    if (status == STATUS_OK) {
        status = shard_seal(tool->writer, false, &sealed, err);
    }
    if (status == STATUS_OK && !tool->early) {
        status = commit(tool, batches, &sealed, shard, err);
    }
    if (status == STATUS_OK) {
        status = acknowledge(shard, err);
    }
    if (status == STATUS_OK && resume) {
        status = file_remove(path, err);
    }
    for (size_t i = 0; i < BATCHES; i++) {
        fixture_batch_free(&batches[i]);
    }
    return status;
}

static int run(struct tool *tool, struct error *err) {
    struct recovery_report report;
    struct ledger_position position = {0};
    struct log log;
    int status = run_folder_open(&tool->folder, tool->path, NULL, false, err);
    if (status == STATUS_OK) {
        status = log_open(&log, NULL, err);
    }
    if (status == STATUS_OK) {
        status = ledger_open(&tool->ledger, tool->path, err);
    }
    if (status == STATUS_OK) {
        status = begin(tool, err);
    }
    if (status == STATUS_OK) {
        log.echo_level = LOG_LEVEL_ERROR;
        status = recovery_run(&tool->folder, tool->ledger, &log, &report, err);
    }
    if (status == STATUS_OK) {
        status = ledger_position(tool->ledger, &position, err);
    }
    if (status == STATUS_OK) {
        status = shard_create(&tool->writer, tool->path, &tool->layout, err);
    }
    for (uint64_t shard = position.shards; status == STATUS_OK && shard < tool->shards; shard++) {
        status = write_shard(tool, shard, report.partial_usable && shard == position.shards, err);
    }
    return status == STATUS_OK ? ledger_launch_end(tool->ledger, 0, "finished", err) : status;
}

int main(int count, char **arguments) {
    struct error err = {0};
    struct tool tool = {.layout = fixture_layout(24, DTYPE_F16, true)};
    if (count < 3) {
        fprintf(stderr, "usage: %s FOLDER SHARDS [commit-before-rename] [partial] [DTYPE]\n", arguments[0]);
        return 64;
    }
    tool.path = arguments[1];
    tool.shards = (uint64_t)atoi(arguments[2]);
    for (int i = 3; i < count; i++) {
        tool.early = tool.early || strcmp(arguments[i], "commit-before-rename") == 0;
        tool.partial = tool.partial || strcmp(arguments[i], "partial") == 0;
        dtype_parse(arguments[i], &tool.layout.dtype);
    }
    int status = run(&tool, &err);
    if (status != STATUS_OK) {
        fprintf(stderr, "tool_commit: %s\n", err.message);
        _exit(error_exit_code(status)); // the libraries may be past use: nothing of theirs runs any more
    }
    shard_destroy(tool.writer);
    ledger_close(tool.ledger);
    run_folder_close(&tool.folder);
    return 0;
}
