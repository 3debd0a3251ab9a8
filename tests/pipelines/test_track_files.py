from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from scipy.sparse import csr_array

from ghosttrack.detector.table import Table
from ghosttrack.detector.tracks.life_cycle import LengthNull
from ghosttrack.files import read_json, write_json
from ghosttrack.pipelines import tracks
from ghosttrack.pipelines.instruments import save_arrays
from ghosttrack.pipelines.track_files import (
    FORWARDS,
    LATENTS,
    LINKS,
    PROBES,
    PROMOTES,
    SUBJECT_LATENTS,
    VIEW,
    Links,
    block_folders,
    join_blocks,
    load_latents,
    read_view,
    save_latents,
)
from ghosttrack.tracking.tracks import Decisions, build_tracks, no_decisions

SHAPE = 5, 2, 3
THERE = np.random.default_rng(0).random(SHAPE) < 0.8
LINKED = no_decisions(SHAPE)
LINKED.predecessor[:, 1, 0] = np.where(THERE[:, 0, 1] & THERE[:, 1, 0], 1, -1)
NUMBERS = np.random.default_rng(1).random((5, 2))


@pytest.mark.parametrize(
    ("links", "layers", "said"),
    [
        (Links(0.012, 3, (0.2, 0.3, 0.25)), [8, 15, 22, 29], "try layers=[17,18,19,20]"),
        (Links(0.30, 1, (0.2, 0.3, 0.25)), [0, 2, 4, 6], "the longest track has 1 of 4"),
        (Links(0.0, 1, (0.5,)), [3, 4], "corpus.num_tokens"),
        (Links(0.30, 2, (0.2, 0.2)), [1, 5, 9], ""),
        (Links(0.0, 1, ()), [3], ""),
    ],
)
def test_a_run_without_links_says_so_and_what_would_do(links: Links, layers: list[int], said: str):
    caution = links.caution(layers, by_chance=0.01)
    assert said in caution
    assert bool(said) == bool(caution)


def write_some(folder: Path, rows: np.ndarray) -> None:
    """Write what tracking leaves of these of five answers, of which the last two have subjects."""
    folder.mkdir()
    built = build_tracks(THERE[rows], Decisions(*(one[rows] for one in LINKED)), 2)
    latents = np.where(THERE, np.arange(30).reshape(SHAPE), -1)[rows]
    own = [
        f"{rows[sample]} {birth}" for sample, birth in zip(built.sample, built.birth, strict=True)
    ]
    observed = {"latents": latents, "magnitudes": NUMBERS[rows, :, None].repeat(3, 2)}
    save_arrays(folder / VIEW, {**built.arrays(), **observed, "push": np.arange(len(own)) * 0.0})
    write_json(folder / PROMOTES, own)
    Table(("a", "b"), NUMBERS[rows]).save(folder / "tracks.parquet")
    write_json(folder / FORWARDS, {"tracks": float(rows.mean())})
    write_json(folder / LINKS, Links(0.5, int(rows.max()), (0.1,))._asdict())
    save_arrays(folder / PROBES, {"probes": NUMBERS[rows].T[:, :, None]})
    held = np.where(np.arange(5)[:, None] >= 3, NUMBERS, np.nan)[rows]
    for name, values in ((LATENTS, NUMBERS[rows]), (SUBJECT_LATENTS, np.nan_to_num(held))):
        if values.any():
            save_latents(folder / name, [csr_array(values), csr_array(values * 2)])
    if rows.max() >= 3:
        Table(("s", "t"), held).save(folder / "subject.parquet")


def test_what_was_tracked_in_blocks_reads_as_if_at_once(tmp_path: Path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    parts.mkdir()
    write_some(whole, np.arange(5))
    blocks = block_folders(parts, 3)
    for block, rows in zip(blocks, np.array_split(np.arange(5), 3), strict=True):
        write_some(block, rows)
    join_blocks(parts, blocks, 2)
    left = {file.name for block in blocks for file in block.iterdir()}
    assert left == {VIEW, PROMOTES}, "a block keeps what is joined"
    for name in ("tracks.parquet", "subject.parquet"):
        one, other = (Table.load(folder / name) for folder in (whole, parts))
        np.testing.assert_array_equal(one.values, other.values)
    assert (parts / PROBES).read_bytes() == (whole / PROBES).read_bytes()
    assert read_json(parts / LINKS) == read_json(whole / LINKS)
    assert read_json(parts / FORWARDS) == read_json(whole / FORWARDS)
    for name in (LATENTS, SUBJECT_LATENTS):
        for one, other in zip(*(load_latents(f / name, 2) for f in (whole, parts)), strict=True):
            np.testing.assert_array_equal(one.toarray(), other.toarray())
    for chosen in ([0, 1, 2, 3, 4], [1, 4]):
        one, other = (read_view(folder, (3, 7), chosen) for folder in (whole, parts))
        for held, again in zip(
            one.tracks.arrays().values(), other.tracks.arrays().values(), strict=True
        ):
            np.testing.assert_array_equal(held, again)
        np.testing.assert_array_equal(one.observations.latents, other.observations.latents)
        assert one.promotes == other.promotes
        owners = {name.split()[0] for name in one.promotes}
        assert owners == {str(number) for number in chosen}
    built = build_tracks(THERE, LINKED, 2)
    assert (read_view(parts, (3, 7), range(5)).tracks.track_of == built.track_of).all()


class Killed(BaseException):
    pass


def test_blocks_that_a_kill_left_finished_are_not_tracked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tracked: list[str] = []
    dies_in = {"block-0001"}

    def track(_stages: object, _tools: object, _mine: object, given: object, block: Path):
        if block.name in dies_in:
            (block / "half").write_text("of a file")
            raise Killed
        tracked.append(block.name)
        return given or LengthNull(0.1 + 0.2, 1 / 3)

    def join(*_: object) -> None:
        if "join" in dies_in:
            raise Killed

    kept = MagicMock()
    for name in ("Bank", "fit_instruments", "TrackingSetup", "_causal"):
        monkeypatch.setattr(tracks, name, MagicMock())
    monkeypatch.setattr(tracks, "save_instruments", kept)
    monkeypatch.setattr(tracks, "MOST_TRACKED", 2)
    monkeypatch.setattr(tracks, "_write_block", track)
    monkeypatch.setattr(tracks, "join_blocks", join)
    stages = MagicMock()
    stages.answers.get.return_value.__len__.return_value = 5
    with pytest.raises(Killed):
        tracks.write_tracks(stages, tmp_path)
    assert tracked == ["block-0000"]
    dies_in = {"join"}
    with pytest.raises(Killed):
        tracks.write_tracks(stages, tmp_path)
    assert tracked == ["block-0000", "block-0001", "block-0002"]
    assert kept.call_args[0][2] == LengthNull(0.1 + 0.2, 1 / 3)
    dies_in = set()
    tracks.write_tracks(stages, tmp_path)
    assert tracked[3:] == tracked[:3], "what was half joined is no block"
    assert not list(tmp_path.glob("**/lengths.json"))
