"""XML of providers, read with bounds: no document type, hence no entity of its own, and neither deep nor long.

`xml.etree` alone would expand what a document type declares, up to gigabytes (billion laughs). Opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from earthloom.tiling.errors import SceneError

_DEPTH = 64
_ELEMENTS = 100_000


def parse(data: bytes, name: str) -> Element:
    """The root of a document; tags are without their namespaces.

    Raises:
        SceneError: if it is no XML, declares a document type, or is larger than metadata are.
    """
    builder, parser = TreeBuilder(), expat.ParserCreate()
    depth = n_elements = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, n_elements
        depth, n_elements = depth + 1, n_elements + 1
        if depth > _DEPTH or n_elements > _ELEMENTS:
            raise SceneError(f"{name} has more than {_DEPTH} levels or {_ELEMENTS} elements; no product's metadata do")
        builder.start(tag.rpartition(":")[2], attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag.rpartition(":")[2])

    def refuse(*_: object) -> None:
        raise SceneError(
            f"{name} declares a document type (DOCTYPE), which could name files or fill memory, and no product's metadata do; "
            "fetch it again from its provider"
        )

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter two for encodings that nobody has
        raise SceneError(f"{name} is not XML: {str(error)[:120]}; fetch it again") from None
    return builder.close()


def texts(root: Element, tag: str) -> Iterator[tuple[dict[str, str], str]]:
    """(attributes, text) of all elements of a name, in order."""
    return ((dict(one.attrib), (one.text or "").strip()) for one in root.iter(tag))


def text(root: Element, *tags: str) -> str:
    """Text of the first element of one of these names; empty where there is none."""
    return next((found for tag in tags for _, found in texts(root, tag) if found), "")
