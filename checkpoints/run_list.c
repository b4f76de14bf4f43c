// SPDX-License-Identifier: MIT
#include "checkpoints/run_list.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/folder_content.h"
#include "checkpoints/ledger.h"
#include "checkpoints/ledger_place.h"

// ---- one member ----

// "1204 to 1377", or "none".
static bool parse_rows(const char *text, struct run_list_member *member) {
    if (text == NULL) {
        return false;
    }
    if (strcmp(text, "none") == 0) {
        return true;
    }
    if (sscanf(text, "%" SCNu64 " to %" SCNu64, &member->first, &member->end) != 2 ||
        member->end < member->first || member->end == UINT64_MAX) {
        return false;
    }
    member->end++;
    return true;
}

static int take_part(struct run_list_member *member, const struct identity *identity, struct error *err) {
    const char *part = identity_get(identity, IDENTITY_PART);
    if (part == NULL) {
        return STATUS_OK;
    }
    return run_set_parse_part(part, &member->part) &&
                   parse_rows(identity_get(identity, IDENTITY_PART_ROWS), member)
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "%s: the ledger does not say which part it is", member->folder);
}

static int read_identity(struct run_list_member *member, struct identity *identity, struct error *err) {
    struct ledger *ledger = NULL;
    int status;
    TRY_TO(done, status = ledger_open_read(&ledger, member->folder, err));
    member->there = true;
    TRY_TO(done, status = ledger_identity(ledger, identity, &member->begun, err));
    status = take_part(member, identity, err);
done:
    ledger_close(ledger);
    return status;
}

// ---- one result ----

static int compare_common(const struct run_list *list, const struct run_list_member *member,
                          const struct identity *identity, struct error *err) {
    struct run_list other = {0};
    struct buffer lines = {0};
    size_t differences = 0;
    int status;
    TRY_TO(done, status = run_set_copy_common(identity, &other.identity, err));
    TRY_TO(done, status = identity_compare(&list->identity, &other.identity, &lines, &differences, err));
    if (differences > 0) {
        lines.data[lines.size - 1] = 0;
        status = error_set_lines(err, STATUS_DATA, "%s has another identity than the parts before it\n%s",
                                 member->folder, lines.data);
    }
done:
    buffer_destroy(&lines);
    identity_destroy(&other.identity);
    return status;
}

// What the member is, and that it goes with those before it.
static int look_at(struct run_list *list, struct run_list_member *member, struct error *err) {
    struct identity identity = {0};
    int status;
    TRY_TO(done, status = read_identity(member, &identity, err));
    if (!member->begun) {
        goto done;
    }
    if (list->identity.count == 0) {
        status = run_set_copy_common(&identity, &list->identity, err);
    } else {
        status = compare_common(list, member, &identity, err);
    }
done:
    identity_destroy(&identity);
    return status;
}

// Of one that has just begun elsewhere nothing can be read yet.
static bool has_ledger(const char *folder) {
    struct ledger_source source;
    struct error ignored;
    return !folder_content_lacks_ledger(folder) &&
           !(ledger_place_find(&source, folder, &ignored) == STATUS_OK && source.none);
}

static int make_room(struct run_list *list, uint64_t count, struct error *err) {
    list->count = (size_t)count;
    return memory_zeroed(&list->members, list->count, sizeof *list->members, err);
}

static int check_place(const struct run_list *list, size_t index, const struct run_part *found,
                       struct error *err) {
    return found->count == list->parts && found->index == index
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "%s holds part %" PRIu64 "/%" PRIu64 ", not part %zu/%" PRIu64,
                           list->members[index].folder, found->index, found->count, index, list->parts);
}

// The part is then as if it had not begun, but for what is wrong with it.
static int note_fault(struct run_list_member *member, const struct run_part *part, struct error *err) {
    member->part = *part;
    member->begun = false;
    TRY(memory_text(&member->fault, err->message, err));
    for (char *at = member->fault; (at = strchr(at, '\n')) != NULL;) {
        *at = ' '; // of the lines of two identities
    }
    return STATUS_OK;
}

// A folder without a ledger: nothing was ever recorded there, unless there are shards.
static int check_empty(const struct run_list_member *member, struct error *err) {
    char shard[RUN_FOLDER_NAME];
    TRY(folder_content_shard(shard, member->folder, err));
    return shard[0] == 0 ? STATUS_OK
                         : error_set(err, STATUS_DATA, "%s has shards/%s and no ledger: it was lost",
                                     member->folder, shard);
}

static int open_part(struct run_list *list, size_t index, struct error *err) {
    struct run_list_member *member = &list->members[index];
    if (!has_ledger(member->folder)) {
        return check_empty(member, err);
    }
    member->there = true;
    TRY(look_at(list, member, err));
    return member->begun ? check_place(list, index, &member->part, err) : STATUS_OK;
}

static int open_set(struct run_list *list, const char *folder, bool looking, struct error *err) {
    TRY(path_join(list->set, sizeof list->set, "", folder, err));
    TRY(make_room(list, list->parts, err));
    for (size_t i = 0; i < list->count; i++) {
        struct run_list_member *member = &list->members[i];
        const struct run_part part = {.index = i, .count = list->parts};
        member->part = part;
        TRY(run_set_part_path(member->folder, folder, &part, err));
        int status = open_part(list, i, err);
        if (looking && status == STATUS_DATA) {
            status = note_fault(member, &part, err);
        }
        TRY(status);
    }
    return STATUS_OK;
}

