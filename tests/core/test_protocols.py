import inspect
from typing import Any, ClassVar, Protocol

import pytest

from vallis.core import catalog, protocols

PROTOCOLS = dict(
    inspect.getmembers(protocols, lambda item: getattr(item, "_is_protocol", False) and item is not Protocol)
)
OF_KIND = {
    "problems": "Problem",
    "models": "Model",
    "training": "Training",
    "measurements": "Measurement",
    "theory": "Theory",
    "studies": "Study",
}


def members(protocol: Any) -> list[str]:
    methods = [name for name, _ in inspect.getmembers(protocol, inspect.isfunction) if not name.startswith("_")]
    properties = [name for name, _ in inspect.getmembers(protocol, lambda item: isinstance(item, property))]
    return sorted({*protocol.__annotations__, *methods, *properties})


def made(protocol: Any, without: str | None = None) -> Any:
    """The least that fulfils a protocol, one member left out if asked."""
    given = {name: ClassVar if name in protocol.__annotations__ else lambda self: None for name in members(protocol)}
    given.pop(without, None)
    return type("Least", (), given)()


def test_there_is_a_protocol_for_every_kind_of_part_and_for_what_some_offer_beside() -> None:
    assert set(OF_KIND) == set(catalog.KINDS)
    assert set(PROTOCOLS) == {*OF_KIND.values(), "Watcher", "Companionable", "Company", "MeasuresMany"}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_what_has_every_member_fulfils_it_and_what_lacks_one_does_not(name: str) -> None:
    protocol = PROTOCOLS[name]
    assert isinstance(made(protocol), protocol)
    assert not isinstance(object(), protocol)
    assert ("version" in members(protocol)) == (name not in ("Company", "MeasuresMany"))  # which are no parts
    for member in members(protocol):
        assert not isinstance(made(protocol, without=member), protocol), member


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_method_says_what_it_gives_and_is_typed(name: str) -> None:
    for method, function in inspect.getmembers(PROTOCOLS[name], inspect.isfunction):
        if not method.startswith("_"):
            assert function.__doc__, method
            parameters = list(inspect.signature(function).parameters.values())
            assert all(parameter.annotation is not parameter.empty for parameter in parameters[1:]), method
            assert inspect.signature(function).return_annotation is not inspect.Signature.empty, method


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in catalog.KINDS for name in catalog.names(kind)])
def test_every_part_of_the_catalog_fulfils_the_protocol_of_its_kind(kind: str, name: str) -> None:
    part = catalog.load(kind, name)
    wanted = PROTOCOLS[OF_KIND[kind]]
    if getattr(part, "takes", "") == "training":
        wanted = PROTOCOLS["Watcher"]
    lacking = [member for member in members(wanted) if not hasattr(part, member)]
    assert lacking == []
