import numpy as np

from ghosttrack.data.windows import Windows


def test_padding_is_token_zero_outside_the_mask():
    windows = Windows(
        np.array([5, 6, 7, 8], dtype=np.int32), np.array([0, 3, 4]), np.zeros(2, dtype=np.int32)
    )
    padded = windows.padded(np.array([1, 0]))
    assert padded.ids.tolist() == [[8, 0, 0], [5, 6, 7]]
    assert padded.mask.tolist() == [[True, False, False], [True, True, True]]


def test_kept_tokens_are_those_beyond_the_first():
    windows = Windows(np.zeros(4, dtype=np.int32), np.array([0, 3, 4]), np.zeros(2, dtype=np.int32))
    assert windows.kept(2).tolist() == [1, 0]
