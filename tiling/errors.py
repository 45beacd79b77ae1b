"""One tree of errors; each class says how the command exits and whether trying again can help.

    EarthloomError            exit 1
    ├── InputError            exit 2   something that was given cannot be used as it is
    │   ├── ConfigError                an option, a key of the config file, a URL
    │   ├── SceneError                 a scene: its bands, values, grid or bytes
    │   ├── CardError                  a model card or its weights
    │   └── TilingError                sizes that do not fit each other
    ├── StorageError          exit 1   object storage or the file system said no; often transient
    │   └── MissingObjectError         there is no such object; also a FileNotFoundError
    ├── EngineError           exit 1   Ray, a GPU or the cluster is not as asked for
    └── PublishError          exit 1   an output failed its own check and was not published

A message is a short lesson: what, where (scene, block), both values, the remedy.
"""

from __future__ import annotations

from earthloom.tiling.redact import redact


class EarthloomError(Exception):
    """Root of every error that Earthloom raises on purpose.

    Its message ends on terminals and in stored records, so secrets are taken out of it here, whatever library it quotes.
    """

    exit_code = 1
    transient = False
    """True when the same call may succeed later with nothing changed."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class InputError(EarthloomError):
    """Something that was given cannot be used as it is."""

    exit_code = 2


class ConfigError(InputError):
    """An option, a key of the config file, or a URL."""


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


class PublishError(EarthloomError):
    """An output failed its own check and was not published."""


class DamagedPartError(PublishError):
    """Tiles in storage are not those that a marker vouches for.

    Args:
        message: which object, and the remedy.
        key: of the object.
    """

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key
