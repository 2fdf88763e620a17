"""Numbers as people read them."""

import base64
import math
from pathlib import Path

from music_assets.evaluation.resampling import Estimate


def number(value: float) -> str:
    """Three significant digits, at most three decimals; a dash where undefined."""
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 3)}f}"


def percent(value: float) -> str:
    """A share as whole percent; a dash where undefined."""
    return f"{value:.0%}" if math.isfinite(value) else "–"


def level(confidence: float) -> str:
    """The level of an interval, such as 95% or 99.5%."""
    return f"{100 * confidence:g}%"


def estimate(value: Estimate, as_percent: bool = False) -> str:
    """The value with its interval."""
    show = percent if as_percent else number
    return f"{show(value.value)} [{show(value.low)} to {show(value.high)}]"


def data_uri(path: Path, media_type: str) -> str:
    """The file's bytes as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"
