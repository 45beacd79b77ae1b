from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from earthloom.models.cards import weights
from earthloom.tiling.errors import CardError
from earthloom.tiling.storage.objects import ObjectRef
from tests.models.nets import TinyNet


@pytest.fixture
def good(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / weights.FILE
    save_file(TinyNet(in_channels=2, classes=3).state_dict(), path)
    return path


def load(path: Path, sha256: str | None = None) -> TinyNet:
    net = TinyNet(in_channels=2, classes=3)
    weights.load_into(net, path, sha256 or weights.sha256_of(path))
    return net


def test_the_network_gets_exactly_the_tensors_of_the_file(good: Path) -> None:
    torch.manual_seed(0)
    expected = TinyNet(in_channels=2, classes=3).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in load(good).state_dict().items())


def test_one_flipped_bit_is_noticed_before_the_file_is_read(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = weights.sha256_of(good)
    data = bytearray(good.read_bytes())
    data[-5] ^= 1
    good.write_bytes(data)
    monkeypatch.setattr(weights, "read_header", lambda _: pytest.fail("the file was read"))
    with pytest.raises(CardError, match="changed or damaged"):
        load(good, pinned)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_file_that_was_cut_short_is_refused_even_with_its_own_digest(good: Path, keep: int) -> None:
    good.write_bytes(good.read_bytes()[:keep])
    with pytest.raises(CardError, match=r"safetensors|cut short"):
        load(good)


@pytest.mark.parametrize("header", [b"[1,2]", b"{" * 50, b'{"a":{"dtype":"F32"}}', b"null"])
def test_a_header_that_makes_no_sense_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / weights.FILE
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CardError, match="safetensors"):
        load(path)


def test_a_small_file_that_declares_a_terabyte_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}).encode()
    path = tmp_path / weights.FILE
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CardError, match="declares 1099511627776 bytes"):
        load(path)


def test_missing_surplus_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    state = TinyNet(in_channels=2, classes=3).state_dict()
    state["surplus"] = state.pop("head.bias")
    state["first.weight"] = torch.zeros(8, 9, 3, 3)
    path = tmp_path / weights.FILE
    save_file(state, path)
    with pytest.raises(CardError, match=r"1 missing \(head\.bias.*1 unexpected \(surplus.*shape \(first\.weight"):
        load(path)


def test_a_pickle_is_not_read_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / weights.FILE
    torch.save(TinyNet(in_channels=2, classes=3).state_dict(), path)
    with pytest.raises(CardError, match="safetensors"):
        load(path)


def test_weights_of_a_failed_training_run_are_refused(tmp_path: Path) -> None:
    state = TinyNet(in_channels=2, classes=3).state_dict()
    state["head.bias"][0] = torch.nan
    path = tmp_path / weights.FILE
    save_file(state, path)
    with pytest.raises(CardError, match="NaN"):
        load(path)


def test_local_weights_are_used_where_they_are(good: Path) -> None:
    assert weights.fetch(ObjectRef.parse(str(good.parent)), "0" * 64) == good
    with pytest.raises(CardError, match=r"neither weights\.safetensors nor"):
        weights.fetch(ObjectRef.parse(str(good.parent / "elsewhere")), "0" * 64)


@pytest.mark.s3
@pytest.mark.usefixtures("s3_env")
def test_weights_in_object_storage_are_downloaded_once_and_verified(good: Path, tmp_path: Path) -> None:
    from earthloom.tiling.storage.store import open_store

    folder = ObjectRef.parse("s3://scenes/models/tiny")
    open_store(folder).put(weights.FILE, good.read_bytes())
    pinned = hashlib.sha256(good.read_bytes()).hexdigest()
    path = weights.fetch(folder, pinned, tmp_path / "cache")
    assert path.read_bytes() == good.read_bytes()
    open_store(folder).delete(weights.FILE)
    assert weights.fetch(folder, pinned, tmp_path / "cache") == path
    open_store(folder).put(weights.FILE, b"something else")
    with pytest.raises(CardError, match="changed or damaged"):
        weights.fetch(folder, "0" * 64, tmp_path / "cache")
    with pytest.raises(CardError, match=r"holds neither weights\.safetensors"):
        weights.fetch(ObjectRef.parse("s3://scenes/models/none"), "1" * 64, tmp_path / "cache")
