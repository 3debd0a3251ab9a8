"""A small evaluation by hand: eight answers, two layers, three tracks."""

import base64
import gzip
import json
from pathlib import Path

import numpy as np

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.table import StatisticSpec, Table
from ghosttrack.evaluation.result import (
    UNDEFINED,
    CausalRate,
    Evaluation,
    Expectation,
    Interval,
    NullComparison,
    Pair,
    Reliability,
    Row,
)
from ghosttrack.report.contents import Owners, ReportContents, TrackView
from ghosttrack.tracking.observations import Observations
from tests.detector.scenes import tracks_from

SUBSETS = ("all", "p>0.5", "p>0.8")
LABELS = np.array([0, 1, 0, 1, 0, 1, 0, 1])
N = len(LABELS)
NAN = float("nan")
SPECS = (
    StatisticSpec("mean_logprob", "output", "mean over tokens", -np.inf, 0.0, -1),
    StatisticSpec("n_births", "tracks", "births, all layers", 0.0, np.inf, 1),
)


def answers(**changed: object) -> Answers:
    """Right answers are sure (0.9), wrong ones are not (0.6)."""
    prob = np.where(LABELS, 0.6, 0.9)
    logprobs = tuple((float(np.log(one)),) for one in prob)
    fields: dict[str, object] = {
        "question_ids": tuple(f"q{index}" for index in range(N)),
        "groups": tuple(f"g{index // 2}" for index in range(N)),
        "prompts": tuple(f"the river of city{index} is" for index in range(N)),
        "asked": tuple(f"the river of city{index} is" for index in range(N)),
        "subjects": tuple(f"city{index}" for index in range(N)),
        "relations": ("river",) * N,
        "tiers": ("",) * N,
        "exposures": np.full(N, -1),
        "texts": tuple(f"river{index}" for index in range(N)),
        "references": (("blue", "green"),) * N,
        "labels": LABELS,
        "categories": tuple("wrong" if label else "correct" for label in LABELS),
        "other_categories": tuple("wrong" if label else "correct" for label in LABELS),
        "prob": prob,
        "token_ids": ((7,),) * N,
        "logprobs": logprobs,
        "entropies": ((0.5,),) * N,
        "margins": ((1.0,),) * N,
        "output": Table(("mean_logprob",), np.array(logprobs)),
    }
    return Answers(**(fields | changed))  # pyright: ignore[reportArgumentType]


def row(detector: str, subset: str, auroc: float = 0.75, **changed: object) -> Row:
    """A row whose numbers are 0.75, on few answers."""
    names = (
        *("auprc", "auprc_correct", "accuracy", "balanced_accuracy", "precision", "recall"),
        *("f1", "ece", "ece_unbiased", "smooth_ece", "brier", "fpr95", "aurc", "prr"),
    )
    fields: dict[str, object] = {
        "detector": detector,
        "subset": subset,
        "n": N,
        "n_groups": 4,
        "auroc": auroc,
        **dict.fromkeys(names, auroc),
        "auroc_ci": Interval(auroc - 0.1, auroc + 0.1) if auroc == auroc else UNDEFINED,
        "intervals": {},
        "forwards": 1.0,
    }
    return Row(**(fields | changed))  # pyright: ignore[reportArgumentType]


