# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How good is the model?
#
# The tables that the evaluation leaves in `data/evaluation/<architecture>/`, plotted: real, held-out music beside what
# the model wrote, genre by genre, and in words what can be seen. `MUSIC_ASSETS_DATA` names another data folder,
# `ARCHITECTURE` another model than `gpt`. From the folder of the project:
#
#     pip install 'music-assets[notebook]' && jupytext --to ipynb --run-path . --execute notebooks/model_performance.py

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from IPython.display import Markdown, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from music_assets.evaluation.features import HISTOGRAMS, Histogram
from music_assets.paths import DataPaths

ARCHITECTURE = os.environ.get("ARCHITECTURE", "gpt")
FOLDER = DataPaths.from_environment().evaluation(ARCHITECTURE)
COLOURS = {"real": "#4477aa", "generated": "#dd7733"}
plt.rcParams |= {"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False, "font.size": 9}


def table(measure: str, name: str) -> pl.DataFrame:
    """One table of one measure."""
    path = FOLDER / f"{measure}.{name}.csv"
    if not path.exists():
        raise SystemExit(f"There is no {path}: materialise {measure} [{ARCHITECTURE}] first.")
    return pl.read_csv(path)


excerpts = table("feature_stats", "excerpts")
genres = sorted(set(excerpts.filter(pl.col("origin") == "generated")["genre"]))
display(Markdown(f"**{ARCHITECTURE}**: {len(excerpts):,} excerpts of {len(genres)} genres: {', '.join(genres)}."))


# %% [markdown]
# ## Pitch classes, durations and velocities
#
# The mean share of the notes in each bin.


# %%
def of(origin: str, genre: str) -> pl.DataFrame:
    """The excerpts of one side of one genre that hold notes."""
    return excerpts.filter((pl.col("origin") == origin) & (pl.col("genre") == genre) & (pl.col("notes") > 0))


def shares(origin: str, genre: str, feature: str) -> np.ndarray:
    """The mean share of the notes in each bin, where there are notes that count."""
    rows = of(origin, genre).select([f"{feature}: {name}" for name in HISTOGRAMS[feature].bins]).to_numpy()
    counted = rows[rows.sum(axis=1) > 0]
    return counted.mean(axis=0) if len(counted) else np.zeros(rows.shape[1])


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """A panel a genre, three in a row."""
    figure, axes = plt.subplots(-(-count // 3), 3, figsize=(11, 2.1 * -(-count // 3)), squeeze=False)
    for unused in axes.flat[count:]:
        unused.axis("off")
    return figure, list(axes.flat[:count])


def show_histogram(feature: str, histogram: Histogram) -> None:
    """Bars of both sides, and the bin in which they differ most."""
    figure, axes = panels(len(genres))
    places, seen = np.arange(len(histogram.bins)), []
    for axis, genre in zip(axes, genres, strict=True):
        sides = {origin: shares(origin, genre, feature) for origin in COLOURS}
        for offset, (origin, colour) in enumerate(COLOURS.items()):
            axis.bar(places + 0.4 * offset, sides[origin], 0.4, color=colour, label=origin)
        axis.set_title(genre)
        axis.set_xticks(places[:: max(1, len(places) // 6)], histogram.bins[:: max(1, len(places) // 6)])
        difference = sides["generated"] - sides["real"]
        worst = int(np.abs(difference).argmax())
        seen.append(
            f"{genre}: {difference[worst]:+.0%} in {histogram.bins[worst]} "
            f"({np.abs(difference).sum() / 2:.0%} of the notes would have to move)"
        )
    axes[0].legend(frameon=False)
    figure.suptitle(f"{feature} {histogram.unit}".strip())
    figure.tight_layout()
    plt.show()
    display(Markdown(f"Generated less real, where they differ most in {feature}. {'; '.join(seen)}."))


for feature in ("pitch class", "duration", "velocity"):
    show_histogram(feature, HISTOGRAMS[feature])

# %% [markdown]
# ## Density, polyphony and length
#
# Each line is a genre's middle half, the point its median.


# %%
def quartiles(origin: str, genre: str, column: str) -> np.ndarray:
    """Three quartiles of a feature where it is defined; NaN where it is nowhere."""
    values = of(origin, genre)[column].drop_nulls().drop_nans()
    return np.quantile(values, [0.25, 0.5, 0.75]) if len(values) else np.full(3, np.nan)


def show_quartiles(column: str) -> None:
    """Both sides of every genre, and in which genres the medians lie outside real music's middle half."""
    _, axis = plt.subplots(figsize=(8, 0.45 * len(genres) + 1))
    outside = []
    for place, genre in enumerate(genres):
        sides = {origin: quartiles(origin, genre, column) for origin in COLOURS}
        for offset, (origin, (low, middle, high)) in enumerate(sides.items()):
            y = place + 0.25 * offset
            axis.plot([low, high], [y, y], color=COLOURS[origin], label=origin if place == 0 else None)
            axis.plot(middle, y, "o", color=COLOURS[origin])
        low, _, high = sides["real"]
        if not low <= sides["generated"][1] <= high:
            outside.append(genre)
    axis.set_yticks(np.arange(len(genres)) + 0.12, genres)
    axis.set_title(column)
    axis.legend(frameon=False)
    plt.show()
    said = f"outside it in {', '.join(outside)}" if outside else "inside it in all genres"
    display(Markdown(f"{column}: the generated median, held against real music's middle half, lies {said}."))


for column in ("notes per beat", "polyphony", "notes"):
    show_quartiles(column)

# %% [markdown]
# ## Training

# %%
curves = table("report", "curves")
figure, axes = plt.subplots(1, 2, figsize=(11, 3))
for axis, (name, points) in zip(axes, curves.group_by("curve", maintain_order=True), strict=True):
    axis.plot(points["tokens"], points["value"], marker="o" if len(points) < 20 else None, color=COLOURS["generated"])
    axis.set_title(name[0])
    axis.set_xlabel("tokens seen")
figure.tight_layout()
plt.show()
validation = curves.filter(pl.col("curve").str.starts_with("validation"))["value"]
if len(validation):
    fell = validation[0] - validation[-1]
    display(
        Markdown(
            f"Validation {'fell' if fell > 0 else 'rose'} by {abs(fell):.2f} bits a note from the first to the last of "
            f"{len(validation)} times; its best was {validation.min():.2f}"
            f"{', the last: longer training may help' if validation[-1] == validation.min() else ''}."
        )
    )

# %% [markdown]
# ## Feature by feature
#
# The distances to real music that lie beyond what real pieces differ by among themselves.

# %%
distances = table("feature_stats", "distances")
by_feature = (
    distances.group_by("feature").agg(pl.col("beyond_floor").sum().alias("genres"), pl.len().alias("of")).sort("genres")
)
_, axis = plt.subplots(figsize=(8, 0.22 * len(by_feature) + 1))
axis.barh(by_feature["feature"], by_feature["genres"], color=COLOURS["generated"])
axis.set_xlabel("genres in which the distance lies beyond real music's own")
plt.show()
worst = by_feature.filter(pl.col("genres") > 0).sort("genres", descending=True).head(3)
told = ", ".join(f"{feature} ({count} of {total} genres)" for feature, count, total in worst.iter_rows())
display(
    Markdown(
        f"{distances['beyond_floor'].sum()} of {len(distances)} distances lie beyond real music's own"
        f"{f'; most often {told}' if told else ''}."
    )
)
