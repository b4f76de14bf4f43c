// SPDX-License-Identifier: MIT
// What kind of file system a path lies on, by the kernel's table of mounts. statfs does not always tell: of
// 9p it gives the type that the server's own disk has.
#ifndef STRATA_BASE_MOUNT_H
#define STRATA_BASE_MOUNT_H

#include <stdbool.h>
#include <sys/types.h>

enum { MOUNT_TYPE = 32 };

// "ext4", "nfs4", "fuse.sshfs"; empty when it is not found (some file systems have device numbers of their
// own).
void mount_type(char out[MOUNT_TYPE], const char *path);

// The type itself, when it is of a network file system: one of which another machine has the disk, or keeps
// locks that this one does not see; NULL: it is none, or not known. OCFS2 is one, whose locks of byte ranges
// stay on each machine in its own cluster stack; GFS2, with the locks of all machines on the disk that they
// share, is none.
const char *mount_network(const char *type);

// The type in a line of /proc/self/mountinfo; false when the line is of another device.
bool mount_parse(char out[MOUNT_TYPE], const char *line, dev_t device);

#endif
