import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from ghosttrack.detector.config import Null
from ghosttrack.detector.learners.baselines import exposure_table
from ghosttrack.detector.learners.ridge import inner_products
from ghosttrack.detector.table import Table
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.evaluation.config import EvaluationConfig, HeldOut, Singing
from ghosttrack.evaluation.data import EvaluationData, available
from ghosttrack.evaluation.evaluate import evaluate
from ghosttrack.evaluation.result import Evaluation
from ghosttrack.evaluation.roster import (
    BASE,
    COMPETING,
    FAMILIES,
    HEADLINE,
    PARTS,
    check_names,
    find,
    pairs,
)
from ghosttrack.evaluation.scores import plain_auroc
from tests.support.answers import made_up_answers

pytestmark = pytest.mark.slow

N = 360
SETTINGS = EvaluationConfig(
    compare=None,
    held_out=HeldOut.group,
    n_folds=3,
    n_bootstrap=200,
    seed=0,
    prevalence=None,
    canaries=Singing.fail,
)
DETECTORS = {
    "output_best", "output", "lens", "probe", "raw_latents", "tracks", "tracks+output",
    "lens+output", "probe+output", "raw_latents+output", "interventions+output",
    "output+probe+raw_latents", "tracks+output+probe+raw_latents", "everything", "exposure_oracle",
    "owner", "owner+output", "owner_gap", "quick", "ghosts", "ghosts+output",
    "null:shuffled", "control:question_tfidf", "control:relation", "control:answer_tfidf",
    "mahalanobis", "relative_mahalanobis", "control:surface", "control:answer_identity",
    "label_free", "subject_known", "subject+output", "streaming", "streaming:1",
    "states:prompt_last", "states:answer_mean", "states:answer_last", "probe_states", "prior",
    "pmi", "pmi+output", "output_shrunk", "prior+output", "probe+prior+output", "names",
    "reverse", "reverse+output", "probe+reverse+output",
    "names+output", "late:ghosts+output", "recommended", "recommended:one_pass",
    "perplexity", "mean_token_entropy", "cocoa:perplexity", "cocoa:entropy", "saplma", "mind",
    "semantic_entropy:words", "selfcheck:words", "semantic_entropy_probe", "sae_additive",
    "sampling", "sampling+output", "rauq", "lookback", "control:answer_masked", "eigenscore",
    "verbalised", "semantic_entropy:entailment", "selfcheck:entailment",
}  # fmt: skip
SUBSETS = ("all", "p>0.5", "p>0.8", "within relation")
CANARIES = (
    "noise_by_text", "label_shuffle", "index", "length", "name_tfidf", "shuffled_names",
)  # fmt: skip
SHUFFLED = {
    f"label_shuffle:{name}"
    for name in ("output", "lens", "probe", "raw_latents", "tracks", "streaming", "ghosts",
    "owner", "quick", "prior", "states:prompt_last", "subject_known", "recommended")
}  # fmt: skip
OF_OTHERS = ("prior_of_another", "reverse_of_another", "states_of_another")


def table(labels, gains, prefix: str, seed: int) -> Table:
    """A column per gain: noise plus the gain where the answer is hallucinated."""
    noise = np.random.default_rng(seed).normal(size=(len(labels), len(gains)))
    names = tuple(f"{prefix}{index}" for index in range(len(gains)))
    return Table(names, noise + labels[:, None] * np.array(gains))


def tokens(labels) -> tuple[tuple[tuple[int, ...], ...], Table]:
    """Every other answer has a second token, which tells more than the first."""
    ids = tuple((1, 2)[: 1 + row % 2] for row in range(len(labels)))
    of = np.repeat(np.arange(len(labels)), [len(one) for one in ids])
    is_second = np.append(False, of[1:] == of[:-1])
    noise = np.random.default_rng(7).normal(size=len(of))
    return ids, Table(("so_far",), (noise + labels[of] * (1 + 2 * is_second))[:, None])


