"""`python -m infra.api_page`: docs/api.md, made from the docstrings of the public face.

Of the standard library alone: the face has a dozen functions, whose docstrings are in one style, and the page is to be read
on a code host too. It is no reference of the rooms inside, which may change.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import earthloom
from earthloom.jobs.products import accessor

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"
_SECTIONS = ("Args", "Returns", "Raises")

_HEAD = """# Python

`import earthloom` gives the functions of the commands, with the same names and defaults. It imports nothing heavy; each
function imports what it needs when it is called. Other modules are not part of the public API and may change.
`python -m infra.api_page` makes this page from the docstrings.

"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD + "\n".join(f"- [`earthloom.{name}`](#{name})" for name in earthloom.__all__)]
    face = Path(earthloom.__file__).read_text()
    functions = {node.name: node for node in ast.parse(face).body if isinstance(node, ast.FunctionDef)}
    parts += [_entry(functions[name], face) for name in earthloom.__all__]
    parts.append(
        "## The accessor\n\nEvery layer that `earthloom.open` returns has an accessor, `ds.classes.earthloom.plot()`. So have "
        "parts of it, and files saved from it."
    )
    code = Path(accessor.__file__).read_text()
    (kind,) = (
        node for node in ast.parse(code).body if getattr(node, "name", "") == accessor.EarthloomAccessor.__name__
    )
    assert isinstance(kind, ast.ClassDef)
    methods = [node for node in kind.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    parts += [_entry(node, code) for node in methods]
    return "\n\n".join(parts) + "\n"


def _entry(node: ast.FunctionDef, source: str) -> str:
    """A heading, the signature as it is written, and the docstring as Markdown."""
    lines = source.splitlines()[node.lineno - 1 : node.body[0].lineno - 1]
    signature = inspect.cleandoc("\n".join(line.partition("  # fmt:")[0].rstrip() for line in lines)).removesuffix(":")
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    return f"## {node.name}\n\n```python\n{signature}\n```\n\n{_markdown(text)}"


def _markdown(text: str) -> str:
    """Sections of a docstring as lists: `name: what it is` becomes a point."""
    lines, section = [], ""
    for line in text.splitlines():
        if (name := line.rstrip(":")) in _SECTIONS and line.endswith(":"):
            section = name
            lines += [f"**{section}**", ""]
        elif section in ("Args", "Raises") and (found := re.match(r"^ {4}(\S[^:]*): (.*)$", line)):
            lines.append(f"- `{found[1]}`: {found[2]}")
        elif section in ("Args", "Raises") and line.strip():
            lines.append(f"  {line.strip()}")
        else:
            lines.append(line.strip() if section else line)
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page())
