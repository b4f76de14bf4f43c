// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/aside.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/printable.h"
#include "base/size.h"
#include "checkpoints/run_folder.h"
#include "commands/command.h"
#include "commands/report_facts.h"

enum { REFRESH_SECONDS = 5 };

struct request {
    const char *folder, *other; // other NULL: nothing to compare with
    bool is_set;
    char path[PATH_SIZE]; // of the page
};

// ---- one page ----

static int page_of_run(struct buffer *html, const char *folder, int refresh, bool *running,
                       struct error *err) {
    struct report_source source;
    int status;
    TRY_TO(done, status = report_source_take(&source, folder, err));
    *running = source.facts.running;
    status = report_of_run(html, &source.facts, *running ? refresh : 0, err);
done:
    report_source_free(&source);
    return status;
}

static int page_of_set(struct buffer *html, const char *folder, int refresh, bool *running,
                       struct error *err) {
    struct report_set_source source;
    int status;
    TRY_TO(done, status = report_set_source_take(&source, folder, err));
    *running = source.set.running;
    status = report_of_set(html, &source.set, *running ? refresh : 0, err);
done:
    report_set_source_free(&source);
    return status;
}

static int page_of_two(struct buffer *html, const struct request *request, int refresh, bool *running,
                       struct error *err) {
    struct report_source one = {0};
    struct report_source other = {0};
    int status;
    TRY_TO(done, status = report_source_take(&one, request->folder, err));
    TRY_TO(done, status = report_source_take(&other, request->other, err));
    *running = one.facts.running || other.facts.running;
    const struct report_facts facts[] = {one.facts, other.facts};
    status = report_of_two(html, facts, *running ? refresh : 0, err);
done:
    report_source_free(&one);
    report_source_free(&other);
    return status;
}

// A page may be written anew; any other file stays, a ledger or a database among them.
static int check_replaceable(const char *path, struct error *err) {
    char head[256] = "";
    size_t size = 0;
    int descriptor = -1;
    struct error unread;
    if (!file_exists(path)) {
        return STATUS_OK;
    }
    bool is_page = file_open(&descriptor, &size, path, &unread) == STATUS_OK;
    if (is_page && size > 0) {
        is_page =
            file_read_at(descriptor, head, size_min(size, sizeof head - 1), 0, path, &unread) == STATUS_OK &&
            strstr(head, REPORT_MARK) != NULL;
    }
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
    return is_page ? STATUS_OK
                   : error_set(err, STATUS_WRITE,
                               "%s is there and is no page of strata report: it stays as it is; --to names "
                               "another file",
                               path);
}

// What a report left that was killed while it wrote this page.
static int sweep(const char *path, struct error *err) {
    char folder[PATH_SIZE];
    const char *slash = strrchr(path, '/');
    const char *const names[] = {slash == NULL ? path : slash + 1};
    TRY(path_folder(folder, sizeof folder, path, err));
    aside_sweep(folder, names, 1);
    return STATUS_OK;
}

static int write_page(const struct request *request, int refresh, bool *running, struct error *err) {
    struct buffer html = {0};
    int status;
    TRY_TO(done, status = check_replaceable(request->path, err));
    if (request->other != NULL) {
        TRY_TO(done, status = page_of_two(&html, request, refresh, running, err));
    } else if (request->is_set) {
        TRY_TO(done, status = page_of_set(&html, request->folder, refresh, running, err));
    } else {
        TRY_TO(done, status = page_of_run(&html, request->folder, refresh, running, err));
    }
    TRY_TO(done, status = sweep(request->path, err));
    status = file_write_shared(request->path, html.data, html.size, err);
done:
    buffer_destroy(&html);
    return status;
}

// ---- the browser ----

// Its words go nowhere; whether it could show the page is for the user to see.
static bool start_browser(const char *path, pid_t *process) {
    char *words[] = {"xdg-open", NULL, NULL};
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0) {
        return false;
    }
    words[1] = strdup(path);
    bool started = words[1] != NULL &&
                   posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) == 0 &&
                   posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0) == 0 &&
                   posix_spawnp(process, words[0], &actions, NULL, words, environ) == 0;
    free(words[1]);
    posix_spawn_file_actions_destroy(&actions);
    return started;
}

