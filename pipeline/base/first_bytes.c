// SPDX-License-Identifier: MIT
#include "base/first_bytes.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/file.h"
#include "base/size.h"

#define AGAIN "a download or copy went wrong: get the file again"
#define LFS "`git lfs install && git lfs pull` in its folder gets the file itself"
#define TABLE(reader)                                                                                        \
    "make JSON lines of it first, for example: python3 -c \"import pandas; pandas." reader                   \
    "('IN').to_json('OUT.jsonl', orient='records', lines=True)\""
#define UNPACK(command) "decompress it first: " command
#define FINE(use) (1u << (use))

static const char weights[] = "strata reads safetensors: load it with transformers and "
                              "save_pretrained(FOLDER), or get the model's safetensors";

static const char problems[] = "problems come as JSON lines (`strata import`): one object a line";

struct kind {
    size_t offset;
    const char *bytes;
    size_t size;
    const char *what;
    const char *advice;
    unsigned fine; // for these uses the reader knows better
};

#define MAGIC(text) text, sizeof text - 1

// The more exact come first.
static const struct kind kinds[] = {
    {0, MAGIC("version https://git-lfs.github.com/spec"),
     "a Git LFS pointer, not the file that it stands for", LFS, 0},
    {0, MAGIC("version https://hawser.github.com/spec"), "a Git LFS pointer, not the file that it stands for",
     LFS, 0},
    {0, MAGIC("# xet version"), "a Git Xet pointer, not the file that it stands for",
     "`git xet install && git xet checkout`, or `hf download`, gets the file itself", 0},
    {0, MAGIC("/annex/objects/"), "a git-annex pointer, not the file that it stands for",
     "`git annex get` in its folder gets the file itself", 0},
    {0, MAGIC("SQLite format 3\0"), "an SQLite database",
     "name it in a job as problems.database, and its table in problems.query; it needs no import",
     FINE(FIRST_BYTES_DATABASE)},
    {0, MAGIC("PAR1"), "a Parquet table", TABLE("read_parquet"), FINE(FIRST_BYTES_COLUMNS)},
    {0, MAGIC("PARE"), "an encrypted Parquet table", TABLE("read_parquet"), 0},
    {0, MAGIC("ARROW1\0\0"), "an Arrow (Feather) table", TABLE("read_feather"), FINE(FIRST_BYTES_COLUMNS)},
    {0, MAGIC("FEA1"), "a Feather table", TABLE("read_feather"), FINE(FIRST_BYTES_COLUMNS)},
    {0, MAGIC("\xFF\xFF\xFF\xFF"), "an Arrow stream",
     "make JSON lines of it first, for example with datasets.Dataset.from_file('IN').to_json('OUT.jsonl')",
     FINE(FIRST_BYTES_DATABASE) | FINE(FIRST_BYTES_SAFETENSORS) | FINE(FIRST_BYTES_COLUMNS)},
    {0, MAGIC("ORC"), "an ORC table", TABLE("read_orc"), 0},
    {0, MAGIC("Obj\x01"), "an Avro file", "make JSON lines of it first", 0},
    {0, MAGIC("\x28\xB5\x2F\xFD"), "compressed with zstd", UNPACK("zstd -d FILE"), FINE(FIRST_BYTES_COLUMNS)},
    {1, MAGIC("\x2A\x4D\x18"), "compressed with zstd", UNPACK("zstd -d FILE"),
     FINE(FIRST_BYTES_COLUMNS)}, // a frame that is skipped comes first
    {0, MAGIC("BZh"), "compressed with bzip2", UNPACK("bzip2 -dk FILE"), FINE(FIRST_BYTES_COLUMNS)},
    {0,
     MAGIC("\xFD"
           "7zXZ\0"),
     "compressed with xz", UNPACK("xz -dk FILE"), FINE(FIRST_BYTES_COLUMNS)},
    {0, MAGIC("\x04\x22\x4D\x18"), "compressed with lz4", UNPACK("lz4 -d FILE"), 0},
    {0, MAGIC("\x1F\x8B"), "compressed with gzip", UNPACK("gzip -dk FILE"), 0},
    {0, MAGIC("\x1F\x9D"), "compressed with compress", UNPACK("uncompress FILE"), 0},
    {0, MAGIC("\x5D\0\0"), "compressed with lzma", UNPACK("xz --format=lzma -dk FILE"), 0},
    {0, MAGIC("\x78\x01"), "compressed with zlib", "decompress it first", 0},
    {0, MAGIC("\x78\x9C"), "compressed with zlib", "decompress it first", 0},
    {0, MAGIC("\x78\xDA"), "compressed with zlib", "decompress it first", 0},
    {0, MAGIC("\xD0\xCF\x11\xE0"), "an office document", "save it as CSV or JSON lines first", 0},
    {0, MAGIC("7z\xBC\xAF\x27\x1C"), "a 7-Zip archive", "unpack it first: 7z x FILE", 0},
    {0, MAGIC("Rar!\x1A\x07"), "a RAR archive", "unpack it first", 0},
    {30, MAGIC("[Content_Types].xml"), "an office document", "save it as CSV or JSON lines first", 0},
    {0, MAGIC("PK\x03\x04"), "a ZIP archive (of PyTorch, NumPy's .npz, or an office table)", weights, 0},
    {0, MAGIC("GGUF"), "a GGUF file", weights, 0},
    {0, MAGIC("FUGG"), "a GGUF file (big-endian)", weights, 0},
    {0, MAGIC("lmgg"), "a GGML file", weights, 0},
    {0, MAGIC("tjgg"), "a GGML file", weights, 0},
    {0, MAGIC("\x93NUMPY"), "a NumPy array (.npy)", weights, 0},
    {0, MAGIC("\x89HDF\r\n\x1A\n"), "an HDF5 file", weights, 0},
    {0, MAGIC("\x80\x02"), "a Python pickle (of PyTorch?)", weights, 0},
    {0, MAGIC("\x80\x03"), "a Python pickle (of PyTorch?)", weights, 0},
    {0, MAGIC("\x80\x04\x95"), "a Python pickle (of PyTorch?)", weights, 0},
    {0, MAGIC("\x80\x05\x95"), "a Python pickle (of PyTorch?)", weights, 0},
    {0, MAGIC("%PDF-"), "a PDF document", AGAIN, 0},
    {0,
     MAGIC("\x7F"
           "ELF"),
     "a program", AGAIN, 0},
    {257, MAGIC("ustar"), "a tar archive", "unpack it first: tar xf FILE", 0},
    {0, MAGIC("\xFF\xFE\0\0"), "UTF-32 text", "make it UTF-8: iconv -f UTF-32 -t UTF-8 IN > OUT", 0},
    {0, MAGIC("\0\0\xFE\xFF"), "UTF-32 text", "make it UTF-8: iconv -f UTF-32 -t UTF-8 IN > OUT", 0},
    {0, MAGIC("\xFF\xFE"), "UTF-16 text", "make it UTF-8: iconv -f UTF-16 -t UTF-8 IN > OUT", 0},
    {0, MAGIC("\xFE\xFF"), "UTF-16 text", "make it UTF-8: iconv -f UTF-16 -t UTF-8 IN > OUT", 0},
    // What curl without -f writes when a hub refuses.
    {0, MAGIC("Entry not found"), "a server's answer that there is no such file", AGAIN, 0},
    {0, MAGIC("Repository not found"), "a server's answer that there is no such repository", AGAIN, 0},
    {0, MAGIC("Invalid username or password"), "a server's answer that the login is wrong", AGAIN, 0},
    {0, MAGIC("Access to model "), "a server's answer that the model asks for a login", AGAIN, 0},
    {0, MAGIC("Access to dataset "), "a server's answer that the data set asks for a login", AGAIN, 0},
};

