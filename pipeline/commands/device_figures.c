// SPDX-License-Identifier: MIT
#include "commands/device_figures.h"

#include <string.h>

#include "base/printable.h"
#include "commands/readable.h"
#include "kernels/telemetry.h"

enum { THROTTLE_TEXT = 64 };

static const char *throttle(const struct ledger_device *device, char out[THROTTLE_TEXT]) {
    double reasons;
    bool known = ledger_device_get(device, FIGURE_THROTTLE_REASONS, &reasons);
    device_throttle_names(known ? (int64_t)reasons : DEVICE_UNKNOWN, out, THROTTLE_TEXT);
    return out;
}

// ---- status ----

// Appends " %s%s" parts to a line that begins with its label when the first part comes.
struct line {
    FILE *out;
    const char *label;
    bool begun;
};

static FILE *next(struct line *line) {
    if (line->begun) {
        fputs(", ", line->out);
    } else {
        fprintf(line->out, "  %-11s ", line->label);
    }
    line->begun = true;
    return line->out;
}

static void end(struct line *line, const char *when) {
    if (line->begun) {
        fprintf(line->out, "%s\n", when);
    }
}

static void add_work(struct line *line, const struct ledger_device *device) {
    static const struct {
        enum ledger_figure figure;
        const char *unit;
    } parts[] = {{FIGURE_UTILIZATION, "% busy"},
                 {FIGURE_SM_CLOCK, "MHz"},
                 {FIGURE_POWER, "W"},
                 {FIGURE_TEMPERATURE, "C"}};
    char names[THROTTLE_TEXT];
    double value;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (ledger_device_get(device, parts[i].figure, &value)) {
            fprintf(next(line), "%.0f %s", value, parts[i].unit);
        }
    }
    if (ledger_device_get(device, FIGURE_THROTTLE_REASONS, &value)) {
        bool none = strcmp(throttle(device, names), "none") == 0;
        fprintf(next(line), "%s%s", none ? "not throttled" : "throttled by ", none ? "" : names);
    }
    if (ledger_device_get(device, FIGURE_XID, &value) && value > 0) {
        fprintf(next(line), "error XID %.0f", value);
    }
}

static void work_line(FILE *out, const struct ledger_device *device, const char *when) {
    struct line line = {.out = out, .label = "device"};
    add_work(&line, device);
    end(&line, when);
}

static void add_memory(struct line *line, const struct ledger_device *device) {
    char text[READABLE_TEXT];
    double value;
    if (ledger_device_get(device, FIGURE_MEMORY_USED, &value)) {
        fprintf(next(line), "%s in use", readable_bytes((uint64_t)value, text));
    }
    if (ledger_device_get(device, FIGURE_PROCESS_MEMORY, &value)) {
        fprintf(next(line), "%s of this process", readable_bytes((uint64_t)value, text));
    }
}

static void memory_line(FILE *out, const struct ledger_device *device, const char *when) {
    struct line line = {.out = out, .label = "gpu memory"};
    add_memory(&line, device);
    end(&line, when);
}

static void traffic_line(FILE *out, const struct ledger_device *device, const char *when) {
    struct line line = {.out = out, .label = "pcie"};
    double value;
    if (ledger_device_get(device, FIGURE_PCIE_RECEIVED, &value)) {
        fprintf(next(&line), "%.1f MB/s to the device", value * 1e-6);
    }
    if (ledger_device_get(device, FIGURE_PCIE_SENT, &value)) {
        fprintf(next(&line), "%.1f MB/s from it", value * 1e-6);
    }
    end(&line, when);
}

void device_figures_lines(FILE *out, const struct ledger_device *device, const char *when) {
    work_line(out, device, when);
    memory_line(out, device, when);
    traffic_line(out, device, when);
}

void device_lane_line(FILE *out, const struct ledger_lane *lane, const char *when) {
    char name[PRINTABLE_TEXT];
    char rate[READABLE_TEXT];
    struct line line = {.out = out, .label = printable(name, sizeof name, lane->name)};
    fprintf(next(&line), "%s tokens/s", readable_rate(lane->tokens_per_second, rate));
    add_work(&line, &lane->figures);
    add_memory(&line, &lane->figures);
    end(&line, when);
}