def whole_data() -> EvaluationData:
    answers = made_up_answers(N, 200)
    labels = answers.labels
    ids, known_at_tokens = tokens(labels)
    answers = replace(answers, token_ids=ids)
    exposure = exposure_table(answers.exposures)
    assert exposure is not None
    tracks = table(labels, (1.0, -1.0, 0.0), "t", 1)
    twins = Table(("copy", "flat"), np.column_stack([2 * tracks.values[:, 0], np.ones(N)]))
    generator = np.random.default_rng(9)
    residuals = generator.normal(size=(2, N, 8)).astype(np.float32)
    residuals[1, :, 0] += labels
    noise = generator.normal(size=(2, N, 8)).astype(np.float32)
    acts = generator.random((2, N, 20)) * (generator.random((2, N, 20)) < 0.2)
    states = {
        "prompt_last": residuals[:, :, ::-1],
        "answer_mean": residuals,
        "answer_last": noise,
        "masked": noise[:, ::-1],
    }
    return EvaluationData(
        answers=answers,
        tables={
            "output": answers.output,
            "lens": table(labels, (0.5,), "l", 2),
            "tracks": tracks.concat(twins),
            "paraphrase": Table(("paraphrase_first",), table(labels, (-1.0,), "p", 5).values),
            "owner": Table(
                ("owner_gap", *(f"owner_near_{name}" for name in ("rank", "gap", "z", "pmi"))),
                table(labels, (-2.0, 1.0, -1.0, 0.0, 0.0), "i", 3).values,
            ),
            "ghosts": table(labels, (0.5,), "g", 6),
            "prior": table(labels, (0.0, -0.5), "u", 10),
            "reverse": Table(("reverse_pmi",), table(labels, (-0.5,), "z", 17).values),
            "rauq": Table(("rauq",), table(labels, (1.0,), "w", 12).values),
            "lookback": table(labels, (0.5, 0.0), "w", 13),
            "eigenscore": Table(("eigenscore",), table(labels, (1.0,), "x", 14).values),
            "verbalised": Table(("verbalised",), table(labels, (-1.0,), "x", 15).values),
            "entailment": Table(
                ("entailment_semantic_entropy", "entailment_contradiction"),
                table(labels, (1.0, 0.5), "y", 16).values,
            ),
            "sampling": Table(
                ("sample_rouge", "sample_semantic_entropy", "sample_key_support"),
                table(labels, (-0.5, 1.0, 0.0), "v", 11).values,
            ),
            "exposure": exposure,
            "subject": table(labels, (0.5,), "h", 8),
            "null:shuffled": table(labels, (0.0, 0.0), "t", 4),
        },
        probes=residuals,
        latents=tuple(csr_array(layer) for layer in acts),
        layers=(2, 5),
        forwards={
            **{"sampling": 10.0, "owner": 33.0, "paraphrase": 4.0, "ghosts": 28.0},
            **{"prior": 1.0, "reverse": 2.0},
        },
        directions={"t0": 1, "t1": -1, "t2": 0},
        tokens=known_at_tokens,
        subject_latents=tuple(csr_array(layer[:, ::-1]) for layer in acts),
        encoders=(generator.normal(size=(2, 8, 20)), np.zeros((2, 20))),
        persistence={"length": {"tracks": np.full(N, 3.0), "null:shuffled": np.full(N, 1.5)}},
        states=states,
        grams={place: inner_products(held) for place, held in states.items()},
    )


def with_tables(*names: str) -> EvaluationData:
    """The same answers with these tables of statistics alone, but for probes and latents."""
    data = whole_data()
    return data._replace(tables={name: data.tables[name] for name in names})


@pytest.fixture(scope="module")
def result() -> Evaluation:
    return evaluate(whole_data(), SETTINGS, n_jobs=1)


def test_every_detector_has_a_row_in_every_subset(result: Evaluation):
    assert {(row.detector, row.subset) for row in result.rows} == {
        (name, subset) for name in DETECTORS for subset in SUBSETS
    }


def test_a_row_is_that_of_the_published_probabilities(result: Evaluation):
    labels = whole_data().answers.labels
    for name in DETECTORS:
        row, prob = result.row(name), result.scores[name]
        assert row.auroc == pytest.approx(plain_auroc(labels, prob))
        assert row.accuracy == pytest.approx(np.mean(result.flagged[name] == labels))
        assert prob.min() >= 0
        assert prob.max() <= 1