static const struct kind safetensors = {
    0, NULL, 0, "a safetensors file", weights, FINE(FIRST_BYTES_SAFETENSORS) | FINE(FIRST_BYTES_PATH)};
static const struct kind zlib = {0, NULL, 0, "compressed with zlib", "decompress it first", 0};
static const struct kind page = {0, NULL, 0, "a web page (HTML)", AGAIN, 0};
static const struct kind markup = {0, NULL, 0, "an XML document (an error of a server?)", AGAIN, 0};
static const struct kind little = {
    0, NULL, 0, "UTF-16 text without a byte order mark", "make it UTF-8: iconv -f UTF-16LE -t UTF-8 IN > OUT",
    0};
static const struct kind big = {
    0, NULL, 0, "UTF-16 text without a byte order mark", "make it UTF-8: iconv -f UTF-16BE -t UTF-8 IN > OUT",
    0};
static const struct kind zeros = {
    0, NULL, 0, "filled with zeros (a crash, or a copy that was cut off)", "get the file again", 0};
static const struct kind lines = {0,
                                  NULL,
                                  0,
                                  "JSON, not an SQLite database",
                                  "`strata import FILE problems.db` makes a database of JSON lines",
                                  0};
static const struct kind text = {
    0,
    NULL,
    0,
    "text, not an SQLite database",
    "of CSV, `sqlite3 problems.db '.import --csv FILE problems'` makes one; of JSON lines, "
    "`strata import FILE problems.db`",
    0};

static const struct kind no_weights = {
    0, NULL, 0, "text, not safetensors (a server's error, or a link that became a file?)", AGAIN, 0};