// A run directory that was named: it must have a ledger.
static int open_named(struct run_list *list, struct run_list_member *member, const char *folder,
                      struct error *err) {
    TRY(path_join(member->folder, sizeof member->folder, "", folder, err));
    return look_at(list, member, err);
}

static int place_named(struct run_list *list, const struct run_list_member *member, struct error *err) {
    if (member->part.count == 0) {
        return error_set(err, STATUS_DATA, "%s is no part of a set: only the parts of one are taken together",
                         member->folder);
    }
    if (list->parts == 0) {
        list->parts = member->part.count;
        TRY(make_room(list, list->parts, err));
        for (size_t i = 0; i < list->count; i++) {
            list->members[i].part = (struct run_part){.index = i, .count = list->parts};
        }
    }
    if (member->part.count != list->parts) {
        return error_set(err, STATUS_DATA, "%s is one of %" PRIu64 " parts, not of %" PRIu64, member->folder,
                         member->part.count, list->parts);
    }
    struct run_list_member *place = &list->members[member->part.index];
    if (place->begun) {
        return error_set(err, STATUS_DATA, "%s and %s are the same part", place->folder, member->folder);
    }
    *place = *member;
    return STATUS_OK;
}

static int open_several(struct run_list *list, const char *const *folders, size_t count, struct error *err) {
    snprintf(list->name, sizeof list->name, "%zu run directories", count);
    for (size_t i = 0; i < count; i++) {
        struct run_list_member member = {0};
        TRY(open_named(list, &member, folders[i], err));
        if (!member.begun) {
            return error_set(err, STATUS_DATA, "%s has not begun", member.folder);
        }
        TRY(place_named(list, &member, err));
    }
    return STATUS_OK;
}

bool run_list_next_gap(const struct run_list *list, struct run_list_gap *gap) {
    for (size_t i = gap->next; i < list->count && list->parts > 0; i++) {
        const struct run_list_member *member = &list->members[i];
        if (!member->begun || member->first == member->end) {
            gap->missing = gap->missing || !member->begun;
            continue;
        }
        bool follows = member->first == gap->end || (member->first > gap->end && gap->missing);
        gap->before = gap->end;
        gap->end = member->end;
        gap->missing = false;
        if (!follows) {
            gap->index = i;
            gap->next = i + 1;
            return true;
        }
    }
    return false;
}

static int check_rows(const struct run_list *list, struct error *err) {
    struct run_list_gap gap = {0};
    if (!run_list_next_gap(list, &gap)) {
        return STATUS_OK;
    }
    const struct run_list_member *member = &list->members[gap.index];
    return error_set(err, STATUS_DATA,
                     "%s has the query's rows from %" PRIu64
                     " on, and the parts before it end with row %" PRIu64,
                     member->folder, member->first, gap.before);
}

static int open_all(struct run_list *list, const char *const *folders, size_t count, bool looking,
                    struct error *err) {
    if (count != 1) {
        return open_several(list, folders, count, err);
    }
    TRY(path_join(list->name, sizeof list->name, "", folders[0], err));
    TRY(run_set_parts(folders[0], &list->parts, err));
    if (list->parts > 0) {
        return open_set(list, folders[0], looking, err);
    }
    TRY(make_room(list, 1, err));
    TRY(open_named(list, &list->members[0], folders[0], err));
    list->members[0].part = (struct run_part){0}; // looked at for itself
    return STATUS_OK;
}

static int open_list(struct run_list *list, const char *const *folders, size_t count, bool looking,
                     struct error *err) {
    *list = (struct run_list){0};
    int status = open_all(list, folders, count, looking, err);
    if (status == STATUS_OK && !looking) {
        status = check_rows(list, err);
    }
    if (status != STATUS_OK) {
        run_list_destroy(list);
    }
    return status;
}

int run_list_open(struct run_list *list, const char *const *folders, size_t count, struct error *err) {
    return open_list(list, folders, count, false, err);
}

int run_list_look(struct run_list *list, const char *const *folders, size_t count, struct error *err) {
    return open_list(list, folders, count, true, err);
}

int run_list_is_set(const char *const *folders, size_t count, bool *is_set, struct error *err) {
    uint64_t parts = 0;
    TRY(count == 1 ? run_set_parts(folders[0], &parts, err) : STATUS_OK);
    *is_set = count != 1 || parts > 0;
    return STATUS_OK;
}

void run_list_destroy(struct run_list *list) {
    for (size_t i = 0; list->members != NULL && i < list->count; i++) {
        free(list->members[i].fault);
    }
    free(list->members);
    identity_destroy(&list->identity);
    *list = (struct run_list){0};
}

// Parts that were named one by one lie in a set's folder too, or have left it.
static int set_folder(const struct run_list *list, size_t index, char out[PATH_SIZE], struct error *err) {
    if (list->set[0] != 0) {
        return path_join(out, PATH_SIZE, "", list->set, err);
    }
    for (size_t i = 0; list->members[index].folder[0] == 0 && i < list->count; i++) {
        index = list->members[i].folder[0] != 0 ? i : index;
    }
    return path_folder(out, PATH_SIZE, list->members[index].folder, err);
}

int run_list_command(const struct run_list *list, size_t index, struct buffer *command, struct error *err) {
    char folder[PATH_SIZE];
    TRY(set_folder(list, index, folder, err));
    TRY(run_set_command(folder, command, err));
    return buffer_printf(command, err, " %zu/%" PRIu64, index, list->parts);
}
