"""GGUF files, as llama.cpp reads them: the size of what they hold, and the same as a folder.

transformers dequantises the weights. That takes a minute where the vocabulary is large, so it is
done once: everything else reads the folder that `convert` leaves.
"""

import io
import struct
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ghosttrack.errors import ConfigError

SUFFIX, MAGIC = ".gguf", b"GGUF"
NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""`struct` formats of the format's number types (ggml's `gguf_type`)."""
TEXT, ARRAY = 8, 9


class Header(NamedTuple):
    """What a file says of its model before the vocabulary and the weights."""

    architecture: str
    n_layers: int
    d_model: int
    n_ctx: int


def gguf_file(named: str | None) -> Path | None:
    """Return the GGUF file that a setting names, or that is all a folder holds of a model.

    Raises:
        ConfigError: The file is not there, or a folder holds several and none is named.
    """
    if named is None:
        return None
    path = Path(named).expanduser()
    if path.suffix == SUFFIX:
        if not path.is_file():
            raise ConfigError(f"model.path: there is no file {path}")
        return path
    if not path.is_dir() or (path / "config.json").exists():
        return None
    files = sorted(path.glob(f"*{SUFFIX}"))
    if len(files) > 1:
        raise ConfigError(
            f"model.path: {path} holds {len(files)} GGUF files; name one, such as {files[0]}"
        )
    return files[0] if files else None


def read_header(file: Path) -> Header:
    """Read a model's sizes; the `gguf` library would read the vocabulary first, for seconds.

    Raises:
        ConfigError: The file is none, is cut short, or does not hold a language model.
    """
    try:
        with file.open("rb") as stream:
            facts = _facts(stream)
        name = facts["general.architecture"]
        n_layers, d_model = facts[f"{name}.block_count"], facts[f"{name}.embedding_length"]
        return Header(name, n_layers, d_model, facts.get(f"{name}.context_length", 2**31))
    except (OSError, struct.error, UnicodeDecodeError, KeyError, ValueError) as error:
        raise ConfigError(
            f"model: {file} is no GGUF file of a language model, or is cut short ({error})"
        ) from error


def convert(file: Path, folder: Path) -> None:
    """Write a file's model and tokenizer as `save_pretrained` does, dequantised, in fp32.

    Raises:
        ConfigError: transformers does not know its architecture, or cannot read it.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ghosttrack.models.hub import quiet

    bars = sys.stderr if sys.stderr.isatty() else io.StringIO()
    try:
        with quiet(), redirect_stderr(bars):
            model: Any = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"model: transformers cannot read {file}, architecture"
            f" {read_header(file).architecture}: {reason}; a folder of safetensors of it would do"
        ) from error
    model.hf_quantizer = None  # its weights are plain by now, which save_pretrained cannot see
    del model.config.quantization_config
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _facts(stream: BinaryIO) -> Mapping[str, Any]:
    """Read numbers and texts, and pass over arrays."""
    if stream.read(4) != MAGIC:
        raise ValueError("it does not begin with GGUF")
    _, _, n_facts = _unpack(stream, "IQQ")
    facts: dict[str, Any] = {}
    for _ in range(n_facts):
        key, (kind,) = _text(stream), _unpack(stream, "I")
        if kind == ARRAY:
            _skip_array(stream)
        else:
            facts[key] = _text(stream) if kind == TEXT else _unpack(stream, NUMBERS[kind])[0]
    return facts


def _skip_array(stream: BinaryIO) -> None:
    kind, length = _unpack(stream, "IQ")
    if kind == TEXT:
        for _ in range(length):
            stream.seek(_unpack(stream, "Q")[0], 1)
    else:
        stream.seek(struct.calcsize("<" + NUMBERS[kind]) * length, 1)


def _unpack(stream: BinaryIO, form: str) -> tuple[Any, ...]:
    form = "<" + form
    return struct.unpack(form, stream.read(struct.calcsize(form)))


def _text(stream: BinaryIO) -> str:
    return stream.read(_unpack(stream, "Q")[0]).decode()
