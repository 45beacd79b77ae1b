"""A network, its bare forward passes and a whole run beside them: what the cases of speed share.

`python -m tests.bench.against_bare OUT` tells how long it took below OUT from the first block's begin, which its marker holds,
to the last scene's publication, by the storage's clock.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from earthloom.jobs.records.names import RESULT
from earthloom.models.cards.file import canonical, write_card
from earthloom.tiling.heap import ONE_ARENA
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.bench.command import LANDWATER_BANDS, SCENE_OPTIONS, command

_HALO_PX = 128
"""Of the networks with random weights: a plausible one. Neither speed nor seams of theirs are judged by it."""
_MOST_CHIPS = 36
"""Of one bare forward pass: as many as take half a minute on two cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A model under its name in the table."""

    label: str
    reference: str
    """What `--model` is given."""
    bands: tuple[str, ...]
    options: tuple[str, ...] = ()
    """What its runs are told beside that."""


LANDWATER = Network(label="landwater", reference="landwater", bands=LANDWATER_BANDS)


def compared(
    network: Network, side_px: int, scene: str, out: str, env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """One run between two bare forward passes."""
    n_chips = min(_MOST_CHIPS, math.ceil(side_px / 1024) ** 2)
    told_before = _bare(network, n_chips)
    done = command(
        "earthloom", "run", scene, "--out", out, "--model", network.reference, *SCENE_OPTIONS, *network.options, "--json",
        "--workers", "1", env=env,
    )  # fmt: skip
    told_after = _bare(network, n_chips)
    before, after = (each["chip_mpx_per_s"] for each in (told_before, told_after))
    found, bare = done.printed["telemetry"], (before + after) / 2
    one_by_one = (told_before["one_by_one_mpx_per_s"] + told_after["one_by_one_mpx_per_s"]) / 2
    chip_mpx, seconds = found["chip_px"] / 1e6, span_s(out, env)
    return {
        "model": network.label, "scene": f"{side_px}², {len(network.bands)} bands",
        "bare chip-Mpx/s, before and after": f"{before:.2f}, {after:.2f}",
        "one chip at a time": f"{one_by_one:.2f}",
        "whole command s": f"{done.wall_s:.1f}", "first block to published s": f"{seconds:.1f}",
        "chip-Mpx/s": f"{chip_mpx / seconds:.2f}",
        "ratio, whole command": f"{chip_mpx / done.wall_s / bare:.2f}",
        "ratio, engine start apart": f"{chip_mpx / seconds / bare:.2f}",
        "device busy %": f"{found['device_busy_percent']:.0f}",
        "halo overhead": f"{found['chip_px'] / found['computed_px']:.2f}",
        "Mpx/s": f"{found['computed_px'] / seconds / 1e6:.2f}",
    }  # fmt: skip


def unet(encoder: str, bands: tuple[str, ...], folder: Path, halo_px: int = _HALO_PX) -> Network:
    """A card folder with a U-Net of segmentation-models-pytorch: 4 classes, weights from a fixed seed, memory measured."""
    from earthloom.models.cards import weights
    from earthloom.models.device.resolve import resolve
    from earthloom.models.measuring.measure import with_memory
    from tests.models.nets import card_of, seeded

    arguments = {"arch": "unet", "encoder_name": encoder, "in_channels": len(bands), "classes": 4}
    card = replace(
        card_of("smp", len(bands), 4, 32, canonical(arguments)), name=f"unet-{encoder}", bands=bands,
        quantities=("toa_reflectance",), halo_px=halo_px, core_px=1024,
    )  # fmt: skip
    made = seeded(card, folder)
    write_card(folder, with_memory(made.card, folder / weights.FILE, resolve()))  # without it a run keeps no pages
    return Network(label=card.name, reference=str(folder), bands=bands)


def _bare(network: Network, n_chips: int) -> dict[str, float]:
    return command("tests.bench.bare", network.reference, str(n_chips), env=ONE_ARENA).printed


def span_s(out: str, env: Mapping[str, str] | None = None) -> float:
    """Seconds from the first block's begin to the last scene's publication of a finished run."""
    return float(command("tests.bench.against_bare", out, env=env).printed["span_s"])


def span(out: str) -> float:
    """`span_s`, asked of storage by this process."""
    store = open_store(ObjectRef.parse(out))
    heads = list(store.list("scenes"))
    markers = [head.key for head in heads if "/blocks/" in head.key and head.key.endswith(".json")]
    begun_s = min(json.loads(store.get(key))["started_s"] for key in markers)
    published_s = max(head.modified_s for head in heads if head.key.endswith(f"/{RESULT}"))
    return float(published_s - begun_s)


if __name__ == "__main__":
    print(json.dumps({"span_s": span(sys.argv[1])}))
