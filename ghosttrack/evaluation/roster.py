"""Every detector that there is, one row each; all lists of detectors come out of this one.

To add a baseline, write its learner (a class with `options`, `refine` and `fit_predict` as in
`classifiers.Learner`) and one row of `DETECTORS` that says what it reads:

    DetectorSpec(
        "knn", "nearest neighbours in one layer", needs=("probes",),
        learner=lambda x: Neighbours(x.data.probes, x.data.layers),
    )

It is then evaluated, compared, drawn and checked by name like the others. A learner is made from
`spec.Inputs`: the columns that are read, and `data.EvaluationData`.
"""

import difflib
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import partial

from ghosttrack.detector.asking.families.owner import N_NEAR
from ghosttrack.detector.asking.roster import RESCORED
from ghosttrack.detector.config import Null
from ghosttrack.detector.learners.baselines import Latents, LinearProbe
from ghosttrack.detector.learners.classifiers import MOST_TOKENS, STREAMING, BestColumn
from ghosttrack.errors import ConfigError
from ghosttrack.evaluation.published import CONTROLS, PUBLISHED, SURFACE
from ghosttrack.evaluation.spec import (
    OF_STATES,
    OUTPUT,
    PLACES,
    DetectorSpec,
    Reads,
    boosting,
    by_token,
    fused,
    light,
    shrunk,
    signs_only,
    state_probe,
    subject_known,
    untrained,
    whole,
)

NULL = "null:"
OF_TRACKS = "tracks:"
"""Before the name of a family of the statistics of tracks."""
DEFAULT, EACH_FAMILY = "headline", "families"
"""Names that stand for several: the rows that are evaluated by default, and every family of
interventions, and of statistics of tracks, by itself beside output scores."""
EARLY = (1, 2, 4)
"""After how many tokens of an answer `streaming:<n>` speaks."""
PROBE, LATENTS, SUBJECT = "probe", "raw_latents", "subject_known"
FAMILIES = RESCORED
"""Tables of the black-box interventions."""
RENAMED = {"all": "everything"}


QUICK: Reads = {
    "output": (),
    "paraphrase": ("paraphrase_first",),
    "owner": ("owner_near_rank", "owner_near_gap", "owner_near_z", "owner_near_pmi"),
}
FEW: Reads = {
    "output": ("min_logprob",),
    "paraphrase": ("paraphrase_logmean",),
    "swap": ("swap_first_logmean", "swap_rest_logmean", "swap_whole_logmean"),
    "owner": ("owner_rank", "owner_gap"),
    "siblings": (
        *("sibling_lp", "sibling_paraphrase_logmean", "sibling_swap_first_drop"),
        *("sibling_swap_whole_drop", "sibling_owner_gap"),
    ),
}
GAIN = ("tracks+output+probe+raw_latents", "output+probe+raw_latents")
DECISIVE_NULL = ("tracks", "null:shuffled")

BASE = "output"
"""What other sources are fused with, late."""
PARTS = {
    "names": "names+output",
    "wordings": "wordings+output",
    "prior": "prior+output",
    "reverse": "reverse+output",
    "ghosts": "late:ghosts+output",
    "masking": "masking+output",
    "probe": "probe+output",
}
"""What a part adds to the base is told by this row."""


def late(name: str, *parts: str, kept: bool = True, color: str = "") -> DetectorSpec:
    """Make the row of detectors whose scores are fused late."""
    title = f"{', '.join(parts)}, fused late"
    return DetectorSpec(
        name, title, learner=fused, stacked=parts, kept=kept, compare_with=OUTPUT, competes=True,
        color=color,
    )  # fmt: skip


