// SPDX-License-Identifier: MIT
// The kernel's table of mounts.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/mount.h"

static void types_are_read_by_device(void **state) {
    (void)state;
    static const struct {
        const char *line;
        unsigned major_number, minor_number;
        const char *type; // NULL: another device's line, or none
    } cases[] = {
        {"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n", 98, 0, "ext3"},
        {"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n", 98, 1, NULL},
        {"60 29 0:41 / /mnt/a\\040b rw,relatime - nfs4 127.0.0.1:/ rw,vers=4.2\n", 0, 41, "nfs4"},
        {"61 29 0:44 / /mnt/share rw,sync shared:3 master:2 - 9p share rw,trans=virtio\n", 0, 44, "9p"},
        {"62 29 0:45 / /mnt/s rw - fuse.sshfs host:/ rw\n", 0, 45, "fuse.sshfs"},
        {"62 29 0:45 / /mnt/s rw fuse.sshfs\n", 0, 45, NULL},
        {"", 0, 0, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char type[MOUNT_TYPE] = "";
        bool found = mount_parse(type, cases[i].line, makedev(cases[i].major_number, cases[i].minor_number));
        assert_int_equal(found, cases[i].type != NULL);
        if (found) {
            assert_string_equal(type, cases[i].type);
        }
    }
}

static void this_machine_has_its_own(void **state) {
    (void)state;
    char type[MOUNT_TYPE];
    mount_type(type, "/proc");
    assert_string_equal(type, "proc");
    mount_type(type, "/nonexistent/path");
    assert_string_equal(type, "");
}

static void network_file_systems(void **state) {
    (void)state;
    static const char *const network[] = {"nfs4", "virtiofs", "wekafs", "fuse.juicefs", "ocfs2"};
    static const char *const local[] = {"ext4", "xfs", "gfs2", "fuse.ntfs-3g", "fuse", ""};
    for (size_t i = 0; i < sizeof network / sizeof network[0]; i++) {
        assert_string_equal(mount_network(network[i]), network[i]);
    }
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++) {
        assert_null(mount_network(local[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_are_read_by_device),
        cmocka_unit_test(this_machine_has_its_own),
        cmocka_unit_test(network_file_systems),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
