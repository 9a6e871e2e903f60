import pytest

from vallis.core.types import Source
from vallis.report import prose


def test_a_docstring_comes_apart() -> None:
    taken = prose.docstring(
        """How sharp the ground is.

        More words that the page leaves out.

        Definition: the largest eigenvalue,
            of the Hessian.
        Unit: nats/weight^2.
        Says little when: it is rescaled.

        And an afterword.
        """
    )
    assert taken.summary == "How sharp the ground is."
    assert taken.labelled == {
        "Definition": "the largest eigenvalue, of the Hessian.",
        "Unit": "nats/weight^2.",
        "Says little when": "it is rescaled.",
    }


@pytest.mark.parametrize("text", [None, "", "  \n "])
def test_no_docstring_is_an_empty_one(text: str | None) -> None:
    assert prose.docstring(text) == prose.Docstring()


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("hessian_spectrum", "Hessian spectrum"),
        ("ntk_alignment", "NTK alignment"),
        ("mine.parts:HessianTrace", "Hessian trace"),
        ("zhang2017_randomization", "Zhang2017 randomization"),
        ("train_loss", "Train loss"),
        ("pac_bayes", "PAC-Bayes"),
        ("mine:PacBayesBound", "PAC-Bayes bound"),
        ("layer_hessians", "Layer Hessians"),
        ("resnet20", "ResNet20"),
        ("", ""),
    ],
)
def test_titles(name: str, title: str) -> None:
    assert prose.title(name) == title


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (
            {"kind": "models", "name": "mlp", "version": 1, "settings": {"widths": [64, 64], "dropout": 0.0}},
            "mlp(widths=64×64, dropout=0)",
        ),
        ({"a": None, "b": [1.5, "x"]}, "a=none, b=1.5, x"),
        (True, "True"),
        ([], "()"),
        ((), "()"),
        ("", '""'),
    ],
)
def test_settings(value: object, says: str) -> None:
    assert prose.setting(value) == says


def test_sources() -> None:
    assert prose.source(Source(title="T", authors="A. Author", year=2017)) == "A. Author (2017)"
    assert prose.source(Source(title="T", authors="", year=2017)) == "2017"


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "//host", "file:///x", "", "http://a b", " https://x.org"]
)
def test_a_link_that_is_none_is_left_out(url: str) -> None:
    assert prose.safe_link(url) == ""


def test_a_link_is_kept() -> None:
    assert prose.safe_link("https://arxiv.org/abs/1712.09913") == "https://arxiv.org/abs/1712.09913"


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b\\c", ".hidden", "con?<>|*", "x" * 300, "", "...", "\x00", "mod:Class"]
)
def test_a_slug_stays_in_its_folder(name: str) -> None:
    slug = prose.slug(name)
    assert 0 < len(slug) <= 60
    assert not set(slug) & set('/\\:*?"<>|\x00 ')
    assert not slug.startswith(".")


def test_names_become_unique() -> None:
    taken: set[str] = set()
    assert [prose.unique(name, taken) for name in ("a", "a", "a-2", "a")] == ["a", "a-2", "a-2-2", "a-3"]


def test_keys_as_words() -> None:
    assert [prose.words(key) for key in ("top_eigenvalue", "num_products", "number")] == [
        "top eigenvalue",
        "number of products",
        "number",
    ]


def test_a_long_label_takes_two_lines_and_no_more() -> None:
    assert prose.lines("loss (nats/weight^2)") == ["loss (nats/weight²)"]
    lines = prose.lines("steps until all training examples are right, relative to true labels and to more besides")
    assert lines[0] == "steps until all training examples are"
    assert len(lines) == 2
    assert lines[1].endswith("…")
    assert max(map(len, prose.lines("x" * 200))) <= 44
    assert prose.lines("steps until all training examples are right") == ["steps until all training examples are right"]
    assert prose.lines("the share of all the training examples that are right") == [
        "the share of all the training",
        "examples that are right",
    ]
    assert prose.lines("") == [""]


def test_powers_are_raised() -> None:
    assert prose.raised("nats/weight^2, s^-1") == "nats/weight², s⁻¹"


def test_sentences_begin_with_a_capital() -> None:
    assert prose.sentence("the trace.") == "The trace."
    assert prose.sentence("") == ""
    assert prose.sentence("a pass forward.") == "A pass forward."
    for code in ("r(d) = min(cap, c).", "n is large.", "num_points^2 passes."):
        assert prose.sentence(code) == code
