"""A network of segmentation-models-pytorch becomes a model: save, measure, run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from earthloom.jobs.command import main
from tests.scenes import landscape, write_scene


def invoke(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


@pytest.mark.slow
def test_a_saved_network_is_measured_and_then_maps_a_scene(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "earthloom.models.measuring.measure._bytes_per_px", lambda *_: 300.0
    )  # tests/models measures memory; it takes a minute
    import torch

    from earthloom.models.networks.torchvision_ops import define_missing_ops

    define_missing_ops()
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    network = smp.Unet(
        "resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(16, 16, 16), in_channels=3, classes=4
    )
    folder = tmp_path / "net"
    network.save_pretrained(folder)
    scene = write_scene(tmp_path / "rgb.tif", landscape(150, 130, 3))
    found = ("--scale", "0.0001", "--quantity", "reflectance", "--bands", "red=1,green=2,blue=3")
    small = ("--executor", "local", "--shard", "512", "--block", "512")
    options = ("--model", str(folder), "--out", str(tmp_path / "out"), *small)
    assert invoke("run", str(scene), *found, *options) == 2
    assert "models measure" in capsys.readouterr().err
    main(["models", "measure", str(folder), str(scene), *found])
    card = json.loads((folder / "card.json").read_bytes())
    assert card["properties"]["earthloom:halo_px"] % 8 == 0
    assert [band["name"] for band in card["properties"]["mlm:input"][0]["bands"]] == ["red", "green", "blue"]
    capsys.readouterr()
    assert invoke("run", str(scene), *found, *options, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["scenes"]["rgb"]["class_areas"]) == 4
    assert Path(result["scenes"]["rgb"]["files"]["net.tif"]).exists()
