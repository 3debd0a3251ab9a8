import pytest

from ghosttrack.pipelines.track_files import Links


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
