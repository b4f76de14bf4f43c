// SPDX-License-Identifier: MIT
#include "text/auto_class.h"

#include <stdio.h>
#include <string.h>

// clang-format off
// The classes of model types that have one, as tokenization_auto.py maps them.
static const struct {
    const char *name;
    const char *types; // each after a space, one more at the end
} mapped[] = {
    {"GemmaTokenizer", " diffusion_gemma gemma gemma2 gemma3 gemma3_text gemma3n gemma3n_text recurrent_gemma "
                       "shieldgemma2 t5gemma zaya "},
    {"GPT2Tokenizer", " codegen dbrx emu3 gpt2 gpt_neo gptj hyperclovax_vision_v2 jais2 opt phi starcoder2 "},
    {"GPTNeoXTokenizer", " falcon_mamba gpt_neox mamba mamba2 mpt olmo olmoe rwkv xlstm "},
    {"Qwen2Tokenizer", " audioflamingo3 colqwen2 cosmos3_omni dots3_note fun_asr_nano hunyuan_vl internvl "
                       "moss_transcribe_diarize ovis2 qianfan_ocr qwen2 qwen2_5_omni qwen2_5_vl qwen2_audio qwen2_moe "
                       "qwen2_vl qwen3 qwen3_asr qwen3_moe qwen3_next qwen3_omni_moe qwen3_vl qwen3_vl_moe "},
    {"Qwen3_5Tokenizer", " qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen4_exp "},
    {"CohereTokenizer", " aya_vision cohere cohere2 "},
    {"CodeLlamaTokenizer", " code_llama "},
    {"LlamaTokenizer", " idefics idefics2 "},
    {"TokenizersBackend", " aria flex_olmo glm glm4 glm4_moe glm4_moe_lite glm4v glm4v_moe got_ocr2 gpt_bigcode granite "
                          "granitemoe granitemoehybrid granitemoeshared kimi_k25 kimi_linear mimo_v2_flash minicpm_ocr "
                          "minicpmv4_6 minicpmv4_7 ministral ministral3 mistral mistral3 mistral_large4 mixtral olmo2 olmo3 "
                          "olmo_hybrid persimmon pixtral stablelm voxtral voxtral_realtime "},
};

// Model types whose files are known to name a wrong class: what they name does not count.
static const char wrongly_named[] =
    " arctic camembertv2-base chatlm cohere_asr ernie4_5 ernie4_5_moe fuyu h2ovl_chat hyperclovax hyperclovax_vision_v2 "
    "hyperclovax_vlm internlm2 internlm3 iquestcoder jamba llava llava_next minicpm3 minicpmv minimax_m2 modernbert "
    "modernbert-decoder molmo molmo2 nemotron nvfp4 opencua openvla paddleocr_vl phi3 phi3_v phimoe qwen2 qwen3_5 "
    "qwen3_5_moe qwen3_5_moe_text qwen4_exp siglip2 smolvlm step3_vl vipllava ";

// Classes that build their own parts, or are no reading of tokenizer.json at all. Others are not known to
// transformers, which then follows tokenizer.json.
static const char building[] =
    " Albert Bart Barthez Bartpho Bert BertGeneration BertJapanese Bertweet BigBird BioGpt Blenderbot BlenderbotSmall "
    "ByT5 CLIP CTRL Camembert Canine Clvp CodeGen CodeLlama Cohere ConvBert Cpm CpmAnt DPRContextEncoder "
    "DPRQuestionEncoder DPRReader Deberta DebertaV2 Dia DistilBert Esm Esmc FSMT FastSpeech2Conformer Flaubert Funnel "
    "GPT2 GPTNeoX GPTNeoXJapanese GPTSw3 Gemma Herbert LED Lasr LayoutLMv2 LayoutLMv3 LayoutXLM Llama Luke Lxmert M2M100 "
    "MBart MBart50 MLuke MPNet Marian MarkupLM Mgpstr MobileBert Mvp MyT5 Nllb Nougat OpenAIGPT PLBart Pegasus Perceiver "
    "Phobert Pop2Piano ProphetNet Qwen2 Qwen3_5 Rag Reformer RemBert RoCBert RoFormer Roberta SeamlessM4T Siglip "
    "Siglip2 Speech2Text SpeechT5 Splinter SqueezeBert T5 Tapas Tipsv2 Udop VideoPrism Vits Wav2Vec2CTC "
    "Wav2Vec2PhonemeCTC Whisper XGLM XLM XLMRoberta XLNet ";
