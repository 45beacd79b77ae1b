"""Being told: each failure once, its end once, new results; over a webhook that fails, and never with its address."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.command import main
from earthloom.jobs.config import RunConfig, check
from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.report import notify
from earthloom.tiling.errors import ConfigError, EngineError
from tests.maps import OPTIONS, faults, go, lake
from tests.scenes import landscape, write_scene
from tests.serving import Handler, serving

SECRET = "T0KEN-that-nobody-may-see"


@dataclass
class Hook:
    """A webhook on loopback that answers as it is told to."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    """Status of the next answers; 200 when there is none."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """What it took."""

    @property
    def texts(self) -> list[str]:
        """The first word of each message."""
        return [str(body["text"]).split(":")[0] for body in self.bodies]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setattr(notify, "_PAUSES_S", (0.0, 0.0))
    found = Hook()

    class Requests(Handler):
        def answer(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = found.answers.pop(0) if found.answers else 200
            if status == 200:
                assert self.headers["Content-Type"] == "application/json"
                found.bodies.append(body)
            self.send(status, headers=[("Location", "/elsewhere")])

    with serving(Requests) as host:
        found.url = f"http://{host}/services/{SECRET}"
        yield found


@pytest.fixture
def nightly(tmp_path: Path, hook: Hook) -> Any:
    lake(tmp_path / "in", width=64, height=64)

    def night(**options: Any) -> RunResult:
        return go(tmp_path / "in", out=tmp_path / "out", notify=hook.url, **options)

    return night


def test_failure_recovery_and_new_results_are_told_once_each(nightly: Any, hook: Hook, tmp_path: Path) -> None:
    bad = tmp_path / "in" / "poor.tif"
    nightly()
    nightly()
    assert hook.texts == ["done"], "a night without news says nothing"
    write_scene(bad, landscape(32, 32, 1), ("green",))
    for _ in range(3):
        nightly()
    assert hook.texts == ["done", "failed"]
    text = hook.bodies[1]["text"]
    assert "poor: the model needs green, swir16" in text
    assert "--sensor" in text, "the remedy, as the command line spells it"
    assert "1 published (0 new), 1 refused, 0 failed" in text
    assert text.endswith("index.html")
    bad.unlink()
    for _ in range(2):
        nightly()
    assert hook.texts == ["done", "failed", "recovered"]
    assert all(set(body) == {"text"} for body in hook.bodies), "Slack takes no other"


def test_only_what_is_new_is_listed_when_a_failure_grows(nightly: Any, hook: Hook, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_scene(tmp_path / "in" / f"{name}.tif", landscape(32, 32, 1), ("green",))
        nightly()
    assert hook.texts == ["failed", "failed"]
    assert "• two" in hook.bodies[1]["text"]
    assert "• one" not in hook.bodies[1]["text"]
    (tmp_path / "in" / "one.tif").unlink()
    nightly()
    assert hook.texts[2] == "fewer failures"


def test_an_error_that_ends_the_run_is_told_and_still_ends_it(nightly: Any, hook: Hook, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ConfigError):
            go(tmp_path / "none" / "*.tif", out=tmp_path / "out", notify=hook.url)
    assert hook.texts == ["failed"]
    with faults({"lake/0_0": [EngineError("no GPU")] * 9}):
        nightly()
    assert hook.texts == ["failed", "failed"]


def test_a_webhook_that_fails_is_tried_again_and_never_fails_a_run(
    nightly: Any, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.answers = [500, 429]
    assert nightly().exit_code == 0
    assert hook.texts == ["done"]
    with faults({"lake/0_0": []}):
        hook.answers = [500, 503, 500]
        with pytest.raises(ConfigError):
            go("/nowhere/*.tif", out="/nowhere", notify=hook.url)
    assert "did not take the message (it answers 500)" in caplog.text
    assert SECRET not in caplog.text


def test_what_did_not_arrive_is_told_by_the_next_run(nightly: Any, hook: Hook, tmp_path: Path) -> None:
    write_scene(tmp_path / "in" / "poor.tif", landscape(32, 32, 1), ("green",))
    hook.answers = [404]
    nightly()
    assert hook.texts == []
    nightly()
    assert hook.texts == ["failed"]


def test_a_redirect_is_not_followed(nightly: Any, hook: Hook) -> None:
    hook.answers = [302]
    assert nightly().exit_code == 0
    assert hook.bodies == []


def test_a_scene_cannot_call_a_whole_channel(nightly: Any, hook: Hook, tmp_path: Path) -> None:
    write_scene(tmp_path / "in" / "a.tif", landscape(32, 32, 1), ("<!channel> & <http://evil|click>",))
    nightly()
    assert "<" not in hook.bodies[0]["text"]


def test_the_address_is_in_no_output_no_record_and_no_refusal(
    hook: Hook, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.getLogger().setLevel(logging.DEBUG)
    scene, out = lake(tmp_path / "in", width=64, height=64), tmp_path / "out"
    words = [part for name, value in OPTIONS.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    monkeypatch.setenv("HOOK", hook.url)
    hook.answers = [500, 500, 500]
    for given, code in (("env:HOOK", 0), (hook.url, 0), (f"ftp://{SECRET}", 2), ("env:NO_SUCH", 2)):
        with pytest.raises(SystemExit) as ended:
            main(["run", str(scene), "--out", str(out), *words, "--notify", given, "--log-json"])
        assert ended.value.code == code
    printed = capfd.readouterr()
    assert SECRET not in printed.out + printed.err
    assert not [path for path in out.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    config = check(RunConfig, {"scenes": ("a",), "out": "o", "model": "m", "notify": hook.url})
    assert SECRET not in repr(config) + str(config) + config.model_dump_json()
