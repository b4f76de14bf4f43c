// SPDX-License-Identifier: MIT
#include "model/cards.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define TERA 1e12
#define GIGA 1e9

// Peaks that NVIDIA publishes, at the boost clock. None was measured. They were checked where others quote
// NVIDIA, not in the papers and data sheets named here: each agrees between two such places, or with a second
// figure of NVIDIA's that it can be computed from.
//
// Rates are dense: half of what is given "with sparsity". GeForce cards multiply 16-bit matrices with float32
// sums at twice their float32 rate, which is half of their rate with float16 sums; the RTX A6000, RTX 6000
// Ada, A10, L4 and L40S at four times, whatever the sums.
//
// RTX 3070, 3080 (10 GB), 3090, RTX A6000: "NVIDIA Ampere GA102 GPU Architecture" (v2), peak FP16 or BF16
//   tensor rate with FP32 accumulate, and peak FP32 rate. RTX 4080, 4090: "NVIDIA Ada GPU Architecture"
//   (v2.1), the same rows.
// RTX 3060, 4060, 4060 Ti, 4070: computed from cores and boost clock, two operations each, and twice that.
//   The tensor rates announced are of 16-bit numbers with float16 sums for the 3060 and of FP8 for the
//   others, with sparsity: a quarter of 101 and an eighth of 242 and 353 come to the same within a hundredth.
// RTX 5070, 5080, 5090: "NVIDIA RTX Blackwell GPU Architecture" (v1.1); a sixteenth of the "AI TOPS"
//   announced, of FP4 with sparsity (988, 1801, 3352).
// RTX 6000 Ada: its data sheet, a quarter of 1457 TFLOPS on FP8 with sparsity.
// A10, A30, A100, L4, L40S, H100, H200: their data sheets, as TensorRT-LLM, PyTorch and Lightning quote them.
//   The A100 80GB is the PCIe card; the memory of the SXM one gives 2,039 GB/s.
// B200: an eighth of an HGX B200 (36 PFLOPS on 16 bits with sparsity, 600 TFLOPS on FP32, 1,440 GB) and
//   7.7 TB/s; it was first announced with 192 GB and 8 TB/s.
// Cards of a compute capability that is not supported have no rates here.
// clang-format off
static const struct card cards[] = {
    // name            GiB  cc   bfloat16        float32        memory         PCIe
    {"GTX 1660",         6,  75, 0,              0,              0,            3, 16},
    {"RTX 2060",         6,  75, 0,              0,              0,            3, 16},
    {"T4",              16,  75, 0,              0,              0,            3, 16},
    {"RTX 3060",        12,  86, 25.4 * TERA,   12.7 * TERA,     360 * GIGA,   4, 16},
    {"RTX 3070",         8,  86, 40.6 * TERA,   20.3 * TERA,     448 * GIGA,   4, 16},
    {"RTX 3080",        10,  86, 59.5 * TERA,   29.8 * TERA,     760 * GIGA,   4, 16},
    {"RTX 3090",        24,  86, 71.0 * TERA,   35.6 * TERA,     936 * GIGA,   4, 16},
    {"RTX A6000",       48,  86, 154.8 * TERA,  38.7 * TERA,     768 * GIGA,   4, 16},
    {"A10",             24,  86, 125.0 * TERA,  31.2 * TERA,     600 * GIGA,   4, 16},
    {"A30",             24,  80, 165.0 * TERA,  10.3 * TERA,     933 * GIGA,   4, 16},
    {"A100 40GB",       40,  80, 312.0 * TERA,  19.5 * TERA,    1555 * GIGA,   4, 16},
    {"A100 80GB",       80,  80, 312.0 * TERA,  19.5 * TERA,    1935 * GIGA,   4, 16},
    {"RTX 4060",         8,  89, 30.2 * TERA,   15.1 * TERA,     272 * GIGA,   4,  8},
    {"RTX 4060 Ti",     16,  89, 44.1 * TERA,   22.1 * TERA,     288 * GIGA,   4,  8},
    {"RTX 4070",        12,  89, 58.3 * TERA,   29.1 * TERA,     504 * GIGA,   4, 16},
    {"RTX 4080",        16,  89, 97.5 * TERA,   48.7 * TERA,     717 * GIGA,   4, 16},
    {"RTX 4090",        24,  89, 165.2 * TERA,  82.6 * TERA,    1008 * GIGA,   4, 16},
    {"RTX 6000 Ada",    48,  89, 364.2 * TERA,  91.1 * TERA,     960 * GIGA,   4, 16},
    {"L4",              24,  89, 121.0 * TERA,  30.3 * TERA,     300 * GIGA,   4, 16},
    {"L40S",            48,  89, 362.0 * TERA,  91.6 * TERA,     864 * GIGA,   4, 16},
    {"H100 PCIe",       80,  90, 756.5 * TERA,  51.0 * TERA,    2000 * GIGA,   5, 16},
    {"H100 SXM",        80,  90, 989.5 * TERA,  67.0 * TERA,    3350 * GIGA,   5, 16},
    {"H200",           141,  90, 989.5 * TERA,  67.0 * TERA,    4800 * GIGA,   5, 16},
    {"B200",           180, 100, 2250.0 * TERA, 75.0 * TERA,    7700 * GIGA,   5, 16},
    {"RTX 5070",        12, 120, 61.7 * TERA,   30.9 * TERA,     672 * GIGA,   5, 16},
    {"RTX 5080",        16, 120, 112.6 * TERA,  56.3 * TERA,     960 * GIGA,   5, 16},
    {"RTX 5090",        32, 120, 209.5 * TERA, 104.8 * TERA,    1792 * GIGA,   5, 16},
};
// clang-format on

