"""Tiny language models with random weights, saved as Hugging Face folders: no download, ms to run.

Each has 3 blocks, width 32, a context of 64 tokens and a word-level tokenizer of about 100 words
whose punctuation marks are tokens of their own; `<eos>` starts and ends texts.
"""

from pathlib import Path

import gguf
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForSequenceClassification,
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    OlmoConfig,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3_5TextConfig,
    Qwen3Config,
)

N_LAYERS = 3
D_MODEL = 32
N_CTX = 64
WINDOW = 4
"""Tokens that a token attends to in each block of `tiny_mistral` and `tiny_gemma3`."""

WORDS = (
    *("<eos>", "<unk>", ".", ",", "?", ":", ";", "'", "-", "the", "a", "an", "of", "in", "is"),
    *("was", "was", "and", "to", "by", "who", "what", "where", "which", "city", "born", "capital"),
    "country",
    *("works", "for", "company", "made", "person", "lives", "speaks", "language", "born", "plays"),
    *("question", "answer", "name", "river", "king", "queen", "house", "red", "blue", "green"),
    *("yellow", "black", "white", "anna", "bert", "carla", "david", "elsa", "frank", "greta"),
    *("hugo", "iris", "jonas", "karin", "leo", "paris", "rome", "berlin", "london", "madrid"),
    *("vienna", "oslo", "prague", "france", "italy", "germany", "england", "spain", "austria"),
    *("norway", "bohemia", "french", "italian", "german", "english", "spanish", "zero", "one"),
    *("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "piano", "violin"),
    *("yes", "no", "old", "new", "big", "small", "it", "he", "she", "has", "not"),
)
VOCABULARY = {word: index for index, word in enumerate(dict.fromkeys(WORDS))}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Lower-cases, splits at spaces and punctuation; words it does not know become `<unk>`."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", bos_token="<eos>", unk_token="<unk>"
    )


def add_chat_template(folder: Path) -> None:
    """Let a saved model's tokenizer know turns of users and assistants."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for one in messages %}{{ one.role }} : {{ one.content }} {% endfor %}"
        "{% if add_generation_prompt %}assistant :{% endif %}"
    )
    tokenizer.save_pretrained(folder)


def _save(folder: Path, config: PreTrainedConfig) -> Path:
    """Write a model of this configuration, its weights drawn from one seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            # Gains and biases off their initial 1 and 0, so that tests see them.
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def _common() -> dict[str, int]:
    return {
        "vocab_size": len(VOCABULARY),
        "hidden_size": D_MODEL,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": 4,
        "intermediate_size": 4 * D_MODEL,
        "max_position_embeddings": N_CTX,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


def tiny_gpt2(folder: Path) -> Path:
    config = GPT2Config(
        vocab_size=len(VOCABULARY),
        n_positions=N_CTX,
        n_embd=D_MODEL,
        n_layer=N_LAYERS,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    return _save(folder, config)


def tiny_phi(folder: Path) -> Path:
    return _save(folder, PhiConfig(**_common(), partial_rotary_factor=0.5))


def tiny_llama(folder: Path) -> Path:
    return _save(folder, LlamaConfig(**_common(), num_key_value_heads=2))


def tiny_qwen2(folder: Path) -> Path:
    config = Qwen2Config(**_common(), num_key_value_heads=2, tie_word_embeddings=True)
    return _save(folder, config)


def tiny_qwen3(folder: Path) -> Path:
    return _save(folder, Qwen3Config(**_common(), num_key_value_heads=2, head_dim=16))


def tiny_mistral(folder: Path) -> Path:
    config = MistralConfig(**_common(), num_key_value_heads=2, sliding_window=WINDOW)
    return _save(folder, config)


def tiny_gemma3(folder: Path) -> Path:
    """Multiplies its embeddings by sqrt(d_model); its norms store their gain less 1."""
    config = Gemma3TextConfig(**_common(), num_key_value_heads=2, head_dim=8, sliding_window=WINDOW)
    return _save(folder, config)


def tiny_qwen3_5(folder: Path) -> Path:
    """Two of its blocks attend linearly: their cache is a state, not keys and values."""
    config = Qwen3_5TextConfig(
        **_common(),
        num_key_value_heads=2,
        head_dim=8,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
    )
    return _save(folder, config)


def tiny_olmo(folder: Path) -> Path:
    """Its norms have neither gain nor an epsilon that they tell."""
    return _save(folder, OlmoConfig(**_common(), num_key_value_heads=2))


def tiny_mamba(folder: Path) -> Path:
    """Has a cache of its own kind, and swallows any other without a word."""
    config = MambaConfig(
        vocab_size=len(VOCABULARY), hidden_size=D_MODEL, state_size=8, num_hidden_layers=N_LAYERS
    )
    return _save(folder, config)


def tiny_bloom(folder: Path) -> Path:
    """Knows no longest text; its blocks answer in tuples."""
    config = BloomConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=D_MODEL,
        n_layer=N_LAYERS,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    return _save(folder, config)


def tiny_gpt_neox(folder: Path) -> Path:
    return _save(folder, GPTNeoXConfig(**_common()))


def tiny_entailment(folder: Path) -> Path:
    """Tells entailment from contradiction, at random; its labels come in an order of their own."""
    names = ("CONTRADICTION", "ENTAILMENT", "NEUTRAL")
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=N_CTX,
        id2label=dict(enumerate(names)),
        label2id={name: at for at, name in enumerate(names)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = "<eos>"
    tokenizer.save_pretrained(folder)
    return folder


def tiny_gguf(file: Path, reference: Path) -> Path:
    """Write the model of `tiny_qwen2` at `reference` as llama.cpp holds it, in fp32.

    Its tokenizer spells bytes: a vocabulary of words has no form in GGUF.
    """
    model = Qwen2ForCausalLM.from_pretrained(reference)
    config, arch = model.config, gguf.MODEL_ARCH.QWEN2
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_tokenizer_model("gpt2")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())[: config.vocab_size - 2]
    writer.add_token_list(["<eos>", *letters, "AB"])
    writer.add_token_merges(["A B"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":  # tied
            held = names.get_name(name, try_suffixes=(".weight", ".bias"))
            writer.add_tensor(held, tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
