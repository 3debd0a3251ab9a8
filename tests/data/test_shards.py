import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ghosttrack.data.shards import ShardFile, map_shard
from ghosttrack.errors import DataError


def test_files_follow_the_format_as_safetensors_writes_it(tmp_path):
    tensors = {"a": torch.arange(6).reshape(2, 3).int(), "b": torch.rand(3, 5).bfloat16()}
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    layout = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    with ShardFile(tmp_path / "ours", layout) as file:
        file.write("b", 5, tensors["b"][1:])
        file.write("b", 0, tensors["b"][:1])
        file.write("a", 0, tensors["a"])
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    with safe_open(tmp_path / "ours", "pt") as opened:
        assert opened.metadata() == {"format": "pt"}
    mapped = map_shard(tmp_path / "theirs")
    assert all(torch.equal(mapped[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("content", [b"", b"12345678", b"\xff" * 8, b"\x04" + b"\0" * 7 + b"[1, "])
def test_what_is_no_shard_is_named(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.safetensors: not a readable shard"):
        map_shard(tmp_path / "a.safetensors")


def test_a_mapped_tensor_can_be_written_to_without_touching_the_file(tmp_path):
    save_file({"a": torch.zeros(3)}, tmp_path / "a")
    before = (tmp_path / "a").read_bytes()
    map_shard(tmp_path / "a")["a"].fill_(1)
    assert (tmp_path / "a").read_bytes() == before


@pytest.mark.parametrize(
    ("before", "after"), [(b'"dtype"', b'"dtyqe"'), (b'"F32"', b'"F22"'), (b'{"a"', b'["a"')]
)
def test_a_bit_that_flipped_in_a_header_names_the_file(tmp_path, before: bytes, after: bytes):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(2)}, path)
    path.write_bytes(path.read_bytes().replace(before, after, 1))
    with pytest.raises(DataError, match=r"a\.safetensors"):
        map_shard(path)
