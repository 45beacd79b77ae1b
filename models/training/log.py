"""Curves of a training for TensorBoard, Weights & Biases and MLflow. Knows nothing of what the numbers mean.

None of the three changes what is learned, and none is needed: TensorBoard's log is written where its package is
installed, the others where they are installed and asked for.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from earthloom.tiling.errors import ConfigError

_log = logging.getLogger(__name__)


class Log:
    """The trackers that the numbers of one training go to.

    Args:
        folder: folder of the event files.
        step: the first to be logged; what an earlier process logged beyond it does not count.
        name: name of the training, for people.
        key: what tells it from all others, whatever their names.
        settings: settings of the training, plain values, shown beside the curves.
        wandb: project of Weights & Biases; offline unless WANDB_MODE says otherwise.
        mlflow: experiment of MLflow, at MLFLOW_TRACKING_URI.

    Raises:
        ConfigError: if one of the two is asked for and not installed.
    """

    def __init__(
        self, folder: Path, step: int, *, name: str, key: str, settings: Mapping[str, Any], wandb: str | None = None,
        mlflow: str | None = None,
    ) -> None:  # fmt: skip
        self._board: Any = None
        if find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            writer: Any = SummaryWriter
            self._board = writer(str(folder), purge_step=step if step else None)
        else:
            _log.warning("no TensorBoard log is written: its package is not installed; pip install 'earthloom[learn]'")
        self._wandb: Any = None
        if wandb is not None:
            module = _module("wandb", "tracking.wandb")
            mode = os.environ.get("WANDB_MODE", "offline")
            self._wandb = module.init(
                project=wandb, name=name, config=dict(settings), dir=str(folder), mode=mode, resume="allow", id=key
            )
        self._mlflow: Any = None
        if mlflow is not None:
            self._mlflow = _module("mlflow", "tracking.mlflow")
            self._mlflow.set_experiment(mlflow)
            self._mlflow.start_run(run_name=name)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Note numbers by their names after a step."""
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)
        if self._mlflow is not None:
            self._mlflow.log_metrics(dict(values), step=step)

    def flush(self) -> None:
        """Bring what was noted to disk."""
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """End the log; no number comes after this."""
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()
        if self._mlflow is not None:
            self._mlflow.end_run()


def _module(name: str, key: str) -> Any:
    if find_spec(name) is None:
        raise ConfigError(f"`{key}` is set, but {name} is not installed: pip install {name}")
    import importlib

    return importlib.import_module(name)
