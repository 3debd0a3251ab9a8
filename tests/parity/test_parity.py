"""What GhostTrack and others say of the same answers; its table: `python -m tests.parity`."""

import pytest

pytest.importorskip("lm_polygraph")
pytest.importorskip("uqlm")

from tests.parity.asked import Asked, ask
from tests.parity.compare import SAME_AUROC, SAME_VALUE, Compared, compare
from tests.parity.rivals import compare_metrics, methods

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # theirs


@pytest.fixture(scope="module")
def asked() -> Asked:
    return ask()


@pytest.fixture(scope="module")
def compared(asked: Asked) -> dict[str, Compared]:
    return {one.method.name: one for one in compare(asked, methods(asked.d_vocab))}


def test_methods_of_one_definition_say_the_same_of_every_answer(compared: dict[str, Compared]):
    same = [one for one in compared.values() if not one.method.differs]
    apart = {one.method.name: one for one in same if not one.is_same}
    assert not apart, f"more than {SAME_VALUE} or {SAME_AUROC} apart: {apart}"
    assert len({one.method.row.name for one in same}) >= 12


def test_what_is_told_to_differ_does(compared: dict[str, Compared]):
    other = [one for one in compared.values() if one.method.differs]
    assert other
    assert not [one.method.name for one in other if one.is_same]


def test_rejection_is_judged_alike(asked: Asked):
    for name, row, ours, theirs in compare_metrics(asked, methods(asked.d_vocab)[:4]):
        # Theirs draws random orders where ours gives their mean.
        assert ours == pytest.approx(theirs, abs=1e-9 if name == "AURC" else 2e-3), (name, row)
