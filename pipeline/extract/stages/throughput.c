// SPDX-License-Identifier: MIT
#include "stages/throughput.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"

#define DEVICE_COLUMN ",device"

// A file that was begun without the device's figures, or its name, goes on without them: one heading, one
// kind of line.
static void begin(struct throughput *csv, bool devices) {
    char heading[1024];
    rewind(csv->file);
    if (fgets(heading, sizeof heading, csv->file) != NULL) {
        csv->figures = strstr(heading, ledger_figure_name(FIGURE_XID)) != NULL;
        csv->devices = strstr(heading, DEVICE_COLUMN "\n") != NULL;
        fseek(csv->file, 0, SEEK_END); // between reading and writing
        return;
    }
    csv->figures = true;
    csv->devices = devices;
    fseek(csv->file, 0, SEEK_END);
    fputs("time,launch,batch,problems,tokens,rows,prepare_seconds,wait_seconds,compute_seconds,write_seconds,"
          "predicted_seconds,tokens_per_second,drift_score,memory_bytes,overflowed",
          csv->file);
    for (int i = 0; i < LEDGER_FIGURES; i++) {
        fprintf(csv->file, ",%s", ledger_figure_name((enum ledger_figure)i));
    }
    fprintf(csv->file, "%s\n", devices ? DEVICE_COLUMN : "");
}

int throughput_open(struct throughput *csv, const char *path, bool devices, struct error *err) {
    TRY(file_append(&csv->file, path, err));
    setvbuf(csv->file, NULL, _IOLBF, 0);
    begin(csv, devices);
    return STATUS_OK;
}

void throughput_write(struct throughput *csv, const struct ledger_batch *batch) {
    char moment[CLOCK_TEXT];
    clock_text(clock_unix(), moment);
    double seconds = batch->compute_seconds + batch->wait_seconds;
    fprintf(csv->file,
            "%s,%" PRIu64 ",%" PRIu64 ",%" PRIu32 ",%" PRIu64 ",%" PRIu32
            ",%.6f,%.6f,%.6f,%.6f,%.6f,%.1f,%.4f,%" PRIu64 ",%" PRIu64,
            moment, batch->epoch, batch->number, batch->problems, batch->tokens, batch->rows,
            batch->prepare_seconds, batch->wait_seconds, batch->compute_seconds, batch->write_seconds,
            batch->predicted_seconds, seconds > 0 ? (double)batch->tokens / seconds : 0.0, batch->score,
            batch->memory_bytes, batch->overflowed);
    for (int i = 0; csv->figures && i < LEDGER_FIGURES; i++) {
        ledger_device_csv(csv->file, &batch->device, (enum ledger_figure)i);
    }
    fprintf(csv->file, "%s%s\n", csv->devices ? "," : "", csv->devices ? batch->device_name : "");
}

void throughput_close(struct throughput *csv) {
    if (csv->file != NULL) {
        fclose(csv->file);
    }
}
