// SPDX-License-Identifier: MIT
#include "base/mount.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

bool mount_parse(char out[MOUNT_TYPE], const char *line, dev_t device) {
    unsigned major_number;
    unsigned minor_number;
    // 36 35 98:0 /root /mounted/at options [optional fields] - type source options
    const char *end = strstr(line, " - ");
    return end != NULL && sscanf(line, "%*u %*u %u:%u ", &major_number, &minor_number) == 2 &&
           makedev(major_number, minor_number) == device && sscanf(end, " - %31s", out) == 1;
}

void mount_type(char out[MOUNT_TYPE], const char *path) {
    struct stat info;
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    out[0] = 0;
    FILE *mounts = stat(path, &info) == 0 ? fopen("/proc/self/mountinfo", "re") : NULL;
    while (mounts != NULL && !found && getline(&line, &size, mounts) >= 0) {
        found = mount_parse(out, line, info.st_dev);
    }
    if (!found) {
        out[0] = 0;
    }
    free(line);
    if (mounts != NULL) {
        fclose(mounts);
    }
}

const char *mount_network(const char *type) {
    static const char *const types[] = {
        "9p",           "nfs",      "nfs4",           "cifs",         "smb3",
        "ceph",         "lustre",   "gpfs",           "beegfs",       "afs",
        "auristorfs",   "coda",     "ocfs2",          "orangefs",     "panfs",
        "virtiofs",     "wekafs",   "fuse.ceph-fuse", "fuse.gcsfuse", "fuse.glusterfs",
        "fuse.juicefs", "fuse.mfs", "fuse.rclone",    "fuse.s3fs",    "fuse.sshfs"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(type, types[i]) == 0) {
            return types[i];
        }
    }
    return NULL;
}
