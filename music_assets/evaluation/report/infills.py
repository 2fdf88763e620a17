"""Whether what the model writes into a gap fits."""

from music_assets.evaluation.infills import ALL, BITS, BOTH_SIDES, FILLINGS, ONE, PAST, InfillReport
from music_assets.evaluation.report.numbers import estimate
from music_assets.evaluation.report.section import Content, Section
from music_assets.evaluation.results import StoredResult, load_result
from music_assets.evaluation.settings import ReportSettings
from music_assets.evaluation.subject import Subject


def load(subject: Subject, _: ReportSettings) -> StoredResult[InfillReport]:
    """What was filled."""
    return load_result(subject.result("infill_report"), subject.facts.run, InfillReport)


def show(result: StoredResult[InfillReport]) -> Content:
    """The tables."""
    found = result.found
    kinds = [kind for kind in (ALL, ONE) if any(row.spans == kind for row in found.rows)]
    by_name = {(row.spans, row.measure, row.filling): row for row in found.rows}
    network, before = (by_name[kinds[0], "note F1", filling].estimate for filling in ("network", "bar before"))
    return Content(
        values={
            "kinds": kinds,
            "measures": [measure for measure in dict.fromkeys(row.measure for row in found.rows) if measure != BITS],
            "fillings": (*FILLINGS, "original"),
            "both": by_name.get((ALL, BITS, BOTH_SIDES)),
            "past": by_name.get((ALL, BITS, PAST)),
            "rows": by_name,
            "report": found,
            "confidence": result.settings.confidence,
        },
        caveats=[
            f"What the model fills in fits less than the bar before repeated: {estimate(network, as_percent=True)} and "
            f"{estimate(before, as_percent=True)} in note F1 ({kinds[0]})."
        ]
        if network.value < before.value
        else [],
        settings={"infills": result.settings},
    )


TEMPLATE = """
<p>Bars are cut out of held-out pieces, and the model fills the gap between what is before and behind. F1 counts a note
that stands at its place with its pitch and instrument; there are other good fillings than the one that stood there, so
100% is not to be expected. Beside it stands what needs no model. Of {{ "{:,}".format(report.context_notes) }} notes
around the gaps {{ report.context_lost }} were lost and {{ report.context_added }} added.</p>
{% for kind in kinds %}
<h3>{{ kind|capitalize }}</h3>
<div class="scroll"><table>
<thead><tr><th>{{ confidence|level }} intervals</th>{% for filling in fillings %}<th>{{ filling }}</th>{% endfor %}</tr>
</thead>
<tbody>
{% for measure in measures if rows|selectattr(0, "equalto", kind)|selectattr(1, "equalto", measure)|list %}
<tr><td>{{ measure }}</td>
{% for filling in fillings %}
{% set row = rows.get((kind, measure, filling)) %}
<td>{% if row %}{{ row.estimate|estimate }}{% endif %}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
{% if both %}
<p>One note of the true filling of all instruments costs {{ both.estimate|estimate }} bits given both sides of the gap,
and {{ past.estimate|estimate }} given what is before it alone ({{ both.count }} spans, those that the model sees as a
whole). What the model knows of what is behind the gap is the difference.</p>
{% endif %}
"""

SECTION = Section("infills", "Infills", load, show, TEMPLATE)
