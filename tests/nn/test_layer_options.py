"""Keywords of a layer and of a network, and the objects that carry them."""

from __future__ import annotations

from dataclasses import fields
from typing import get_type_hints

import pytest

torch = pytest.importorskip("torch")

from pvqbounds import nn  # noqa: E402
from pvqbounds.errors import InputError  # noqa: E402
from pvqbounds.network.settings import SOLVE_SETTINGS, NetworkKeywords, NetworkSettings  # noqa: E402
from pvqbounds.nn.layer_options import LayerKeywords, LayerOptions  # noqa: E402
from pvqbounds.solving.execution import Execution  # noqa: E402
from pvqbounds.solving.options import SolveOptions  # noqa: E402

NOT_PASSED_ON = {Execution: {"progress", "found"}}
"""Fields that the layer sets itself."""


def hints(kind: type, *left_out: str) -> dict[str, object]:
    return {name: hint for name, hint in get_type_hints(kind).items() if name not in left_out}


def test_the_keywords_of_a_layer_are_the_fields_of_what_carries_them():
    carried = {}
    for kind in (LayerOptions, SolveOptions, Execution):
        own = hints(kind, *NOT_PASSED_ON.get(kind, ()))
        assert not carried.keys() & own.keys()
        carried |= own
    assert get_type_hints(LayerKeywords) == carried
    assert all(name in nn.layer_bounds.__doc__ for name in carried if name not in SOLVE_ALONE)


SOLVE_ALONE = {"tolerance", "seed", "verbose", "cancelled"}
"""Keywords that :func:`pvqbounds.solve` explains."""


def test_the_keywords_of_a_network_are_the_fields_of_what_carries_them():
    of_solve = hints(SolveOptions, "verbose", "cancelled")
    assert set(SOLVE_SETTINGS) == set(of_solve)
    own = hints(NetworkSettings, "methods", "sample", "solve")
    assert get_type_hints(NetworkKeywords) == own | of_solve
    kept = NetworkSettings().document()
    assert set(kept) == {*of_solve, *(field.name for field in fields(NetworkSettings))} - {"solve"}


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"density": "no"}, "density must be a number"),
        ({"opt_dim": "no"}, "opt_dim must be a positive whole number"),
    ],
)
def test_values_of_another_kind_are_refused_in_a_sentence(option, sentence):
    with pytest.raises(InputError, match=sentence):
        nn.layer_bounds(torch.nn.Linear(3, 2), "", torch.ones(4, 3), **option)


@pytest.mark.parametrize("option", [{"layers": "01"}, {"leave_out": "01"}, {"methods": "rtn"}])
def test_one_text_is_no_list_of_names(option, tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="list of names, not one text"):
        nn.network_bounds(model, torch.ones(4, 3), store=tmp_path / "s", **option)


@pytest.mark.parametrize("name", ["format", "found", "time_limt"])
def test_an_unknown_keyword_is_refused_as_by_python(name, tmp_path):
    model, data = torch.nn.Linear(3, 2), torch.ones(4, 3)
    with pytest.raises(TypeError, match=rf"layer_bounds\(\) got an unexpected keyword argument '{name}'"):
        nn.layer_bounds(model, "", data, **{name: None})
    with pytest.raises(TypeError, match=rf"network_bounds\(\) got an unexpected keyword argument '{name}'"):
        nn.network_bounds(model, data, store=tmp_path / "store", **{name: None})
    assert not (tmp_path / "store").exists()
