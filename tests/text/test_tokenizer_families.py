# SPDX-License-Identifier: MIT
"""The pipelines of published families, their patterns to the letter, around small vocabularies: ids and offsets of the library.

And random patterns: what is accepted splits as the library's Oniguruma splits."""
import json
import random
import subprocess

import pytest
from test_tokenizer import LLAMA3, NASTY, TOOL, byte_characters, byte_level, compare, encode, gpt2, pairs, random_text, sentencepiece, smollm
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors

RANDOM_TEXTS = 200  # of each kind
RANDOM_PATTERNS = 200

UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SHORT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{SHORT}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{SHORT}?|\p{{N}}{{1,3}}"
         rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{REST}")
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
CL100K_POSSESSIVE = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s")
MINIMAX = (rf"[^\r\n\p{{L}}\p{{N}}]?((?=[\p{{L}}])([^a-z]))*((?=[\p{{L}}])([^A-Z]))+{SHORT}?|[^\r\n\p{{L}}\p{{N}}]?((?=[\p{{L}}])([^a-z]))+"
           rf"((?=[\p{{L}}])([^A-Z]))*{SHORT}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{REST}")
BAILING = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
QWEN3_5 = rf"{SHORT}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{REST}"
KIMI = (rf"[\p{{Han}}]+|[^\r\n\p{{L}}\p{{N}}]?{UPPER[:-1]}&&[^\p{{Han}}]]*{LOWER[:-1]}&&[^\p{{Han}}]]+{SHORT}?"
        rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER[:-1]}&&[^\p{{Han}}]]+{LOWER[:-1]}&&[^\p{{Han}}]]*{SHORT}?|\p{{N}}{{1,3}}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{REST}")
BLOOM = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"
DEEPSEEK_V3 = [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
               r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"""
               + REST]
DEEPSEEK_V2_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f"
    "\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd"
    "\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57"
    "\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b"
    "\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
    "\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943")
DEEPSEEK_V2 = [r"[\r\n]", rf"\s?[{DEEPSEEK_V2_LETTERS}]+", "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$",
               "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"]


def named(name, make):
    make.__name__ = name
    return make


def split(name, pattern, normalizer=None, **model):
    return named(name, lambda: byte_level(pattern, normalizer, **model))


def sequence(name, *steps, normalizer=None):
    def make():
        tokenizer = byte_level(normalizer=normalizer)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
        return tokenizer
    return named(name, make)


def isolated(patterns):
    return [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]


def bytes_only():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def with_words():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def gemma():
    made = json.loads(sentencepiece("never").to_str())
    made["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    made["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    tokenizer = Tokenizer.from_str(json.dumps(made))
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ("\n\n", "\n\n\n", "\u2581\u2581", "<b>", "</h1>")])
    tokenizer.add_special_tokens([AddedToken("<start_of_turn>", normalized=False)])
    return tokenizer


def tekken():
    tokenizer = byte_level(TEKKEN, ignore_merges=True)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in ("<s>", "[INST]", "</s>")])
    return tokenizer


def phi3():
    tokenizer = sentencepiece(None)
    tokenizer.add_special_tokens([AddedToken(text, rstrip=True, normalized=False) for text in ("<|user|>", "<|im_end|>", "<|im_start|>")])
    return tokenizer


def opt():
    tokenizer = gpt2()
    tokenizer.add_special_tokens([AddedToken("</s>", normalized=True)])
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))])
    return tokenizer


def careless():
    """Settings that never come to bear, for every byte has a token."""
    made = json.loads(gpt2().to_str())
    made["model"].update(byte_fallback=True, unk_token="<|not there|>", fuse_unk=True)
    return Tokenizer.from_str(json.dumps(made))


def neox():
    return byte_level(normalizer=normalizers.NFC(), trim=True)


def converted():
    """What transformers makes of a SentencePiece file with words of its own."""
    tokenizer = gemma()
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Replace(" ", "\u2581"),
        normalizers.Replace(Regex("\\A\u2581"), "\u2581\u2581")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always", split=False),
        pre_tokenizers.Split(Regex(r"<\/h1>|<\ x>|<b>|\.\."), "isolated")])
    return tokenizer


def falcon():
    return byte_level_steps([pre_tokenizers.Punctuation("contiguous"), with_words(), pre_tokenizers.Digits(individual_digits=False),
                             *isolated(["[0-9][0-9][0-9]"])])


def byte_level_steps(steps):
    """Trained with the steps themselves, as Falcon's was: its words are spelled, not bytes."""
    tokenizer = gpt2()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return tokenizer


def punctuation(behavior):
    return named(f"punctuation_{behavior}", lambda: byte_level_steps([pre_tokenizers.Punctuation(behavior), with_words()]))


def after_byte_level(name, *steps):
    return named(name, lambda: byte_level_steps([pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True), *steps]))


