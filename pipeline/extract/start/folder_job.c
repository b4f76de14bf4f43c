// SPDX-License-Identifier: MIT
#include "start/folder_job.h"

#include "base/file.h"
#include "base/memory.h"
#include "checkpoints/run_folder.h"

enum { JOB_LIMIT = 4 << 20 };

int folder_job_read(struct job *job, const char *folder, struct ledger *ledger, struct error *err) {
    char path[PATH_SIZE];
    struct buffer text = {0};
    struct buffer origin = {0};
    bool found = false;
    *job = (struct job){0};
    int status;
    TRY(run_folder_file(path, folder, "job.yaml", err));
    TRY_TO(done, status = file_read_own(&text, path, JOB_LIMIT, err));
    TRY_TO(done, status = ledger_note(ledger, FOLDER_JOB_NOTE, &origin, &found, err));
    status = job_parse(job, text.data == NULL ? "" : text.data, text.size, path, found ? origin.data : folder,
                       err);
done:
    buffer_destroy(&text);
    buffer_destroy(&origin);
    return status;
}
