// SPDX-License-Identifier: MIT
// The supervisor over stand-ins: this program itself, which does what a script says for each of its launches.
// Clocks below end a test that hangs; they decide nothing.
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/process.h"
#include "parts/supervisor.h"

enum { MOST_SLOTS = 4, TEXT = 4096, HANGS = 120 };

// ---- the stand-in: act FOLDER --part I/N [--device NAME] ----

static void note(const char *folder, const char *format, ...) {
    char path[PATH_SIZE];
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    snprintf(path, sizeof path, "%s/log", folder);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0 || write(file, text, (size_t)length) != length) {
        _exit(99);
    }
    close(file);
}

static void read_all(char out[TEXT], const char *folder, const char *name) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    size_t size = file == NULL ? 0 : fread(out, 1, TEXT - 1, file);
    out[size] = 0;
    if (file != NULL) {
        fclose(file);
    }
}

static size_t count_of(const char *text, const char *word) {
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++) {
        count++;
    }
    return count;
}

// Hears stop signals as a run does, for a while after the first one too. Its clean end: 75.
static int wait_for_stop(const char *folder, size_t part) {
    sigset_t signals;
    struct timespec while_more = {.tv_nsec = 300 * 1000 * 1000};
    process_stop_signals(&signals);
    note(folder, "part %zu heard %s\n", part, process_signal_name(sigwaitinfo(&signals, NULL)));
    for (int number; (number = sigtimedwait(&signals, NULL, &while_more)) > 0;) {
        note(folder, "part %zu heard %s\n", part, process_signal_name(number));
    }
    return 75;
}

// Word number `launch` of the part's script, the last one for all behind it.
static void find_word(char word[32], const char *folder, size_t part, size_t launch) {
    char name[32];
    char script[TEXT];
    snprintf(name, sizeof name, "script-%zu", part);
    read_all(script, folder, name);
    char *rest = script;
    snprintf(word, 32, "0");
    for (char *at; (at = strtok_r(rest, " ", &rest)) != NULL;) {
        snprintf(word, 32, "%s", at);
        if (launch-- == 0) {
            return;
        }
    }
}

static int act(char **argv) {
    const char *folder = argv[2];
    size_t part = strtoul(argv[4], NULL, 10);
    const char *device = argv[5] == NULL ? "none" : argv[6];
    char log[TEXT];
    char begins[32];
    char word[32];
    cpu_set_t set;
    read_all(log, folder, "log");
    snprintf(begins, sizeof begins, "part %zu begins", part);
    find_word(word, folder, part, count_of(log, begins));
    sched_getaffinity(0, sizeof set, &set);
    note(folder, "%s as %s on %s with %d processors, leads %d\n", begins, argv[4], device, CPU_COUNT(&set),
         getsid(0) == getpid());
    if (strcmp(word, "kill") == 0) {
        raise(SIGKILL);
    } else if (strcmp(word, "wait") == 0) {
        return wait_for_stop(folder, part);
    } else if (strcmp(word, "stay") == 0) {
        clock_sleep(HANGS);
    } else if (strcmp(word, "lost") == 0) { // one GPU is not there
        return strcmp(device, "cuda:1") == 0 ? 69 : 0;
    } else if (strcmp(word, "talk") == 0) {
        for (int i = 0; i < 100000; i++) {
            fprintf(stderr, "line %d\n", i);
        }
        return 65;
    } else if (strcmp(word, "make") == 0) {
        note(folder, "made\n");
    }
    note(folder, "part %zu ends\n", part);
    return atoi(word);
}

// ---- the tests' side ----

struct world {
    char folder[64];
    char said[TEXT];
    char lines[TEXT];
    size_t looks;
    struct place places[MOST_SLOTS];
    const char *devices[MOST_SLOTS];
    const char *arguments[3];
    struct supervisor_options options;
    struct supervised *parts;
    struct error err;
};

static void hear(void *context, const char *text, const char *lines) {
    struct world *world = context;
    size_t size = strlen(world->said);
    snprintf(world->said + size, TEXT - size, "%s\n", text);
    snprintf(world->lines, TEXT, "%s", lines == NULL ? "" : lines);
}

static void watch(void *context, const struct supervised *parts) {
    struct world *world = context;
    assert_non_null(parts);
    world->looks++;
}

