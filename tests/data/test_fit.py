import pytest

from ghosttrack.data import forward
from ghosttrack.data.forward import largest_batch
from tests.data.conftest import extractor, store_config, watched, with_room_for

CONTEXT = 16


@pytest.mark.parametrize("most", [1, 2, 3, 7, 12, 100, 256])
def test_the_largest_batch_that_the_device_takes_is_found_to_an_eighth(lm, most):
    tried: list[int] = []
    small = with_room_for(lm, most, tried)
    found = largest_batch(extractor(small, [0], store_config()), CONTEXT)
    assert most - most // forward.EXACTNESS - 1 <= found <= most
    assert found in tried
    assert max(tried) <= forward.MOST_TOKENS["cpu"] // CONTEXT


def test_a_host_is_not_asked_for_more_than_it_has_free(lm, monkeypatch):
    taken = iter(range(0, 10**6, 100))
    for name in ("peak_bytes", "reset_peak"):
        monkeypatch.setattr(forward, name, lambda: next(taken))
    monkeypatch.setattr(forward, "free_bytes", lambda: 90)
    assert largest_batch(extractor(lm, [0], store_config()), CONTEXT) == 1


def test_another_fault_is_not_taken_for_want_of_memory(lm):
    def fail(_ids):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    broken = watched(lm, fail)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        largest_batch(extractor(broken, [0], store_config()), CONTEXT)
