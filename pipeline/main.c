// SPDX-License-Identifier: MIT
#include "base/process.h"
#include "commands/command.h"

int main(int argc, char **argv) {
    process_prepare();
    return commands_main(argc, argv);
}
