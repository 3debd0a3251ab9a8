import json
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ghosttrack.detector.learners.classifiers import Option
from ghosttrack.report.viewer import N_ANSWERS, N_TRACKS, choose, packed, viewer_data
from ghosttrack.tracking.observations import Observations
from tests.detector.learners.options import fitted_detector
from tests.detector.scenes import tracks_from
from tests.report import materials

COSTS = [None, None]
LEADER = "everything"


def shown(**changed):
    data = viewer_data(materials.material(**changed), LEADER, lambda ids: f" t{ids[0]}")
    return data["layers"], data["answers"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=1, max_size=200))
def test_every_category_shows_its_riskiest_and_its_safest_answer(rows):
    categories = [category for category, _ in rows]
    risk = np.array([risk for _, risk in rows]) / 10
    chosen = choose(categories, risk)
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= N_ANSWERS
    for name in set(categories):
        mine = [risk[i] for i, category in enumerate(categories) if category == name]
        seen = [risk[i] for i in chosen if categories[i] == name]
        assert (min(seen), max(seen)) == (min(mine), max(mine))


def test_an_answer_carries_its_tracks_with_layers_latents_and_sizes():
    layers, answers = shown()
    assert layers == ["3", "7"]
    first = answers[0]
    # Sizes count from the answer's least magnitude, -0.5.
    assert first["tracks"] == [
        {"layers": [0, 1], "latents": [10, 10], "sizes": [1.5, 2.5], "costs": COSTS,
         "promotes": "blue", "push": 1.5},
        {"layers": [0], "latents": [11], "sizes": [0.0], "costs": [None], "promotes": "green",
         "push": 0.25},
    ]  # fmt: skip
    assert [len(answer["tracks"]) for answer in answers] == [2, 1, 0, 0, 0, 0, 0, 0]
    assert answers[1]["tracks"][0]["layers"] == [1]


def test_tracks_say_what_of_them_stays_under_other_names_and_wordings():
    view = materials.view()
    n_tracks = len(view.tracks)
    stay = {"whole": np.linspace(0.9, 0.1, n_tracks), "paraphrase": np.full(n_tracks, np.nan)}
    _, answers = shown(view=view._replace(stay=stay))
    assert answers[0]["tracks"][0]["ghost"] == 0.9
    assert answers[0]["tracks"][0]["robust"] is None
    assert "ghost" not in shown()[1][0]["tracks"][0]


def test_empty_slots_have_no_say_in_a_track_s_size():
    view = materials.view()
    magnitudes = view.observations.magnitudes.copy()
    magnitudes[view.observations.latents < 0] = -99.0
    strange = view._replace(observations=Observations(view.observations.latents, magnitudes))
    assert shown(view=strange) == shown()


def test_an_answer_says_what_was_right_and_who_else_it_fits():
    _, answers = shown()
    assert answers[0]["owner"] == "bert"
    assert answers[0]["owner_gap"] == -0.5
    assert answers[1]["owner"] == ""
    assert answers[1]["owner_gap"] is None
    assert answers[1]["tokens"] == ["t7"]
    assert answers[1]["token_risks"] == [0.25]
    assert answers[1]["label"] == 1
    assert answers[1]["references"] == ["blue", "green"]


def test_a_reader_sees_the_question_without_what_a_template_sets_around_it():
    asked = tuple(f"{index}?" for index in range(materials.N))
    _, answers = shown(answers=materials.answers(asked=asked))
    assert {one["prompt"] for one in answers} <= set(asked)


def test_no_owner_test_means_no_owner():
    owners = materials.material().owners._replace(names=(), gaps=np.empty(0))
    _, answers = shown(owners=owners)
    assert {answer["owner"] for answer in answers} == {""}


def test_the_strongest_tracks_are_kept_confirmed_ones_first():
    n = N_TRACKS + 5
    view = materials.view()
    track_of = np.full((materials.N, 2, n), -1)
    track_of[0, 0] = np.arange(n)
    magnitudes = np.zeros(track_of.shape)
    magnitudes[0, 0] = np.arange(n, dtype=float)
    tracks = replace(tracks_from(track_of), confirmed=np.arange(n) == 0)
    latents = np.where(track_of >= 0, track_of, -1)
    crowded = view._replace(
        tracks=tracks,
        observations=Observations(latents, magnitudes),
        promotes=["blue"] * n,
        push=np.zeros(n),
    )
    kept = [track["latents"][0] for track in shown(view=crowded)[1][0]["tracks"]]
    # The confirmed track is the weakest of all; the others come by strength.
    assert kept == [0, *range(n - 1, 5, -1)]


def test_an_answer_is_explained_by_the_kept_detector_of_columns_that_the_report_shows():
    values = np.column_stack([materials.answers().output.values[:, 0], np.arange(materials.N)])
    option = Option("logistic regression, C=1", "logistic", strength=1.0)
    columns = ("output:mean_logprob", "tracks:n_births")
    fitted = fitted_detector(option, columns, values, materials.LABELS, name="output")
    _, answers = shown(fitted=fitted)
    right, wrong = (answers[index]["reasons"] for index in (0, 1))
    names = {"mean_logprob", "n_births"}
    assert {reason["name"] for reason in right + wrong} == names
    effects = [{one["name"]: one["effect"] for one in reasons} for reasons in (right, wrong)]
    assert effects[0]["mean_logprob"] < 0 < effects[1]["mean_logprob"]
    assert "the model gives the answer's tokens 90 %" in right[-1]["text"] + right[0]["text"]
    assert shown()[1][0]["reasons"] == []


def test_an_answer_carries_the_risk_and_the_flag_of_the_leader_and_the_risk_of_who_explains_it():
    flagged = np.arange(materials.N) < 2  # whatever the risks are: the thresholds are the folds'
    base = materials.evaluation()
    evaluation = replace(base, flagged={**base.flagged, LEADER: flagged})
    values = np.arange(materials.N, dtype=float)[:, None]
    option = Option("logistic regression, C=1", "logistic", strength=1.0)
    fitted = fitted_detector(option, ("tracks:n_births",), values, materials.LABELS, name="output")
    _, answers = shown(evaluation=evaluation, fitted=fitted)
    assert [one["flagged"] for one in answers] == flagged.tolist()
    for name, one in (("risk", LEADER), ("explained_risk", "output")):
        assert np.allclose([answer[name] for answer in answers], base.scores[one], atol=1e-4)


def test_what_is_packed_counts_linked_tracks_and_loses_nothing():
    data = viewer_data(materials.material(), LEADER, lambda ids: f" t{ids[0]}")
    listed, chunks = packed(data)
    assert [one["n_linked"] for one in listed["answers"]] == [1, *[0] * 7]
    written = f'id="viewer-data">{json.dumps(listed)}</script>'
    written += f'id="viewer-details">{json.dumps(chunks)}</script>'
    for whole, one in zip(data["answers"], materials.unpacked(written), strict=True):
        assert whole == {name: value for name, value in one.items() if name in whole}


def test_small_categories_leave_their_places_to_large_ones(monkeypatch):
    monkeypatch.setattr("ghosttrack.report.viewer.N_ANSWERS", 10)
    categories = ["rare"] * 2 + ["common"] * 50
    chosen = choose(categories, np.linspace(0, 1, 52))
    assert (len(chosen), sum(index < 2 for index in chosen)) == (10, 2)
