"""What a large store and a long sweep take of a machine.

    python -m tests.benchmarks.load store --gigabytes 20
    python -m tests.benchmarks.load sweep --jobs 200
    python -m tests.benchmarks.load questions --few 5000 --many 50000

`store` reads a store of sparse files batch by batch, as training does, beside a plain sequential
read of the same files in turn with it. `sweep` runs so many jobs of `extract.py`, which find what
they need, and looks at the process that starts them: memory, open files, what is left in its folder
of temporary files. `questions` asks a tiny model few and many questions by `detect.py
interventions=none` and compares the peaks of its memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import torch

from ghosttrack.command import say
from ghosttrack.data.config import StoreDtype
from ghosttrack.data.shards import ShardFile
from ghosttrack.data.store import (
    ActivationStore,
    RowFormat,
    ShardFacts,
    StoreSource,
    write_facts,
)
from ghosttrack.detector.answers.answers import respond
from ghosttrack.models.load import load_lm
from ghosttrack.questions.sets import Question, QuestionSet
from tests.models.conftest import model_config
from tests.support.commands import ENDS, PEOPLE, PLACES, ROOT, VERBS, write_corpus
from tests.support.tiny import tiny_gpt2

HOOKS, D_MODEL, SHARD_ROWS, BATCH = [f"layer_{layer}" for layer in range(6)], 768, 65_536, 4096
PLAIN_BYTES = 2**23


def sparse_store(folder: Path, n_bytes: int) -> None:
    """Write shards of zeros that take no room on the disk."""
    form = RowFormat(HOOKS, D_MODEL, StoreDtype.bf16)
    n_shards = max(n_bytes // (len(HOOKS) * D_MODEL * 2 * SHARD_ROWS), 1)
    index = ("token_ids", "document_ids", "positions")
    shards = []
    for number in range(n_shards + 1):
        part, rows = ("train", SHARD_ROWS) if number < n_shards else ("heldout", BATCH)
        shard = ShardFacts(f"{part}-{number:05d}.safetensors", part, rows)
        layout = form.layout(rows) | {name: (torch.int32, (rows,)) for name in index}
        file = ShardFile(folder / shard.file, layout)
        sizes = [t.itemsize * int(np.prod(shape)) for t, shape in layout.values()]
        file.path.write_bytes(file.head)
        os.truncate(file.path, len(file.head) + sum(sizes))
        shards.append(shard)
    write_facts(folder, form, shards)


def plain_read(paths: list[Path]) -> Iterator[int]:
    """Read files from their beginnings to their ends."""
    buffer = bytearray(PLAIN_BYTES)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while n := file.readinto(buffer):
                yield n


def store(given: argparse.Namespace) -> None:
    """Read both ways by turns."""
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        sparse_store(folder, int(given.gigabytes * 1e9))
        source = StoreSource(ActivationStore(folder), chunk_bytes=given.chunk_bytes)
        plain = plain_read(sorted(folder.glob("train-*.safetensors")))
        n_steps = int(sum(source.train.unit_tokens)) // BATCH
        step_bytes = len(HOOKS) * D_MODEL * 2 * BATCH
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        took, busy, read = (dict.fromkeys(("plain", "store"), 0.0) for _ in range(3))
        batches = source.batches(BATCH, seed=0)
        turn = max(n_steps // 20, 1)
        for first in range(0, n_steps, turn):
            started, at_first = time.perf_counter(), time.process_time()
            for _ in range(first, min(first + turn, n_steps)):
                read["store"] += step_bytes
                next(batches)
            between, at_last = time.perf_counter(), time.process_time()
            while read["plain"] < read["store"] and (n := next(plain, 0)):
                read["plain"] += n
            took["store"] += between - started
            took["plain"] += time.perf_counter() - between
            busy["store"] += at_last - at_first
            busy["plain"] += time.process_time() - at_last
        batches.close()
        speeds = {way: read[way] / took[way] / 1e9 for way in took}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        say(
            f"{read['store'] / 1e9:.1f} GB: store {speeds['store']:.2f} GB/s, plain"
            f" {speeds['plain']:.2f} GB/s, ratio {speeds['store'] / speeds['plain']:.2f};"
            f" {busy['store']:.1f} and {busy['plain']:.1f} s of processors; peak"
            f" {peak / 1e6:.2f} GB of the process, {(peak - before) / 1e6:.2f} GB of it for reading"
        )


def sweep(given: argparse.Namespace) -> None:
    """Look at the process that starts the jobs as each of them starts."""
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        output, temporary = Path(name, "out"), Path(name, "tmp")
        temporary.mkdir()
        jobs = ",".join(str(number) for number in range(given.jobs))
        small = ("corpus.num_tokens=2048", "corpus.heldout_tokens=512", "layers=[0]")
        command = [sys.executable, "extract.py", "-m", *small, f"extract.batch_size={jobs}"]
        command[-1] = command[-1].replace("=0,", "=auto,")
        job = subprocess.Popen(
            [*command, f"output_root={output}", "hydra.verbose=false"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        seen: dict[int, tuple[int, int, int]] = {}
        proc = Path(f"/proc/{job.pid}")
        while job.poll() is None:
            done = len(list(output.glob("*/sweeps/2*/*/status.json")))
            try:
                pages = int((proc / "statm").read_text().split()[1])
                handles = len(list((proc / "fd").iterdir()))
            except (OSError, IndexError):
                break
            seen[done] = (pages * resource.getpagesize(), handles, len(list(temporary.iterdir())))
            time.sleep(0.2)
        said = job.communicate()[1]
        assert job.returncode == 0, said
        statuses = [json.loads(one.read_text()) for one in output.glob("*/sweeps/2*/*/status.json")]
        assert [one["exit"] for one in statuses] == [0] * given.jobs
        early, late = seen[min(2, max(seen))], seen[max(seen)]
        say(
            f"{given.jobs} jobs: memory {early[0] / 1e6:.1f} MB after two, {late[0] / 1e6:.1f} MB"
            f" after all; open files {early[1]}, {late[1]}; temporary files {early[2]}, {late[2]},"
            f" left {len(list(temporary.iterdir()))}"
        )


def asked(folder: Path, n: int) -> Path:
    """Write questions of which the model answers two of three as the file says."""
    lm = load_lm(model_config(path=str(folder / "model"), context=48), folder / "model", "cpu")
    words = product(PEOPLE + PLACES, PEOPLE + PLACES, VERBS, ENDS)
    whole = [(f"{a} and {b} {verb} {end} ?", a) for a, b, verb, end in words]
    order = np.random.default_rng(0).permutation(len(whole))
    rows = [whole[order[at % len(whole)]] for at in range(n)]
    found = [
        Question(str(at), f"Q: {text}\nA:", (), group) for at, (text, group) in enumerate(rows)
    ]
    put = QuestionSet("q", tuple(found), {}, ("\n",), 3, {})
    given = respond(lm, [one.prompt for one in found], put)
    path = folder / f"{n}.jsonl"
    with path.open("w") as file:
        for at, ((text, group), one) in enumerate(zip(rows, given, strict=True)):
            right = one.text if at % 3 and one.text.strip() else "violin"
            row = {"id": str(at), "question": text, "group": group, "answers": [right]}
            file.write(json.dumps(row) + "\n")
    return path


def questions(given: argparse.Namespace) -> None:
    """Ask few and many."""
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder, peaks = Path(name), []
        tiny_gpt2(folder / "model")
        write_corpus(folder / "corpus.txt")
        for n in (given.few, given.many):
            output = folder / f"out{n}"
            settings = (
                *(f"model.path={folder / 'model'}", "model.name=tiny", "model.context=48"),
                *("corpus=text", f"corpus.path={folder / 'corpus.txt'}", "sae.d_sae=64", "sae.k=8"),
                *("corpus.num_tokens=16384", "corpus.heldout_tokens=2048", "sae.batch_size=256"),
                *("trainer.max_steps=80", "logger=csv", "questions=file", "interventions=none"),
                "evaluation.canaries=report",
                *(f"questions.path={asked(folder, n)}", f"questions.num={n}", "asking=plain"),
                *(
                    "questions.max_new_tokens=3",
                    "evaluation.n_folds=2",
                    "evaluation.n_bootstrap=50",
                ),
            )
            command = [sys.executable, "detect.py", *settings, f"output_root={output}"]
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert ended.returncode == 0, ended.stderr
            (file,) = output.glob("tiny/runs/detect/2*/metrics.json")
            peaks.append(json.loads(file.read_text())["memory_bytes"]["host"] / 1e9)
            say(f"{n:,} questions: {peaks[-1]:.2f} GB")
        say(f"ratio {peaks[1] / peaks[0]:.2f}")


def main() -> None:
    """Read the options and measure."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("what", choices=["store", "sweep", "questions"])
    options.add_argument("--gigabytes", type=float, default=20)
    options.add_argument("--chunk-bytes", type=int, default=2**27, help="training takes 2**31")
    options.add_argument("--jobs", type=int, default=200)
    options.add_argument("--few", type=int, default=5000)
    options.add_argument("--many", type=int, default=50_000)
    options.add_argument("--folder", type=Path, help="where it writes (default: temporary)")
    given = options.parse_args()
    {"store": store, "sweep": sweep, "questions": questions}[given.what](given)


if __name__ == "__main__":
    main()
