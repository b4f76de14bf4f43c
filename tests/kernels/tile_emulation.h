// SPDX-License-Identifier: MIT
// Runs the AMX instructions of a compiled file on a processor that lacks them: each ends in SIGILL, whose
// handler decodes it and does by the twin of tiles.h what the processor would. So the instructions as they
// stand in the object file (registers, strides, configuration) are tested where only the arithmetic is the
// twin's.
#ifndef STRATA_TESTS_KERNELS_TILE_EMULATION_H
#define STRATA_TESTS_KERNELS_TILE_EMULATION_H

#if defined(__x86_64__)
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include "kernels/cpu/tiles.h"

struct instruction { // VEX-encoded with three bytes of prefix, opcode map 0F38
    uint8_t opcode;
    uint8_t prefix; // 0: none, 1: 66, 2: F3, 3: F2
    int third;      // register of the prefix
    int reg;        // of the ModRM byte
    int rm;         // of the ModRM byte where it names a register
    bool memory;
    unsigned char *base; // where memory: base + displacement
    size_t index;        // and the index register, scaled
    size_t length;
};

static inline size_t general_register(const ucontext_t *context, int number) {
    static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    return (size_t)context->uc_mcontext.gregs[order[number]];
}

// false: not one of these instructions.
static inline bool instruction_decode(const ucontext_t *context, struct instruction *out) {
    const uint8_t *code = (const uint8_t *)(uintptr_t)context->uc_mcontext.gregs[REG_RIP];
    if (code[0] != 0xc4 || (code[1] & 0x1f) != 2 || (code[2] & 0x84) != 0) {
        return false;
    }
    int more_index = (code[1] & 0x40) == 0 ? 8 : 0;
    int more_base = (code[1] & 0x20) == 0 ? 8 : 0;
    int mode = code[4] >> 6;
    *out = (struct instruction){.opcode = code[3],
                                .prefix = code[2] & 3,
                                .third = ~(code[2] >> 3) & 15,
                                .reg = code[4] >> 3 & 7,
                                .rm = code[4] & 7,
                                .memory = mode != 3,
                                .length = 5};
    if (!out->memory) {
        return true;
    }
    int base = out->rm + more_base;
    if (out->rm == 4) { // a SIB byte
        uint8_t sib = code[out->length++];
        int index = (sib >> 3 & 7) + more_index;
        base = (sib & 7) + more_base;
        out->index = index == 4 ? 0 : general_register(context, index) << (sib >> 6);
    }
    if (mode == 0 && (base & 7) == 5) {
        return false; // relative to the instruction, or absolute: not used with tiles
    }
    int32_t shift = 0;
    if (mode == 1) {
        shift = (int8_t)code[out->length++];
    } else if (mode == 2) {
        memcpy(&shift, code + out->length, sizeof shift);
        out->length += sizeof shift;
    }
    out->base = (unsigned char *)(uintptr_t)(general_register(context, base) + (size_t)(ptrdiff_t)shift);
    return true;
}

// The configuration that tiles.h promises: palette 1, eight tiles of 16 lines of 64 bytes.
static inline bool configuration_is_whole(const unsigned char *operand) {
    unsigned char wanted[64] = {1};
    for (size_t i = 0; i < 8; i++) {
        wanted[16 + 2 * i] = 64;
        wanted[48 + i] = 16;
    }
    return memcmp(operand, wanted, sizeof wanted) == 0;
}

static inline bool instruction_run(const struct instruction *in) {
    if (in->opcode == 0x49 && in->prefix == 0) { // ldtilecfg, tilerelease
        if (in->memory && !configuration_is_whole(in->base)) {
            return false;
        }
        if (in->memory) {
            tiles_configure();
        } else {
            tiles_release();
        }
    } else if (in->opcode == 0x49 && in->prefix == 3 && !in->memory) {
        tile_zero(in->reg);
    } else if (in->opcode == 0x4b && in->prefix == 3 && in->memory) {
        tile_load(in->reg, in->base, in->index);
    } else if (in->opcode == 0x4b && in->prefix == 2 && in->memory) {
        tile_store(in->reg, in->base, in->index);
    } else if (in->opcode == 0x5c && in->prefix == 2 && !in->memory) {
        tile_dot(in->reg, in->rm, in->third);
    } else {
        return false;
    }
    return true;
}

static inline void on_illegal(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number;
    (void)info;
    struct instruction instruction;
    if (!instruction_decode(context, &instruction) || !instruction_run(&instruction)) {
        static const char text[] =
            "an instruction that is no tile instruction, or one with a wrong operand\n";
        (void)!write(STDERR_FILENO, text, sizeof text - 1);
        _exit(1);
    }
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += (greg_t)instruction.length;
}

static inline void tile_emulation_start(void) {
    struct sigaction action = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGILL, &action, NULL);
}

static inline void tile_emulation_end(void) {
    signal(SIGILL, SIG_DFL);
}
#endif

#endif
