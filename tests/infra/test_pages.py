"""The pages that people read first: what they name is there."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest

from earthloom.jobs.command import cli
from infra import benchmarks_page, models_page
from tests.bench.__main__ import CASES

ROOT = Path(__file__).resolve().parents[2]
_QUOTED = re.compile(r"`((?:tests|earthloom|jobs|tiling|models|cluster|infra|docs)/[\w./-]*)`")
_LINKED = re.compile(r"\]\(([^)#:]+)\)")


PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")))


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    named = [ROOT / name for name in _QUOTED.findall(text)]
    linked = [(ROOT / page).parent / name for name in _LINKED.findall(text)]
    assert [str(path) for path in (*named, *linked) if not path.exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_shows_has_these_options(page: str) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    shown = [
        line
        for block in blocks
        for line in re.sub(r"\\\n *", "", block).splitlines()
        if re.search(r"(^|-m )earthloom ", line)
    ]
    for line in shown:
        words = shlex.split(line, comments=True)
        command: click.Command = cli
        rest = words[words.index("earthloom") + 1 :]
        while isinstance(command, click.Group):
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context(line, rest)  # raises for an option or a value that there is not


def test_the_package_tree_of_the_architecture_page_is_the_one_of_the_code() -> None:
    drawn, path = set(), list[str]()
    for line in (ROOT / "docs" / "architecture.md").read_text().splitlines():
        if found := re.match(r"^( *)([a-z_]+)/  +\S", line):
            depth = len(found[1]) // 2
            path = [*path[:depth], found[2]]
            drawn.add("/".join(path))
    rooms = {
        file.parent.relative_to(ROOT).as_posix()
        for top in ("earthloom", "jobs", "models", "tiling", "cluster", "infra")
        for file in (ROOT / top).rglob("__init__.py")
    }
    assert drawn - {"tests", "docs"} == rooms


def test_the_architecture_page_says_of_imports_what_the_contracts_say() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rooms = [" > ".join(contract["layers"]) for contract in contracts if "containers" in contract]
    assert len(rooms) == 3
    assert [line for line in rooms if line not in text] == []


def kept(**cases: list[dict[str, str]]) -> dict[str, Any]:
    """Figures as `tests.bench --keep` writes them."""
    machine = {"cpu": "some", "cores": 2, "memory_gib": 8.0, "gpu": "none", "load": 0.1}
    result = {
        "title": "What it is.",
        "date": "2026-11-25",
        "seconds": 130,
        "machine": machine,
        "versions": {"ray": "2.60"},
    }
    return {
        "cases": {
            name: result | {"command": f"python -m tests.bench {name}", "rows": rows} for name, rows in cases.items()
        }
    }


def test_the_page_and_pictures_of_benchmarks_are_those_of_the_figures() -> None:
    figures = json.loads(benchmarks_page.FIGURES.read_text())
    assert benchmarks_page.PAGE.read_text() == benchmarks_page.page(figures), "run python -m infra.benchmarks_page"
    drawn = {path.name: path.read_text() for path in benchmarks_page.IMAGES.glob("benchmark-*.svg")}
    assert drawn == benchmarks_page.pictures(figures), "run python -m infra.benchmarks_page"


def test_the_readme_states_the_figures_of_benchmarks_and_scores() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    rows = json.loads(benchmarks_page.FIGURES.read_text())["cases"]["peers"]["rows"]
    for contender, name in (("earthloom fp32", "Earthloom"), ("monai", "MONAI")):
        (row,) = [row for row in rows if (row["contender"], row["scene"]) == (contender, "8192²")]
        cpu_s, flips = float(row["CPU s"]), float(row["flips %"])
        shown = f"{flips:.1f}" if flips >= 1 else f"{flips:.4f}"
        assert re.search(rf"\| {name}[^|]*\| {cpu_s:.0f} \| {shown} % \|", text), f"{name}: {cpu_s} s, {flips} %"
    scored = models_page.PAGE.read_text()
    for sentence, line in (
        ("`deforestation` has an IoU of {:.2f}", r"IoU of deforested, pooled \| ([\d.]+)"),
        ("`buildings` {:.2f} for buildings", r"outlines as published .* IoU of building, pooled \| ([\d.]+)"),
        ("two water indices on {:.1%} of six ports", r"NDWI and MNDWI agree: ([\d.]+)"),
    ):
        found = re.search(line, scored)
        assert found, line
        assert sentence.format(float(found[1])).replace("%", " %") in text, (sentence, found[1])


def test_the_page_of_models_is_that_of_their_cards() -> None:
    assert models_page.PAGE.read_text() == models_page.page(), "run python -m infra.models_page"


def test_the_figures_are_of_cases_that_can_be_measured_again() -> None:
    figures = json.loads(benchmarks_page.FIGURES.read_text())
    assert set(figures["cases"]) | {goal["case"] for goal in figures["goals"]} | set(benchmarks_page.PLOTS) <= set(
        CASES
    )


def test_a_goal_is_met_only_if_every_row_that_it_is_about_reaches_it() -> None:
    figures = kept(
        memory=[{"model": "a", "over": "+14 %"}, {"model": "a", "over": "+31.5 %"}, {"model": "b", "over": "-2 %"}]
    )
    figures["goals"] = [
        {"goal": "all", "case": "memory", "column": "over", "least": 0, "most": 30},
        {"goal": "of a", "case": "memory", "where": {"model": "a"}, "column": "over", "least": 10},
        {"goal": "of another", "case": "planning", "column": "over", "least": 0},
    ]  # fmt: skip
    lines = benchmarks_page.page(figures).splitlines()
    assert "| all | -2 % to +31.5 % | **missed** |" in lines
    assert "| of a | +14 % to +31.5 % | met |" in lines
    assert "| of another |  | not measured |" in lines


def test_a_goal_against_rivals_is_judged_by_the_best_of_them_in_the_same_scene() -> None:
    rows = [
        {"who": "ours", "scene": "1", "CPU s": "2"}, {"who": "a", "scene": "1", "CPU s": "4"},
        {"who": "b", "scene": "1", "CPU s": "8"}, {"who": "ours", "scene": "2", "CPU s": "9"},
        {"who": "a", "scene": "2", "CPU s": "not run"}, {"who": "b", "scene": "2", "CPU s": "10"},
    ]  # fmt: skip
    goal = {
        "case": "peers",
        "column": "CPU s",
        "where": {"who": "ours"},
        "rivals": {"who": ["a", "b"]},
        "beside": "scene",
    }
    figures = kept(peers=rows) | {"goals": [{"goal": "all", "most": 1, **goal}, {"goal": "half", "most": 0.5, **goal}]}
    lines = benchmarks_page.page(figures).splitlines()
    assert "| all | 0.50 to 0.90 | met |" in lines
    assert "| half | 0.50 to 0.90 | **missed** |" in lines


def test_a_case_is_told_with_its_command_machine_and_versions() -> None:
    text = benchmarks_page.page(kept(ledger=[{"a": "1", "b": "x|y"}]) | {"lost": ["An idea: 3 s instead of 2 s."]})
    assert "`python -m tests.bench ledger` took 2 min on 2026-11-25: some, 2 cores, 8 GiB, GPU: none; ray 2.60." in text
    assert "| 1 | x\\|y |" in text
    assert "## Ideas that lost\n\n- An idea: 3 s instead of 2 s." in text
    assert "What missed its goal" not in text


def test_a_picture_is_svg_with_a_bar_for_each_number() -> None:
    rows = [
        {"writer": "ours & others", "wall s": "5.0", "CPU s": "10.0"},
        {"writer": "not here", "wall s": "", "CPU s": "2.5"},
    ]
    picture = benchmarks_page.pictures(kept(writers=rows))["benchmark-writers.svg"]
    rectangles = ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}rect")
    bars = [float(each.attrib["width"]) for each in rectangles if each.attrib["height"] == "14"]
    assert [bar / max(bars) for bar in bars] == pytest.approx([0.5, 1.0, 0.25], abs=0.01)


def test_lines_run_over_the_rows_that_are_points() -> None:
    rows = [
        {"Mpx": "4", "wall s": "2.0", "processor s": "3.0"}, {"Mpx": "16", "wall s": "5.0", "processor s": "8.0"},
        {"Mpx": "per 100", "wall s": "25", "processor s": "42"},
    ]  # fmt: skip
    picture = benchmarks_page.pictures(kept(linear=rows))["benchmark-linear.svg"]
    drawn = ElementTree.fromstring(picture).findall("{http://www.w3.org/2000/svg}polyline")
    xs = [[float(point.split(",")[0]) for point in line.attrib["points"].split()] for line in drawn]
    assert [len(line) for line in xs] == [2, 2]
    assert (xs[0][0] - 60) / (xs[0][1] - 60) == pytest.approx(4 / 16)
