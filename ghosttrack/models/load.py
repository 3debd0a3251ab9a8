"""Load the language model under study, frozen and quietly."""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.activations import FastGELUActivation, NewGELUActivation

from ghosttrack.errors import ConfigError
from ghosttrack.models.config import Dtype, ModelConfig
from ghosttrack.models.hub import (
    model_folder,
    model_identity,
    quiet,
    read_config,
    reading,
    tokenizer_files,
)
from ghosttrack.models.lm import LM

MOST_TWICE = 5 * 10**8
"""Parameters of the largest model that is held a second time, with random weights, for canaries."""


def resolve_device(name: str) -> torch.device:
    """Return the device that a setting means.

    Args:
        name: `cpu`, `cuda`, `cuda:<n>`, or `auto`: a GPU where there is one.

    Raises:
        ConfigError: It means no device, or a GPU that is not there.
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if n_gpus else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"model.device must be auto, cpu, cuda or cuda:<n>, got {name}"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= n_gpus:
        seen = f"only {n_gpus}" if n_gpus else "no GPU"
        raise ConfigError(
            f"model.device={name}, but PyTorch sees {seen}; set model.device=cpu or auto"
        )
    return device


def load_lm(config: ModelConfig, embedded: Path, device: str = "auto") -> LM:
    """Load model and tokenizer from a folder, the hub's cache or the hub.

    Raises:
        ConfigError: The model cannot be found, read or understood, or is not what the preset says.
    """
    target = resolve_device(device)
    folder = model_folder(config, embedded)
    with quiet():
        settings = read_config(folder, config.trust_remote_code)
        _check_sizes(config, settings)
        model = _read_model(folder, config)
        tokenizer = read_tokenizer(folder, config, settings.vocab_size)
    identity = model_identity(config, embedded)
    prepend_bos = _prepends_bos(tokenizer) if config.prepend_bos is None else config.prepend_bos
    lm = _wrapped(model, tokenizer, target, identity, prepend_bos=prepend_bos)
    _check_logits(lm, config, folder)
    _check_generation(lm, folder)
    return lm


def holds_twice(lm: LM) -> bool:
    """Say whether a model is small enough to be held once more, without training."""
    return sum(parameter.numel() for parameter in lm.model.parameters()) <= MOST_TWICE


def untrained(lm: LM, seed: int) -> LM:
    """Make a model of the same architecture and tokenizer that never learned anything."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(lm.model.config, dtype=lm.model.dtype)
    identity = {**lm.identity, "untrained": str(seed)}
    return _wrapped(model, lm.tokenizer, lm.device, identity, prepend_bos=bool(lm.prefix_ids))


def _read_model(folder: Path, config: ModelConfig) -> PreTrainedModel:
    """Read the weights; transformers would make up those that are not there."""
    with reading(folder):
        model, report = AutoModelForCausalLM.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues] - a pair
            folder,
            dtype=getattr(torch, config.dtype.value),
            trust_remote_code=config.trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    mismatched = {name for name, *_ in report["mismatched_keys"]}
    if made_up := sorted({*report["missing_keys"], *mismatched}):
        raise ConfigError(
            f"model: {folder} lacks {len(made_up)} of the weights that its config.json asks for, "
            f"or holds them in another shape: {made_up[0]} for one"
        )
    return model


def read_tokenizer(folder: Path, config: ModelConfig, d_vocab: int) -> PreTrainedTokenizerBase:
    """Read the tokenizer; transformers would make an empty one where some have no files."""
    lacking = ConfigError(f"model: {folder} holds no tokenizer; its save_pretrained writes one")
    if not tokenizer_files(folder):
        raise lacking
    with reading(folder):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=config.trust_remote_code
        )
    if tokenizer.vocab_size == 0:
        raise lacking
    if tokenizer.vocab_size > d_vocab:
        raise ConfigError(
            f"model: the tokenizer in {folder} has {tokenizer.vocab_size} tokens, "
            f"the model only {d_vocab}; they do not belong together"
        )
    return tokenizer


