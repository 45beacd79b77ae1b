"""A cube against its own records: documents, dates, the mark of every shard, and the sum of every step."""

from __future__ import annotations

from earthloom.jobs.monitoring.audit.findings import Findings
from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.monitoring.cube.log import HEAD, Generation, cube_prefix, read_generation, read_head
from earthloom.jobs.monitoring.cube.marks import ShardMark, parse_mark, step_prefix, sum_document, sum_up
from earthloom.jobs.records.blocks import StoredObject
from earthloom.tiling.errors import EarthloomError, MissingObjectError
from earthloom.tiling.writing.zarr_cube import ROOT, encode_times, time_keys


def check_cube(findings: Findings) -> Cube | None:
    """The cube that readers follow, once its documents were read; None where there is none, or it cannot be read."""
    store, base = findings.store, findings.base
    try:
        number = read_head(store, base)
        generation = read_generation(store, base, number) if number else None
    except (EarthloomError, KeyError, TypeError, ValueError) as error:
        findings.wrong(f"{base}/{HEAD}", f"cannot be followed to a cube ({error}). {remedy(base)}")
        return None
    if not number:
        findings.note(f"{base} has no finished cube yet")
        return None
    if generation is None or not generation.committed:
        findings.wrong(
            f"{base}/{HEAD}", f"leads to {cube_prefix(base, number)}, of which nothing is committed. {remedy(base)}"
        )
        return None
    _check_documents(findings, generation.cube)
    for step in range(generation.committed):
        _check_step(findings, generation, step)
    return generation.cube


def remedy(base: str) -> str:
    """The remedy for a damaged cube."""
    return f"Remove {base} and run `earthloom monitor` again: all of it is made again from the committed scenes"


def _check_documents(findings: Findings, cube: Cube) -> None:
    """Those that do not grow are to the byte what the cube's description gives; the dates are its dates."""
    documents = cube.metadata()
    growing = {f"{layer.name}/{ROOT}" for layer in cube.layers} | {f"time/{ROOT}"}
    for name in sorted(documents.keys() - growing):
        _compare(findings, f"{cube.prefix}/{name}", documents[name])
    for name in sorted(growing):
        if f"{cube.prefix}/{name}" not in findings.sizes:
            findings.wrong(f"{cube.prefix}/{name}", "is missing. Run `earthloom monitor` again, which writes it")
    dates = [step.date for step in cube.steps]
    for number, name in enumerate(time_keys(dates)):
        key = f"{cube.prefix}/{name}"
        try:
            held = findings.store.get(key)
            is_ours = encode_times(dates, number, held) == held
        except MissingObjectError:
            is_ours = False
        except (EarthloomError, ValueError):
            is_ours = False
        if not is_ours:
            findings.wrong(key, f"does not hold the dates of the cube. {remedy(findings.base)}")


def _compare(findings: Findings, key: str, wanted: bytes) -> None:
    try:
        held = findings.store.get(key)
    except MissingObjectError:
        findings.wrong(key, f"is missing. {remedy(findings.base)}")
        return
    if held != wanted:
        findings.wrong(key, f"is not what the cube's own description gives. {remedy(findings.base)}")


def _check_step(findings: Findings, generation: Generation, step: int) -> None:
    cube, prefix = generation.cube, step_prefix(generation.prefix, step)
    marks: dict[tuple[int, int], ShardMark] = {}
    objects: dict[str, StoredObject] = {}
    for key in sorted(key for key in findings.sizes if key.startswith(f"{prefix}/")):
        mark = parse_mark(findings.store.get(key), key)
        if mark is None:
            findings.wrong(key, f"is damaged, so nothing vouches for its shard. {remedy(findings.base)}")
            continue
        marks[mark.row, mark.col] = mark
        for layer, stored in mark.objects.items():
            if stored:
                objects[f"{cube.prefix}/{cube.layout.shard_key(layer, step, mark.row, mark.col)}"] = stored
    findings.check(objects, remedy(findings.base))
    held = {
        key
        for layer in cube.layers
        for key in findings.sizes
        if key.startswith(f"{cube.prefix}/{layer.name}/c/{step}/")
    }
    for key in sorted(held - objects.keys()):
        findings.wrong(key, f"has pixels that no mark vouches for. {remedy(findings.base)}")
    rows, cols = cube.layout.shard_grid
    empty = [(row, col) for row in range(rows) for col in range(cols) if (row, col) not in marks]
    total = sum_up(cube.layout, [marks[place] for place in sorted(marks)], len(cube.classes), empty)
    _compare(findings, f"{prefix}.json", sum_document(cube.steps[step], total))
