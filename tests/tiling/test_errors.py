"""Errors and the options that their messages name."""

from __future__ import annotations

import pickle

from earthloom.tiling.errors import ConfigError, StorageError, TilingError, respell

MESSAGE = "lake: more than `memory_per_worker` 0.50 GiB; `core=512` would fit, or `bands=red=4`"


def test_an_error_says_which_options_it_names_and_with_which_values() -> None:
    error = TilingError(MESSAGE)
    assert error.options == {"memory_per_worker": None, "core": "512", "bands": "red=4"}
    assert str(error) == MESSAGE, "as a caller in Python spells them"


def test_options_survive_pickling_and_redaction() -> None:
    error = StorageError(f"s3://a/b?X-Amz-Signature=abc : {MESSAGE}", transient=True)
    copy = pickle.loads(pickle.dumps(error))
    assert copy.options == ConfigError(MESSAGE).options
    assert "abc" not in str(copy)


def test_whoever_shows_a_message_spells_its_options() -> None:
    shown = respell(MESSAGE, lambda name, value: f"<{name}:{value}>")
    assert shown == "lake: more than <memory_per_worker:None> 0.50 GiB; <core:512> would fit, or <bands:red=4>"


def test_other_words_between_backticks_are_left_alone() -> None:
    text = "use `ray start --head`, `GTIFF_DIR:1` or `Limits()`"
    assert respell(text, "{}={}".format) == text