def _prepends_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether the tokenizer by itself begins every text with BOS, as its model was trained."""
    ids = tokenizer.encode("a")
    return len(ids) > 1 and ids[0] == tokenizer.bos_token_id


def _check_sizes(config: ModelConfig, settings: PretrainedConfig) -> None:
    n_layers, d_model = settings.num_hidden_layers, settings.hidden_size
    preset = (config.n_layers or n_layers, config.d_model or d_model)
    if config.path is None and (n_layers, d_model) != preset:
        raise ConfigError(
            f"model.n_layers={config.n_layers} and model.d_model={config.d_model}, but "
            f"{config.name} has {n_layers} and {d_model}; mend conf/model"
        )
    n_ctx = getattr(settings, "max_position_embeddings", None)
    if n_ctx is not None and config.context > n_ctx:
        raise ConfigError(
            f"model.context={config.context}, but the model reads {n_ctx} tokens; "
            f"set model.context={n_ctx} or less"
        )


def _wrapped(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
    identity: dict[str, str],
    *,
    prepend_bos: bool,
) -> LM:
    """Put PyTorch's kernel in the place of GELU's tanh form spelt out (GPT-2, Phi), and wrap.

    The same function to rounding; the eight elementwise passes of the original are 40 % of the
    time of a small GPT-2 on a CPU.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation | FastGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))
    model.to(device)  # pyright: ignore[reportArgumentType] - wrapped by a decorator
    return LM(model, tokenizer, prepend_bos=prepend_bos, identity=identity)


def _alike(found: Tensor, expected: Tensor) -> bool:
    """Tell whether logits differ by rounding alone, in any number format."""
    return torch.allclose(found, expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max()))


def _check_logits(lm: LM, config: ModelConfig, folder: Path) -> None:
    """Refuse logits that are not finite, or made by more of the last block than `LM` knows of."""
    ids = torch.tensor([[0, 1]], device=lm.device)
    with torch.no_grad():
        expected = lm.model(inputs_embeds=lm.parts.embed(ids), use_cache=False).logits
    if not expected.isfinite().all():
        params = lm.model.named_parameters()
        broken = [name for name, values in params if not values.isfinite().all()]
        if broken and config.dtype is not Dtype.fp16:
            raise ConfigError(
                f"model: {folder} holds weights that are NaN or infinite: {broken[0]}"
                f" and {len(broken) - 1} more; get it anew"
            )
        raise ConfigError(
            f"model.dtype={config.dtype.name}: {folder} makes logits that are not finite; "
            "fp16 holds numbers up to 65504, bf16 and fp32 up to 3e38"
        )
    logits = lm.logits(ids, torch.ones_like(ids, dtype=torch.bool))
    if not _alike(logits, expected):
        raise ConfigError(
            f"model: {type(lm.model).__name__} in {folder} makes its logits in a way that "
            "GhostTrack does not know (head of the final norm of the last block)"
        )


@torch.no_grad()
def _check_generation(lm: LM, folder: Path) -> None:
    """Refuse a model that goes on from its cache as if the prompt had not been (Mamba)."""
    ids = torch.arange(4, device=lm.device)[None] % lm.d_vocab
    expected = lm.logits(ids, torch.ones_like(ids, dtype=torch.bool))[:, -1]
    try:
        cache = lm.new_cache()
        lm.advance(ids[:, :2], cache)
        lm.keep_rows(cache, torch.zeros(1, dtype=torch.long))
        lm.advance(ids[:, 2:3], cache)
        logits = lm.advance(ids[:, 3:], cache)
        is_same = _alike(logits, expected)
    except Exception as error:
        raise ConfigError(
            f"model: {type(lm.model).__name__} in {folder} cannot be generated from: {error}"
        ) from error
    if not is_same:
        raise ConfigError(
            f"model: {type(lm.model).__name__} in {folder} forgets its prompt when it generates:"
            " its cache is of a kind that GhostTrack does not know"
        )