static bool is_space(unsigned char byte) {
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

// Where the text begins, behind white space and a byte order mark.
static size_t text_start(const unsigned char *bytes, size_t size) {
    size_t at = size >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    while (at < size && is_space(bytes[at])) {
        at++;
    }
    return at;
}

static bool begins(const unsigned char *bytes, size_t size, const char *word) {
    size_t length = strlen(word);
    return size >= length && strncasecmp((const char *)bytes, word, length) == 0;
}

static bool all_zero(const unsigned char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

static bool all_text(const unsigned char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] < 0x20 && !is_space(bytes[i])) {
            return false;
        }
    }
    return true;
}

static bool is_printable(unsigned char byte) {
    return (byte >= 0x20 && byte < 0x7F) || is_space(byte);
}

// A length of less than 4 GiB in 8 little-endian bytes, then JSON.
static bool is_safetensors(const unsigned char *bytes, size_t size) {
    return size >= 10 && memcmp(bytes + 4, "\0\0\0\0", 4) == 0 && bytes[8] == '{' &&
           (bytes[9] == '"' || is_space(bytes[9]));
}

static const struct kind *find_text(const unsigned char *bytes, size_t size) {
    size_t at = text_start(bytes, size);
    static const char *const pages[] = {"<!doctype", "<html", "<head", "<body", "<title", "<!--"};
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        if (begins(bytes + at, size - at, pages[i])) {
            return &page;
        }
    }
    if (begins(bytes + at, size - at, "<?xml") || begins(bytes + at, size - at, "<error")) {
        return &markup;
    }
    if (size >= 4 && is_printable(bytes[0]) && bytes[1] == 0 && is_printable(bytes[2]) && bytes[3] == 0) {
        return &little;
    }
    if (size >= 4 && bytes[0] == 0 && is_printable(bytes[1]) && bytes[2] == 0 && is_printable(bytes[3])) {
        return &big;
    }
    return NULL;
}

static const struct kind *find(const unsigned char *bytes, size_t size) {
    if (size >= 8 && all_zero(bytes, size)) {
        return &zeros;
    }
    if (is_safetensors(bytes, size)) {
        return &safetensors;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const struct kind *kind = &kinds[i];
        if (size >= kind->offset + kind->size && memcmp(bytes + kind->offset, kind->bytes, kind->size) == 0) {
            return kind;
        }
    }
    if (size >= 2 && memcmp(bytes, "x^", 2) == 0 && !all_text(bytes, size)) { // a text may begin so
        return &zlib;
    }
    return find_text(bytes, size);
}

const char *first_bytes_wanted(const void *bytes, size_t size, enum first_bytes_use use) {
    const struct kind *kind = find(bytes, size);
    return kind != NULL && (kind->fine & FINE(use)) != 0 ? kind->what : NULL;
}

// A database starts with its own name, so that anything else that is text is some other form of the problems.
static const struct kind *find_no_database(const unsigned char *bytes, size_t size) {
    if (size == 0 || !all_text(bytes, size)) {
        return NULL;
    }
    size_t at = text_start(bytes, size);
    return at < size && (bytes[at] == '{' || bytes[at] == '[') ? &lines : &text;
}

int first_bytes_check(const void *bytes, size_t size, uint64_t whole, const char *name,
                      enum first_bytes_use use, struct error *err) {
    if (whole == 0) {
        return error_set(err, STATUS_DATA, "%s is empty", name);
    }
    size = size_min(size, FIRST_BYTES_SIZE);
    const struct kind *kind = find(bytes, size);
    if (kind == NULL && use == FIRST_BYTES_DATABASE) {
        kind = find_no_database(bytes, size);
    }
    if (kind == NULL && use == FIRST_BYTES_SAFETENSORS && all_text(bytes, size)) {
        kind = &no_weights;
    }
    if (kind == NULL || (kind->fine & FINE(use)) != 0) {
        return STATUS_OK;
    }
    bool of_problems = use == FIRST_BYTES_LINES || use == FIRST_BYTES_DATABASE;
    return error_set(err, STATUS_DATA, "%s is %s: %s", name, kind->what,
                     kind->advice == weights && of_problems ? problems : kind->advice);
}

bool first_bytes_read(const char *path, unsigned char bytes[FIRST_BYTES_SIZE], size_t *size, size_t *whole) {
    struct error ignored;
    int descriptor;
    if (file_open(&descriptor, whole, path, &ignored) != STATUS_OK) {
        return false;
    }
    *size = size_min(*whole, FIRST_BYTES_SIZE);
    bool read = file_read_at(descriptor, bytes, *size, 0, path, &ignored) == STATUS_OK;
    close(descriptor);
    return read;
}

int first_bytes_check_file(const char *path, enum first_bytes_use use, struct error *err) {
    unsigned char bytes[FIRST_BYTES_SIZE];
    size_t size;
    size_t whole;
    return first_bytes_read(path, bytes, &size, &whole)
               ? first_bytes_check(bytes, size, whole, path, use, err)
               : STATUS_OK;
}