def evaluation(**changed: object) -> Evaluation:
    """Two headline detectors and a null; nothing is defined on the answers above 0.8."""
    detectors = ("output", "everything", "null:shuffled")
    rows = tuple(
        row(name, subset, NAN, note="one label only") if subset == "p>0.8" else row(name, subset)
        for name in detectors
        for subset in SUBSETS
    )
    generator = np.random.default_rng(0)
    fields: dict[str, object] = {
        "n": N,
        "n_judged": N,
        "n_ambiguous": 0,
        "categories": {"correct": 4, "wrong": 4},
        "disagreements": {},
        "n_groups": 4,
        "hallucinated_frac": 0.5,
        "rows": rows,
        "paired": (
            Pair("everything", "output", "all", 0.125, Interval(0.025, 0.225)),
            Pair("everything", "output", "p>0.8", NAN, UNDEFINED),
        ),
        "canaries": {"length": 0.5, "index": 0.61, "name_tfidf": NAN, "untrained": 0.44},
        "canaries_ci": {
            "length": Interval(0.44, 0.56),
            "index": Interval(0.53, 0.7),
            "name_tfidf": UNDEFINED,
            "untrained": Interval(0.35, 0.53),
        },
        "singing": {"index": "the order of the answers tells the wrong ones"},
        "signals": {},
        "tracking": (
            NullComparison(
                measure="layers of a confirmed track",
                null="null:shuffled",
                n=N,
                mean=2.5,
                mean_ci=Interval(2.25, 2.75),
                null_mean=1.5,
                difference=1.0,
                ci=Interval(0.75, 1.25),
            ),
        ),
        "causal": (
            CausalRate(
                layers="3 to 7",
                n=40,
                rate=0.9,
                ci=Interval(0.8, 1.0),
                chance=0.1,
                chance_ci=Interval(0.0, 0.2),
                net=0.8,
                net_ci=Interval(0.6, 0.9),
                drop=0.5,
                carried=0.4,
            ),
        ),
        "scores": {
            name: (0.25 * LABELS + 0.5 * generator.random(N)).astype(float) for name in detectors
        },
        "flagged": {name: LABELS.astype(bool) for name in detectors},
        "folds": np.arange(N) % 2,
        "chosen": {},
        "dropped": {"output": ("flat: constant",)},
        "effective_rank": {"output": 1.0},
        "left_out": {"exposure_oracle": "nobody counted"},
        "reliability": (Reliability("output", 0.1, 0.263, 0.011),),
        "claim": "Tracking helps: a sentence.",
        "expectations": (
            Expectation("output", "mean_logprob", N, 0.0, Interval(0.0, 0.1), 0.01, "holds"),
            Expectation("tracks", "n_births", N, 0.0, Interval(0.0, 0.1), 0.01, "fails"),
        ),
    }
    return Evaluation(**(fields | changed))  # pyright: ignore[reportArgumentType]


def view() -> TrackView:
    """Answer 0: a track through both layers and a lone birth; answer 1: one birth in layer 1."""
    track_of = np.full((N, 2, 2), -1)
    track_of[0] = [[0, 1], [0, -1]]
    track_of[1, 1, 0] = 2
    magnitudes = np.zeros((N, 2, 2))
    magnitudes[0] = [[1.0, -0.5], [2.0, 0.0]]
    magnitudes[1, 1, 0] = 0.25
    latents = np.where(track_of >= 0, 10 + track_of, -1)
    return TrackView(
        tracks_from(track_of),
        Observations(latents, magnitudes),
        (3, 7),
        ["blue", "green", "blue"],
        np.array([1.5, 0.25, 0.0]),
    )


def material(**changed: object) -> ReportContents:
    """All of it."""
    given = answers()
    base = ReportContents(
        evaluation=evaluation(),
        answers=given,
        statistics={
            "output": given.output,
            "tracks": Table(("n_births",), np.where(LABELS, 2.0, 5.0)[:, None]),
        },
        specs=SPECS,
        view=view(),
        owners=Owners(("bert",) + ("",) * (N - 1), np.array([-0.5] + [NAN] * (N - 1))),
        hooks=[
            {"layer": 3, "fvu": 0.1, "explained_variance": 0.9, "l0": 8.0, "dead_frac": 0.0,
             "mse": 0.01},
        ],
        facts={"model": "tiny"},
        seconds={"evaluate": 1.0},
        duration=1.0,
        passes={"answer": 1.0, "swap": 25.0},
        token_risks=[np.array([0.25])] * N,
    )  # fmt: skip
    return base._replace(**changed)


def figure(folder: Path) -> Path:
    """A stand-in for a drawn figure."""
    path = folder / "roc.svg"
    path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return path


def unpacked(page: str) -> list[dict]:
    """The answers of a page's viewer, with their details."""
    listed, chunks = (
        json.loads(page.split(f'id="viewer-{name}">')[1].split("</script>")[0])
        for name in ("data", "details")
    )
    texts = [gzip.decompress(base64.b64decode(chunk)).decode() for chunk in chunks]
    details = [one for text in texts for one in json.loads(text)]
    return [{**short, **rest} for short, rest in zip(listed["answers"], details, strict=True)]
