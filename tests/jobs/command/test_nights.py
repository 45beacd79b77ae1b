"""What a nightly run prints: what changed is listed, what did not is counted, and the last line says how many of each."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from earthloom.cluster.executor import WorkerFactory
from earthloom.cluster.local import LocalExecutor
from earthloom.jobs.command import lines as stderr
from earthloom.jobs.command import main
from earthloom.jobs.command.watching import watch_runs
from earthloom.jobs.config import RunConfig
from earthloom.jobs.execution import driver
from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.execution.engine import Engine
from earthloom.jobs.execution.event import Event
from earthloom.jobs.planning.plan import plan
from earthloom.jobs.report import operation
from earthloom.tiling.errors import ConfigError, StorageError
from tests.cluster.workers import square
from tests.maps import OPTIONS, go, lake
from tests.scenes import landscape, write_scene

ROOT = Path(__file__).resolve().parents[3]
WORDS = [part for name, value in OPTIONS.items() for part in (f"--{name.replace('_', '-')}", str(value))]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")


def night(capfd: pytest.CaptureFixture[str], folder: Path, *more: str) -> tuple[int, list[str], list[str]]:
    """Exit code and lines of stdout and stderr of a run of all that lies in `in`."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["run", str(folder / "in"), "--out", str(folder / "out"), *WORDS, *more])
    printed = capfd.readouterr()
    return int(str(ended.value.code)), printed.out.splitlines(), printed.err.splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes that are published, and one that was refused."""
    where = tmp_path_factory.mktemp("nights")
    for number in range(3):
        lake(where / "in", f"s{number}", width=64, height=64, seed=number)
    write_scene(where / "in" / "poor.tif", landscape(32, 32, 1), ("green",))
    go(where / "in", out=where / "out")
    return where


def test_a_night_without_news_is_three_lines(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = night(capfd, folder, "--allow-failures", "known")
    assert (code, out, len(err)) == (0, [], 3), err
    assert all(TIME.match(line) for line in err)
    assert "3 scenes of 3 blocks, 1 refused" in err[0]
    assert "nothing new" in err[1]
    assert TIME.sub("", err[2]) == "3 published (0 new), 1 refused (1 known), 0 failed"
    assert night(capfd, folder)[0] == 3, "known failures are allowed by those who say so"


def test_only_what_is_new_is_listed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lake(folder / "in", "fresh", width=64, height=64, seed=9)
    write_scene(folder / "in" / "worse.tif", landscape(32, 32, 1), ("swir16",))
    code, out, err = night(capfd, folder, "--allow-failures", "known")
    assert code == 3, "one of the failures is new"
    assert TIME.sub("", err[-1]) == "4 published (1 new), 2 refused (1 known), 0 failed"
    assert out
    assert all("/fresh/" in path for path in out), "paths of new files, and of no others"
    said = "\n".join(err)
    assert "worse refused: the model needs" in said
    assert "poor" not in said
    assert not re.search(r"\bs[012]\b", said)


def test_reasons_are_the_same_that_differ_by_the_name_of_the_scene_and_not_by_a_number() -> None:
    named = [("lake", "lake: lake.tif has 1 band"), ("river", "river: river.tif has 1 band")]
    numbered = [("1", "1: it has 1 band"), ("3", "3: it has 3 band"), ("4", "4: it has 3 band")]
    assert stderr.by_reason(named) == [(["lake", "river"], "lake.tif has 1 band")]
    assert stderr.by_reason(numbered) == [(["1"], "it has 1 band"), (["3", "4"], "it has 3 band")]


def test_every_line_is_json_if_that_is_asked_for(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lake(folder / "in", "json", width=64, height=64, seed=10)
    _, _, err = night(capfd, folder, "--log-json")
    assert all(line.startswith("{") for line in err), err
    lines = [json.loads(line) for line in err]
    assert all({"time", "event", "message"} <= line.keys() for line in lines)
    assert [line["event"] for line in lines][0 :: len(lines) - 1] == ["begin", "end"]
    assert lines[-1]["new"] == 1
    assert lines[-1]["exit_code"] == 3
    assert {"scene": "json", "status": "published"}.items() <= [one for one in lines if one["event"] == "scene"][
        -1
    ].items()
    assert len({(line["run_id"], line["product"]) for line in lines}) == 1, "all lines say of which run they are"
    facts = {line["event"]: line for line in lines}
    assert facts["time"].keys() >= {"read_s", "compute_s", "write_s", "start_s", "peak_worker_bytes"}
    assert facts["published"]["class_areas"]
    page = (ROOT / "docs" / "runs.md").read_text()
    assert all(f"`{event}`" in page for event in facts), "what is said is listed"


def test_json_for_machines_on_stdout_and_for_logs_on_stderr(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = night(capfd, folder, "--log-json", "--json")
    assert json.loads("\n".join(out))["exit_code"] == code
    assert [json.loads(line)["event"] for line in err][0 :: len(err) - 1] == ["begin", "end"]


@pytest.mark.parametrize(
    ("command", "words", "code", "told"),
    [
        ("run", ["nowhere/*.tif", "--model", "water-index", "--out", "out"], 2, "nowhere/*.tif matches no file"),
        ("run", ["nowhere/*.tif", "--model", "water-indx", "--out", "out"], 2, "did you mean"),
        ("monitor", [], 2, "files"),
        ("run", ["--block", "large"], 2, "'large' is not a valid integer"),
        ("watch", ["nowhere.toml", "--no-such-option"], 2, "No such option"),
        ("watch", ["nowhere.toml", "--once"], 2, "nowhere.toml"),
    ],
)
def test_an_error_that_ends_the_command_is_json_too(
    command: str, words: list[str], code: int, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, *words, "--log-json"])
    (line,) = capfd.readouterr().err.splitlines()
    said = json.loads(line)
    assert (ended.value.code, said["event"], said["exit_code"]) == (code, "end", code)
    assert told in said["error"]
    assert said["message"] == f"error: {said['error']}"
    with pytest.raises(SystemExit):
        main([command, *words])
    assert capfd.readouterr().err.startswith(("error: ", "Usage: ")), "only where it was asked for"


SECRET = "s3cr3t-of-a-server"
BUG = KeyError(f"bands of https://me:{SECRET}@example.com/a.tif")
AT = r"earthloom\.jobs\.execution\.driver, line \d+"


@pytest.mark.parametrize("error", [StorageError("the bucket is gone"), BUG], ids=["foreseen", "unforeseen"])
def test_an_error_within_a_run_is_one_line_that_says_of_which_run(
    error: Exception, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with mock.patch.object(driver, "probe_conditional_writes", side_effect=error):
        code, _, err = night(capfd, folder, "--log-json")
    begin, *_, end = (json.loads(line) for line in err)
    assert (code, end["event"], end["exit_code"], end["kind"]) == (1, "end", 1, type(error).__name__)
    assert (end["run_id"], end["product"]) == (begin["run_id"], begin["product"]) != ("", "")
    if error is BUG:
        assert re.fullmatch(AT, end["line"])
        assert end["traceback"].startswith("Traceback")
        assert end["line"] in end["message"]
        assert SECRET not in err[-1]


def test_people_get_an_unforeseen_error_in_a_sentence_and_its_traceback_in_a_file(
    folder: Path, own_cache: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with mock.patch.object(driver, "probe_conditional_writes", side_effect=BUG):
        code, _, err = night(capfd, folder)
        (report,) = (tmp_path / "cache" / "errors").iterdir()
        night(capfd, folder)
    assert code == 1
    assert re.fullmatch(rf"error: KeyError: .* \({AT}\)", err[-2])
    assert err[-1].endswith(f"please report it with {report}")
    assert "Traceback" not in "".join(err)
    text = report.read_text()
    assert f"\nearthloom run {folder / 'in'}" in text
    assert "Traceback" in text
    assert SECRET not in text + "".join(err)
    assert list(report.parent.iterdir()) == [report], "the same error again is the same file"


def test_the_file_of_an_error_is_short_and_holds_no_webhook(
    own_cache: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever has a webhook's address can write to its channel. Names of files may be no text, and messages hold files."""
    missing = str(tmp_path / "no\udcfftext.tif")
    with pytest.raises(SystemExit), mock.patch.object(driver, "run", side_effect=ValueError("x" * 10**6)):
        main(["run", missing, "--out", "o", *WORDS, "--notify", f"https://hooks.example.com/{SECRET}"])
    (report,) = (tmp_path / "cache" / "errors").iterdir()
    text = report.read_text(encoding="utf-8")
    assert r"no\udcfftext.tif" in text
    assert "--notify ***" in text
    assert SECRET not in text
    assert "ValueError" in text
    assert len(text) + len(capfd.readouterr().err) < 10**5


