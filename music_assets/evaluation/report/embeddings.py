"""What the network has learned inside."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from music_assets.evaluation.embeddings import EmbeddingReport, Picture
from music_assets.evaluation.report.numbers import percent
from music_assets.evaluation.report.plots import html
from music_assets.evaluation.report.section import Content, Section
from music_assets.evaluation.results import StoredResult, load_result
from music_assets.evaluation.settings import ReportSettings
from music_assets.evaluation.subject import Subject

SYMBOLS = ("circle", "square", "diamond", "cross")
_DECIMALS = 3


def load(subject: Subject, _: ReportSettings) -> StoredResult[EmbeddingReport]:
    """What was seen of the embeddings."""
    return load_result(subject.result("embedding_report"), subject.facts.run, EmbeddingReport)


def show(result: StoredResult[EmbeddingReport]) -> Content:
    """A figure an attribute, and the table."""
    found = result.found
    pictures = found.pictures
    return Content(
        values={
            "figures": [(picture, html(figure(picture))) for picture in pictures],
            "report": found,
            "confidence": result.settings.confidence,
        },
        settings={"inside the network": result.settings},
    )


def figure(picture: Picture) -> go.Figure:
    """Principal components beside t-SNE, each class in a colour of its own."""
    drawn = make_subplots(rows=1, cols=2, horizontal_spacing=0.08)
    drawn.update_layout(height=400, margin={"t": 60, "r": 10, "l": 50, "b": 45})
    present = np.unique(picture.labels).tolist()
    for place, label in enumerate(present):
        inside = picture.labels == label
        name = picture.classes[label]
        hover = name if picture.kind == "pieces" else "%{text}"
        for column, points in enumerate((picture.components, picture.tsne), 1):
            x, y = np.round(points[inside], _DECIMALS).T.tolist()
            drawn.add_scatter(
                x=x,
                y=y,
                mode="markers",
                marker=_marker(place, len(present), picture.ordered),
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                text=None if picture.kind == "pieces" else picture.names[inside].tolist(),
                hovertemplate=f"{hover}<extra></extra>",
                row=1,
                col=column,
            )
    first, second = picture.variance
    drawn.update_xaxes(title_text=f"first component ({percent(first)} of the variance)", col=1)
    drawn.update_yaxes(title_text=f"second ({percent(second)})", col=1)
    drawn.update_xaxes(title_text="t-SNE", col=2)
    return drawn


def _marker(place: int, count: int, ordered: bool) -> dict[str, object]:
    """From blue to red where classes rise; else around the colour wheel, and neighbours in other shapes."""
    hue = 240 - 240 * place / max(count - 1, 1) if ordered else 360 * place / count
    symbol = "circle" if ordered else SYMBOLS[place % len(SYMBOLS)]
    return {"color": f"hsl({hue:.0f},60%,50%)", "symbol": symbol, "size": 7, "opacity": 0.8}


TEMPLATE = """
<p>A network turns each token into a vector, its embedding, which nobody tells it how to choose. If it has learned what
tokens mean, those that mean something alike lie beside each other. The number asks how many of a token's nearest
neighbours (by cosine, among all tokens of its type) are of its class; beside it stands chance, what the same classes
give when dealt out at random, with the {{ confidence|level }} range of shuffled ones. p is how often shuffled classes
do as well.</p>
<p>In the pictures a dot is a token that held-out pieces have. Two principal components show the part of the variance
that stands at their axes; t-SNE keeps neighbours together, and how far apart its heaps lie, or how large they are,
means little. Pitch class and octave compete: the few nearest neighbours of a pitch cannot be all of both.</p>
{% if report.too_few %}
<p>Fewer than three tokens are in held-out pieces, so that there is no picture: {{ report.too_few|join(", ") }}.</p>
{% endif %}
{% for picture, drawn in figures %}
{% set found = picture.neighbours %}
{% if picture.kind == "pieces" %}
<h3>Pieces by genre</h3>
<p>A dot is a held-out piece, each of another song: the mean of what the network makes of its first
{{ report.first_tokens }} tokens, without being told the genre. {{ found.share|percent }} of the {{ found.nearest }}
nearest neighbours of a piece are of its genre; by chance {{ found.chance|estimate(true) }}, p =
{{ found.p_value|number }}. Counting tokens finds {{ report.without_network.share|percent }} without any network: only
what lies above that is the network's.</p>
{% else %}
<h3>{{ picture.kind }} tokens by {{ picture.attribute }}</h3>
<p>{% if found %}{{ found.share|percent }} of the {{ found.nearest }} nearest neighbours of a {{ picture.kind }} token
are of its {{ picture.attribute }}; by chance {{ found.chance|estimate(true) }}, p = {{ found.p_value|number }}.
{% else %}Each is a class of its own: there is a picture and no number.
{% endif %}
{% if picture.left_out %}{{ picture.left_out }} tokens that no held-out piece has are left out.{% endif %}</p>
{% endif %}
{{ drawn }}
{% endfor %}
<h3>All of them</h3>
<div class="scroll"><table>
<thead><tr><th>what</th><th>of</th><th class="n">shown</th><th class="n">left out</th>
<th class="n">neighbours alike</th><th>by chance ({{ confidence|level }} range)</th><th class="n">p</th></tr></thead>
<tbody>
{% for picture, _ in figures %}
<tr><td>{{ picture.attribute }}</td><td>{{ picture.kind }}</td><td class="n">{{ picture.labels|length }}</td>
<td class="n">{{ picture.left_out }}</td>
{% if picture.neighbours %}
<td class="n">{{ picture.neighbours.share|percent }}</td><td>{{ picture.neighbours.chance|estimate(true) }}</td>
<td class="n">{{ picture.neighbours.p_value|number }}</td>
{% else %}
<td></td><td></td><td></td>
{% endif %}
</tr>
{% endfor %}
{% if report.without_network %}
<tr><td>genre</td><td>pieces, by the counts of their tokens alone</td>
<td class="n">{{ report.pieces.labels|length }}</td><td class="n">0</td>
<td class="n">{{ report.without_network.share|percent }}</td><td>{{ report.without_network.chance|estimate(true) }}</td>
<td class="n">{{ report.without_network.p_value|number }}</td></tr>
{% endif %}
</tbody></table></div>
"""

SECTION = Section("embeddings", "Inside the network", load, show, TEMPLATE)
