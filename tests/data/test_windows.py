from contextlib import closing

import numpy as np
import pytest

from ghosttrack.data.windows import Cut, DocumentTable, StoredWindows, TokenFile, Windows

LENGTHS = (9, 4, 12, 2, 7)


def windows(ids: list[int], bounds: list[int]) -> Windows:
    return Windows(
        np.array(ids, dtype=np.int32), np.zeros(len(ids), dtype=np.int32), np.array(bounds)
    )


def test_padding_is_token_zero_outside_the_mask():
    padded = windows([5, 6, 7, 8], [0, 3, 4]).padded(0, 2)
    assert padded.ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert padded.mask.tolist() == [[True, True, True], [True, False, False]]


@pytest.mark.parametrize(("n_tokens", "lengths"), [(1, [9]), (8, [9]), (9, [4, 9]), (99, LENGTHS)])
def test_the_first_windows_that_keep_so_many_tokens_come_by_length(tmp_path, n_tokens, lengths):
    with closing(TokenFile(tmp_path)) as file:
        file.append(range(len(LENGTHS)), [[7] * (length - 1) for length in LENGTHS])
    table = DocumentTable.read(tmp_path)
    stored = StoredWindows(tmp_path, table, np.arange(6), Cut(16, (5,), skip_first=1), 99)
    assert stored.kept.tolist() == [8, 3, 11, 1, 6]
    first = stored.first(n_tokens)
    assert first.lengths.tolist() == sorted(lengths)
    assert first.ids[first.bounds[:-1]].tolist() == [5] * len(lengths)