DETECTORS: tuple[DetectorSpec, ...] = (
    DetectorSpec(
        "output_best", "the best single output score", whole("output"),
        lambda x: BestColumn(x.values, x.names), headline=True, color="#2563eb",
    ),
    DetectorSpec(
        "output", "output scores", whole("output"), compare_with=(SURFACE,),
        headline=True, kept=True, chief=True, curve=True, competes=True, color="#1b1f24",
    ),
    DetectorSpec("lens", "logit lens", whole("lens"), headline=True, color="#0e7490"),
    DetectorSpec(
        "lens+output", "logit lens and output scores", whole("lens", "output"),
        compare_with=OUTPUT, headline=True, kept=True, competes=True, color="#0891b2",
    ),
    DetectorSpec(
        PROBE, "linear probe on the residual stream of one layer", needs=("probes",),
        learner=lambda x: LinearProbe(x.data.probes, x.data.layers), compare_with=(SURFACE,),
        headline=True, color="#4d7c0f",
    ),
    DetectorSpec(
        LATENTS, "sparse logistic regression on the SAE latents of one layer", needs=("latents",),
        learner=lambda x: Latents(tuple(x.data.latents), x.data.layers), headline=True,
        color="#b45309",
    ),
    DetectorSpec(
        "tracks", "statistics of tracks", whole("tracks"),
        compare_with=tuple(NULL + null.name for null in Null),
        headline=True, curve=True, color="#9d4edd",
    ),
    DetectorSpec(
        "tracks+output", "statistics of tracks and output scores", whole("tracks", "output"),
        compare_with=("output", "lens+output"), headline=True, kept=True, chief=True, curve=True,
        competes=True, color="#5b3cc4",
    ),
    DetectorSpec(
        STREAMING, "risk by the tokens so far, after the last one", whole("tokens"),
        by_token(MOST_TOKENS), compare_with=OUTPUT, kept=True, color="#be185d",
    ),
    DetectorSpec("ghosts", "tracks that stay in copies", whole("ghosts"), color="#0f766e"),
    DetectorSpec(
        "ghosts+output", "tracks that stay in copies, and output scores",
        whole("ghosts", "output"), compare_with=OUTPUT, headline=True, curve=True, color="#15803d",
    ),
    untrained(
        "owner_gap", "how much better the answer fits the subject than any other, untrained",
        ("owner", "owner_gap"), -1,
    )._replace(compare_with=OUTPUT, headline=True, color="#a16207"),
    DetectorSpec("owner", "owner test", whole("owner"), color="#854d0e"),
    DetectorSpec(
        "owner+output", "owner test and output scores", whole("owner", "output"),
        compare_with=OUTPUT, curve=True, color="#c2410c",
    ),
    DetectorSpec(
        "quick", "few numbers of few passes", QUICK, boosting,
        passes={"paraphrase": 1.0, "owner": 1.0 + N_NEAR}, compare_with=OUTPUT,
        headline=True, kept=True, curve=True, competes=True, color="#d61f69",
    ),
    DetectorSpec(
        "few", "the few numbers that say most", FEW, boosting, compare_with=OUTPUT,
        headline=True, kept=True, chief=True, curve=True, competes=True, color="#0369a1",
    ),
    DetectorSpec(
        "full", "all interventions, ghosts and output scores",
        whole("output", *FAMILIES, "ghosts"), compare_with=OUTPUT, color="#7c2d12",
    ),
    DetectorSpec(
        "interventions+output", "all interventions that were made, and output scores",
        whole("output", *FAMILIES), is_open=True,
        any_of=tuple(name for name in FAMILIES if name != "owner"), compare_with=OUTPUT,
        headline=True, curve=True, color="#4338ca",
    ),
    DetectorSpec("sampling", "agreement of sampled answers", whole("sampling"), color="#065f46"),
    DetectorSpec(
        "sampling+output", "agreement of sampled answers, and output scores",
        whole("sampling", "output"), compare_with=OUTPUT, curve=True, color="#92400e",
    ),
    DetectorSpec(
        "everything", "every table, probe and latents",
        whole("output", "lens", "tracks", "subject", *FAMILIES, "ghosts"),
        stacked=(PROBE, LATENTS), is_open=True, compare_with=("output", SURFACE), curve=True,
        color="#d9480f",
    ),
    DetectorSpec(
        GAIN[0], "statistics of tracks beside output scores, probe and latents",
        whole("tracks", "output"), stacked=(PROBE, LATENTS), compare_with=GAIN[1:],
        headline=True, color="#6d28d9",
    ),
    DetectorSpec(
        GAIN[1], "output scores, probe and latents", whole("output"), stacked=(PROBE, LATENTS),
        headline=True, color="#64748b",
    ),
    DetectorSpec(
        "exposure_oracle", "how often training text named the fact, and output scores",
        whole("exposure", "output"), headline=True, curve=True, color="#155e75",
    ),
    *(
        DetectorSpec(
            f"{OF_STATES}{place}", f"ridge probe of every layer, {words}", needs=("states",),
            learner=partial(state_probe, places=(place,)),
        )
        for place, words in PLACES.items()
    ),
    DetectorSpec(
        "probe_states", "ridge probe of every layer, on prompt and answer", needs=("states",),
        learner=state_probe, compare_with=OUTPUT, kept=True, competes=True, color="#166534",
    ),
    DetectorSpec(
        "output_shrunk", "output scores, drawn towards the best of them", whole("output"), shrunk,
        compare_with=("output", "output_best"), kept=True, competes=True,
    ),
    late("probe+output", "probe_states", BASE, color="#14532d"),
    DetectorSpec("prior", "the answer without its question", whole("prior"), shrunk),
    late("prior+output", "prior", BASE),
    late("probe+prior+output", "probe_states", "prior", BASE, color="#7e22ce"),
    untrained(
        "reverse", "what the answer adds to the probability of its question, untrained",
        ("reverse", "reverse_pmi"), -1,
    ),
    late("reverse+output", "reverse", BASE),
    late("probe+reverse+output", "probe_states", "reverse", BASE, color="#0d9488"),
    untrained(
        "wordings", "probability of the answer in other words of its question, untrained",
        ("paraphrase", "paraphrase_logmean"), -1,
    )._replace(compare_with=OUTPUT, kept=True, competes=True, color="#0f4c81"),
    late("wordings+output", "wordings", BASE),
    late("probe+wordings", "probe_states", "wordings"),
    late("probe+prior+wordings", "probe_states", "prior", "wordings", color="#9f1239"),
    DetectorSpec(
        "names", "the nearest other names", {"owner": QUICK["owner"]}, shrunk,
        passes={"owner": 1.0 + N_NEAR},
    ),
    late("names+output", "names", BASE),
    late("names+probe+prior+wordings", "names", "probe_states", "prior", "wordings"),
    DetectorSpec("masking", "the subject masked", whole("ablate"), shrunk),
    late("masking+output", "masking", BASE),
    late("late:ghosts+output", "ghosts", BASE, kept=False),
    DetectorSpec(
        "recommended", "what the inner folds choose", within=16.0, compare_with=OUTPUT,
        curve=True, color="#ea580c",
    ),
    DetectorSpec(
        "recommended:one_pass", "the same, of those of one pass", within=1.0, compare_with=OUTPUT,
        color="#9a3412",
    ),
    DetectorSpec("lens_trajectory", "logit lens layer by layer", whole("lens_trajectory")),
    DetectorSpec(
        "raw_latents+output", "latents and output scores", whole("output"), light,
        stacked=(LATENTS,), compare_with=OUTPUT,
    ),
    DetectorSpec(
        SUBJECT, "latents that tell known subjects", needs=("subject_latents",),
        learner=subject_known,
    ),
    DetectorSpec(
        "subject+output", "latents and statistics at the subject, and output scores",
        whole("subject", "output"), light, stacked=(SUBJECT,), compare_with=OUTPUT,
    ),
    DetectorSpec("label_free", "statistics of tracks by their signs", whole("tracks"), signs_only),
    *PUBLISHED,
    *CONTROLS,
)  # fmt: skip
"""In reading order."""

