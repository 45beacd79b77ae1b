"""Expressions of bands: computed as numpy computes them, and refused where they are anything else."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.expression import BandName, Expression, Number, Operation, bands_of, parse, values_held
from earthloom.models.cards.file import from_item, to_item
from earthloom.models.networks import registry
from earthloom.models.networks.enhance.band_math import BandMath
from earthloom.models.zoo import ZOO, variants
from earthloom.models.zoo.indices import ENTRIES, PREFIX, card_of_word
from earthloom.tiling.errors import CardError

NUMPY: dict[str, Any] = {
    "abs": np.abs, "sqrt": np.sqrt, "log10": np.log10, "__builtins__": {},
    "min": lambda *values: np.minimum.reduce(np.broadcast_arrays(*values)),
    "max": lambda *values: np.maximum.reduce(np.broadcast_arrays(*values)),
}  # fmt: skip

LEAVES = st.sampled_from(["nir", "red", "swir16", "before_nir"]).map(BandName) | st.floats(0.01, 8).map(
    lambda value: Number(round(value, 3))
)
TREES: st.SearchStrategy[Expression] = st.recursive(
    LEAVES,
    lambda inner: (
        st.tuples(st.sampled_from("+-*/"), inner, inner).map(lambda t: Operation(t[0], t[1:]))
        | st.tuples(st.sampled_from(["min", "max"]), inner, inner, inner).map(lambda t: Operation(t[0], t[1:]))
        | st.tuples(st.sampled_from(["abs", "sqrt"]), inner).map(lambda t: Operation(t[0], t[1:]))
        | inner.map(lambda t: Operation("-", (t,)))
        | inner.map(lambda t: Operation("**", (t, Number(2.0))))
    ),
    max_leaves=12,
).filter(lambda tree: bool(bands_of(tree)))


def computed(text: str, bands: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    names = bands_of(parse(text))
    network = BandMath(in_channels=len(names), expression=text, names=names)
    found = network(torch.from_numpy(np.stack([bands[name] for name in names])[None]))
    return found[0, 0].numpy()  # type: ignore[no-any-return]


@settings(deadline=None, max_examples=150)
@given(tree=TREES, seed=st.integers(0, 2**32 - 1))
def test_values_are_those_of_numpy(tree: Expression, seed: int) -> None:
    draw = np.random.default_rng(seed)
    names = ("nir", "red", "swir16", "before_nir")
    bands = {name: draw.uniform(-0.1, 1, (3, 5)).astype(np.float32) for name in names}
    try:
        parse(str(tree))
    except CardError:  # its constants come to no number
        return
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = np.broadcast_to(eval(str(parse(str(tree))), dict(NUMPY), bands), (3, 5))
    np.testing.assert_allclose(computed(str(tree), bands), wanted.astype(np.float32), rtol=3e-6, atol=1e-7)


@given(tree=TREES)
def test_one_spelling_stands_for_a_tree(tree: Expression) -> None:
    try:
        found = parse(str(tree))
    except CardError:
        return
    assert parse(str(found)) == found
    assert parse(str(found).replace(" ", "").replace("(", "( ")) == found
    assert set(bands_of(found)) <= set(bands_of(tree))
    assert values_held(found) <= 20


def test_precedence_is_that_of_arithmetic() -> None:
    assert str(parse("nir-red*2+swir16")) == "((nir - (red * 2)) + swir16)"
    assert str(parse("-nir**2")) == "(-(nir ** 2))"
    assert str(parse("nir/red/2")) == "((nir / red) / 2)"
    assert str(parse("nir**red**2")) == "(nir ** (red ** 2))"
    assert str(parse("2*3*nir + sqrt(16)")) == "((6 * nir) + 4)"
    assert str(parse("min(1, nir, 0.5)")) == "min(0.5, nir)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("__import__('os').system('id')", "cannot read \"'os'"),
        ("nir.__class__", r"cannot read '\.__class__'"),
        ("[x for x in nir]", r"cannot read '\[x for"),
        ("lambda nir: nir", "cannot read ': nir'"),
        ("exec(nir)", r"'exec\(nir\)' may not stand"),
        ("open(nir)", "may not stand"),
        ("nir(red)", "may not stand"),
        ("nir if red else 1", "may not stand"),
        ("nir and red", "may not stand"),
        ("not nir", "may not stand"),
        ("nir, red", "may not stand"),
        ("nir // red", "may not stand"),
        ("nir < red", "cannot read '< red'"),
        ("sqrt(nir, red)", "takes one value, got 2"),
        ("max(nir)", "takes 2 values or more, got 1"),
        ("max(*nir)", "takes 2 values or more"),
        ("sqrt", "is no name of a band"),
        ("NIR", "those are lower case"),
        ("True * nir", "no name of a band|may not stand"),
        ("", "cannot read the index"),
        ("nir +", "cannot read the index"),
        ("(nir", "cannot read the index"),
        ("1 + 2", "names no band"),
        ("nir / (1 - 1) ** 0 / 0 * (1 / 0)", "is no number up to"),
        ("nir ** (9 ** 9 ** 9)", "is no number up to"),
        ("nir * 1e99", "is beyond"),
        ("nir + 0x10", "cannot read '0x10'"),
        ("nir + 1_000", "cannot read '1_000'"),
        ("nir ** 1j", "cannot read '1j'"),
        ("nir + (-2) ** 0.5", "is no number up to"),
        ("nir + log10(0)", "is no number up to"),
        ("nir\x00", "cannot read"),
        ("+".join(["nir"] * 600), "at most 1000|parts, and at most 200"),
        ("+".join(["nir"] * 150), "parts, and at most 200"),
        ("(" * 400 + "nir" + ")" * 400, "nested too deeply|cannot read"),
        ("-" * 500 + "nir", "parts, and at most 200|nested too deeply"),
    ],
)
def test_anything_else_is_refused(text: str, said: str) -> None:
    with pytest.raises(CardError, match=said):
        parse(text)


def test_a_card_that_contradicts_its_expression_is_refused() -> None:
    with pytest.raises(CardError, match="is of nir, red, but the network gets 2 channels called nir, green"):
        BandMath(in_channels=2, expression="nir - red", names=("nir", "green"))
    card = card_of_word(f"{PREFIX}nir-red")
    hostile = to_item(card, weights_name="weights.safetensors", n_parameters=0)
    hostile["properties"]["mlm:hyperparameters"]["expression"] = "().__class__"
    with pytest.raises(CardError, match="cannot read"):
        registry.build(from_item(hostile))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_named_indices_have_cards_that_are_written_without_loss(entry: Any) -> None:
    (card,) = entry.cards
    assert from_item(to_item(card, weights_name="weights.safetensors", n_parameters=0)) == card
    assert (card.outputs, card.kind, card.stride_px, card.halo_px) == ((card.name,), "image", 1, 0)
    assert card.citation
    registry.build(card)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        # as Awesome Spectral Indices has them: B blue, G green, R red, N nir, S1 swir16, S2 swir22
        ("ndvi", "(N - R)/(N + R)"), ("evi", "2.5 * (N - R) / (N + 6.0 * R - 7.5 * B + 1.0)"),
        ("savi", "(1.0 + 0.5) * (N - R) / (N + R + 0.5)"), ("ndmi", "(N - S1)/(N + S1)"), ("ndsi", "(G - S1) / (G + S1)"),
        ("ndbi", "(S1 - N) / (S1 + N)"), ("bai", "1.0 / ((0.1 - R) ** 2.0 + (0.06 - N) ** 2.0)"),
        ("nbr", "(N - S2) / (N + S2)"), ("ndwi", "(G - N) / (G + N)"), ("mndwi", "(G - S1) / (G + S1)"),
    ],
)  # fmt: skip
def test_named_indices_are_those_of_the_catalogue(name: str, formula: str) -> None:
    draw = np.random.default_rng(0)
    names = {"B": "blue", "G": "green", "R": "red", "N": "nir", "S1": "swir16", "S2": "swir22"}
    bands = {long: draw.uniform(0.01, 0.6, (4, 4)).astype(np.float32) for long in names.values()}
    wanted = eval(formula, {"__builtins__": {}}, {short: bands[long] for short, long in names.items()})
    expression = ZOO[name].cards[0].kwargs["expression"]
    np.testing.assert_allclose(computed(expression, bands), wanted, rtol=2e-6)


def test_an_index_is_a_model_by_its_expression() -> None:
    ((card, _),) = variants(f"{PREFIX}(nir-red)/(nir+red)")
    ((other, _),) = variants(f"{PREFIX} ( nir - red ) / (nir+ red)")
    assert card == other
    assert card.name.startswith("index-")
    assert card.digest() != variants(f"{PREFIX}(nir-red)/(nir+red+0.5)")[0][0].digest()
    named = variants(f"{PREFIX}mine = nir - red")[0][0]
    assert (named.name, named.outputs, named.bands, named.output_dtype) == (
        "mine",
        ("mine",),
        ("nir", "red"),
        "float32",
    )
    with pytest.raises(CardError, match="ndvi is a model of its own"):
        variants(f"{PREFIX}ndvi=nir-red")


def test_cards_with_bands_of_their_own_are_checked() -> None:
    card = card_of_word(f"{PREFIX}mine=nir-red")
    fields = {name: getattr(card, name) for name in ModelCard.__slots__}
    for wrong, said in (
        ({"outputs": ("nir",)}, "cannot be among"),
        ({"scale": 2}, "so scale is 1"),
        ({"output_dtype": "int8"}, "or 'float32'"),
    ):
        with pytest.raises(CardError, match=said):
            ModelCard(**fields | wrong)
