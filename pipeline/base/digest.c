// SPDX-License-Identifier: MIT
#include "base/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

struct digest {
    EVP_MD_CTX *context;
};

static int start(struct digest *digest, struct error *err) {
    if (EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1) {
        return error_set(err, STATUS_INTERNAL, "SHA-256 cannot start");
    }
    return STATUS_OK;
}

int digest_create(struct digest **out, struct error *err) {
    void *block;
    *out = NULL;
    TRY(memory_zeroed(&block, 1, sizeof **out, err));
    struct digest *digest = block;
    digest->context = EVP_MD_CTX_new();
    int status = digest->context == NULL ? error_set(err, STATUS_INTERNAL, "out of memory for SHA-256")
                                         : start(digest, err);
    if (status != STATUS_OK) {
        digest_destroy(digest);
        return status;
    }
    *out = digest;
    return STATUS_OK;
}

int digest_update(struct digest *digest, const void *bytes, size_t size, struct error *err) {
    if (EVP_DigestUpdate(digest->context, bytes, size) != 1) {
        return error_set(err, STATUS_INTERNAL, "SHA-256 failed");
    }
    return STATUS_OK;
}

int digest_number(struct digest *digest, uint64_t value, struct error *err) {
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)(value >> (8 * i));
    }
    return digest_update(digest, bytes, sizeof bytes, err);
}

int digest_field(struct digest *digest, const void *bytes, size_t size, struct error *err) {
    TRY(digest_number(digest, size, err));
    return digest_update(digest, bytes, size, err);
}

int digest_finish_bytes(struct digest *digest, unsigned char out[DIGEST_BYTES], struct error *err) {
    unsigned int size = 0;
    if (EVP_DigestFinal_ex(digest->context, out, &size) != 1 || size != DIGEST_BYTES) {
        return error_set(err, STATUS_INTERNAL, "SHA-256 failed");
    }
    return start(digest, err);
}

int digest_finish(struct digest *digest, char hex[DIGEST_HEX], struct error *err) {
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[DIGEST_BYTES];
    TRY(digest_finish_bytes(digest, bytes, err));
    for (int i = 0; i < DIGEST_BYTES; i++) {
        hex[2 * i] = digits[bytes[i] >> 4];
        hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    hex[DIGEST_HEX - 1] = 0;
    return STATUS_OK;
}

void digest_destroy(struct digest *digest) {
    if (digest != NULL) {
        EVP_MD_CTX_free(digest->context);
        free(digest);
    }
}

int digest_file(const char *path, char hex[DIGEST_HEX], struct error *err) {
    struct digest *digest = NULL;
    void *block = NULL;
    enum { BLOCK = 1 << 20 };
    int descriptor;
    size_t size;
    TRY(file_open_own(&descriptor, &size, path, err));
    int status;
    TRY_TO(done, status = digest_create(&digest, err));
    TRY_TO(done, status = memory_zeroed(&block, 1, BLOCK, err));
    for (;;) {
        ssize_t count = read(descriptor, block, BLOCK);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            status = error_set_errno(err, STATUS_DATA, "cannot read %s", path);
            goto done;
        }
        if (count == 0) {
            break;
        }
        TRY_TO(done, status = digest_update(digest, block, (size_t)count, err));
    }
    status = digest_finish(digest, hex, err);
done:
    free(block);
    digest_destroy(digest);
    close(descriptor);
    return status;
}
