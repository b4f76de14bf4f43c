// SPDX-License-Identifier: MIT
// Configurations that are read, and those that are refused (test_families.c, test_family_mixtures.c).
#ifndef STRATA_TESTS_PARSED_H
#define STRATA_TESTS_PARSED_H

#include <string.h>

#include "model/config.h"

static inline void parse(struct model_config *config, const char *text) {
    struct error err = {0};
    if (model_config_parse(config, text, strlen(text), "config.json", &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
}

static inline void refused(const char *text, const char *said) {
    struct model_config config;
    struct error err = {0};
    assert_int_equal(model_config_parse(&config, text, strlen(text), "config.json", &err), STATUS_DATA);
    if (strstr(err.message, said) == NULL) {
        fail_msg("%s is answered with: %s", text, err.message);
    }
    assert_null(config.layer_slides);
    assert_null(config.layer_ropes);
    assert_null(config.layer_experts);
}

#endif