COMPETING = tuple(one.name for one in DETECTORS if one.competes)
"""Those that may be recommended."""
LIVE = (*COMPETING, PROBE, LATENTS, GAIN[1])
"""Further ones that are fitted for new prompts where they are judged."""
KEPT = tuple(one.name for one in reversed(DETECTORS) if one.kept)
"""Detectors for new prompts, the one to be asked first before the others: each needs less."""
CHIEF = tuple(one.name for one in DETECTORS if one.chief)
COLORS = {one.name: one.color for one in DETECTORS if one.color}
"""Of the rows of the closing table, in reading order."""
HEADLINE = (*(one.name for one in DETECTORS if one.headline), DECISIVE_NULL[1])


def find(name: str) -> DetectorSpec:
    """Look a row of the list up."""
    return next(one for one in DETECTORS if one.name == name)


def drawn(judged: Container[str]) -> list[str]:
    """Choose whose curves are drawn: where none of the usual was judged, the table's first."""
    usual = [one.name for one in DETECTORS if one.curve and one.name in judged]
    return usual or [name for name in COLORS if name in judged][:5]


def null(kind: str) -> DetectorSpec:
    """Make the row of links that mean nothing, judged by the classifier of real ones."""
    name = NULL + kind
    return DetectorSpec(name, f"tracks of {kind} links", whole(name), option_of="tracks")


