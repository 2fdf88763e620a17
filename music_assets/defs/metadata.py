"""How results look in the Dagster UI: tables, small pictures, progress lines."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import dagster as dg


def table(rows: Iterable[Mapping[str, Any]]) -> dg.MetadataValue:
    """A table of equal rows; floats are rounded to four significant digits."""
    records = [dg.TableRecord({name: _cell(value) for name, value in row.items()}) for row in rows]
    if not records:
        return dg.MetadataValue.text("none")
    return dg.MetadataValue.table(records)


def rows(found: dg.TableMetadataValue) -> list[dict[str, str | int | float | bool | None]]:
    """The rows of a :func:`table`."""
    return [dict(record.data) for record in found.records]


def _cell(value: Any) -> str | int | float | bool | None:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def bars(values: Mapping[str, float]) -> dg.MetadataValue:
    """A small horizontal bar chart, shown inline."""
    height, widest = 18, max([*values.values(), 1e-12])
    shapes = "".join(
        f'<text x="0" y="{i * height + 13}">{name}</text>'
        f'<rect x="110" y="{i * height + 3}" width="{200 * value / widest:.1f}" height="12" fill="#4f6df5"/>'
        f'<text x="{115 + 200 * value / widest:.1f}" y="{i * height + 13}">{value:,.4g}</text>'
        for i, (name, value) in enumerate(values.items())
    )
    return _picture(shapes, 380, height * len(values))


def curve(xs: Sequence[float], ys: Sequence[float]) -> dg.MetadataValue:
    """A small line chart, shown inline, with its first and last value written on it."""
    if len(xs) < 2:
        return dg.MetadataValue.text("fewer than two points")
    x0, y0 = min(xs), min(ys)
    dx, dy = max(xs) - x0 or 1, max(ys) - y0 or 1
    points = " ".join(f"{300 * (x - x0) / dx:.1f},{80 - 70 * (y - y0) / dy:.1f}" for x, y in zip(xs, ys, strict=True))
    shapes = (
        f'<polyline points="{points}" fill="none" stroke="#4f6df5" stroke-width="2"/>'
        f'<text x="4" y="12">{ys[0]:.3g}</text><text x="310" y="80">{ys[-1]:.3g}</text>'
    )
    return _picture(shapes, 360, 90)


def _picture(shapes: str, width: int, height: int) -> dg.MetadataValue:
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="11" fill="#808080">{shapes}</svg>'
    )
    return dg.MetadataValue.md(f"![plot](data:image/svg+xml,{quote(svg)})")


def log_progress(context: dg.AssetExecutionContext, what: str, every_seconds: float = 10) -> Callable[[int, int], None]:
    """A callback ``(done, total)`` that writes a log line now and then."""
    last = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= every_seconds:
            last = time.monotonic()
            context.log.info(f"{what}: {done:,} of {total:,}")

    return progress
