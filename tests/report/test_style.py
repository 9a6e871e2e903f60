from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from vallis.report import style

# Machado, Oliveira and Fernandes (2009): what people with a missing kind of cone see, in linear RGB.
SEEN_AS = {
    "normal": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def linear(colour: str) -> NDArray[np.float64]:
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of the Web Content Accessibility Guidelines."""
    low, high = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def oklab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ottosson's perceptual colour space, in which a distance of 0.02 is just noticeable."""
    cones = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
    axes = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    return np.array(axes) @ np.cbrt(np.array(cones) @ np.clip(rgb, 0, 1))


@pytest.mark.parametrize("name", style.THEMES)
def test_text_is_legible(name: style.ThemeName) -> None:
    theme = style.THEMES[name]
    for paper in (theme.paper, theme.panel):
        for text in ("ink", "muted", "accent", "good", "bad", "unsure"):
            assert contrast(getattr(theme, text), paper) >= 4.5, text


@pytest.mark.parametrize("name", style.THEMES)
def test_series_stand_out_from_the_paper(name: style.ThemeName) -> None:
    theme = style.THEMES[name]
    assert min(contrast(colour, theme.paper) for colour in theme.series) >= 3
    assert min(contrast(colour, "#ffffff") for colour in style.LIGHT.series) >= 3, "exports and prints are on white"


@pytest.mark.parametrize("sight", SEEN_AS)
@pytest.mark.parametrize("name", style.THEMES)
def test_series_stay_apart_for_colour_blind_people(name: style.ThemeName, sight: str) -> None:
    seen = [oklab(np.array(SEEN_AS[sight]) @ linear(colour)) for colour in style.THEMES[name].series]
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > 0.06


def test_the_sequential_scale_rises_evenly_in_lightness() -> None:
    steps = np.diff([oklab(linear(colour))[0] for colour in style.SEQUENTIAL])
    assert (steps > 0.05).all()
    assert steps.max() < 2.5 * steps.min()


def test_the_diverging_scale_is_lightest_in_the_middle_and_even_on_both_sides() -> None:
    lightness = np.array([oklab(linear(colour))[0] for colour in style.DIVERGING])
    assert lightness.argmax() == len(lightness) // 2
    assert np.abs(lightness - lightness[::-1]).max() < 0.08


def test_themes_have_equally_many_series() -> None:
    assert len({len(theme.series) for theme in style.THEMES.values()}) == 1


def test_dashes_come_after_all_colours() -> None:
    pairs = [style.series_style(place) for place in range(24)]
    assert len(set(pairs)) == 24
    assert {dash for _, dash in pairs[:6]} == {"solid"}


def test_fonts_as_css() -> None:
    assert style.family(("Segoe UI", "Arial")) == '"Segoe UI", Arial'
