// SPDX-License-Identifier: MIT
// GPUs by name, with what NVIDIA publishes of them: what a plan for a machine that is not here goes by.
// Nothing of this was measured.
#ifndef STRATA_MODEL_CARDS_H
#define STRATA_MODEL_CARDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The share of the published matrix rate that an extraction is assumed to reach. An assumption for every
// card: no run on a GPU has been measured.
#define CARD_ASSUMED_SHARE 0.6

// The share of a PCIe link's rate that a copy from pinned memory is assumed to reach.
#define CARD_LINK_SHARE 0.8

enum { CARD_CAPABILITY = 80 }; // the least compute capability that strata is built for, times 10

struct card {
    const char *name;    // without the maker's: "RTX 4090"
    int memory_gib;      // that the card is sold with
    int capability;      // compute capability, times 10
    double matrix_rate;  // operations a second on bfloat16 with float32 sums, dense; 0: has none, or not
                         // published
    double float_rate;   // on float32
    double bandwidth;    // of its memory, bytes a second
    int link_generation; // of PCIe
    int link_lanes;
};

size_t card_count(void);
const struct card *card_at(size_t index);

// By name, in any case and with or without "NVIDIA", "GeForce", "Tesla", spaces and hyphens: "rtx4090",
// "4090", "NVIDIA GeForce RTX 4090", "NVIDIA H100 80GB HBM3". NULL when there is no such row.
const struct card *card_find(const char *name);

// The slowest that strata runs on among those that have at least `memory` bytes and least more than that; of
// none has as much, the largest: a careful guess where only the memory is known.
const struct card *card_of_memory(uint64_t memory);

bool card_is_supported(const struct card *card);
double card_link(const struct card *card); // bytes a second from host memory, as assumed

#endif
