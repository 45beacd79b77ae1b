"""Logs of a training while it runs: curves below OUT, and Weights & Biases or MLflow where they are asked for."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from earthloom.jobs.learning.config import TrainConfig
from earthloom.jobs.learning.fitting import Progress
from earthloom.models.training.log import Log
from earthloom.tiling.storage.store import Store

_EVERY = 10
"""Steps between two numbers that need no look at the validation part."""


class Tracker:
    """The log of one seed; call it with each step, and `close` it at the end.

    Args:
        config: configuration of the training.
        store: store of OUT; event files that cannot be written there directly are copied at every look.
        prefix: below which they lie.
        seed: seed of the training.
    """

    def __init__(self, config: TrainConfig, store: Store, prefix: str, seed: int) -> None:
        self._config, self._store, self._prefix, self._seed = config, store, f"{prefix}/log/seed-{seed}", seed
        self._log: Log | None = None
        self._aside = None if store.ref.scheme == "file" else TemporaryDirectory(prefix="earthloom-log-")
        self._folder = Path(self._aside.name) if self._aside else (store.ref / self._prefix).path

    def __call__(self, progress: Progress) -> None:
        """Note a step."""
        if progress.look is None and progress.step % _EVERY and progress.step != progress.steps:
            return
        values = {
            "train/loss": progress.loss, "train/rate": progress.rate,
            "train/waiting": progress.waited_s / max(progress.elapsed_s, 1e-9),
        }  # fmt: skip
        if progress.look is not None:
            values["validation/score"] = progress.look.score
            values |= {f"validation/{name}": value for name, value in progress.look.values.items()}
        log = self._open(progress.step)
        log.add(progress.step, values)
        if progress.look is not None or progress.step == progress.steps:
            log.flush()
            self._copy()

    def close(self) -> None:
        """End the log."""
        if self._log is not None:
            self._log.close()
        if self._aside is not None:
            self._copy()
            self._aside.cleanup()

    def _open(self, step: int) -> Log:
        if self._log is None:
            tracking = self._config.tracking
            self._log = Log(
                self._folder, step - 1, name=f"{self._config.name}-seed{self._seed}",
                key=self._prefix.replace("/", "-"), wandb=tracking.wandb,
                mlflow=tracking.mlflow, settings=self._config.model_dump(mode="json", exclude={"scenes", "out"}),
            )  # fmt: skip
        return self._log

    def _copy(self) -> None:
        if self._aside is None:
            return
        for path in sorted(self._folder.glob("events.*")):
            self._store.put(f"{self._prefix}/{path.name}", path.read_bytes())