def test_detectors_find_what_was_put_in(result: Evaluation):
    # Two columns a standard deviation off: d' = sqrt(2), AUROC 0.84; one column of 2: 0.92.
    assert result.row("tracks").auroc == pytest.approx(0.84, abs=0.06)
    assert result.row("label_free").auroc == pytest.approx(0.84, abs=0.06)
    assert result.row("interventions+output").auroc > result.row("output").auroc
    assert result.row("null:shuffled").auroc == pytest.approx(0.5, abs=0.1)
    assert all("layer 5" in chosen for chosen in result.chosen["probe"])
    assert all("t0" not in chosen for chosen in result.chosen["output_best"])


def test_risk_rises_as_an_answer_is_written(result: Evaluation):
    # d' = 1 at the first token; of the answers that have a second one d' = 3 there.
    assert result.row("streaming:1").auroc == pytest.approx(0.76, abs=0.06)
    assert result.row("streaming").auroc > result.row("streaming:1").auroc + 0.05


def test_a_null_is_judged_by_the_classifier_of_the_tracks(result: Evaluation):
    kind = [chosen.rsplit(",", 1)[0] for chosen in result.chosen["tracks"]]
    assert [chosen.rsplit(",", 1)[0] for chosen in result.chosen["null:shuffled"]] == kind


def test_one_of_several_nulls_has_to_be_told_apart_from_chance_among_all_of_them():
    data = with_tables("output", "tracks", "null:shuffled")
    others = {
        f"null:{one.name}": table(data.answers.labels, (0.0, 0.0), "t", 20 + at)
        for at, one in enumerate(Null)
        if one is not Null.shuffled
    }
    names = ["tracks", "null:shuffled"]
    one, all_four = (
        evaluate(
            data._replace(tables={**data.tables, **more}),
            replace(SETTINGS, compare=[*names, *more]),
            n_jobs=1,
        ).pair(*names)
        for more in ({}, others)
    )
    assert one is not None
    assert all_four is not None
    assert all_four.delta == one.delta
    assert all_four.ci.low < one.ci.low < one.ci.high < all_four.ci.high


def test_paired_differences_are_those_of_the_rows(result: Evaluation):
    assert {(pair.a, pair.b) for pair in result.paired} == {
        *((f"{name}+output", "output") for name in
          ("tracks", "lens", "probe", "raw_latents", "interventions", "owner")),
        *((f"{name}+output", "output") for name in ("ghosts", "subject", "pmi", "late:ghosts")),
        *((f"{name}+output", "output") for name in ("names", "prior", "probe+prior")),
        *((f"{name}+output", "output") for name in ("reverse", "probe+reverse")),
        *((name, "output") for name in ("recommended", "recommended:one_pass", "probe_states")),
        ("sampling+output", "output"),
        *(("output_shrunk", name) for name in ("output", "output_best")),
        *((name, "output") for name in ("quick", "everything", "owner_gap", "streaming")),
        ("tracks+output+probe+raw_latents", "output+probe+raw_latents"),
        ("tracks", "null:shuffled"),
        ("tracks+output", "lens+output"),
    }  # fmt: skip
    assert len(result.paired) == 4 * 28
    for pair in result.paired:
        rows = [result.row(name, pair.subset).auroc for name in (pair.a, pair.b)]
        assert pair.delta == pytest.approx(rows[0] - rows[1])
        assert pair.ci.low <= pair.delta <= pair.ci.high
    assert result.claim.startswith("Tracking helps: ")


def test_what_people_wrote_is_held_against_its_surface():
    names = ("output", "probe", "control:surface")
    specs = [find(name) for name in names]
    assert pairs(specs, written=False) == []
    assert pairs(specs, written=True) == [("output", names[2]), ("probe", names[2])]


def test_the_inner_folds_recommend_a_detector_within_its_passes(result: Evaluation):
    chosen = result.chosen["recommended:one_pass"]
    assert len(chosen) == 3
    assert result.recommended.keys() == {"recommended", "recommended:one_pass"}
    for row, most in (("recommended", 16), ("recommended:one_pass", 1)):
        assert result.row(result.recommended[row]).forwards <= most
        assert result.row(row).forwards <= most
        # As good as the best of those that it chooses from, but for the noise of the choice.
        rivals = [result.row(name) for name in COMPETING if name in DETECTORS]
        best = max(one.auroc for one in rivals if one.forwards <= most)
        assert result.row(row).auroc > best - 0.03