def test_without_a_place_for_a_file_the_traceback_is_said(
    folder: Path, own_cache: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "errors").write_text("in the way")
    with mock.patch.object(driver, "probe_conditional_writes", side_effect=BUG):
        _, _, err = night(capfd, folder)
    assert any(line.startswith("Traceback") for line in err)
    assert SECRET not in "".join(err)


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_a_signal_that_ends_the_command_is_told_in_its_last_line(
    stop: BaseException, code: int, folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os._exit", sys.exit)  # with which the command leaves after SIGTERM
    with mock.patch.object(driver, "run", side_effect=stop):
        assert night(capfd, folder, "--log-json")[0] == code
        ended = json.loads(night(capfd, folder, "--log-json")[2][-1])
    assert (ended["event"], ended["exit_code"]) == ("end", code)
    assert "run the same command again" in ended["message"]


def test_progress_tells_what_is_left_by_the_blocks_that_were_done(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(stderr, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with stderr.Progress(stderr.Lines(as_json=True)) as progress:
        for at, done in (
            (1060, 2),
            (1080, 3),
            (1120, 5),
            (1130, 6),
        ):  # after a minute of planning; two blocks were there
            clock[0] = at
            status = "running" if done < 6 else "published"
            progress(Event(run_id="1", product="m", scene_id="a", status=status, blocks_done=done, blocks=6,
                           computed_px=0 if done == 2 else 2_000_000, error=None))  # fmt: skip
    said = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["left_s"] for line in said] == [None, 60, 20, None]
    assert said[1]["message"] == "a running 3/6 blocks 0.10 Mpx/s, about 60 s left"


def test_a_run_that_is_skipped_ends_as_others_do(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    skipped = RunResult(
        run_id="", out="out", scenes={}, results={}, telemetry={}, skipped="the same command is at work"
    )
    with mock.patch.object(driver, "run", return_value=skipped):
        code, _, err = night(capfd, folder, "--log-json", "--if-running", "skip")
    last = json.loads(err[-1])
    assert (code, last["event"], last["exit_code"]) == (0, "end", 0)
    assert last["skipped"] == "the same command is at work"


def test_names_that_look_like_markup_are_printed_as_they_are(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lake(tmp_path / "in", width=64, height=64)
    write_scene(tmp_path / "in" / "odd.tif", landscape(32, 32, 1), ("[red]x[/nonsense]",))
    code, _, err = night(capfd, tmp_path)
    assert code == 3
    assert any("[red]x[/nonsense]" in line for line in err), err
    assert TIME.sub("", err[-1]) == "1 published (1 new), 1 refused, 0 failed"
    main(["status", str(tmp_path / "out")])
    assert "[red]x[/nonsense]" in re.sub(r"[\s│]", "", capfd.readouterr().out)


def test_failed_scenes_of_a_day_have_an_exit_code(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_scene(tmp_path / "in" / "poor.tif", landscape(32, 32, 1), ("green",))
    lake(tmp_path / "in", width=64, height=64)
    for code, count in ((3, "1 without a result, 0 known"), (0, "0 without a result, 1 known")):
        go(tmp_path / "in", out=tmp_path / "out")
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["status", str(tmp_path / "out"), "--failed", "--since", "1d"])
        assert (ended.value.code, count in capfd.readouterr().out) == (code, True)
    (tmp_path / "in" / "poor.tif").unlink()
    lake(tmp_path / "in", "poor", width=64, height=64)
    go(tmp_path / "in", out=tmp_path / "out")
    with pytest.raises(SystemExit):
        main(["status", str(tmp_path / "out"), "--failed"])
    assert "0 without a result, 0 known" in capfd.readouterr().out, "a later run has published it"
    with pytest.raises(SystemExit) as ended:
        main(["status", str(tmp_path / "out"), "--failed", "--since", "soon"])
    assert ended.value.code == 2


def test_watching_ends_when_nothing_is_at_work(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main(["status", str(folder / "out"), "--watch"])
    lines = capfd.readouterr().err.splitlines()
    assert lines
    assert all("published" in line and TIME.match(line) for line in lines)


def test_watching_says_a_run_again_when_it_has_moved(capfd: pytest.CaptureFixture[str]) -> None:
    def run(state: str, done: int) -> dict[str, object]:
        scene = {"status": "published" if done == 4 else "running", "blocks": 4, "blocks_done": done}
        return {"runs": [{"run_id": "0" * 64, "model": "landwater", "state": state, "updated": "", "scenes": {"a": scene},
                          "telemetry": {"mpx_per_s": 1.5}}]}  # fmt: skip

    answers = iter([run("running", 1), run("running", 1), run("running", 3), run("committed", 4)])
    watch_runs(lambda: next(answers), every_s=0)
    lines = capfd.readouterr().err.splitlines()
    assert [re.findall(r"(\d)/4 blocks 1.50 Mpx/s", line) for line in lines] == [["1"], ["3"], ["4"]]


def test_a_budget_refuses_before_the_run_and_stops_within_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake(tmp_path / "in", width=600, height=300)
    code, _, err = night(capfd, tmp_path, "--max-cost", "1")
    assert code == 2
    assert "--max-cost needs --price-per-hour" in err[-1]
    monkeypatch.setattr("earthloom.jobs.planning.plan._estimate", lambda *_: {"lake": 7200.0})
    code, _, err = night(capfd, tmp_path, "--price-per-hour", "10", "--max-cost", "19")
    assert code == 2
    assert "would take about 2 h and cost about 20 at --price-per-hour 10; 19 of --max-cost 19 is left" in err[-1]
    assert not (tmp_path / "out" / "scenes").exists(), "it is refused before anything is computed"
    monkeypatch.undo()
    go(tmp_path / "in", out=tmp_path / "out")
    monkeypatch.setattr("earthloom.jobs.planning.plan._estimate", lambda *_: {"lake": 7200.0})
    assert night(capfd, tmp_path, "--price-per-hour", "10", "--max-cost", "19")[0] == 0, (
        "what is published costs nothing"
    )


def test_on_a_cluster_the_budget_is_held_against_what_its_workers_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def cluster(config: RunConfig, *_: object) -> Iterator[Engine]:
        """Of four workers; what they would do is not reached."""
        executor = LocalExecutor(WorkerFactory(square))
        yield Engine(plan=plan(config), executor=executor, start_s=0.0, worker_stats=list, n_workers=4)

    monkeypatch.setattr(driver, "plan_here", lambda *_: None)
    monkeypatch.setattr(driver, "open_engine", cluster)
    monkeypatch.setattr("earthloom.jobs.planning.plan._estimate", lambda *_: {"lake": 7200.0})
    scene = lake(tmp_path / "in", width=600, height=300)
    with pytest.raises(ConfigError, match=r"would take about 0\.5 h and cost about 5 at .* of `max_cost` 4 is left"):
        go(scene, out=tmp_path / "out", price_per_hour=10.0, max_cost=4.0)
    assert not (tmp_path / "out" / "scenes").exists()


def test_a_run_that_has_cost_what_it_may_stops_and_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(operation, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=time.sleep))

    def an_hour_later(event: Event) -> None:
        clock[0] += 3600.0 if event.computed_px else 0.0

    scene = lake(tmp_path / "in", width=1100, height=300)
    budget = {"price_per_hour": 10.0, "max_cost": 5.0}
    stopped = go(scene, out=tmp_path / "out", on_event=an_hour_later, **budget)
    assert (stopped.exit_code, stopped.scenes["lake"].status) == (1, "unfinished")
    assert "`max_cost` of 5 is reached; the same command continues" in str(stopped.stopped)
    done = go(scene, out=tmp_path / "out", **budget)
    assert (done.exit_code, done.telemetry["computed_px"] < 1100 * 300) == (0, True)