// As drivers name cards whose row is called otherwise, in the form that names are compared in.
static const struct {
    const char *driver;
    const char *name;
} drivers[] = {
    {"h10080gbhbm3", "h100sxm"},
    {"h100", "h100sxm"},
    {"a100sxm480gb", "a10080gb"},
    {"a100sxm440gb", "a10040gb"},
    {"a100pcie40gb", "a10040gb"},
    {"a10080gbpcie", "a10080gb"},
    {"rtx6000adageneration", "rtx6000ada"},
    {"a6000", "rtxa6000"},
    {"a100", "a10040gb"},
};

enum { NAME = 64 };

static bool begins(const char *at, const char *word) {
    return strncasecmp(at, word, strlen(word)) == 0;
}

// Lower case, without the maker, the line, spaces and hyphens.
static void plain_name(char out[NAME], const char *name) {
    static const char *const left_out[] = {"nvidia", "geforce", "tesla"};
    size_t used = 0;
    while (*name != 0 && used + 1 < NAME) {
        size_t skip = 0;
        for (size_t i = 0; i < sizeof left_out / sizeof left_out[0]; i++) {
            skip = begins(name, left_out[i]) ? strlen(left_out[i]) : skip;
        }
        if (skip == 0 && isalnum((unsigned char)*name)) {
            out[used++] = (char)tolower((unsigned char)*name);
        }
        name += skip > 0 ? skip : 1;
    }
    out[used] = 0;
}

size_t card_count(void) {
    return sizeof cards / sizeof cards[0];
}

const struct card *card_at(size_t index) {
    return &cards[index];
}

const struct card *card_find(const char *name) {
    char wanted[NAME];
    char row[NAME];
    plain_name(wanted, name);
    if (wanted[0] != 0 && wanted[strspn(wanted, "0123456789")] == 0 && strlen(wanted) == 4) { // "4090"
        char number[NAME];
        strcpy(number, wanted);
        snprintf(wanted, sizeof wanted, "rtx%.4s", number);
    }
    for (size_t i = 0; i < sizeof drivers / sizeof drivers[0]; i++) {
        if (strcmp(wanted, drivers[i].driver) == 0) {
            strcpy(wanted, drivers[i].name);
        }
    }
    for (size_t i = 0; i < card_count(); i++) {
        char with_memory[NAME + 16]; // "rtx306012gb"
        plain_name(row, cards[i].name);
        snprintf(with_memory, sizeof with_memory, "%s%dgb", row, cards[i].memory_gib);
        if (strcmp(wanted, row) == 0 || strcmp(wanted, with_memory) == 0) {
            return &cards[i];
        }
    }
    return NULL;
}

bool card_is_supported(const struct card *card) {
    return card->capability >= CARD_CAPABILITY;
}

const struct card *card_of_memory(uint64_t memory) {
    const struct card *best = NULL;
    const struct card *largest = NULL;
    for (const struct card *card = cards; card < cards + card_count(); card++) {
        if (!card_is_supported(card)) {
            continue;
        }
        largest = largest == NULL || card->memory_gib > largest->memory_gib ? card : largest;
        if ((uint64_t)card->memory_gib << 30 < memory) {
            continue;
        }
        bool closer = best == NULL || card->memory_gib < best->memory_gib;
        bool slower =
            best != NULL && card->memory_gib == best->memory_gib && card->matrix_rate < best->matrix_rate;
        best = closer || slower ? card : best;
    }
    return best != NULL ? best : largest;
}

double card_link(const struct card *card) {
    // Bytes a second of a lane, each way: 8, 16 and 32 gigatransfers with 128 bits in 130.
    double lane = card->link_generation <= 3 ? 0.985e9 : card->link_generation == 4 ? 1.969e9 : 3.938e9;
    return CARD_LINK_SHARE * lane * card->link_lanes;
}