// clang-format on

static const char suffix[] = "Tokenizer";

// The word in a list of words between spaces.
static bool has_word(const char *list, const char *word, size_t size) {
    for (const char *at = strchr(list, ' '); at != NULL && size > 0; at = strchr(at + 1, ' ')) {
        if (strncmp(at + 1, word, size) == 0 && at[1 + size] == ' ') {
            return true;
        }
    }
    return false;
}

static const char *mapped_class(const char *model_type) {
    for (size_t i = 0; i < sizeof mapped / sizeof mapped[0]; i++) {
        if (has_word(mapped[i].types, model_type, strlen(model_type))) {
            return mapped[i].name;
        }
    }
    return has_word(wrongly_named, model_type, strlen(model_type)) ? "TokenizersBackend" : NULL;
}

// The bytes of a name of a class without "Fast".
static size_t base_size(const char *name) {
    size_t size = strlen(name);
    return size > 4 && strcmp(name + size - 4, "Fast") == 0 ? size - 4 : size;
}

static bool is_class(const char *name, const char *wanted) {
    return base_size(name) == strlen(wanted) && strncmp(name, wanted, strlen(wanted)) == 0;
}

static bool builds(const char *name) {
    size_t size = base_size(name);
    size_t tail = strlen(suffix);
    return size > tail && memcmp(name + size - tail, suffix, tail) == 0 &&
           has_word(building, name, size - tail);
}

const char *auto_class(const char *model_type, const char *named, bool says_byte_level) {
    const char *of_type = mapped_class(model_type);
    bool wrong = has_word(wrongly_named, model_type, strlen(model_type));
    const char *name = named[0] == 0 ? of_type : named;
    if (is_class(named, "LlamaTokenizer") && says_byte_level && !wrong) {
        return NULL;
    }
    if (named[0] != 0 && of_type != NULL && !is_class(named, of_type)) {
        name = strcmp(of_type, "TokenizersBackend") == 0 || wrong ? of_type : named;
    }
    return name != NULL && builds(name) ? name : NULL;
}

bool auto_class_reads_tekken(const char *model_type) {
    static const char types[] =
        " ministral ministral3 mistral mistral3 mistral_large4 mixtral pixtral voxtral "
        "voxtral_realtime ";
    return has_word(types, model_type, strlen(model_type));
}

// ---- what the classes build ----

static const struct auto_token end_of_text[] = {{"unk_token", "<|endoftext|>"},
                                                {"bos_token", "<|endoftext|>"},
                                                {"eos_token", "<|endoftext|>"},
                                                {NULL, NULL}};
static const struct auto_token end_of_text_and_padding[] = {{"unk_token", "<|endoftext|>"},
                                                            {"bos_token", "<|endoftext|>"},
                                                            {"eos_token", "<|endoftext|>"},
                                                            {"pad_token", "<|padding|>"},
                                                            {NULL, NULL}};
static const struct auto_token of_qwen[] = {{"unk_token", "<|endoftext|>"},
                                            {"eos_token", "<|endoftext|>"},
                                            {"pad_token", "<|endoftext|>"},
                                            {NULL, NULL}};
static const struct auto_token of_gemma[] = {{"unk_token", "<unk>"},   {"bos_token", "<bos>"},
                                             {"eos_token", "<eos>"},   {"pad_token", "<pad>"},
                                             {"mask_token", "<mask>"}, {NULL, NULL}};
static const struct auto_token of_llama[] = {
    {"unk_token", "<unk>"}, {"bos_token", "<s>"}, {"eos_token", "</s>"}, {NULL, NULL}};
static const struct auto_token of_cohere[] = {{"unk_token", "<UNK>"},
                                              {"bos_token", "<BOS_TOKEN>"},
                                              {"eos_token", "<|END_OF_TURN_TOKEN|>"},
                                              {"pad_token", "<PAD>"},
                                              {"cls_token", "<CLS>"},
                                              {"sep_token", "<SEP>"},
                                              {"mask_token", "<MASK_TOKEN>"},
                                              {NULL, NULL}};

