#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes pipeline/text/unicode_tables.inc: where Unicode as the `tokenizers` library knows it differs from PCRE2's and utf8proc's.

    python3 tools/unicode_exceptions.py > pipeline/text/unicode_tables.inc

The library mixes four sets of tables: Oniguruma (patterns), unicode-normalization-alignments (Unicode 9.0: NFC and the like),
Rust's standard library (digits, lower case), the crate unicode_categories (punctuation) and the regex crate (\\w beside an added token). Each is asked about every code point,
and so are libpcre2-8 and libutf8proc (through ctypes). Run it again when any of them changes; tests/text/test_tokenizer.py compares
every code point.
"""
import ctypes
import ctypes.util
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

CODES = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()
# What patterns may name with \\p{...} (pipeline/text/pattern_class.c): a stand-in has the same one of these. Other
# scripts have new characters that no older one can stand for.
SCRIPTS = ("Armenian Bengali Bopomofo Ethiopic Georgian Greek Gujarati Gurmukhi Han Hangul Hebrew Hiragana Kannada Katakana Khmer Lao Latin "
           "Malayalam Sinhala Tamil Telugu Thai Tibetan").split()
CHUNK = 20000  # code points in one text


def chunks(items, size):
    for i in range(0, len(items), size):
        yield items[i:i + size]


def matched_by_library(pattern):
    """The code points that a pattern of one character matches, by Oniguruma."""
    removed = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    found = set()
    for part in chunks(CODES, CHUNK):
        for text, _ in removed.pre_tokenize_str("".join(map(chr, part))):
            found.update(map(ord, text))
    return found


class Pcre2:
    UTF, UCP, NO_CHECK = 0x00080000, 0x00020000, 0x40000000

    def __init__(self):
        self.lib = ctypes.CDLL("libpcre2-8.so.0")
        for name in ("pcre2_compile_8", "pcre2_match_data_create_8"):
            getattr(self.lib, name).restype = ctypes.c_void_p
        version = ctypes.create_string_buffer(64)
        self.lib.pcre2_config_8(11, version)
        unicode_version = ctypes.create_string_buffer(64)
        self.lib.pcre2_config_8(10, unicode_version)
        self.version = version.value.decode().split()[0] + ", Unicode " + unicode_version.value.decode()
        self.data = ctypes.c_void_p(self.lib.pcre2_match_data_create_8(4, None))

    def matched(self, pattern):
        error, offset = ctypes.c_int(), ctypes.c_size_t()
        raw = pattern.encode()
        code = self.lib.pcre2_compile_8(raw, ctypes.c_size_t(len(raw)), self.UTF | self.UCP, ctypes.byref(error),
                                        ctypes.byref(offset), None)
        code = ctypes.c_void_p(code)
        found = set()
        match = self.lib.pcre2_match_8
        for c in CODES:
            text = chr(c).encode()
            if match(code, text, ctypes.c_size_t(len(text)), ctypes.c_size_t(0), self.NO_CHECK, self.data, None) > 0:
                found.add(c)
        return found


def utf8_length(c):
    return 1 if c < 0x80 else 2 if c < 0x800 else 3 if c < 0x10000 else 4


def class_of(matcher, prefix):
    """Category of every code point, whether it is white space, and its script where that is one of SCRIPTS."""
    kind, script = {}, {}
    for category in CATEGORIES:
        for c in matcher("\\p{%s}" % category):
            kind[c] = category
    for name in SCRIPTS:
        for c in matcher("\\p{%s%s}" % (prefix, name)):
            script[c] = name
    space = matcher("\\s")
    return {c: (kind.get(c, "Cn"), c in space, script.get(c, "")) for c in CODES}


def ranges(codes):
    out = []
    for c in sorted(codes):
        if out and out[-1][1] + 1 == c:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def stand_ins(library, pcre2):
    """(first, last, stand-in): code points that PCRE2 classes otherwise, and a character of the library's class.

    The stand-in has as many bytes of UTF-8 and is classed alike by both; for what is unassigned it is a noncharacter. It is the nearest
    one, so that a range of characters in a pattern seldom tells it from the other."""
    pool = {}
    for c in CODES:
        if library[c] == pcre2[c] and c > 0x7F:
            pool.setdefault((utf8_length(c), library[c]), []).append(c)
    noncharacters = {3: 0xFDD0, 4: 0x1FFFE}
    out, last = [], None
    for c in CODES:
        want = (utf8_length(c), library[c])
        if library[c] == pcre2[c]:
            continue
        if out and out[-1][1] + 1 == c and last == want:
            out[-1][1] = c
            continue
        if want[1] == ("Cn", False, ""):
            stand = noncharacters[want[0]]
        elif want in pool:
            stand = min(pool[want], key=lambda other: abs(other - c))
        else:
            sys.exit(f"no stand-in for U+{c:04X}, {want}")
        out.append([c, c, stand])
        last = want
    return out


def normal_sets():
    """(nfc, any): code points that NFC may change or compose with what stands before; those that any form treats as special."""
    forms = {name: getattr(normalizers, name)().normalize_str for name in ("NFC", "NFD", "NFKC", "NFKD")}
    marked, decomposed, unstable, seconds = set(), set(), set(), set()
    for c in CODES:
        s = chr(c)
        # U+0345 has the highest class, U+0334 the lowest: a character that changes places with either has a class.
        if forms["NFD"]("\u0345" + s) != "\u0345" + forms["NFD"](s) or forms["NFD"](s + "\u0334") != forms["NFD"](s) + "\u0334":
            marked.add(c)
        if s == "\u0334" or s == "\u0345":
            marked.add(c)
        canonical = forms["NFD"](s)
        if canonical != s or forms["NFKD"](s) != s:
            decomposed.add(c)
        if forms["NFC"](s) != s:
            unstable.add(c)
        elif len(canonical) > 1:
            seconds.add(ord(canonical[-1]))
    # Vowels and final consonants of Hangul compose by rule.
    for c in list(range(0x1161, 0x1176)) + list(range(0x11A8, 0x11C3)):
        seconds.add(c)
    hangul = set(range(0xAC00, 0xD7A4))
    return marked | unstable | seconds, (marked | decomposed | unstable | seconds) - hangul


def word_characters():
    tokenizer = Tokenizer(models.BPE({"?": 0}, [], unk_token="?"))
    tokenizer.add_tokens([AddedToken("\u0001@", single_word=True, normalized=False)])
    token = tokenizer.token_to_id("\u0001@")
    found = set()
    for part in chunks(CODES, 100):
        part = [c for c in part if c not in (1, 0x40)]
        text = "".join(chr(c) + "\u0001@ " for c in part)
        encoding = tokenizer.encode(text)
        starts = {s for i, (s, e) in zip(encoding.ids, encoding.offsets) if i == token}
        found.update(c for k, c in enumerate(part) if 4 * k + 1 not in starts)
    return found


def numeric_characters():
    digits = pre_tokenizers.Digits(individual_digits=True)
    found = set()
    for c in CODES:
        if len(digits.pre_tokenize_str("a" + chr(c))) == 2:
            found.add(c)
    return found


def punctuation_characters():
    punctuation = pre_tokenizers.Punctuation(behavior="isolated")
    return {c for c in CODES if len(punctuation.pre_tokenize_str("a" + chr(c))) == 2}


def lower_exceptions():
    utf8proc = ctypes.CDLL("libutf8proc.so.2")
    utf8proc.utf8proc_version.restype = ctypes.c_char_p
    utf8proc.utf8proc_unicode_version.restype = ctypes.c_char_p
    version = f"{utf8proc.utf8proc_version().decode()}, Unicode {utf8proc.utf8proc_unicode_version().decode()}"
    lower = normalizers.Lowercase().normalize_str
    out = []
    for c in CODES:
        text = lower(chr(c))
        if text != chr(utf8proc.utf8proc_tolower(c)):
            out.append((c, ord(text[0]), ord(text[1]) if len(text) > 1 else 0))
    return version, out


def table(kind, name, rows):
    print(f"\nstatic const struct {kind} {name}[] = {{")
    line = "   "
    for row in rows:
        cell = " {" + ", ".join(f"0x{value:X}" for value in row) + "},"
        if len(line) + len(cell) > 110:
            print(line)
            line = "   "
        line += cell
    print(line)
    print("};")


def main():
    pcre2 = Pcre2()
    substitutes = stand_ins(class_of(matched_by_library, ""), class_of(pcre2.matched, "sc:"))
    nfc, normal = normal_sets()
    proc_version, lower = lower_exceptions()
    print("// Written by tools/unicode_exceptions.py: do not edit. clang-format off")
    print(f"// Reconciles tokenizers {tokenizers.__version__} with PCRE2 {pcre2.version} and utf8proc {proc_version}.")
    table("code_substitute", "class_substitutes", substitutes)
    table("code_range", "nfc_active_ranges", ranges(nfc))
    table("code_range", "normal_active_ranges", ranges(normal))
    table("code_range", "word_ranges", ranges(word_characters()))
    table("code_range", "numeric_ranges", ranges(numeric_characters()))
    table("code_range", "punctuation_ranges", ranges(punctuation_characters()))
    table("code_substitute", "lower_exceptions", lower)


if __name__ == "__main__":
    main()
