// SPDX-License-Identifier: MIT
// The table of cards: names as people and drivers write them, and what follows from the rows.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "close_to.h"
#include "model/cards.h"

static void names_are_found(void **state) {
    (void)state;
    static const struct {
        const char *written;
        const char *name; // NULL: no such card
    } names[] = {
        {"RTX 4090", "RTX 4090"},
        {"rtx4090", "RTX 4090"},
        {"rtx-4090", "RTX 4090"},
        {"NVIDIA GeForce RTX 4090", "RTX 4090"},
        {"RTX 3060 12GB", "RTX 3060"},
        {"RTX 4060", "RTX 4060"},
        {"NVIDIA GeForce RTX 4060 Ti", "RTX 4060 Ti"},
        {"4060", "RTX 4060"},
        {"409", NULL},
        {"1234", NULL},
        {"RTX 4090 D", NULL},
        {"NVIDIA A100-SXM4-80GB", "A100 80GB"},
        {"NVIDIA A100 80GB PCIe", "A100 80GB"},
        {"NVIDIA A100-PCIE-40GB", "A100 40GB"},
        {"NVIDIA H100 80GB HBM3", "H100 SXM"},
        {"NVIDIA H100 PCIe", "H100 PCIe"},
        {"NVIDIA H200", "H200"},
        {"NVIDIA L40S", "L40S"},
        {"NVIDIA L4", "L4"},
        {"NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"},
        {"A6000", "RTX A6000"},
        {"Tesla T4", "T4"},
        {"", NULL},
        {"a name of far more characters than any card has, which is cut before it is compared", NULL},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const struct card *card = card_find(names[i].written);
        if ((card == NULL) != (names[i].name == NULL) ||
            (card != NULL && strcmp(card->name, names[i].name) != 0)) {
            fail_msg("%s is %s", names[i].written, card == NULL ? "none" : card->name);
        }
    }
}

static void rows_are_whole(void **state) {
    (void)state;
    for (size_t i = 0; i < card_count(); i++) {
        const struct card *card = card_at(i);
        assert_ptr_equal(card_find(card->name), card);
        assert_true(card->memory_gib > 0 && card_link(card) > 0);
        // A rate on bfloat16 is twice that of float32 on the cheapest, and all have one that are supported.
        assert_true(!card_is_supported(card) || (card->matrix_rate >= 1.99 * card->float_rate &&
                                                 card->float_rate > 0 && card->bandwidth > 0));
    }
    assert_false(card_is_supported(card_find("T4")));
    assert_false(card_is_supported(card_find("RTX 2060")));
    assert_true(card_is_supported(card_find("A100 40GB")));
}

static void links_are_of_their_generation(void **state) {
    (void)state;
    assert_close(card_link(card_find("RTX 4090")), 0.8 * 16 * 1.969e9, 1);
    assert_close(card_link(card_find("RTX 4060")), 0.8 * 8 * 1.969e9, 1);
    assert_close(card_link(card_find("RTX 5090")), 0.8 * 16 * 3.938e9, 1);
    assert_close(card_link(card_find("T4")), 0.8 * 16 * 0.985e9, 1);
}

static void a_size_is_the_slowest_card_of_it(void **state) {
    (void)state;
    assert_string_equal(card_of_memory((uint64_t)8 << 30)->name, "RTX 4060");
    assert_string_equal(card_of_memory(((uint64_t)8 << 30) + 1)->name, "RTX 3080"); // the next larger has 10
    assert_string_equal(card_of_memory((uint64_t)6 << 30)->name,
                        "RTX 4060"); // smaller ones are not supported
    assert_string_equal(card_of_memory((uint64_t)24 << 30)->name, "RTX 3090");
    assert_string_equal(card_of_memory(UINT64_MAX)->name, "B200");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_found),
        cmocka_unit_test(rows_are_whole),
        cmocka_unit_test(links_are_of_their_generation),
        cmocka_unit_test(a_size_is_the_slowest_card_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