static const struct recipe {
    const char *name;
    const struct auto_token *tokens;
    struct ggml_pre words; // of those with ByteLevel
    bool bytes;            // it has ByteLevel, else byte_fallback
} recipes[] = {
    {"GPT2Tokenizer", end_of_text, {.byte_pattern = true}, true},
    {"CodeGenTokenizer", end_of_text, {.byte_pattern = true}, true},
    {"GPTNeoXTokenizer", end_of_text_and_padding, {.byte_pattern = true, .composes = true}, true},
    {"CohereTokenizer", of_cohere, {.digits = true, .byte_pattern = true, .composes = true}, true},
    {"Qwen2Tokenizer", of_qwen, {.patterns = {QWEN2_PATTERN}, .composes = true}, true},
    {"Qwen3_5Tokenizer", of_qwen, {.patterns = {QWEN3_5_PATTERN}, .composes = true}, true},
    {"GemmaTokenizer", of_gemma, {0}, false},
    {"LlamaTokenizer", of_llama, {0}, false},
};

static const struct recipe *find_recipe(const char *name) {
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        if (is_class(name, recipes[i].name)) {
            return &recipes[i];
        }
    }
    return NULL;
}

const struct auto_token *auto_class_tokens(const char *name) {
    const struct recipe *recipe = find_recipe(name);
    return recipe == NULL ? NULL : recipe->tokens;
}

static int no_memory(struct error *err) {
    return error_set(err, STATUS_INTERNAL, "out of memory for the parts of a tokenizer's class");
}

// The rule that LlamaTokenizer takes from tokenizer_config.json.
static const char *llama_prefix(const struct tokenizer_companions *companions) {
    return companions->add_prefix_space == 0 ? "never" : companions->legacy == 1 ? "always" : "first";
}

static int load_parts(struct normalizer *normalizer, struct pretokenizer *pretokenizer, json_t *normal,
                      json_t *words, struct error *err) {
    TRY(normalizer_load(normalizer, normal, err));
    return pretokenizer_load(pretokenizer, words, err);
}

// What a class without ByteLevel builds.
static int build_characters(const struct recipe *recipe, const struct tokenizer_companions *companions,
                            struct normalizer *normalizer, struct pretokenizer *pretokenizer,
                            struct error *err) {
    bool gemma = recipe->tokens == of_gemma;
    json_t *normal = json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content",
                               "\xE2\x96\x81");
    json_t *words = gemma ? json_pack("{s:s, s:{s:s}, s:s}", "type", "Split", "pattern", "String", " ",
                                      "behavior", "MergedWithPrevious")
                          : json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement",
                                      "\xE2\x96\x81", "prepend_scheme", llama_prefix(companions), "split", 0);
    int status = normal == NULL || words == NULL
                     ? no_memory(err)
                     : load_parts(normalizer, pretokenizer, gemma ? normal : NULL, words, err);
    json_decref(normal);
    json_decref(words);
    return status;
}

static int build_bytes(const struct recipe *recipe, const struct tokenizer_companions *companions,
                       struct normalizer *normalizer, struct pretokenizer *pretokenizer, struct error *err) {
    struct ggml_pre words = recipe->words;
    words.prefix_space = companions->add_prefix_space == 1;
    json_t *normal = json_pack("{s:s}", "type", "NFC");
    int status =
        normal == NULL ? no_memory(err) : normalizer_load(normalizer, words.composes ? normal : NULL, err);
    json_decref(normal);
    return status == STATUS_OK ? ggml_pre_load(pretokenizer, &words, err) : status;
}

int auto_class_compare(bool *same, const struct tokenizer *tokenizer, const char *name, struct error *err) {
    const struct recipe *recipe = find_recipe(name);
    struct normalizer normalizer = {0};
    struct pretokenizer pretokenizer = {0};
    const struct bpe *bpe = &tokenizer->bpe;
    *same = false;
    // Where every byte has a token it does not matter what is done about unknown characters.
    if (recipe == NULL || bpe->ignore_merges || (!recipe->bytes && !bpe->byte_fallback) ||
        bpe->byte_level != recipe->bytes || !bpe_covers_bytes(bpe)) {
        return STATUS_OK;
    }
    int status = recipe->bytes
                     ? build_bytes(recipe, &tokenizer->companions, &normalizer, &pretokenizer, err)
                     : build_characters(recipe, &tokenizer->companions, &normalizer, &pretokenizer, err);
    *same = status == STATUS_OK && normalizer_same(&normalizer, &tokenizer->normalizer) &&
            pretokenizer_same(&pretokenizer, &tokenizer->pretokenizer);
    normalizer_destroy(&normalizer);
    pretokenizer_destroy(&pretokenizer);
    return status;
}
