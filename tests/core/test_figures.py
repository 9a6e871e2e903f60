"""What a picture is made of, before anybody draws it."""

import dataclasses

import pytest

from vallis.core.figures import Axis, Figure, Mark


@pytest.mark.parametrize("kind", [Axis, Figure, Mark])
def test_pictures_are_frozen_named_and_explained(kind: type) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(item.kw_only for item in dataclasses.fields(kind))
    assert kind.__doc__ and not kind.__doc__.startswith(kind.__name__ + "(")


def test_figures_are_told_apart_by_identity() -> None:
    """Their marks hold arrays, which have no one truth value to compare by."""
    one, two = (
        Figure(name="a", title="A", x=Axis(label="x"), y=Axis(label="y"), marks=(Mark(kind="bar"),)) for _ in "ab"
    )
    assert one == one and one != two
    assert Axis(label="x") == Axis(label="x")