static void open_page(const char *path) {
    pid_t process;
    int end;
    if (!start_browser(path, &process)) {
        fputs("strata report: no xdg-open here to open the page with\n", stderr);
        return;
    }
    while (waitpid(process, &end, 0) < 0 && errno == EINTR) {
    }
}

// ---- the command ----

static int prepare(struct request *request, const struct arguments *arguments, struct error *err) {
    request->folder = arguments->operands[0].text;
    request->other = arguments->operands[1].given ? arguments->operands[1].text : NULL;
    const char *folders[] = {request->folder, request->other};
    for (size_t i = 0; i < 2 && folders[i] != NULL; i++) {
        TRY(run_list_is_set(&folders[i], 1, &request->is_set, err));
        if (request->is_set && request->other != NULL) {
            return error_set(err, STATUS_USAGE,
                             "two runs are compared, and %s is the folder of a set of parts", folders[i]);
        }
    }
    const char *to = argument_text(arguments, "--to", NULL);
    return to != NULL ? path_join(request->path, sizeof request->path, "", to, err)
                      : path_join(request->path, sizeof request->path, request->folder,
                                  request->other == NULL ? "report.html" : "comparison.html", err);
}

// Until the next page is due; the end of a run is noticed within a second.
static void wait_for_change(const struct request *request) {
    bool held = run_folder_busy(request->folder);
    for (int i = 0; i < REFRESH_SECONDS; i++) {
        clock_sleep(1);
        if (held && !run_folder_busy(request->folder)) {
            return;
        }
    }
}

static int run(struct command_context *context, struct error *err) {
    const struct arguments *arguments = context->arguments;
    struct request request = {0};
    TRY(prepare(&request, arguments, err));
    bool watches = argument_given(arguments, "--watch");
    bool running = false;
    TRY(write_page(&request, watches ? REFRESH_SECONDS : 0, &running, err));
    printable_write(context->out, request.path);
    fputc('\n', context->out);
    fflush(context->out);
    if (argument_given(arguments, "--open")) {
        open_page(request.path);
    }
    while (watches && running) {
        wait_for_change(&request);
        int status = write_page(&request, REFRESH_SECONDS, &running, err);
        if (status != STATUS_OK &&
            status != STATUS_STOPPED) { // the latter: a runner held the ledger for long
            return status;
        }
    }
    return STATUS_OK;
}

static const struct operand operands[] = {
    {.name = "DIR", .help = "a run directory, or the folder of a set of parts"},
    {.name = "DIR2", .optional = true, .help = "another run directory, to compare the first with"},
};

static const struct option options[] = {
    {.name = "--to",
     .kind = OPTION_TEXT,
     .value = "FILE.html",
     .help = "the page to write, or to write anew; no other file is replaced (default: DIR/report.html; of "
             "two runs DIR/comparison.html)"},
    {.name = "--watch",
     .kind = OPTION_FLAG,
     .help = "write it anew every 5 seconds until the run, or all parts that run, have ended"},
    {.name = "--open", .kind = OPTION_FLAG, .help = "show it in the browser (xdg-open)"},
};

const struct command command_report = {
    .name = "report",
    .summary = "draw a run, two runs or a set of parts as one HTML page",
    .operands = operands,
    .operand_count = sizeof operands / sizeof operands[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .sums_up = true,
    .details =
        "One file with everything in it: plots as SVG, no script, nothing from the network, for a dark or a "
        "light screen,\n"
        "a phone or a wide one. It may be mailed, or served from anywhere.\n"
        "\n"
        "Reads the ledger as strata status does, at any time, and of the sealed shards their statistics and "
        "2,000 latents at\n"
        "most, of 48 shards at most. Of the first layer that is stored these are drawn by their two "
        "principal "
        "components,\n"
        "coloured by the first of these columns that tells them apart: domain, subject, topic, category, "
        "split, "
        "source,\n"
        "dataset.\n"
        "\n"
        "With --watch the page in a browser refreshes itself while the run goes on.\n",
    .run = run,
};
