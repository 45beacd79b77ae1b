"""`python -m infra.recipes NAME --data DIR --out FOLDER`: train a recipe, judge it on what was held back, write the model.

The bytes that come out depend on the machine's kind and on --threads, beside the recipe.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import write_card
from earthloom.models.networks import registry
from earthloom.models.networks.segment.lite_unet import LiteUnet
from earthloom.models.training.data import Crops
from earthloom.models.training.export import save_half
from earthloom.models.training.fit import fit
from earthloom.models.training.score import counted, iou
from earthloom.tiling.errors import EarthloomError
from infra.recipes.pretrained import load_lite0
from infra.recipes.shipped import RECIPES, Recipe, Split

_LOGGED_EVERY = 25
_log = logging.getLogger(__name__)


def train(recipe: Recipe, split: Split, folder: Path) -> ModelCard:
    """Train, then write `weights.safetensors` and `card.json` into a folder; the scores are those of the written file.

    The card's halo covers the whole support, which is exact for any weights; `earthloom models measure` finds a
    smaller one.
    """
    schedule = recipe.schedule
    torch.manual_seed(schedule.seed)
    module = registry.build(recipe.card)
    assert isinstance(module, LiteUnet), "recipes train lite-unet"
    with TemporaryDirectory(prefix="earthloom-") as temporary:
        load_lite0(module.encoder, Path(temporary))
    crops = Crops(
        pairs=split.train, gain=recipe.gain, mean=recipe.card.mean, std=recipe.card.std, side_px=recipe.side_px,
        variety=recipe.variety, seed=schedule.seed, rare=recipe.rare,
    )  # fmt: skip
    losses: list[float] = []

    def log_step(step: int, loss: float) -> None:
        losses.append(loss)
        if (step + 1) % _LOGGED_EVERY == 0:
            recent = losses[-_LOGGED_EVERY:]
            _log.info(
                "%s: step %d of %d, loss %.4f", recipe.card.name, step + 1, schedule.steps, sum(recent) / len(recent)
            )

    trained = fit(module, crops.batch, schedule, pretrained=module.encoder, on_step=log_step)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / weights.FILE
    support = recipe.card.support_px
    assert support is not None, "recipes train networks of finite support"
    halo = -(-support // recipe.card.stride_px) * recipe.card.stride_px
    card = replace(recipe.card, weights=save_half(trained, path), halo_px=halo)
    weights.load_into(trained, path, card.weights or "")
    counts = counted(trained, split.held_back, recipe.gain, card)
    card = replace(card, scores=tuple(sorted((f"iou_{c.name}", round(iou(counts, c.value), 4)) for c in card.classes)))
    write_card(folder, card)
    return card


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.recipes", description="Train one of the shipped models.")
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the recipe's folder of data")
    parser.add_argument("--out", type=Path, required=True, help="folder for card.json and weights.safetensors")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1: those that made the shipped weights)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    torch.set_num_threads(options.threads)
    recipe = RECIPES[options.name]
    try:
        card = train(recipe, recipe.read(options.data), options.out)
    except EarthloomError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.out}: sha256 {card.weights}")
    for name, value in card.scores:
        print(f"held back: {name} {value:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