def escapes():
    return byte_level(r"[\u0041-\u005A\x{1F300}-\x{1FAFF}]+|\x41|\u00e9|[^\u4e00-\u9fff\s]+|\s", normalizers.Replace(
        Regex(r"[\u2000-\u200A\u202F\u205F\u3000\u00A0]"), " "))


PATTERNS = [split("gpt_oss", O200K), split("llama4", O200K, ignore_merges=True), split("cl100k", CL100K), split("qwen3_5", QWEN3_5, normalizers.NFC()),
            split("cl100k_possessive", CL100K_POSSESSIVE), split("kimi", KIMI), split("bloom", BLOOM), split("glm4", LLAMA3),
            sequence("deepseek_v3", *isolated(DEEPSEEK_V3), bytes_only()),
            sequence("deepseek_v2", *isolated(DEEPSEEK_V2), pre_tokenizers.Digits(individual_digits=True), bytes_only()),
            sequence("cohere", pre_tokenizers.Digits(individual_digits=True), with_words(), normalizer=normalizers.NFC()),
            sequence("tiny_aya", *isolated([r"\d{1,3}(?=(?:\d{3})*\b)", O200K]), bytes_only(), normalizer=normalizers.NFC()),
            split("words", r"\w+|\W"), split("spelled_spaces", "\\s[\u1c88-\u1c89]|\\S[\\s\u0870-\u0897]?"), split("minimax", MINIMAX), split("bailing", BAILING), falcon, escapes, *map(punctuation, ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"))]
KINDS = [*PATTERNS, *map(pairs, PATTERNS), gemma, converted, phi3, opt, careless, neox, tekken,
         after_byte_level("punctuation_of_bytes", pre_tokenizers.Punctuation("isolated")),
         after_byte_level("words_of_bytes", *isolated(["\u0120?\\p{L}{2}"]), pre_tokenizers.Digits(individual_digits=True)),
         after_byte_level("bytes_twice", pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True))]

TEXTS = NASTY + [
    "\u6f22\u5b57\u304b\u306a\u30ab\u30ca \u3005\u3007 \U00020000\U00031350\U0002ebf0 \ud55c\uae00 \u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22",
    "Hello, world!  (x+y)=12345678; $9.99 ^_^ `code` ~a|b~ \u00a7\u00bf\u2026\u3002\uff0c 1,234.56",
    "WE'LL Don'T i'M You'RE '\u017f '\u212a x'D 'llama 'S", "trailing  \n  ", " \n", "a \n\n b\r\n\r\n\tc  ", "\n \n  x", "x   ",
    "user <|user|>  \n hi<|im_end|> \n\n<start_of_turn>user\n\n\n<b>x</b></h1> a  b   c", "def f(x):\n    return {'a': [1, 2]}\n\n\n# caf\u00e9",
    "camelCaseHTTPServer XMLHttpRequest snake_case /path/to//file.txt\n/x", "1234567 12 1 \u0661\u0662\u0663\u0664 \u00bd\u00be 3\ufe0f\u20e3 x123y4567"]


@pytest.fixture(scope="module", params=KINDS, ids=lambda make: make.__name__)
def kind(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("kind") / "tokenizer.json"
    request.param().save(str(path))
    return path, Tokenizer.from_file(str(path))


def test_texts(kind):
    path, library = kind
    source = random.Random(library.get_vocab_size())
    compare(path, library, TEXTS + [random_text(source) for _ in range(RANDOM_TEXTS)])
    compare(path, library, TEXTS, special=False)


@pytest.mark.parametrize("make", [*map(pairs, (split("kimi", KIMI), split("words", r"\w+|\W"), falcon,
                                               sequence("deepseek_v3", *isolated(DEEPSEEK_V3), bytes_only())))], ids=lambda make: make.__name__)
def test_every_code_point(make, tmp_path):
    """As in test_tokenizer.py: what is in a script, a range or punctuation, and what is new to Unicode."""
    path = tmp_path / "tokenizer.json"
    make().save(str(path))
    codes = [c for c in range(0x34000) if not 0xD800 <= c < 0xE000]
    texts = ["".join(f"a{chr(c)}b {chr(c)}1 " for c in codes[i:i + 300]) for i in range(0, len(codes), 300)]
    compare(path, Tokenizer.from_file(str(path)), texts)


SCRIPTS = ["Han", "Hiragana", "Hangul", "Latin", "Cyrillic", "Arabic", "Thai", "Common", "Inherited"]


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def random_member(source, depth):
    kind = source.random()
    if kind < 0.3:
        return source.choice(["a", "b", "k", "S", "1", " ", "_", "\\-", "\\]", "\\n", "\u00e9", "\u4e00", "\\u0301", "\\x{1F600}", "\\x41", "&", "|"])
    if kind < 0.45:
        return source.choice(["a-f", "A-Z", "0-9", "\u4e00-\u9fa5", "\\u0300-\\u036F", "!-/", "\\x{1F300}-\\x{1F64F}"])
    if kind < 0.6:
        return source.choice(["\\s", "\\S", "\\d", "\\D", "\\w", "\\t"])
    if kind < 0.85 or depth > 2:
        name = source.choice(["L", "Lu", "Ll", "M", "N", "P", "S", "Z", "Lo", "Cf", *SCRIPTS])
        return source.choice(["\\p{%s}", "\\p{%s}", "\\P{%s}", "\\p{^%s}"]) % name
    return random_class(source, depth + 1)


def random_class(source, depth=0):
    sets = ["".join(random_member(source, depth) for _ in range(source.randrange(1, 4))) for _ in range(source.choice([1, 1, 1, 2, 3]))]
    return f"[{source.choice(['', '', '^'])}{'&&'.join(sets)}]"


def random_part(source, depth):
    kind = source.random()
    if kind < 0.4:
        part = random_class(source)
    elif kind < 0.6:
        part = source.choice(["a", "b", " ", "\\s", "\\S", "\\w", "\\W", "\\p{L}", "\\p{N}", "\\p{Han}", "\\P{L}", ".", "\\n", "\\u00e9", "'"])
    elif kind < 0.7:
        part = source.choice(["(?i:'s|k|re)", "'(?i:[sdmt]|ll)", "(?i:ab)"])
    elif kind < 0.8 and depth < 2:
        return source.choice(["(?!%s)", "(?=%s)", "(?<!a)%s", "(?<=\\s)%s"]) % random_sequence(source, depth + 1)
    elif kind < 0.85:
        return source.choice(["$", "^", "\\A", "\\z", "\\b", "\\B"])
    else:
        group = source.choice(["(?:%s)", "(%s)", "(?>%s)"]) % random_pattern(source, depth + 1) if depth < 2 else "a"
        return group + source.choice(["", "?", "??", "?+", "{2}?", "{1,2}"])  # more would take exponential time, and the library panics
    return part + source.choice(["", "", "", "?", "*", "+", "+", "?+", "++", "*+", "??", "+?", "{1,3}", "{2}", "{1,}", "{1,2}+", "{2}?", "{1,3}?"])


def random_sequence(source, depth):
    return "".join(random_part(source, depth) for _ in range(source.randrange(1, 4)))


def random_pattern(source, depth=0):
    return "|".join(random_sequence(source, depth) for _ in range(source.choice([1, 2, 3])))


def test_random_patterns(tmp_path):
    """No pattern is split otherwise: the words are those of the library, or the pattern is refused by name."""
    source, accepted = random.Random(3), 0
    path = tmp_path / "tokenizer.json"
    frame = json.loads(pairs(gpt2)().to_str())
    shown = {chr(byte_characters()[byte]) for byte in (*b" \n\r'aksS1_-&|", *range(0x42, 0x100, 8))}  # a boundary between two of these is seen
    merges = [merge for merge in frame["model"]["merges"] if shown.issuperset(merge)]
    vocab = [token for token in frame["model"]["vocab"] if len(token) == 1] + ["".join(merge) for merge in merges]
    frame["model"].update(vocab={token: k for k, token in enumerate(vocab)}, merges=merges)
    frame["added_tokens"] = []
    texts = [text for text in TEXTS if len(text) < 120] + [random_text(source) for _ in range(60)]
    for _ in range(RANDOM_PATTERNS):
        pattern = random_pattern(source)
        step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        frame["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [step, BYTES]}
        path.write_text(json.dumps(frame))
        done = subprocess.run([TOOL, path], input=b"", capture_output=True)
        if done.returncode != 0:
            assert done.returncode == 65 and b"pattern" in done.stderr, (pattern, done.stderr)
            continue
        try:
            library = Tokenizer.from_file(str(path))
        except Exception:  # Oniguruma is stricter about what may be repeated
            continue
        accepted += 1
        found = encode(path, texts)  # some are refused: to match them takes too many steps
        try:
            compare(path, library, [text for text, result in zip(texts, found) if not isinstance(result, str)])
        except BaseException as problem:  # the library gives up by a panic, which is no Exception
            if type(problem).__name__ != "PanicException":
                raise
    assert accepted > RANDOM_PATTERNS // 6