def test_each_part_is_told_with_the_base_that_it_was_added_to(result: Evaluation):
    found = {(one.part, one.subset): one for one in result.parts}
    measured = ("probe", "prior", "reverse", "names", "ghosts")
    assert found.keys() == {(p, s) for p in measured for s in ("all", "within relation")}
    for (part, subset), one in found.items():
        rows = [result.row(name, subset).auroc for name in (PARTS[part], BASE)]
        assert one.delta == pytest.approx(rows[0] - rows[1])
    assert found["probe", "all"].delta > 0


def test_canaries_stay_near_one_half(result: Evaluation):
    assert {one for one in result.canaries if ":" not in one} == {*CANARIES, *OF_OTHERS}
    assert set(result.canaries) >= SHUFFLED
    # The standard deviation of an AUROC of 180 against 180 is 0.030: 4 of it.
    for name, value in result.canaries.items():
        assert abs(value - 0.5) < 0.12, (name, value)
        low, high = result.canaries_ci[name]
        assert low < value < high
        assert low < 0.5 < high, (name, low, high)
    assert not result.singing
    assert not result.signals


def test_columns_that_say_nothing_are_listed(result: Evaluation):
    assert result.dropped["tracks"] == (
        "copy: same as t0 (3 of 3 folds)",
        "flat: constant (3 of 3 folds)",
    )


def test_columns_vary_in_so_many_directions(result: Evaluation):
    # Three of five columns vary by themselves, one is a copy, one constant: by hand, with shares
    # of 2, 1 and 1 in 4, exp(0.5 ln 2 + 0.5 ln 4); chance correlations take a little off.
    assert result.effective_rank["tracks"] == pytest.approx(2**1.5, rel=0.02)
    assert result.effective_rank["lens"] == pytest.approx(1)


def test_passes_are_counted(result: Evaluation):
    passes = {name: result.row(name).forwards for name in DETECTORS}
    assert passes["interventions+output"] == 38  # 33 + 4 and the answer's own
    assert passes["everything"] == 66
    assert passes["quick"] == 15  # 12 names and the subject's own, one wording, the answer's own
    assert passes["owner_gap"] == 34
    assert passes["names+output"] == 14
    assert passes["probe+prior+output"] == 2
    assert passes["probe+reverse+output"] == 3
    assert passes["tracks+output"] == passes["output"] == 1
    assert passes["control:question_tfidf"] == 0
    assert passes["cocoa:perplexity"] == passes["semantic_entropy:words"] == 11
    assert passes["semantic_entropy_probe"] == passes["saplma"] == passes["sae_additive"] == 1


def test_an_untrained_row_is_its_column(result: Evaluation):
    data = whole_data()
    logprob, entropy = data.answers.output.values.T
    agreement = data.tables["sampling"].column("sample_rouge")
    for name, column in (
        ("rauq", data.tables["rauq"].column("rauq")),
        ("verbalised", -data.tables["verbalised"].column("verbalised")),
        ("perplexity", -logprob),
        ("mean_token_entropy", entropy),
        ("cocoa:perplexity", -logprob * (1 - agreement)),
        ("cocoa:entropy", entropy * (1 - agreement)),
    ):
        # Calibration is fitted in every fold, which moves a few pairs from fold to fold.
        wanted = plain_auroc(data.answers.labels, column)
        assert result.row(name).auroc == pytest.approx(wanted, abs=0.02), name


def test_json_holds_the_contract_and_no_nan(result: Evaluation):
    text = json.dumps(result.to_json(), allow_nan=False)
    read = json.loads(text)
    assert {"n", "n_groups", "hallucinated_frac", "rows", "paired", "canaries"} <= set(read)
    keys = "detector subset n auroc auroc_ci auprc accuracy precision recall f1 ece forwards"
    assert all(set(keys.split()) <= set(row) for row in read["rows"])
    assert all(set(pair) == {"a", "b", "subset", "delta", "ci"} for pair in read["paired"])
    assert read["tracking"][0]["difference"] == 1.5


