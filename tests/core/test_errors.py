import inspect
import re

import pytest

import vallis
from vallis.core import errors

CLASSES = [item for _, item in inspect.getmembers(errors, inspect.isclass)]


def tree_in_the_docstring() -> dict[str, str]:
    """Each exception of the drawing, with the one it hangs from."""
    parents, open_branches = {}, {}
    for line in (errors.__doc__ or "").splitlines():
        drawn = re.match(r"^    ([│├└─ ]*)([A-Z]\w+)", line)
        if drawn:
            depth = len(drawn.group(1)) // 4
            open_branches[depth] = drawn.group(2)
            parents[drawn.group(2)] = open_branches.get(depth - 1, "Exception")
    return parents


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    assert tree_in_the_docstring() == {item.__name__: item.__bases__[0].__name__ for item in CLASSES}


@pytest.mark.parametrize("error", CLASSES)
def test_one_word_catches_them_all(error: type[Exception]) -> None:
    with pytest.raises(vallis.VallisError, match="what, came, do"):
        raise error("what, came, do")
    assert error.__doc__


@pytest.mark.parametrize("error", CLASSES)
def test_what_the_caller_gave_wrongly_is_a_value_error(error: type[Exception]) -> None:
    assert issubclass(error, ValueError) == issubclass(error, errors.UsageError)
    assert issubclass(error, errors.UsageError) == (error not in (errors.VallisError, errors.StoreError))
