"""What a section of the report is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from music_assets.evaluation.settings import ReportSettings
from music_assets.evaluation.subject import Subject
from music_assets.foundation.settings import Settings

T = TypeVar("T")


class Headline(NamedTuple):
    """A number for the top of the page, and a plain sentence of what it means."""

    name: str
    number: str
    meaning: str


@dataclass(frozen=True)
class Content:
    """What a section puts on the page.

    ``values`` fill its template, ``caveats`` are sentences for the top of the page, ``settings`` are those that made
    what is shown, under a label, ``tables`` what it shows that no measure keeps.
    """

    values: Mapping[str, object]
    headline: Headline | None = None
    caveats: Sequence[str] = ()
    settings: Mapping[str, Settings] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Section(Generic[T]):
    """A section: how it finds what it shows, and how it shows that.

    ``load`` raises :class:`~music_assets.evaluation.results.NotMeasurable` where there is nothing to show; its
    sentence stands in the section's place. ``template`` is Jinja's, with the filters of :mod:`.numbers`.
    """

    key: str
    title: str
    load: Callable[[Subject, ReportSettings], T]
    show: Callable[[T], Content]
    template: str
