"""Reads files of foreign models; each kind becomes a weights file and the card that fits it.

Nothing is guessed: what neither the file nor the user says is an error. Runs no network and writes no card; that is
`models.importing.importing`.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard, ModelClass, shade
from earthloom.models.cards.file import canonical
from earthloom.models.importing.options import ImportOptions
from earthloom.models.importing.smp_folder import card_from_smp
from earthloom.models.importing.tensorflow_graph import to_standard
from earthloom.models.networks.smp_stride import smp_stride
from earthloom.tiling.errors import CardError

_STATE_SUFFIXES = (".safetensors", ".pt", ".pth")
_PROGRAM_SUFFIXES = (".pt", ".pt2", ".ts", ".torchscript")
_BLEND_CORE_PX = 512
_EXACT_CORE_PX = 1024
_CORES_PX = tuple(2**power for power in range(11, 3, -1))
"""Cores that shards can be made of, largest first."""


def take(folder: Path, source: Path, options: ImportOptions) -> ModelCard:
    """Put the weights into `folder` under the name that they have in a card folder.

    Args:
        folder: an empty one.
        source: a folder of `save_pretrained`, a state dict, an ONNX graph or a program.
        options: what it does not say.

    Returns:
        The card of these weights. `halo_px` is None where it is to be measured.

    Raises:
        CardError: if the file is none of these, contradicts what was said of it, or nobody vouched for a program.
    """
    suffix = source.suffix.lower()
    if source.is_dir():
        return _from_smp(folder, source, options)
    if suffix == ".onnx":
        return _from_onnx(folder, source, options)
    if options.trust_code is not None and suffix in _PROGRAM_SUFFIXES:
        return _from_program(folder, source, options)
    if options.architecture is not None and suffix in _STATE_SUFFIXES:
        return _from_state(folder, source, options, options.architecture)
    if suffix in _STATE_SUFFIXES:
        raise CardError(
            f"{source}: a state dict does not say which network it belongs to: give `architecture=smp` and "
            '`arguments={"arch":"unet","encoder_name":"resnet18"}`; if it is a whole program (TorchScript), have it '
            "exported as ONNX, or vouch for it with `trust_code`"
        )
    if suffix in _PROGRAM_SUFFIXES:
        raise CardError(
            f"{source} is a program and could do anything on this machine: have it exported as ONNX or as a state dict, or, "
            f"if you know where it comes from, give `trust_code={weights.sha256_of(source)}`"
        )
    raise CardError(
        f"{source} is no model that can be imported: give a folder of save_pretrained, a state dict (.safetensors, .pt, "
        ".pth), an ONNX graph (.onnx) or a program (.pt, .pt2, .ts)"
    )


def _from_smp(folder: Path, source: Path, options: ImportOptions) -> ModelCard:
    card = card_from_smp(
        source, bands=options.bands, quantity=options.quantity[0], mean=options.mean, std=options.std, classes=options.classes,
        gsd_m=options.gsd, name=options.name,
    )  # fmt: skip
    if options.stride not in (None, card.stride_px):
        raise CardError(f"{source}: `stride={options.stride}`, but this network's is {card.stride_px}; leave it out")
    shutil.copyfile(source / weights.SMP_FILE, folder / weights.FILE)
    return replace(card, quantities=options.quantity, activation=options.activation, **_exact(options))


def _from_state(folder: Path, source: Path, options: ImportOptions, architecture: str) -> ModelCard:
    from safetensors.torch import save_file

    from earthloom.models.networks.registry import build

    arguments = _arguments(options)
    stride_px = options.stride
    if stride_px is None and architecture == "smp":
        stride_px = smp_stride(str(arguments.get("arch", "unet")).lower(), arguments)
    card = _card(options, source, architecture, canonical(arguments), stride_px)
    module = build(card)
    state = weights.read_tensors(source)
    wanted = module.state_dict()
    state = {name: value for name, value in _without_prefix(state, set(wanted)).items() if name in wanted or value.ndim}
    save_file({name: value.contiguous() for name, value in state.items()}, folder / weights.FILE)
    return replace(card, weights=weights.sha256_of(folder / weights.FILE), **_exact(options))


def _arguments(options: ImportOptions) -> dict[str, Any]:
    try:
        arguments = json.loads(options.arguments)
        if not isinstance(arguments, dict):
            raise TypeError("not an object")
    except (ValueError, TypeError) as error:
        raise CardError(f"`arguments` must be a JSON object, got {options.arguments[:80]!r}: {error}") from error
    return arguments


def _from_onnx(folder: Path, source: Path, options: ImportOptions) -> ModelCard:
    from earthloom.models.cards.onnx_graph import MAX_BYTES, inspect

    if (size := source.stat().st_size) > MAX_BYTES:
        raise CardError(f"{source} has {size} bytes; an ONNX graph has at most {MAX_BYTES}")
    try:
        data = to_standard(source.read_bytes())
        graph = inspect(data, options.layout)
    except CardError as error:
        raise CardError(f"{source}: {error}") from error
    if len(options.bands) in graph.size_px and graph.n_bands != len(options.bands):
        other = "nhwc" if options.layout == "nchw" else "nchw"
        raise CardError(
            f"{source}: the axis of its {len(options.bands)} bands is not where {options.layout} has it: give `layout={other}`"
        )
    card = _card(options, source, "onnx", canonical({"layout": options.layout, **_arguments(options)}), options.stride)
    if card.stride_px % graph.stride_px:
        raise CardError(
            f"{source}: the graph's convolutions and poolings reduce the image {graph.stride_px} times, which must divide "
            f"`stride`, got {card.stride_px}"
        )
    if graph.pools_globally and options.halo is not None:
        raise CardError(
            f"{source}: a layer of the graph looks at the whole chip (global pooling or normalisation), so no halo makes "
            f"its tiles exact; leave out `halo={options.halo}`, and chips are blended"
        )
    (folder / weights.ONNX_FILE).write_bytes(data)
    tiling = _opaque_tiling(options, card.stride_px, graph.size_px, source)
    return replace(card, weights=weights.sha256_of(folder / weights.ONNX_FILE), **tiling)


def _from_program(folder: Path, source: Path, options: ImportOptions) -> ModelCard:
    shutil.copyfile(source, folder / weights.TORCHSCRIPT_FILE)
    found = weights.sha256_of(folder / weights.TORCHSCRIPT_FILE)
    if str(options.trust_code).lower() != found:
        raise CardError(
            f"{source} has sha256 {found}, but `trust_code` vouches for {options.trust_code}; nothing was run"
        )
    card = _card(options, source, "torchscript", "{}", options.stride)
    return replace(card, weights=found, **_opaque_tiling(options, card.stride_px, (None, None), source))


def _card(options: ImportOptions, source: Path, architecture: str, arguments: str, stride_px: int | None) -> ModelCard:
    if stride_px is None:
        raise CardError(
            f"{source}: give `stride`: how many times the network reduces the image before it enlarges it again, 32 for "
            "five halvings, 1 for none; chips are cut on multiples of it"
        )
    name = options.name or re.sub(r"[^a-z0-9._-]+", "-", source.stem.lower())
    return ModelCard(
        name=name, title=f"{name}, imported from {source.name}", architecture=architecture, arguments=arguments,
        bands=options.bands, quantities=options.quantity, mean=options.mean or (0.0,) * len(options.bands),
        std=options.std or (1.0,) * len(options.bands), gsd_m=options.gsd, activation=options.activation, stride_px=stride_px,
        classes=tuple(
            ModelClass(value=value, name=name, color=shade(value, len(options.classes)))
            for value, name in enumerate(options.classes)
        ),
    )  # fmt: skip


def _exact(options: ImportOptions) -> dict[str, Any]:
    return {} if options.halo is None else {"halo_px": options.halo}


def _opaque_tiling(
    options: ImportOptions, stride_px: int, size_px: tuple[int | None, int | None], source: Path
) -> dict[str, Any]:
    """Core, halo and overlap of a network that cannot be looked into: the user's halo, else chips are blended."""
    blend = options.halo is None
    if size_px == (None, None):
        if not blend:
            return {"core_px": _EXACT_CORE_PX, "halo_px": options.halo, "overlap": "exact"}
        halo = max(1, _BLEND_CORE_PX // 8 // stride_px) * stride_px
        return {"core_px": _BLEND_CORE_PX, "halo_px": halo, "overlap": "blend"}
    side = size_px[0] or size_px[1] or 0
    if {*size_px} - {None, side}:
        raise CardError(f"{source}: the graph takes chips of {size_px[1]} x {size_px[0]} px only; they must be square")
    fitting = {(side - core) // 2: core for core in _CORES_PX if core <= side and not (side - core) % (2 * stride_px)}
    if blend:
        halo = next((h for h, core in fitting.items() if 0 < 2 * h <= core), 0)
        if halo:
            return {"core_px": fitting[halo], "halo_px": halo, "overlap": "blend"}
    elif options.halo in fitting:
        return {"core_px": fitting[options.halo], "halo_px": options.halo, "overlap": "exact"}
    raise CardError(
        f"{source}: the graph takes chips of {side} px only; a core that is a power of two and a halo in whole strides of "
        f"{stride_px} px {'for blending ' if blend else ''}leave `halo` {' or '.join(map(str, fitting)) or 'none'}, got "
        f"{'none' if blend else options.halo}; export the graph with open sizes"
    )


def _without_prefix(state: dict[str, Any], wanted: set[str]) -> dict[str, Any]:
    """Names as the network has them: `model.` and `module.` are what Lightning and DataParallel put before them."""
    for prefix in ("model.", "module.", "net."):
        stripped = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
        if not wanted & state.keys() and wanted & stripped.keys():
            return stripped
    return state
