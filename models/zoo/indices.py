"""Images of spectral indices: those of the literature by name, and any expression of bands. Nothing was trained or fetched.

Names are those of Awesome Spectral Indices (Montero, D. et al. 2023, A standardized catalogue of spectral indices to advance
the use of remote sensing in Earth system research, Scientific Data 10, 197), in lower case.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection

from earthloom.models.cards.card import BEFORE, ModelCard, ModelClass
from earthloom.models.cards.expression import parse
from earthloom.models.zoo.entry import REFLECTANCE, ZooEntry
from earthloom.models.zoo.rules import MCFEETERS, XU, formula_card, threshold_card
from earthloom.tiling.errors import CardError

PREFIX = "index:"
"""Prefix of a model that is an expression: `index:(nir-red)/(nir+red)`, or with a name,
`index:mine=(nir-red)/(nir+red)`; with a threshold it is a map of two classes: `index:wet=(green-nir)/(green+nir) >
0.1`."""

_NAMED = re.compile(r"\s*([a-z][a-z0-9-]{0,31})\s*=(.*)\Z", re.DOTALL)
_COMPARED = re.compile(r"([^<>]*)([<>])\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*\Z", re.DOTALL)
_ANY_GSD_M = (0.1, 1000.0)


def index_card(
    name: str, expression: str, *, title: str = "", description: str = "", citation: str = "", output_dtype: str = "float32",
    quantities: tuple[str, ...] = REFLECTANCE,
) -> ModelCard:  # fmt: skip
    """The card of an index.

    Args:
        name: name of the model, its product and its band.
        expression: of bands by name (`models.cards.expression`).
        output_dtype: `int16` in steps of 0.0001, or `float32`.

    Raises:
        CardError: if the expression is none.
    """
    tree = parse(expression)
    return formula_card(
        name, expression, values_besides=1, architecture="band-math", task="regression", citation=citation,
        title=title or f"The index {tree}", description=description or f"{name} = {tree}.", quantities=quantities,
        gsd_m=_ANY_GSD_M, outputs=(name,), output_dtype=output_dtype,
    )  # fmt: skip


def card_of_word(word: str, taken: Collection[str] = ()) -> ModelCard:
    """The card of `index:<expression>` or `index:<name>=<expression>`, an image; or of `… > <number>` and `… < <number>`,
    a map of two classes.

    Args:
        taken: names of other models.

    Raises:
        CardError: if there is no index in it, or its name is another model's.
    """
    text = word.removeprefix(PREFIX)
    named = _NAMED.match(text)
    if named and named[1] in taken:
        raise CardError(f"{word[:60]!r}: {named[1]} is a model of its own; call the index something else")
    text = named[2] if named else text
    quantities = (*REFLECTANCE, "unit")
    compared = _COMPARED.match(text)
    if compared is None:
        if "<" in text or ">" in text:
            raise CardError(
                f"{word[:60]!r}: a threshold stands once, at the end, as a number: (green-nir)/(green+nir) > 0.1"
            )
        expression = str(parse(text))
        return index_card(named[1] if named else _hashed(expression), expression, quantities=quantities)
    sign = -1 if compared[2] == "<" else 1
    expression, number = str(parse(compared[1])), float(compared[3])
    rule = f"{expression} {compared[2]} {number:g}"
    name = named[1] if named else _hashed(rule)
    return threshold_card(
        name, expression if sign > 0 else f"-{expression}", threshold=sign * number, title=f"Ground where {rule}",
        description=f"{name} = {rule}.", quantities=quantities, gsd_m=_ANY_GSD_M,
        classes=(
            ModelClass(value=0, name=f"not_{name}".replace("-", "_"), color="#d9d2c3"),
            ModelClass(value=1, name=name.replace("-", "_"), color="#7b3294"),
        ),
    )  # fmt: skip


def _hashed(text: str) -> str:
    """A name for what has none."""
    return f"index-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _entry(
    name: str, expression: str, title: str, citation: str, description: str = "", output_dtype: str = "int16"
) -> ZooEntry:
    written = f"{description} " if description else ""
    return ZooEntry(
        cards=(
            index_card(
                name, expression, title=title, description=f"{written}{name.upper()} = {parse(expression)}.",
                citation=citation, output_dtype=output_dtype,
            ),
        )
    )  # fmt: skip


_KEY_AND_BENSON = (
    "Key, C. H., Benson, N. C. (2006): Landscape Assessment. In: FIREMON, USDA Forest Service General Technical Report "
    "RMRS-GTR-164-CD."
)

ENTRIES = (
    _entry(
        "ndvi", "(nir - red) / (nir + red)", "Normalised difference vegetation index",
        "Rouse, J. W., Haas, R. H., Schell, J. A., Deering, D. W. (1974): Monitoring vegetation systems in the Great Plains "
        "with ERTS. Third ERTS Symposium, NASA SP-351, 309-317.",
    ),
    _entry(
        "evi", "2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1)", "Enhanced vegetation index",
        "Huete, A., Didan, K., Miura, T., Rodriguez, E. P., Gao, X., Ferreira, L. G. (2002): Overview of the radiometric and "
        "biophysical performance of the MODIS vegetation indices. Remote Sensing of Environment 83, 195-213.",
        "Over clouds and snow the denominator comes near 0, and the index far beyond -1 and 1.",
    ),
    _entry(
        "savi", "1.5 * (nir - red) / (nir + red + 0.5)", "Soil-adjusted vegetation index",
        "Huete, A. R. (1988): A soil-adjusted vegetation index (SAVI). Remote Sensing of Environment 25, 295-309.",
    ),
    _entry(
        "ndmi", "(nir - swir16) / (nir + swir16)", "Normalised difference moisture index",
        "Wilson, E. H., Sader, S. A. (2002): Detection of forest harvest type using multiple dates of Landsat TM imagery. "
        "Remote Sensing of Environment 80, 385-396.",
    ),
    _entry(
        "ndsi", "(green - swir16) / (green + swir16)", "Normalised difference snow index",
        "Hall, D. K., Riggs, G. A., Salomonson, V. V. (1995): Development of methods for mapping global snow cover using "
        "moderate resolution imaging spectroradiometer data. Remote Sensing of Environment 54, 127-140.",
    ),
    _entry(
        "ndbi", "(swir16 - nir) / (swir16 + nir)", "Normalised difference built-up index",
        "Zha, Y., Gao, J., Ni, S. (2003): Use of normalized difference built-up index in automatically mapping urban areas "
        "from TM imagery. International Journal of Remote Sensing 24, 583-594.",
    ),
    _entry(
        "bai", "1 / ((0.1 - red) ** 2 + (0.06 - nir) ** 2)", "Burned area index",
        "Chuvieco, E., Martin, M. P., Palacios, A. (2002): Assessment of different spectral indices in the red-near-infrared "
        "spectral domain for burned land discrimination. International Journal of Remote Sensing 23, 5103-5110.",
        "Runs from 0 to thousands.", "float32",
    ),
    _entry("nbr", "(nir - swir22) / (nir + swir22)", "Normalised burn ratio", _KEY_AND_BENSON),
    _entry(
        "dnbr",
        f"({BEFORE}nir - {BEFORE}swir22) / ({BEFORE}nir + {BEFORE}swir22) - (nir - swir22) / (nir + swir22)",
        "Fall of the normalised burn ratio between two dates", _KEY_AND_BENSON,
    ),
    _entry(
        "ndwi", "(green - nir) / (green + nir)", "Normalised difference water index",
        MCFEETERS,
    ),
    _entry(
        "mndwi", "(green - swir16) / (green + swir16)", "Modified normalised difference water index",
        XU,
    ),
)  # fmt: skip
