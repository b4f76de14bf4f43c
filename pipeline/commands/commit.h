// SPDX-License-Identifier: MIT
// The commit that this program was built from. The file that defines it is made by the build
// (cmake/strata_commit.cmake).
#ifndef STRATA_COMMANDS_COMMIT_H
#define STRATA_COMMANDS_COMMIT_H

// As git describes it, "3a2f5971c0de", with "-dirty" where files had been changed since; "unknown" outside of
// a repository and of its archives.
extern const char commit_built_from[];

#endif
