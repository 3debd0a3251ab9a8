"""Make a catalogue of a bank's latents: what each of them fires on in held-out text.

A latent is enriched for a token that it fires on more often than if its firings fell on any token
alike: the upper tail of the hypergeometric distribution, adjusted for all pairs of a latent that
fires and a token that is there (Benjamini, Hochberg). This takes tokens as independent draws, which
those of one text are not: where few texts make most of a latent's firings, q is too small.

Documents are dealt to two halves. Tokens are tested and chosen in the first; how far a latent is
for its token alone is measured in the second.

Examples:
    python -m ghosttrack.analysis latents outputs/ghostworld
    python -m ghosttrack.analysis latents outputs/ghostworld --layers 0,3 --contexts 20
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ghosttrack.analysis.catalogue import (
    PAIR,
    Catalogue,
    enrichment_rows,
    latents_sheet,
    summary_sheet,
    write_contexts,
)
from ghosttrack.analysis.enrichment import (
    LEAST_FIRINGS,
    LEAST_SHARE,
    LEAST_WINDOWS,
    enriched,
    meaning,
    n_tests,
)
from ghosttrack.analysis.firings import HeldoutText, tally
from ghosttrack.analysis.runs import artifact_folder, find_runs, read_yaml
from ghosttrack.analysis.significance import LEVEL
from ghosttrack.artifacts import Artifact, artifact_id, read
from ghosttrack.command import at_least, make_folder, parser, run, say, seed
from ghosttrack.config import resolved, restore
from ghosttrack.data.config import StoreConfig
from ghosttrack.data.corpora import read_corpus
from ghosttrack.data.windows import StoredWindows
from ghosttrack.errors import ConfigError, DataError, whole
from ghosttrack.files import read_json
from ghosttrack.models.config import ModelConfig
from ghosttrack.models.hub import model_identity
from ghosttrack.models.lm import LM
from ghosttrack.models.load import load_lm
from ghosttrack.pipelines.extract import store_identity
from ghosttrack.pipelines.model_folders import embedded_folder
from ghosttrack.report.pictures import Curve, draw_curves
from ghosttrack.report.sheet import print_sheet, write_sheet
from ghosttrack.report.tables import write_csv
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.bank_files import BANK
from ghosttrack.sae.formats import read_saes
from ghosttrack.sae.hooks import layer_of


class Subject(NamedTuple):
    """What a bank was trained beside."""

    bank: Path
    model: ModelConfig
    embedded: Path
    """Where the model lies if its settings name neither folder nor hub."""
    heldout: StoredWindows

    def load_lm(self) -> LM:
        """Load the model."""
        return load_lm(self.model, self.embedded)


def main(arguments: list[str]) -> None:
    """Read the options and make it."""
    options = parser("ghosttrack.analysis latents", __doc__)
    options.add_argument("folder", type=Path, help="of a model, or of a run")
    options.add_argument("--out", type=Path, default=Path("latents"))
    options.add_argument("--tokens", type=at_least(1), default=50_000, help="held-out ones to read")
    options.add_argument("--layers", type=_numbers, help="block indices, with commas (default all)")
    options.add_argument("--contexts", type=at_least(1), default=10, help="kept of each latent")
    options.add_argument("--batch", type=at_least(1), help="windows per pass (default the model's)")
    options.add_argument("--seed", type=seed, default=0, help="of the halves")
    options.add_argument(
        "--trust-remote-code", action="store_true", help="let code that came with the model run"
    )
    run(lambda: _make(options.parse_args(arguments)))


def _make(given: argparse.Namespace) -> None:
    subject = find_subject(given.folder, trust_remote_code=given.trust_remote_code)
    bank, text = _bank(subject, given.layers), _text(subject, given.tokens, given.seed)
    lm = subject.load_lm()
    batch = given.batch or subject.model.extract_batch_size
    found = catalogue(lm, bank, text, batch, given.contexts)
    folder, summary = make_folder(given.out), summary_sheet(found)
    contexts = write_contexts(folder / "contexts.jsonl", found)
    files = write_sheet(folder / "latents", latents_sheet(found, contexts))
    write_csv(folder / "enrichment.csv", PAIR, enrichment_rows(found))
    files += [*write_sheet(folder / "summary", summary), _draw(folder / "latents", summary)]
    print_sheet(summary)
    for line in _read_as(found):
        say(line)
    say(f"{files[0]}, {folder / 'enrichment.csv'}, {folder / 'contexts.jsonl'}, {files[-1]}")


def find_subject(folder: Path, *, trust_remote_code: bool = False) -> Subject:
    """Read a run's folder; of a folder of several, the newest run that has a bank.

    Code that came with the model runs where that is allowed here, whatever the settings say.

    Raises:
        ConfigError: The model cannot be found.
        DataError: No run there made a bank, or it had no text; or what belongs to the bank is
            gone or has changed.
    """
    made = [run for run in find_runs(folder) if run.bank is not None]
    if not made:
        raise DataError(f"{folder}: no run there made an SAE bank; give one of train or detect.py")
    run = max(made, key=lambda one: (one.folder / "metrics.json").stat().st_mtime_ns)
    assert run.bank is not None
    bank = read(artifact_folder(run.folder, run.model, "saes", run.bank.name), "saes")
    config = read_yaml(run.folder / ".hydra" / "config.yaml")
    with whole(run.folder):
        if config["corpus"]["kind"] == "activations":
            raise DataError(f"{run.folder}: its bank is of ready activations, without a text")
        settings = resolved(config, "model") | {"trust_remote_code": trust_remote_code}
        model = restore(ModelConfig, settings)
        store = restore(StoreConfig, resolved(config, "store"))
    embedded = embedded_folder(model, bank.path.parents[1])
    corpus = _corpus(bank, store, model, model_identity(model, embedded))
    return Subject(bank.path, model, embedded, read_corpus(corpus.path).heldout)


def _corpus(
    bank: Artifact, store: StoreConfig, model: ModelConfig, identity: dict[str, str]
) -> Artifact:
    """Find the text from which this model makes the activations that a bank learned from."""
    corpora = bank.path.parents[1] / "corpora"
    wanted = bank.manifest["identity"].get("activations")
    layers = [layer_of(hook) for hook in read_json(bank.path / BANK)["hooks"]]
    tokens = {
        "tokenizer": identity["tokenizer"],
        "prepend_bos": model.prepend_bos,
        "skip_first": store.skip_first,
    }
    for manifest in sorted(corpora.glob("*/manifest.json")):
        corpus = read(manifest.parent, "corpora")
        with whole(corpus.path):
            about = corpus.manifest["identity"]
            made = store_identity(about["corpus"], layers, store, about["seed"], identity)
        if tokens.items() <= about.items() and artifact_id(made) == wanted:
            return corpus
    raise DataError(
        f"{corpora}: no text there gives, with this model as it is now, the activations {wanted} of"
        f" {bank.path.name}; run train.py again with the settings of the run"
    )


def catalogue(lm: LM, bank: Bank, text: HeldoutText, batch_size: int, n_contexts: int) -> Catalogue:
    """Read the text and find what each latent fires on."""
    counted = tally(lm, bank, text, batch_size, n_contexts)
    pairs = enriched(counted.half(0), counted.frequency(0))
    return Catalogue(bank.hooks, lm, counted, pairs, meaning(pairs, counted))


def _bank(subject: Subject, layers: list[int] | None) -> Bank:
    saes = read_saes(subject.bank)
    there = [layer_of(sae.hook) for sae in saes]
    if missing := sorted(set(layers or []) - set(there)):
        raise ConfigError(f"--layers: the bank has none of {missing}, only of {there}")
    return Bank.of([sae for sae in saes if layers is None or layer_of(sae.hook) in layers])


def _text(subject: Subject, n_tokens: int, seed: int) -> HeldoutText:
    heldout = subject.heldout
    text = HeldoutText.of(heldout.first(n_tokens), heldout.cut.skip_first, seed)
    if text.in_second.all() or not text.in_second.any():
        raise DataError(
            "--tokens: so many are of one document; two halves take more of them or of the corpus"
        )
    return text


def _read_as(found: Catalogue) -> list[str]:
    """Say what the numbers stand for."""
    counted = found.tally
    n_pairs = n_tests(counted.half(0), counted.frequency(0))
    n_read, n_windows = len(counted.text.read), len(counted.text.windows.lengths)
    return [
        f"{n_read:,} held-out tokens in {n_windows:,} windows, documents dealt to two halves",
        f"enriched: for a token at q <= {LEVEL:g} in the first half, over {n_pairs:,} pairs of"
        " latent and token, those without firings too (p = 1); p takes tokens as independent draws",
        f"monosemantic: in the second half at least {LEAST_FIRINGS} firings in {LEAST_WINDOWS}"
        f" windows, at least {LEAST_SHARE:.0%} of them on the token that was chosen in the first",
    ]


def _draw(stem: Path, summary: pd.DataFrame) -> Path:
    """Draw over layers what share of latents is what, and how far enriched ones are for a token."""
    layers = [float(layer_of(str(hook))) for hook in summary["hook"]]
    columns = {name: summary[name].to_numpy(float) for name in summary.columns[1:]}
    shares: list[Curve] = [
        (name, layers, (columns[name] / columns["latents"]).tolist())
        for name in ("enriched", "monosemantic", "silent")
    ]
    on_token: Curve = ("enriched", layers, columns["median share on token"].tolist())
    panels = {"share of latents": shares, "median share of firings on the token": [on_token]}
    return draw_curves(stem, panels, "layer")


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        said = f"must be block indices with commas, as 0,3; got {text!r}"
        raise argparse.ArgumentTypeError(said) from None