json_t *device_lanes_json(const struct ledger_lane *lanes, size_t count) {
    json_t *list = count == 0 ? json_null() : json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *object = device_figures_json(&lanes[i].figures);
        json_object_set_new(object, "name", json_string(lanes[i].name));
        json_object_set_new(object, "batches", json_integer((json_int_t)lanes[i].batches));
        json_object_set_new(object, "tokens_per_second", json_real(lanes[i].tokens_per_second));
        json_array_append_new(list, object);
    }
    return list;
}

json_t *device_figures_json(const struct ledger_device *device) {
    json_t *object = json_object();
    char names[THROTTLE_TEXT];
    for (int i = 0; i < LEDGER_FIGURES; i++) {
        double value;
        enum ledger_figure figure = (enum ledger_figure)i;
        json_t *number = !ledger_device_get(device, figure, &value) ? json_null()
                         : ledger_figure_is_whole(figure)           ? json_integer((json_int_t)value)
                                                                    : json_real(value);
        json_object_set_new(object, ledger_figure_name(figure), number);
    }
    throttle(device, names);
    json_object_set_new(object, "throttle", strcmp(names, "unknown") == 0 ? json_null() : json_string(names));
    return object;
}

// ---- log ----

static const struct {
    enum ledger_figure figure;
    const char *heading;
    int width;
    double scale;
    int digits;
} columns[] = {
    {FIGURE_UPLOAD_SECONDS, "upload s", 9, 1, 3},
    {FIGURE_DEVICE_SECONDS, "device s", 9, 1, 3},
    {FIGURE_DOWNLOAD_SECONDS, "download s", 10, 1, 3},
    {FIGURE_MEMORY_USED, "GPU GiB", 8, 0x1p-30, 2},
    {FIGURE_PROCESS_MEMORY, "own GiB", 8, 0x1p-30, 2},
    {FIGURE_UTILIZATION, "busy %", 6, 1, 0},
    {FIGURE_SM_CLOCK, "MHz", 5, 1, 0},
    {FIGURE_POWER, "W", 5, 1, 0},
    {FIGURE_TEMPERATURE, "C", 4, 1, 0},
    {FIGURE_PCIE_RECEIVED, "in MB/s", 9, 1e-6, 1},
    {FIGURE_PCIE_SENT, "out MB/s", 9, 1e-6, 1},
    {FIGURE_XID, "XID", 4, 1, 0},
};
enum { COLUMNS = sizeof columns / sizeof columns[0] };

// The reasons come last: their names have no width of their own.
void device_figures_heading(FILE *out, uint32_t known) {
    for (size_t i = 0; i < COLUMNS; i++) {
        if ((known >> columns[i].figure & 1) != 0) {
            fprintf(out, " %*s", columns[i].width, columns[i].heading);
        }
    }
    if ((known >> FIGURE_THROTTLE_REASONS & 1) != 0) {
        fputs(" throttle", out);
    }
}

int device_figures_width(uint32_t known) {
    int width = 0;
    for (size_t i = 0; i < COLUMNS; i++) {
        width += (known >> columns[i].figure & 1) != 0 ? 1 + columns[i].width : 0;
    }
    return width + ((known >> FIGURE_THROTTLE_REASONS & 1) != 0 ? (int)sizeof " throttle" - 1 : 0);
}

void device_figures_row(FILE *out, uint32_t known, const struct ledger_device *device) {
    char names[THROTTLE_TEXT];
    for (size_t i = 0; i < COLUMNS; i++) {
        double value;
        if ((known >> columns[i].figure & 1) == 0) {
            continue;
        }
        if (ledger_device_get(device, columns[i].figure, &value)) {
            fprintf(out, " %*.*f", columns[i].width, columns[i].digits, value * columns[i].scale);
        } else {
            fprintf(out, " %*s", columns[i].width, "-");
        }
    }
    if ((known >> FIGURE_THROTTLE_REASONS & 1) != 0) {
        fprintf(out, " %s", throttle(device, names));
    }
}
