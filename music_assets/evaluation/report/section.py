"""What a section of the report is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from music_assets.evaluation.settings import ReportSettings
from music_assets.evaluation.subject import Subject

T = TypeVar("T")


class Headline(NamedTuple):
    """A number for the top of the page, and a plain sentence of what it means."""

    name: str
    number: str
    meaning: str


@dataclass(frozen=True)
class Content:
    """What a section puts on the page.

    ``values`` fill its template, ``caveats`` are sentences for the top of the page, ``settings`` says in JSON which
    settings made what is shown, under a label.
    """

    values: Mapping[str, object]
    headline: Headline | None = None
    caveats: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


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