static void open_world(struct world *world, size_t parts, size_t slots) {
    memset(world, 0, sizeof *world);
    strcpy(world->folder, "strata-parts-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    for (size_t i = 0; i < slots; i++) {
        CPU_ZERO(&world->places[i].processors);
        world->places[i].node = PLACES_NO_NODE;
    }
    world->arguments[0] = "act";
    world->arguments[1] = world->folder;
    world->options = (struct supervisor_options){.program = "/proc/self/exe",
                                                 .arguments = world->arguments,
                                                 .parts = parts,
                                                 .places = world->places,
                                                 .devices = world->devices,
                                                 .slots = slots,
                                                 .restarts = {.most = 3, .pause = 0.01, .longest = 0.02},
                                                 .stop_seconds = HANGS,
                                                 .say = hear,
                                                 .look = watch,
                                                 .context = world};
}

static void put_script(const struct world *world, size_t part, const char *words) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/script-%zu", world->folder, part);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(words, file);
    assert_int_equal(fclose(file), 0);
}

static void close_world(struct world *world) {
    char path[PATH_SIZE];
    for (size_t i = 0; i < world->options.parts; i++) {
        snprintf(path, sizeof path, "%s/script-%zu", world->folder, i);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/log", world->folder);
    unlink(path);
    assert_int_equal(rmdir(world->folder), 0);
    free(world->parts);
}

static int run(struct world *world) {
    return supervisor_run(&world->options, &world->parts, &world->err);
}

static size_t logged(const struct world *world, const char *words) {
    char log[TEXT];
    read_all(log, world->folder, "log");
    return count_of(log, words);
}

static void await(const struct world *world, const char *words, size_t times) {
    double began = clock_seconds();
    while (logged(world, words) < times) {
        assert_true(clock_seconds() - began < HANGS);
        clock_sleep(0.02);
    }
}

static void test_all_parts_run(void **state) {
    (void)state;
    struct world world;
    open_world(&world, 5, 2);
    world.devices[0] = "cuda:3";
    world.devices[1] = "cuda:5";
    CPU_SET(0, &world.places[0].processors);
    sched_getaffinity(0, sizeof(cpu_set_t), &world.places[1].processors);
    assert_int_equal(run(&world), STATUS_OK);
    assert_int_equal(logged(&world, "begins"), 5);
    for (size_t i = 0; i < 5; i++) {
        char words[64];
        snprintf(words, sizeof words, "part %zu begins as %zu/5 on cuda:", i, i);
        assert_int_equal(logged(&world, words), 1);
        assert_int_equal(world.parts[i].state, SUPERVISED_ENDED);
        assert_int_equal(world.parts[i].exit_code, 0);
    }
    assert_int_equal(logged(&world, "leads 1"), 5);
    assert_int_equal(logged(&world, "cuda:3 with 1 processors"), logged(&world, "on cuda:3"));
    assert_true(logged(&world, "on cuda:3") > 0 && logged(&world, "on cuda:5") > 0);
    assert_string_equal(world.said, "");
    assert_true(world.looks >= 1);
    close_world(&world);
}

static void test_crashes_are_started_again(void **state) {
    (void)state;
    struct world world;
    open_world(&world, 4, 2);
    put_script(&world, 0, "kill 70 75 0");
    put_script(&world, 2, "kill");
    assert_int_equal(run(&world), STATUS_INTERNAL);
    assert_string_equal(world.err.message, "1 of 4 parts failed");
    assert_int_equal(logged(&world, "part 0 begins"), 4);
    assert_int_equal(logged(&world, "part 1 begins"), 1);
    assert_int_equal(logged(&world, "part 2 begins"), 4);
    assert_int_equal(world.parts[0].restarts, 3);
    assert_int_equal(world.parts[0].exit_code, 0);
    assert_int_equal(world.parts[2].exit_code, 70);
    assert_non_null(strstr(world.said, "part 0/4 was killed by signal 9 (Killed); it starts again in 0 s "
                                       "(restart 1 of 3)\n"));
    assert_non_null(strstr(world.said, "part 2/4 was killed by signal 9 (Killed) and has failed\n"));
    close_world(&world);
}

static void test_what_a_person_must_see_is_not(void **state) {
    (void)state;
    static const char *const codes[] = {"64", "65", "73", "78", "80", "0"};
    struct world world;
    open_world(&world, 6, 2);
    for (size_t i = 0; i < 6; i++) {
        put_script(&world, i, codes[i]);
    }
    assert_int_equal(run(&world), STATUS_JOB); // the gravest
    assert_string_equal(world.err.message, "5 of 6 parts failed");
    assert_int_equal(logged(&world, "begins"), 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(world.parts[i].exit_code, atoi(codes[i]));
        assert_int_equal(world.parts[i].restarts, 0);
    }
    close_world(&world);
}

static bool is_made(void *context) {
    return logged(context, "made") > 0;
}

// Before all others if it may, but not beside another one: it crashes before it has made what all share.
static void test_one_at_once_before_that(void **state) {
    (void)state;
    struct world world;
    char log[TEXT];
    open_world(&world, 6, 4);
    world.options.ready = is_made;
    put_script(&world, 0, "70 70 make");
    assert_int_equal(run(&world), STATUS_OK);
    read_all(log, world.folder, "log");
    *strstr(log, "made") = 0;
    assert_int_equal(strncmp(log, "part 0 begins", 13), 0);
    size_t running = 0;
    for (const char *at = log; *at != 0; at += strcspn(at, "\n") + 1) {
        running += strstr(at, " begins") == at + 6;
        running -= strstr(at, " ends") == at + 6;
        assert_true(running <= 1);
    }
    assert_int_equal(running, 1);
    assert_int_equal(logged(&world, "ends"), 8);
    close_world(&world);
}

static bool is_never_made(void *context) {
    (void)context;
    return false;
}

static void test_what_all_share_cannot_be_made(void **state) {
    (void)state;
    struct world world;
    open_world(&world, 4, 2);
    world.options.ready = is_never_made;
    put_script(&world, 0, "talk");
    assert_int_equal(run(&world), STATUS_DATA);
    assert_int_equal(logged(&world, "begins"), 1);
    assert_string_equal(world.err.message, "4 of 4 parts failed");
    assert_string_equal(world.parts[3].last_line, "line 99999");
    assert_int_equal(world.parts[3].exit_code, 65);
    close_world(&world);
}

static void test_last_words(void **state) {
    (void)state;
    struct world world;
    open_world(&world, 1, 1);
    put_script(&world, 0, "talk");
    assert_int_equal(run(&world), STATUS_DATA);
    assert_string_equal(world.parts[0].last_line, "line 99999");
    assert_string_equal(world.lines, "line 99995\nline 99996\nline 99997\nline 99998\nline 99999");
    close_world(&world);
}

// The other GPU does its parts.
static void test_a_lost_device(void **state) {
    (void)state;
    struct world world;
    open_world(&world, 6, 2);
    world.devices[0] = "cuda:0";
    world.devices[1] = "cuda:1";
    for (size_t i = 0; i < 6; i++) {
        put_script(&world, i, "lost");
    }
    assert_int_equal(run(&world), STATUS_OK);
    assert_int_equal(logged(&world, "on cuda:1"), 2);
    assert_non_null(strstr(world.said, "cuda:1 takes no more parts: it failed 2 in a row (exit code 69)"));
    close_world(&world);
}

static void test_no_device_is_left(void **state) {
    (void)state;
    struct world world;
    open_world(&world, 4, 1);
    for (size_t i = 0; i < 4; i++) {
        put_script(&world, i, "69");
    }
    assert_int_equal(run(&world), STATUS_DEVICE);
    assert_string_equal(world.err.message, "4 of 4 parts failed");
    assert_int_equal(logged(&world, "begins"), 2);
    close_world(&world);
}

static void test_a_program_that_is_not_there(void **state) {
    (void)state;
    struct world world;
    open_world(&world, 1, 1);
    world.options.program = "/nowhere/strata";
    world.options.restarts.most = 0;
    assert_int_equal(run(&world), STATUS_INTERNAL);
    assert_string_equal(world.parts[0].last_line,
                        "/nowhere/strata cannot be executed: No such file or directory");
    close_world(&world);
}

// ---- stopping: the supervisor in a process of its own ----

static pid_t start(struct world *world) {
    pid_t id = fork();
    if (id == 0) {
        setpgid(0, 0);
        process_hold_stop_signals();
        note(world->folder, "supervisor begins\n");
        _exit(error_exit_code(run(world)));
    }
    return id;
}

static int end_of(pid_t id) {
    int ended;
    assert_int_equal(waitpid(id, &ended, 0), id);
    return ended;
}

static void stop_by(void (*send)(pid_t id), const char *script, size_t heard) {
    struct world world;
    open_world(&world, 3, 2);
    for (size_t i = 0; i < 3; i++) {
        put_script(&world, i, script);
    }
    pid_t id = start(&world);
    await(&world, "part", 2);
    send(id);
    assert_int_equal(end_of(id), W_EXITCODE(75, 0));
    assert_int_equal(logged(&world, "heard SIGHUP"), heard);
    assert_int_equal(logged(&world, "heard"), heard);
    assert_int_equal(logged(&world, "part 2 begins"), 0); // nothing begins after the stop
    close_world(&world);
}

static void terminate(pid_t id) {
    assert_int_equal(kill(id, SIGTERM), 0);
}

// As a terminal does it: the children are in groups of their own.
static void interrupt_group(pid_t id) {
    assert_int_equal(kill(-id, SIGINT), 0);
}

// One request of two kinds, and what machines repeat.
static void say_it_twice(pid_t id) {
    assert_int_equal(kill(id, SIGXCPU), 0);
    assert_int_equal(kill(id, SIGXCPU), 0);
    assert_int_equal(kill(id, SIGHUP), 0);
}

static void hurry(pid_t id) {
    siginfo_t info = {0};
    while (info.si_pid != id) { // until it has ended
        assert_int_equal(kill(id, SIGINT), 0);
        clock_sleep(0.05);
        assert_int_equal(waitid(P_PID, (id_t)id, &info, WEXITED | WNOHANG | WNOWAIT), 0);
    }
}

static void test_each_hears_of_a_stop_once(void **state) {
    (void)state;
    stop_by(terminate, "wait", 2);
    stop_by(interrupt_group, "wait", 2);
    stop_by(say_it_twice, "wait", 2);
}

static void test_the_same_signal_again_kills(void **state) {
    (void)state;
    stop_by(hurry, "stay", 0);
}

static void test_the_time_to_stop_has_an_end(void **state) {
    (void)state;
    struct world world;
    open_world(&world, 1, 1);
    world.options.stop_seconds = 0.2;
    put_script(&world, 0, "stay");
    pid_t id = start(&world);
    await(&world, "part", 1);
    terminate(id);
    assert_int_equal(end_of(id), W_EXITCODE(75, 0));
    close_world(&world);
}

static void test_no_orphans(void **state) {
    (void)state;
    struct world world;
    open_world(&world, 2, 2);
    put_script(&world, 0, "wait");
    put_script(&world, 1, "wait");
    pid_t id = start(&world);
    await(&world, "part", 2);
    kill(id, SIGKILL);
    assert_int_equal(end_of(id), W_EXITCODE(0, SIGKILL));
    await(&world, "heard SIGHUP", 2);
    close_world(&world);
}

// nohup ignores SIGHUP, which its children would inherit.
static void test_stops_under_nohup(void **state) {
    (void)state;
    signal(SIGHUP, SIG_IGN);
    stop_by(terminate, "wait", 2);
    signal(SIGHUP, SIG_DFL);
}

int main(int argc, char **argv) {
    if (argc > 4 && strcmp(argv[1], "act") == 0) {
        return act(argv);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_parts_run),
        cmocka_unit_test(test_crashes_are_started_again),
        cmocka_unit_test(test_what_a_person_must_see_is_not),
        cmocka_unit_test(test_one_at_once_before_that),
        cmocka_unit_test(test_what_all_share_cannot_be_made),
        cmocka_unit_test(test_last_words),
        cmocka_unit_test(test_a_lost_device),
        cmocka_unit_test(test_no_device_is_left),
        cmocka_unit_test(test_a_program_that_is_not_there),
        cmocka_unit_test(test_each_hears_of_a_stop_once),
        cmocka_unit_test(test_the_same_signal_again_kills),
        cmocka_unit_test(test_the_time_to_stop_has_an_end),
        cmocka_unit_test(test_no_orphans),
        cmocka_unit_test(test_stops_under_nohup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
