"""Bytes of any kind where files of others are read: read, or refused in one line.

    pip install atheris
    python -m tests.benchmarks.fuzz questions -max_total_time=180
    python -m tests.benchmarks.fuzz manifest -max_total_time=180
    python -m tests.benchmarks.fuzz sae -max_total_time=180

What follows the target's name goes to libFuzzer, which says at the end how many inputs it tried.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris  # pyright: ignore[reportMissingImports]

with atheris.instrument_imports(include=["ghosttrack"]):
    import torch
    from safetensors.torch import save_file

    from ghosttrack import artifacts
    from ghosttrack.errors import GhostTrackError
    from ghosttrack.questions.config import AnswerSource, FileQuestions, QuestionKind
    from ghosttrack.questions.ready_answers import read_answered
    from ghosttrack.questions.sets import read_questions
    from ghosttrack.sae.formats import read_saes

SUFFIXES = (".jsonl", ".csv", ".parquet")
QUESTION = {"question": "Who?", "answers": ["a"], "group": "g", "subject": "Who", "wordings": ["w"]}
ANSWER = {"question": "Who?", "response": "a", "label": "error", "token_logprobs": [-1.5]}
MANIFEST = {"id": "0" * 12, "kind": "saes", "identity": {}, "files": {"a": {"bytes": 1}}}
SAE = {
    "architecture": "topk", "k": 2, "apply_b_dec_to_input": True, "activation_fn_kwargs": {},
    "metadata": {"hook_name": "blocks.0.hook_resid_post"}, "normalize_activations": "none",
}  # fmt: skip


def questions(folder: Path, data: bytes) -> None:
    """Read a question file of either kind, and one of answers."""
    path = folder / f"q{SUFFIXES[len(data) % len(SUFFIXES)]}"
    path.write_bytes(data)
    put = (QuestionKind.file, "q", 9, "{question}", 4, [])
    if len(data) % 2:
        read_answered(path)
    else:
        read_questions(FileQuestions(*put, str(path), None, AnswerSource.own))


def manifest(folder: Path, data: bytes) -> None:
    """Open an artefact."""
    (folder / "manifest.json").write_bytes(data)
    artifacts.read(folder, verify=True)


def sae(folder: Path, data: bytes) -> None:
    """Read an SAE of SAELens by its settings, or by its weights."""
    weights = folder / "sae_weights.safetensors"
    if len(data) % 4:
        (folder / "cfg.json").write_bytes(data)
        tensors = {"W_enc": torch.ones(4, 6), "b_enc": torch.ones(6), "W_dec": torch.ones(6, 4)}
        save_file({**tensors, "b_dec": torch.ones(4)}, weights)
    else:
        (folder / "cfg.json").write_text(json.dumps(SAE))
        weights.write_bytes(data)
    read_saes(folder)


TARGETS: dict[str, tuple[Callable[[Path, bytes], None], list[object]]] = {
    "questions": (questions, [QUESTION, ANSWER]),
    "manifest": (manifest, [MANIFEST]),
    "sae": (sae, [SAE]),
}


def main() -> None:
    """Fuzz one target, from what it would rather get."""
    target, seeds = TARGETS[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as name:
        folder, corpus = Path(name, "in"), Path(name, "corpus")
        folder.mkdir()
        corpus.mkdir()
        for number, seed in enumerate(seeds):
            text = json.dumps(seed)
            for more in range(4):  # by their length they go to one reader or another
                (corpus / f"{number}-{more}").write_text(text + "\n" * more)

        def one_input(data: bytes) -> None:
            for left in folder.iterdir():
                left.unlink()
            said = ""
            try:
                target(folder, data)
            except GhostTrackError as error:
                said = str(error)
            assert "\n" not in said, said

        atheris.Setup([*sys.argv, str(corpus)], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
