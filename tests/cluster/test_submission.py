from __future__ import annotations

import pytest

from earthloom.cluster.submission import Job, dashboard_of
from earthloom.tiling.errors import EngineError


def ended(status: str, code: int | None) -> Job:
    return Job(id="a", status=status, command="", started_s=1, ended_s=2, message="", driver_code=code)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", 2, 2), ("FAILED", None, 1), ("STOPPED", None, 143),
     ("STOPPED", -15, 143), ("FAILED", -9, 1), ("SUCCEEDED", None, 0)],
)  # fmt: skip
def test_a_job_ends_with_the_code_of_its_command(status: str, code: int | None, expected: int) -> None:
    assert ended(status, code).exit_code == expected


def test_the_dashboard_is_named_or_found_in_the_environment() -> None:
    assert dashboard_of("http://head:8265/", {}) == "http://head:8265"
    assert dashboard_of(None, {"RAY_ADDRESS": "http://head:8265"}) == "http://head:8265"
    assert dashboard_of(None, {"RAY_ADDRESS": "http://a:1", "RAY_API_SERVER_ADDRESS": "http://b:2"}) == "http://b:2"
    for env in ({}, {"RAY_ADDRESS": "head:6379"}):
        with pytest.raises(EngineError, match=r"`address=http://head:8265`"):
            dashboard_of(None, env)
    for wrong in ("head:8265", "ftp://head", "http://user:secret@head:8265"):
        with pytest.raises(EngineError, match="is not the URL of a dashboard"):
            dashboard_of(wrong, {})
