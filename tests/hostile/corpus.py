"""Hostile scenes, each made by code, with what Earthloom must say of it.

A file is refused with a message that matches, or, where only its surroundings are hostile, read as if they were not
there. Every path or address that one of them names leads to a canary, whose pixels all hold 99.
"""

from __future__ import annotations

from tests.hostile import damage, disguises, making

SCENES = tuple(making.entered)
MODULES = (disguises, damage)
"""Where they are made; importing these enters them."""
