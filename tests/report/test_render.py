import base64
import hashlib
import json
import re

import pytest

from tests.report import toy
from vallis.report.csv_figure import to_csv
from vallis.report.render import Gallery, embedded, inline, render, unit


def test_json_in_a_script_element_cannot_leave_it() -> None:
    value = {toy.HOSTILE: [toy.HOSTILE, "<!--", "]]>", "\u2028", "&lt;"]}
    text = str(embedded(value))
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == value


def test_prose_is_escaped_and_its_code_marked() -> None:
    html = "the <code>H^2</code> of <code>f</code>, &lt;b&gt;x<sup>2</sup>&lt;/b&gt;"
    assert inline("the ``H^2`` of `f`, <b>x^2</b>") == html


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("0.25 ± 4e-16 nats", "0.25 ± 4\u202f×\u202f10<sup>\u221216</sup> nats"),
        ("(5.2 ± 0.3) × 10^\u22124 nats", "(5.2 ± 0.3) × 10<sup>\u22124</sup> nats"),
        ("odds of 7.84e+03 to 1", "odds of 7.84\u202f×\u202f10<sup>3</sup> to 1"),
        ("(-0.31), well-known, 1-2, a -3", "(\u22120.31), well-known, 1-2, a \u22123"),
        ("`-4e-16` stays", "<code>-4e-16</code> stays"),
        ("step 2e, 0xe5 and id 12ab", "step 2e, 0xe5 and id 12ab"),
    ],
)
def test_numbers_in_prose_are_set_as_numbers(text: str, html: str) -> None:
    assert inline(text) == html


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("nats/weight^2", "nats\u202f/\u202fweight<sup>2</sup>"),
        ("s^-1", "s<sup>\u22121</sup>"),
        ("1", ""),
        ("a*b", "a·b"),
        ("<b>", "&lt;b&gt;"),
    ],
)
def test_units(text: str, html: str) -> None:
    assert unit(text) == html


def page() -> str:
    gallery = Gallery()
    drawn = [gallery.add(figure) for figure in toy.figures()]
    context = {
        **{
            "version": "0",
            "title": "T",
            "name": "n",
            "source": toy.LI,
            "scale": "smoke",
            "scale_says": "",
            "facts": [],
        },
        **{"tally": "", "board": None, "claims": [], "drawn": drawn, "remarks": [], "tables": [], "entries": []},
    }
    return render("study.html", context, gallery.figures)


def test_plotly_is_inlined_once_and_the_page_asks_for_nothing() -> None:
    html = page()
    assert html.count("plotly.js v") == 1
    own = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert re.findall(r"(?:src|srcset|poster)\s*=\s*[\"']?(?!data:)\S+", own) == []
    assert "@import" not in own
    assert "url(" not in own
    links = re.findall(r"<link [^>]*href=\"([^\"]*)\"", own)
    assert [link for link in links if not link.startswith("data:")] == []


def test_the_policy_names_every_script_by_its_hash() -> None:
    html = page()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;;")
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    assert len(scripts) == 3
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"sha256-{digest}" in policy[1].replace("&#43;", "+")


def test_a_page_without_figures_carries_no_plotly() -> None:
    context = {
        **{
            "version": "0",
            "title": "T",
            "name": "n",
            "source": toy.LI,
            "scale": "smoke",
            "scale_says": "",
            "facts": [],
        },
        **{"tally": "", "board": None, "claims": [], "drawn": [], "remarks": [], "tables": [], "entries": []},
    }
    assert len(render("study.html", context, [])) < 100_000


def test_the_data_of_the_page_holds_the_csv_of_each_figure() -> None:
    gallery = Gallery()
    gallery.add(toy.bars())
    (figure,) = gallery.figures
    assert "".join(figure["csv"]) == to_csv(toy.bars())
    assert figure["file"] == "accuracy"


def test_a_grid_is_not_written_out_in_the_page() -> None:
    """A map of 120,000 places took 10 MB, most of it for coordinates said once a place."""
    gallery = Gallery()
    gallery.add(toy.heatmap())
    assert len(embedded(gallery.figures[0]["csv"])) < 0.5 * len(to_csv(toy.heatmap()))