def test_only_detectors_that_are_asked_for_are_judged_and_what_they_build_on():
    planned = available(whole_data(), ["raw_latents+output", "null:shuffled", "quick", "few"])
    names = {spec.name for spec in planned.present}
    assert names == {"raw_latents", "raw_latents+output", "tracks", "null:shuffled", "quick"}
    assert set(planned.left_out) == {"few"}
    assert available(whole_data(), ["null:none", "output"]).left_out == {
        "null:none": "this data makes no such detector"
    }


def test_nothing_left_to_judge_is_one_clear_line():
    with pytest.raises(DataError, match="nothing is left to judge; few: this data holds no swap"):
        evaluate(whole_data(), replace(SETTINGS, compare=["few"]), n_jobs=1)


def test_a_family_of_statistics_is_judged_by_itself_where_that_is_asked():
    families = {"t0": "competition", "t1": "support", "t2": "support"}
    data = whole_data()._replace(families=families)
    asked = ["tracks:support+output", "paraphrase+output", "swap+output"]
    check_names([*asked, "families"])
    planned = available(data, asked)
    specs = {spec.name: spec for spec in planned.present}
    assert specs["tracks:support+output"].reads == {"tracks": ("t1", "t2"), "output": ()}
    assert specs["paraphrase+output"].forwards == 5
    assert planned.left_out == {"swap+output": "this data holds no swap"}
    assert not {*asked} & {spec.name for spec in available(data).present}
    every = available(data, ["families"])
    assert {spec.name for spec in every.present} == {
        *("paraphrase+output", "owner+output", "tracks:competition+output"),
        "tracks:support+output",
    }
    assert {*every.left_out} == {f"{name}+output" for name in FAMILIES if name not in data.tables}
    lone = data._replace(tables={name: data.tables[name] for name in ("output", "paraphrase")})
    beside = available(lone, ["headline", "families"])
    assert {"output", "paraphrase+output"} <= {spec.name for spec in beside.present}
    assert "owner+output" in beside.left_out


def test_a_detector_that_there_is_not_is_one_clear_line():
    every = available(whole_data())
    check_names([*(spec.name for spec in every.present), *every.left_out])
    with pytest.raises(
        ConfigError, match=r"no detector track\+output; did you mean tracks\+output"
    ):
        check_names(["output", "track+output"])
    with pytest.raises(ConfigError, match="no detector null:foo"):
        check_names(["null:foo"])
    with pytest.raises(ConfigError, match="the detector all is called everything"):
        check_names(["all"])


def asked_for(*names: str) -> set[str]:
    """What is judged, or left out with a reason, where these are wanted."""
    planned = available(whole_data(), names)
    return {spec.name for spec in planned.present} | set(planned.left_out)


def test_the_default_rows_are_those_of_the_closing_table_and_all_where_data_feed_few():
    assert {*HEADLINE, "label_free"} <= asked_for("headline", "label_free")
    assert set(COMPETING) <= asked_for("recommended")
    few = with_tables("output", "owner")
    mine, every = available(few, ["headline"]), available(few)
    assert [one.name for one in mine.present] == [one.name for one in every.present]
    assert mine.left_out == every.left_out


def test_kinds_of_question_are_held_out_with_their_entities():
    data = with_tables("output", "owner")
    settings = replace(SETTINGS, held_out=HeldOut.relation, compare=["owner", "output"])
    result = evaluate(data, settings, n_jobs=1)
    relations, groups = np.array(data.answers.relations), np.array(data.answers.groups)
    assert {row.detector for row in result.rows} == {"owner", "output"}
    for fold in range(SETTINGS.n_folds):
        held_out = result.folds == fold
        assert not set(relations[held_out]) & set(relations[~held_out])
    assert len(set(groups)) < sum(len(set(groups[result.folds == fold])) for fold in range(3))
    row = result.row("owner")
    assert row.auroc == pytest.approx(0.94, abs=0.04)
    assert (row.n_groups, result.n_groups) == (4, len(set(groups)))
    assert "4 groups are drawn" in row.note


@pytest.mark.long
def test_workers_change_no_number():
    few = with_tables("output", "owner")._replace(
        probes=np.empty((0, N, 8)), latents=(), persistence={}
    )
    one, two = (evaluate(few, SETTINGS, n_jobs=n_jobs).to_json() for n_jobs in (1, 2))
    assert one == two