def streaming(n_tokens: int) -> DetectorSpec:
    """Make the row of a detector that speaks after so many tokens."""
    title = f"risk by the tokens so far, after {n_tokens}"
    name = f"{STREAMING}:{n_tokens}"
    return DetectorSpec(name, title, whole("tokens"), by_token(n_tokens))


def of_family(family: str) -> DetectorSpec:
    """Make the row of what an intervention tells by itself beside output scores."""
    reads = whole(family, "output")
    return DetectorSpec(f"{family}+output", f"{family} alone", reads, compare_with=OUTPUT)


def of_track_family(family: str, columns: tuple[str, ...]) -> DetectorSpec:
    """Make the row of what a family of the statistics of tracks tells beside output scores."""
    name, title = f"{OF_TRACKS}{family}+output", f"statistics of tracks: {family} alone"
    return DetectorSpec(name, title, {"tracks": columns, "output": ()}, compare_with=OUTPUT)


GENERATED = (*map(streaming, EARLY), *map(of_family, FAMILIES), *(null(n.name) for n in Null))
TITLES = {one.name: one.title for one in (*DETECTORS, *GENERATED)}
"""What a detector is, in words."""


def settled(names: Sequence[str] | None, *, usual: bool) -> Sequence[str] | None:
    """Put names in the place of `headline`; None takes all.

    It stands for the default rows, which are all of them where no tracks of own answers are: such
    data, not `usual`, feeds few.
    """
    if names is None or DEFAULT not in names:
        return names
    return [*HEADLINE, *(name for name in names if name != DEFAULT)] if usual else None


def needed(names: Sequence[str] | None) -> set[str]:
    """List tables and other things that these detectors, None for all, and their parts read."""
    rows = {one.name: one for one in DETECTORS}
    chosen = [rows[name] for name in (rows if names is None else built_on(names, rows))]
    return {need for one in chosen for need in (*one.reads, *one.needs)}


def built_on(names: Iterable[str], rows: Mapping[str, DetectorSpec]) -> set[str]:
    """Add to these of the rows those that they build on, and theirs."""
    kept, wanted = set[str](), [*names]
    while wanted:
        name = wanted.pop()
        if name in rows and name not in kept:
            one = rows[name]
            kept.add(name)
            wanted += [*one.stacked, one.option_of, *(COMPETING if one.within else ())]
    return kept


def all_parts(spec: DetectorSpec) -> list[DetectorSpec]:
    """List the detectors that one is stacked on, theirs too, and itself."""
    return [spec, *(one for name in spec.stacked for one in all_parts(find(name)))]


def check_names(names: Sequence[str] | None) -> None:
    """Make sure that there are detectors of these names.

    Raises:
        ConfigError: There is none of a name.
    """
    known = dict.fromkeys((DEFAULT, EACH_FAMILY, *TITLES))
    for name in names or ():
        if name in RENAMED:
            raise ConfigError(f"evaluation.compare: the detector {name} is called {RENAMED[name]}")
        if name not in known and not name.startswith(OF_TRACKS):
            close = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"evaluation.compare: no detector {name}"
                + (f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}")
            )


def pairs(specs: Iterable[DetectorSpec], *, written: bool) -> list[tuple[str, str]]:
    """List the differences to report between detectors that are there.

    Where others wrote the answers (`written`), their surface is what has to be beaten.
    """
    there = {one.name: one for one in specs}
    return [
        (name, other)
        for name, one in there.items()
        for other in one.compare_with
        if other in there and (written or other != SURFACE)
    ]


def leads(recommended: Iterable[str], names: Iterable[str]) -> str | None:
    """Name the detector that a report opens with: the first that the inner folds recommend.

    Where they may recommend none, that of `names` which reads most, but what only a generated world
    knows; None of none.
    """
    given = set(names)
    held = [one for one in DETECTORS if one.name in given and "exposure" not in one.reads]
    most = max(held, key=lambda one: len(one.reads) + len(one.stacked)).name if held else None
    return next(iter(recommended), most)
