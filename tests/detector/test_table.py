from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ghosttrack.detector.table import Table
from ghosttrack.errors import DataError


def table() -> Table:
    return Table(("a", "b", "c"), np.array([[1.0, 2.0, np.nan], [4.0, 5.0, 6.0]]))


def test_select_keeps_the_order_asked_for():
    chosen = table().select(("c", "a"))
    assert chosen.names == ("c", "a")
    np.testing.assert_array_equal(chosen.values, [[np.nan, 1.0], [6.0, 4.0]])


def test_select_of_nothing_keeps_the_rows():
    assert len(table().select(())) == 2


def test_rows_are_taken_in_the_order_asked_for_and_more_than_once():
    taken = table().take(np.array([1, 0, 1]))
    np.testing.assert_array_equal(taken.column("a"), [4.0, 1.0, 4.0])
    assert taken.names == table().names


def test_an_unknown_column_is_a_key_error():
    with pytest.raises(KeyError, match="zeta"):
        table().select(("a", "zeta"))


def test_concat_refuses_a_name_that_repeats():
    with pytest.raises(AssertionError, match="named twice: b"):
        table().select(("a", "b")).concat(table().select(("b",)))


def test_concat_sets_columns_side_by_side():
    wide = table().select(("c",)).concat(table().select(("a",)), table().select(("b",)))
    assert wide.names == ("c", "a", "b")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parquet_gives_back_names_values_and_dtype(tmp_path: Path, dtype: type):
    original = Table(table().names, table().values.astype(dtype))
    original.save(tmp_path / "t.parquet")
    back = Table.load(tmp_path / "t.parquet")
    assert back.names == original.names
    assert back.values.dtype == dtype
    np.testing.assert_array_equal(back.values, original.values)


def test_the_same_table_gives_the_same_bytes(tmp_path: Path):
    for name in ("one", "two"):
        table().save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_broken_file_is_named(tmp_path: Path):
    (tmp_path / "t.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=r"t\.parquet"):
        Table.load(tmp_path / "t.parquet")


def test_a_column_of_words_is_refused(tmp_path: Path):
    pq.write_table(pa.table({"a": ["x"]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column a holds string"):
        Table.load(tmp_path / "t.parquet")
