"""`earthloom models …`, beside the tables that it prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from earthloom.jobs.command.options import options_of
from earthloom.jobs.command.terminal import make_console
from earthloom.jobs.config import check
from earthloom.jobs.intake.options import SceneOptions
from earthloom.models.importing.options import ImportOptions

if TYPE_CHECKING:
    from earthloom.models.cards.card import ModelCard


@click.group()
def models() -> None:
    """List, show, fetch, import and measure models."""


@models.command("list")
def models_list() -> None:
    """List the models of the zoo, and whether their weights are here."""
    from earthloom.models.zoo import catalogue

    show_models(catalogue())


@models.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="print the card as STAC MLM JSON")
def models_show(name: str, as_json: bool) -> None:
    """Show what a model needs and produces. NAME is a model of the zoo or a card folder."""
    from earthloom.jobs.products.scene_about import card_document
    from earthloom.models.zoo import variants

    for card, folder in variants(name):
        if as_json:
            click.echo(json.dumps(card_document(card, folder), indent=2))
        else:
            show_card(card)


@models.command("add")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def models_add(names: tuple[str, ...]) -> None:
    """Fetch the weights of models, check their sha256, convert them, and keep them in the cache."""
    from earthloom.models.zoo import add

    for name in names:
        for folder in add(name):
            click.echo(folder)


@models.command("import")
@click.argument("source", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), help="folder to write, new or empty  [default: in the cache]")
@options_of(ImportOptions)
def models_import(source: Path, to: Path | None, **options: Any) -> None:
    """Turn your own network into a card folder: an smp folder, a state dict, an ONNX graph, or a program that you trust."""
    from earthloom.models.device.resolve import resolve
    from earthloom.models.importing.importing import import_model
    from earthloom.models.measuring.measure import with_memory

    def completed(card: ModelCard, weights_path: Path) -> ModelCard:
        return with_memory(card, weights_path, resolve())

    card, folder = import_model(source, check(ImportOptions, options), to, completed=completed)
    show_card(card)
    click.echo(folder)
    if card.halo_px is None:
        click.echo(f"its halo is not known yet: earthloom models measure {folder} SCENE", err=True)


@models.command("measure")
@click.argument("name")
@click.argument("scene")
@click.option(
    "--window", default=2048, show_default=True, help="side of the part of the scene to measure on, in pixels"
)
@options_of(SceneOptions)
def models_measure(name: str, scene: str, window: int, **options: Any) -> None:
    """Measure support, halo and memory of a model on a real scene, and write them into its card."""
    from earthloom.jobs.learning.measure import measure_model

    for card in measure_model(name, scene, window_px=window, options=check(SceneOptions, options)):
        show_card(card)


def show_models(entries: Sequence[tuple[ModelCard, bool]]) -> None:
    """The zoo: a card and whether its weights are here."""
    table = Table()
    for name in ("model", "variant", "bands", "GSD", "makes", "licence", "ready"):
        table.add_column(name)
    for card, ready in entries:
        table.add_row(
            card.name, card.variant, " ".join(card.bands), f"{card.gsd_m[0]:g}-{card.gsd_m[1]:g} m",
            card.makes, card.license, "yes" if ready else f"earthloom models add {card.name}",
        )  # fmt: skip
    make_console(stderr=False).print(table)


def show_card(card: ModelCard) -> None:
    """What a model needs and gives."""
    from earthloom.jobs.products.legend import class_table

    console = make_console(stderr=False)
    table = Table(title=f"{card.label} {card.version}", title_justify="left", show_header=False)
    halo = f"{card.halo_px} px" if card.halo_px is not None else "not measured"
    rows = {
        "title": card.title, "description": card.description, "licence": card.license, "citation": card.citation,
        "task": card.task, "architecture": f"{card.architecture} {card.arguments}", "bands": ", ".join(card.bands),
        "values": " or ".join(card.quantities), "GSD": f"{card.gsd_m[0]:g} to {card.gsd_m[1]:g} m",
        "tiling": f"{card.overlap}: core {card.core_px} px, halo {halo}, stride {card.stride_px} px, "
                  f"support {card.support_px if card.support_px is not None else 'unbounded or not measured'}",
        "memory": ", ".join(f"{name} {size:.0f} bytes per chip pixel" for name, size in card.memory) or "not measured",
        "makes": card.makes, "masks": ", ".join(card.gives[value] for value in card.masks),
        "weights": card.weights or "none",
        "scores": ", ".join(f"{name} {value:g}" for name, value in card.scores),
    }  # fmt: skip
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    console.print(table)
    if classes := class_table(card):
        console.print(classes)
