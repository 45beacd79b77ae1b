"""The map by one forward pass, which tiling is judged by. In plain torch, apart from the project's own inference.

    python -m tests.bench.peers.reference NETWORK_FOLDER SCENE OUT.npz HALO REACH [ROW,COL,SIDE ...]

The scene is reflected by the halo, beyond which there are zeros, as the design has it; what has no data is 0. A whole
scene of 4096² px takes 8 GiB. For a larger one, parts are given: each is computed from itself and its reach, in which all
lies that the network can see, so that it has the pixels of one pass over the whole scene.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch


def main(folder: str, scene: str, out: str, halo: str, reach: str, *parts: str) -> None:
    module, halo_px, reach_px = network(Path(folder)), int(halo), int(reach)
    with rasterio.open(scene) as dataset:
        pixels = np.pad(dataset.read(), ((0, 0), (halo_px, halo_px), (halo_px, halo_px)), mode="reflect")
        pixels = np.pad(pixels, ((0, 0), (reach_px - halo_px,) * 2, (reach_px - halo_px,) * 2))
        windows = [tuple(map(int, part.split(","))) for part in parts] or [(0, 0, dataset.width)]
    made: dict[str, Any] = {"windows": np.array(windows)}
    for number, (row, col, side) in enumerate(windows):
        chip = pixels[:, row : row + side + 2 * reach_px, col : col + side + 2 * reach_px]
        with torch.inference_mode():
            logits = module(torch.from_numpy(chip).float().div_(255)[None])[0]
            inside = slice(reach_px, reach_px + side)
            best, index = logits[:, inside, inside].softmax(0).max(0)
        made |= {f"classes_{number}": index.to(torch.uint8).numpy(), f"confidence_{number}": best.numpy()}
        del logits
    np.savez(out, **made)


def network(folder: Path) -> torch.nn.Module:
    """smp's network, or the 1 x 1 convolution."""
    from safetensors.torch import load_file

    if (folder / "config.json").is_file():
        from earthloom.models.networks.torchvision_ops import define_missing_ops

        define_missing_ops()
        import segmentation_models_pytorch as smp

        loaded: torch.nn.Module = smp.from_pretrained(str(folder))
        return loaded.eval()
    module = torch.nn.Conv2d(3, 4, 1)
    module.load_state_dict(load_file(folder / "model.safetensors"))
    return module.eval()


if __name__ == "__main__":
    main(*sys.argv[1:])