def test_a_preset_whose_columns_are_not_there_is_left_out():
    full = whole_data()
    owner = full.tables["owner"].select(["owner_gap"])
    planned = available(full._replace(tables={**full.tables, "owner": owner}))
    missing = ("rank", "gap", "z", "pmi")
    assert planned.left_out["quick"] == "this data holds no " + ", no ".join(
        f"owner_near_{name}" for name in missing
    )


def test_what_the_data_cannot_feed_is_left_out_by_name():
    bare = with_tables("output")
    bare = bare._replace(
        tables={**bare.tables, "tracks": Table(("flat",), np.ones((N, 1)))},
        probes=np.empty((0, N, 8)),
        latents=(),
        tokens=None,
        subject_latents=(),
        states={},
        persistence={},
    )
    result = evaluate(bare, SETTINGS, n_jobs=1)
    assert {row.detector for row in result.rows} == {
        "output", "output_best", "output_shrunk", "recommended", "recommended:one_pass",
        "tracks+output", "control:question_tfidf", "control:relation",
        "control:answer_tfidf", "control:answer_identity", "control:surface",
        "perplexity", "mean_token_entropy",
    }  # fmt: skip
    assert result.left_out["few"] == (
        "this data holds no paraphrase, no swap, no owner test, no siblings, no min_logprob"
    )
    assert result.left_out["interventions+output"] == "this data holds no interventions"
    assert result.left_out["tracks"] == "no column is left: all are constant or undefined"
    assert "SAE latents" in result.left_out["everything"]
    assert result.left_out["streaming"] == "this data holds no tokens of own answers"
    assert result.left_out["subject_known"] == "this data holds no SAE latents at subjects"
    assert result.left_out["subject+output"].startswith("this data holds no subject in its prompts")
    assert result.claim.startswith("Whether tracking helps was not tested")
    assert result.tracking == ()


def test_a_question_under_two_groups_is_refused():
    full = whole_data()
    doubled = replace(full.answers, prompts=("the same question",) * N)
    with pytest.raises(DataError, match="the text 'the same question' stands under the"):
        evaluate(full._replace(answers=doubled), SETTINGS, n_jobs=1)


def test_answers_that_came_ready_need_no_output_scores_and_no_probabilities():
    answers = whole_data().answers
    unknown = replace(answers, prob=np.full(N, np.nan), relations=("",) * N)
    sampling = table(answers.labels, (1.0,), "s", 5)
    given = EvaluationData(unknown, {"sampling": sampling}, {"sampling": 10.0})
    result = evaluate(given, SETTINGS, n_jobs=1)
    assert result.subsets == ("all",)
    assert result.row("sampling").auroc == pytest.approx(0.76, abs=0.06)  # d' = 1
    assert result.row("sampling").forwards == 11
    assert result.left_out["p>0.5"] == "the answers' probabilities are not known"
    assert result.left_out["output"] == "this data holds no token probabilities"
    assert "within relation" not in result.left_out
    assert set(CANARIES) <= result.canaries.keys()


@pytest.mark.long
def test_canaries_may_tell_relations_apart_where_these_are_uneven():
    drawn = made_up_answers(N, 200)
    generator = np.random.default_rng(0)
    is_hard = generator.random(N) < np.where(drawn.labels == 1, 0.9, 0.1)
    order = np.lexsort((generator.random(N), is_hard))
    fields = {
        name: tuple(value[row] for row in order) if isinstance(value, tuple) else value[order]
        for name, value in vars(drawn).items() if name != "output"
    }  # fmt: skip
    fields["relations"] = tuple("hard" if one else "easy" for one in is_hard[order])
    output = Table(drawn.output.names, drawn.output.values[order])
    data = EvaluationData(replace(drawn, **fields, output=output), {"output": output}, {})
    on_all, inside = (
        evaluate(data._replace(is_real=is_real), SETTINGS, n_jobs=1) for is_real in (False, True)
    )
    assert on_all.canaries["index"] > 0.8
    assert "index" in on_all.singing
    assert abs(inside.canaries["index"] - 0.5) < 0.2
    assert not inside.singing
