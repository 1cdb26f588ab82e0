"""What the study's pictures share: 800 px wide, once for a light page and once for a dark one, without a background."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora2.analysis.figure3 import save
from lora2.analysis.methods import ALL_STYLES, style_name

WIDTH = 8.0  # inches of 100 px


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours: of text and axes, of faint lines, and a colour map from low to high; those of methods are a table's."""

    name: str
    ink: str
    faint: str
    ramp: str

    def colour(self, variant: str) -> str:
        """Return a method's colour."""
        style = ALL_STYLES[style_name(variant)]
        return style.dark if self is DARK else style.light


LIGHT = Theme(name="light", ink="#1f2328", faint="#d0d7de", ramp="Blues")
DARK = Theme(name="dark", ink="#e6edf3", faint="#3d444d", ramp="Blues_r")
THEMES = (LIGHT, DARK)

Draw = Callable[[Any, Theme], None]  # (matplotlib figure, theme)


def picture_path(folder: Path, name: str, theme: Theme) -> Path:
    """Return where a picture lies: NAME.svg, and NAME_dark.svg for a dark page."""
    return folder / f"{name}{'_dark' if theme is DARK else ''}.svg"


def draw(name: str, height: float, content: Draw, folder: Path) -> list[Path]:
    """Write one picture for both themes.

    The same records give the same bytes; text is drawn as outlines, so that no viewer's font moves it.

    Args:
        name: of the file, without suffix.
        height: in inches; the width is WIDTH.
        content: fills the figure.
        folder: where it is written.

    Raises:
        UserError: it cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    written = []
    for theme in THEMES:
        with mpl.rc_context(_style(theme)):
            figure = plt.figure(figsize=(WIDTH, height), layout="constrained")
            content(figure, theme)
            written.append(picture_path(folder, name, theme))
            save(figure, written[-1])
            plt.close(figure)
    return written


def _style(theme: Theme) -> Any:
    """The settings of matplotlib, by name."""
    ink = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), theme.ink)
    return {
        **ink,
        "font.size": 10.0,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.faint,
        "grid.linewidth": 0.6,
        "svg.hashsalt": "lora2",
    }
