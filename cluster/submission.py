"""Ray's Job API: a program is sent to a cluster's dashboard, runs beside its head, and outlives whoever sent it.

Says what Ray says in one form, with our errors. Imports Ray only while connecting.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import shlex
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from earthloom.cluster.address import find_token
from earthloom.tiling.errors import EngineError

EXIT_STOPPED = 143
"""Exit status of a job that was stopped, like that of a command that was sent SIGTERM."""
_VARIABLE = "RAY_API_SERVER_ADDRESS"
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_POLL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that was submitted."""

    id: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    command: str
    started_s: float | None
    """POSIX time."""
    ended_s: float | None
    message: str
    """What Ray says of its state."""
    driver_code: int | None
    """Exit status with which the program ended, if it ended by itself."""

    @property
    def ended(self) -> bool:
        return self.status in _ENDED

    @property
    def exit_code(self) -> int:
        """Exit status as if the program had run here."""
        if self.status == "STOPPED":
            return EXIT_STOPPED
        code = self.driver_code or 0
        return code if 0 < code < 256 else int(self.status != "SUCCEEDED")


def dashboard_of(address: str | None, env: Mapping[str, str]) -> str:
    """The URL of the dashboard to send jobs to.

    Args:
        address: what the user gave; None for RAY_API_SERVER_ADDRESS, or RAY_ADDRESS where that is a URL.

    Raises:
        EngineError: if there is none, or it is not a URL.
    """
    if address is None:
        address = next((env[name] for name in (_VARIABLE, "RAY_ADDRESS") if env.get(name, "").startswith("http")), None)
    if address is None:
        raise EngineError("no cluster is named: `address=http://head:8265` is the dashboard, which takes jobs")
    url = urlsplit(address)
    if url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc:
        raise EngineError(
            f"the address {address!r} is not the URL of a dashboard: jobs go to http://head:8265, where a driver goes to "
            "head:6379"
        )
    return f"{url.scheme}://{url.netloc}"


class JobServer:
    """A cluster's dashboard."""

    def __init__(self, address: str | None, *, timeout_s: float = 20.0) -> None:
        """
        Raises:
            EngineError: if nothing answers there, or it refuses this client.
        """
        self.url = dashboard_of(address, os.environ)
        self.is_open = _authorise(self.url, timeout_s)
        """Whether it lets in who shows no token."""
        os.environ[_VARIABLE] = self.url  # Ray lets the variable win over its own argument
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        from ray.job_submission import JobSubmissionClient

        try:
            self._client: Any = JobSubmissionClient(self.url)
        except Exception as error:
            raise EngineError(f"cannot use the dashboard at {self.url}: {_line(error)}") from error

    def submit(
        self, command: Sequence[str], *, job_id: str, packages: Sequence[Path], folder: Path,
        env: Mapping[str, str],
    ) -> Job:  # fmt: skip
        """Start a program.

        Args:
            command: its words.
            job_id: new name of the job.
            packages: importable packages for it and its workers; sent only if the cluster does not hold them yet.
            folder: the folder that it starts in, with a few small files.
            env: variables for it and its workers.

        Raises:
            EngineError: if the cluster does not take it.
        """
        runtime_env = {
            "py_modules": [str(package) for package in packages], "working_dir": str(folder), "env_vars": dict(env),
        }  # fmt: skip
        try:
            self._client.submit_job(entrypoint=shlex.join(command), submission_id=job_id, runtime_env=runtime_env)
        except Exception as error:
            raise EngineError(f"{self.url} did not take the job: {_line(error)}") from error
        return self.job(job_id)

    def job(self, job_id: str) -> Job:
        """How a job is.

        Raises:
            EngineError: if there is none of that name.
        """
        try:
            return _job(self._client.get_job_info(job_id))
        except RuntimeError as error:
            raise self._unknown(job_id, error) from error

    def jobs(self) -> list[Job]:
        """Jobs that were submitted and are remembered, the latest last."""
        found = [_job(info) for info in self._client.list_jobs() if info.submission_id]
        return sorted(found, key=lambda job: job.started_s or 0)

    def logs(self, job_id: str) -> str:
        """All that it has printed so far.

        Raises:
            EngineError: if there is none of that name.
        """
        try:
            return str(self._client.get_job_logs(job_id))
        except RuntimeError as error:
            raise self._unknown(job_id, error) from error

    def follow(self, job_id: str) -> Iterator[str]:
        """What it prints, as it prints it, to its end; an interruption leaves the job alone.

        Raises:
            EngineError: if there is none of that name.
        """
        self.job(job_id)
        loop = asyncio.new_event_loop()
        lines = self._client.tail_job_logs(job_id)
        try:
            while True:
                try:
                    yield loop.run_until_complete(anext(lines))
                except StopAsyncIteration:
                    break
                except RuntimeError as error:
                    raise self._unknown(job_id, error) from error
        finally:
            loop.run_until_complete(lines.aclose())
            loop.close()

    def ended(self, job_id: str) -> Job:
        """Wait for a job's end."""
        while not (job := self.job(job_id)).ended:
            time.sleep(_POLL_S)
        return job

    def stop(self, job_id: str) -> bool:
        """Send a job SIGTERM, and SIGKILL some seconds later; whether it was running.

        Raises:
            EngineError: if there is none of that name.
        """
        try:
            return bool(self._client.stop_job(job_id))
        except RuntimeError as error:
            raise self._unknown(job_id, error) from error

    def _unknown(self, job_id: str, error: Exception) -> EngineError:
        if "does not exist" in str(error):
            return EngineError(f"there is no job {job_id} at {self.url}; `earthloom jobs` lists them")
        return EngineError(f"{self.url}: {_line(error)}")


def _job(info: Any) -> Job:
    return Job(
        id=info.submission_id, status=str(getattr(info.status, "value", info.status)), command=info.entrypoint,
        started_s=info.start_time / 1000 if info.start_time else None,
        ended_s=info.end_time / 1000 if info.end_time else None, message=info.message or "",
        driver_code=info.driver_exit_code,
    )  # fmt: skip


def _authorise(url: str, timeout_s: float) -> bool:
    """Set RAY_AUTH_MODE as this dashboard wants it, before Ray is imported; whether it wants no token."""
    if _status(url, None, timeout_s) == 200:
        return True
    token = find_token(os.environ)
    give = "give the cluster's token as RAY_AUTH_TOKEN, as a file named by RAY_AUTH_TOKEN_PATH, or in ~/.ray/auth_token"
    if token is None:
        raise EngineError(f"the dashboard at {url} wants a token and none was found; {give}")
    if (status := _status(url, token.secret, timeout_s)) != 200:
        raise EngineError(f"the dashboard at {url} refuses the token from {token.source} (HTTP {status}); {give}")
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token" and "ray" in sys.modules:
        raise EngineError("set RAY_AUTH_MODE=token before Ray is imported, because Ray reads it only then")
    os.environ["RAY_AUTH_MODE"] = "token"
    return False


def _status(url: str, secret: str | None, timeout_s: float) -> int:
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(urllib.request.Request(f"{url}/api/jobs/", headers=headers), timeout=timeout_s) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403):
            return error.code
        raise EngineError(
            f"{url} answers HTTP {error.code} where a Ray dashboard lists its jobs; its port is 8265 by default"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise EngineError(
            f"no Ray dashboard answered at {url} within {timeout_s:g} s ({error}); check the host and port (8265 by default) "
            "and that `ray start --head` was given a `--dashboard-host` that can be reached from here"
        ) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
