"""One tree of errors; each class says how the command exits and whether trying again can help.

    EarthloomError            exit 1
    ├── InputError            exit 2   something that was given cannot be used as it is
    │   ├── ConfigError                an option, a key of the config file, a URL
    │   │   └── NoSceneError           a reference that names no scene, or none yet
    │   ├── SceneError                 a scene: its bands, values, grid or bytes
    │   ├── CardError                  a model card or its weights
    │   └── TilingError                sizes that do not fit each other
    ├── StorageError          exit 1   object storage or the file system said no; often transient
    │   └── MissingObjectError         there is no such object; also a FileNotFoundError
    ├── EngineError           exit 1   Ray, a GPU or the cluster is not as asked for
    │   └── NodeError                  one machine of a cluster is of no use; others may be
    └── PublishError          exit 1   an output failed its own check and was not published

A message is a short lesson: what, where (scene, block), both values, the remedy. It names an option as Python does, between
backticks: `core` or `core=512`. That reads well in a notebook, survives every pipe and record that text survives, and is
data: `EarthloomError.options` reads it, and the command line spells it as its own flag (`respell`). The same holds for notes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from earthloom.tiling.redact import redact

_OPTION = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")


def respell(text: str, spell: Callable[[str, str | None], str]) -> str:
    """The text of an error or a note with its options named in another way.

    Args:
        spell: takes an option's name and the value that the text gives it, or None, and returns what to write instead.
    """
    return _OPTION.sub(lambda found: spell(found[1], found[2]), text)


class EarthloomError(Exception):
    """Root of every error that Earthloom raises on purpose.

    Its message ends on terminals and in stored records, so secrets are taken out of it here, whatever library it quotes.
    """

    exit_code = 1
    transient = False
    """True when the same call may succeed later with nothing changed."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))

    @property
    def options(self) -> Mapping[str, str | None]:
        """The options that the message names, each with the value that it gives or proposes, or None."""
        return {found[1]: found[2] for found in _OPTION.finditer(str(self))}


class InputError(EarthloomError):
    """Something that was given cannot be used as it is."""

    exit_code = 2


class ConfigError(InputError):
    """An option, a key of the config file, or a URL."""


class NoSceneError(ConfigError):
    """A reference is well formed and names no scene; a folder that is watched may be empty until tomorrow."""


class SceneError(InputError):
    """A scene cannot be read as the model needs it: bands, values, grid, bytes."""


class CardError(InputError):
    """A model card or its weights are missing, damaged or contradict each other."""


class TilingError(InputError):
    """Block, shard, core, halo and stride do not fit each other."""


class StorageError(EarthloomError):
    """Object storage or the file system failed.

    Args:
        message: what failed, on which object, and the remedy.
        transient: True when a later attempt may succeed (throttling, time-outs, resets).
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class MissingObjectError(StorageError, FileNotFoundError):
    """There is no such object. Also a FileNotFoundError, so that generic callers work."""


class EngineError(EarthloomError):
    """Ray, a GPU or the cluster is not as asked for."""


class NodeError(EngineError):
    """This machine of a cluster is of no use to the run; others may be."""


class PublishError(EarthloomError):
    """An output failed its own check and was not published."""


class DamagedPartError(PublishError):
    """Tiles in storage are not those that a marker vouches for.

    Args:
        message: which object, and the remedy.
        key: key of the object.
    """

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key
