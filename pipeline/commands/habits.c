// SPDX-License-Identifier: MIT
#include "commands/habits.h"

#include <stddef.h>
#include <string.h>

struct habit {
    const char *word;
    const char *here;
};

#define RUN "strata run JOB.yaml starts a job, and resumes it where it stopped"
#define STOP "Ctrl-C in its terminal, or `kill PROCESS` (strata status DIR names it), stops a run cleanly"
#define HUB "strata downloads nothing: `hf download ORG/NAME --local-dir FOLDER` gets a model"
#define REMOVE "a run directory is removed as any folder: rm -r DIR"

static const struct habit commands[] = {
    {"resume", RUN},
    {"restart", RUN},
    {"continue", RUN},
    {"start", RUN},
    {"launch", RUN},
    {"submit", RUN},
    {"extract", RUN},
    {"embed", RUN},
    {"encode", RUN},
    {"generate", "strata generates no text: it keeps the hidden states of given texts; " RUN},
    {"train", "strata trains nothing: it keeps the hidden states of given texts; " RUN},
    {"serve", "strata is no server; " RUN},
    {"stop", STOP},
    {"cancel", STOP},
    {"kill", STOP},
    {"pause", STOP},
    {"retry", "strata run JOB.yaml --retry-failed tries failed problems again"},
    {"progress", "strata status DIR"},
    {"watch", "strata status DIR --watch"},
    {"monitor", "strata status DIR --watch"},
    {"top", "strata status DIR --watch"},
    {"ls", "strata status DIR shows a run"},
    {"list", "strata status DIR shows a run"},
    {"info", "strata status DIR shows a run, strata plan JOB.yaml what a job takes"},
    {"inspect", "strata show DIR ID shows one problem of a run"},
    {"view", "strata show DIR ID shows one problem of a run"},
    {"get", "strata show DIR ID shows one problem of a run"},
    {"logs", "strata log DIR"},
    {"validate", "strata check JOB.yaml looks at a job, strata verify DIR at a run"},
    {"test", "strata check JOB.yaml looks at a job, strata verify DIR at a run"},
    {"doctor", "strata check JOB.yaml looks at a job, strata verify DIR at a run"},
    {"lint", "strata check JOB.yaml looks at a job"},
    {"estimate", "strata plan JOB.yaml"},
    {"dry-run", "strata plan JOB.yaml counts what a job takes"},
    {"convert", "strata import FILE PROBLEMS.db takes problems in, strata export DIR gives latents out"},
    {"load", "strata import FILE PROBLEMS.db takes problems in"},
    {"merge", "strata export takes the folder of a set of parts, or several parts"},
    {"init", "a job file is written by hand: README.md has one, strata help job every key"},
    {"new", "a job file is written by hand: README.md has one, strata help job every key"},
    {"config", "strata help job has every key of a job file"},
    {"download", HUB},
    {"pull", HUB},
    {"fetch", HUB},
    {"login", HUB},
    {"rm", REMOVE},
    {"clean", REMOVE},
    {"delete", REMOVE},
    {"version", "strata --version"},
    {"-v", "strata --version"},
    {"-V", "strata --version"},
    {"-version", "strata --version"},
    {"man", "strata help"},
    {"-help", "strata help"},
    {"?", "strata help"},
};

static const struct habit of_run[] = {
    {"--resume", "the same command resumes a run by itself"},
    {"--continue", "the same command resumes a run by itself"},
    {"--overwrite", "a run is never overwritten: choose another --output, or remove the folder"},
    {"--force", "a run is never overwritten: choose another --output, or remove the folder"},
    {"--model", "a key of the job file: model.path"},
    {"--model-path", "a key of the job file: model.path"},
    {"--batch-size", "a key of the job file: batch.problems, and batch.tokens"},
    {"--dtype", "a key of the job file: model.dtype, and latents.dtype"},
    {"--layers", "a key of the job file: latents.layers"},
    {"--pooling", "a key of the job file: latents.pooling"},
    {"--set", "keys are set in the job file (strata help job)"},
    {"--config", "the job file is named without an option: strata run JOB.yaml"},
    {"--job", "the job file is named without an option: strata run JOB.yaml"},
    {"-c", "the job file is named without an option: strata run JOB.yaml"},
    {"-f", "the job file is named without an option: strata run JOB.yaml"},
    {"--background", "`nohup strata run JOB.yaml &`, tmux or a batch system; strata status DIR shows it"},
    {"--verbose", "run.log in the run directory, and strata log DIR, have more"},
    {"--debug", "run.log in the run directory, and strata log DIR, have more"},
    {"--gpu", "--device cuda:N, or model.device in the job file"},
    {"--gpus", "model.device in the job file is a list of cuda:N"},
};

static const struct habit shortened[] = {
    {"-o", "--output"},    {"-o", "--to"},
    {"-q", "--quiet"},     {"-j", "--json"},
    {"-w", "--watch"},     {"--follow", "--watch"},
    {"--out", "--output"}, {"--out", "--to"},
    {"-n", "--limit"},     {"-d", "--device"},
    {"-t", "--threads"},   {"--dir", "--to"},
    {"--shard", "--part"}, {"--num-threads", "--threads"},
};

#define COMPANION "an option of strata-import (pip install 'strata-latents[import]')"

static const struct habit of_import[] = {
    {"--messages", COMPANION},
    {"--model", COMPANION},
    {"--chat-template", COMPANION},
    {"--template-arg", COMPANION},
    {"--column", COMPANION},
    {"--keep", COMPANION},
    {"--drop", COMPANION},
    {"--id-from", COMPANION},
    {"--config", COMPANION},
    {"--split", COMPANION},
    {"--limit", COMPANION},
    {"--tools", COMPANION},
    {"--id-column", "--id COLUMN"},
    {"--format", "a file is known by its content"},
    {"--overwrite", "--append adds to a table; a database is removed as any file"},
};

static const char *find(const struct habit *habits, size_t count, const char *word) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(habits[i].word, word) == 0) {
            return habits[i].here;
        }
    }
    return NULL;
}

const char *habit_command(const char *word) {
    return find(commands, sizeof commands / sizeof commands[0], word);
}

const char *habit_option(const char *command, const char *word) {
    return strcmp(command, "run") == 0      ? find(of_run, sizeof of_run / sizeof of_run[0], word)
           : strcmp(command, "import") == 0 ? find(of_import, sizeof of_import / sizeof of_import[0], word)
                                            : NULL;
}

const char *habit_option_name(const char *word, const char *const *names, size_t count) {
    for (size_t i = 0; i < sizeof shortened / sizeof shortened[0]; i++) {
        for (size_t k = 0; k < count; k++) {
            if (strcmp(shortened[i].word, word) == 0 && strcmp(shortened[i].here, names[k]) == 0) {
                return names[k];
            }
        }
    }
    return NULL;
}
