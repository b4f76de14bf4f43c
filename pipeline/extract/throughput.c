#include "extract/throughput.h"

#include <inttypes.h>

#include "base/clock.h"

int throughput_open(FILE **out, const char *path, struct error *err) {
    *out = fopen(path, "ae");
    if (*out == NULL) {
        return error_set_errno(err, STATUS_WRITE, "cannot open %s", path);
    }
    setvbuf(*out, NULL, _IOLBF, 0);
    if (fseek(*out, 0, SEEK_END) == 0 && ftell(*out) == 0) {
        fputs("time,launch,batch,problems,tokens,rows,prepare_seconds,wait_seconds,compute_seconds,write_"
              "seconds,"
              "predicted_seconds,tokens_per_second,drift_score,memory_bytes,overflowed\n",
              *out);
    }
    return STATUS_OK;
}

void throughput_write(FILE *csv, const struct ledger_batch *batch) {
    char moment[CLOCK_TEXT];
    clock_text(clock_unix(), moment);
    double seconds = batch->compute_seconds + batch->wait_seconds;
    fprintf(csv,
            "%s,%" PRIu64 ",%" PRIu64 ",%" PRIu32 ",%" PRIu64 ",%" PRIu32
            ",%.6f,%.6f,%.6f,%.6f,%.6f,%.1f,%.4f,%" PRIu64 ",%" PRIu64 "\n",
            moment, batch->epoch, batch->number, batch->problems, batch->tokens, batch->rows,
            batch->prepare_seconds, batch->wait_seconds, batch->compute_seconds, batch->write_seconds,
            batch->predicted_seconds, seconds > 0 ? (double)batch->tokens / seconds : 0.0, batch->score,
            batch->memory_bytes, batch->overflowed);
}

void throughput_close(FILE *csv) {
    if (csv != NULL) {
        fclose(csv);
    }
}
