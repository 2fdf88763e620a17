"""Blind listening in the browser: real or generated?"""

from dataclasses import dataclass
from typing import Any

import gradio as gr
from pydantic import TypeAdapter, ValidationError

from music_assets.app.context import Studio
from music_assets.app.events import NETWORK, SOUND, on, waiting
from music_assets.app.tabs.files import ends_rolls
from music_assets.app.tabs.panel import kept
from music_assets.evaluation.listening import (
    ENDS,
    ListeningFiles,
    ListeningSettings,
    Rater,
    Rating,
    append_rating,
    not_rated_yet,
    prepare_session,
    read_material,
    read_materials,
    report_so_far,
)
from music_assets.evaluation.report.numbers import estimate, level, number
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.evaluation.subject import champion_of
from music_assets.foundation.errors import MusicAssetsError

REAL, GENERATED = "Real", "Generated"
_GRADES = [1, 2, 3, 4, 5]


@dataclass(frozen=True)
class Sitting:
    """A person who rates a session, and what is still to be heard."""

    session: str
    rater: str
    total: int
    left: tuple[str, ...]


class Desk:
    """The listening tests of an architecture."""

    def __init__(self, studio: Studio) -> None:
        self.paths, self.architecture = studio.paths, studio.model.facts.architecture
        self.files = ListeningFiles(self.paths.listening(self.architecture))

    def sessions(self) -> list[str]:
        """Names of the sessions, the newest last."""
        return [*read_materials(self.files)]

    def prepare(self, count: int, seed: int) -> str:
        """Make a session, and name it."""
        subject = champion_of(self.paths, self.architecture)
        return prepare_session(subject, ListeningSettings(count=count, seed=seed)).session

    def begin(self, session: str | None, name: str | None) -> Sitting:
        """Begin a session, or go on with it where one left off."""
        if not session:
            raise MusicAssetsError("There is no session yet: make one first.")
        try:
            rater = TypeAdapter[str](Rater).validate_python(name or "")
        except ValidationError:
            raise MusicAssetsError("Say who listens: a name of 1 to 200 letters, the same each time.") from None
        material = read_material(self.files, session)
        left = not_rated_yet(self.files, material, rater)
        return Sitting(session, rater, len(material.excerpts), tuple(left))

    def sound(self, sitting: Sitting) -> bytes:
        """What is to be heard next."""
        path = self.files.session(sitting.session) / f"{sitting.left[0]}.ogg"
        if not path.is_file():
            raise MusicAssetsError(f"Excerpt {sitting.left[0]} is gone: make the session again.")
        return path.read_bytes()

    def rate(self, sitting: Sitting, grades: dict[str, int | None], guess: str | None) -> Sitting:
        """Keep what is said of an excerpt; the next one follows."""
        if guess is None or any(grade is None for grade in grades.values()):
            raise MusicAssetsError("Answer all four questions first.")
        rating = Rating.model_validate(
            {
                "session": sitting.session,
                "excerpt": sitting.left[0],
                "rater": sitting.rater,
                "is_real": guess == REAL,
                **grades,
            }
        )
        append_rating(self.files.ratings, rating)
        return Sitting(sitting.session, sitting.rater, sitting.total, sitting.left[1:])

    def results(self) -> str:
        """What the ratings of the champion's samples say, in Markdown."""
        settings = EvaluationSettings()
        run = champion_of(self.paths, self.architecture).facts.run
        found = report_so_far(self.files, settings, run)
        rows = "\n".join(
            f"| {row.scale} | {estimate(row.real)} | {estimate(row.generated)} | {estimate(row.difference)} "
            f"| {number(row.alpha)} |"
            for row in found.scales
        )
        alone = " One person rated: the intervals say nothing of other people." if found.raters == 1 else ""
        return (
            f"| scale, 1 to 5 | real | generated | generated − real | agreement (alpha) |\n|---|---|---|---|---|\n"
            f"{rows}\n\nRight guesses: **{estimate(found.right, as_percent=True)}**, by chance 50%. "
            f"{found.ratings} ratings by {found.raters} raters, of {found.real_pieces} real and "
            f"{found.generated_pieces} generated pieces; [{level(settings.confidence)} intervals].{alone}"
        )


def listen_tab(studio: Studio, blocks: gr.Blocks) -> None:
    """Begin, rate, thank you; and what all have said."""
    desk, sitting = Desk(studio), gr.State(None)
    with gr.Column() as start:
        with gr.Row():
            session = gr.Dropdown([], label="Session", elem_id="listen-session")
            name = gr.Textbox(label="Your name", placeholder="The same each time", max_length=200)
        begin = gr.Button("Begin", variant="primary", elem_id="listen-begin")
        with gr.Accordion("Make a session", open=False), gr.Row():
            count = gr.Slider(1, 20, 5, step=1, label="Real excerpts, and as many generated ones")
            seed = gr.Number(0, precision=0, minimum=0, maximum=2**53, label="Seed of the choice")
            prepare = gr.Button("Make a session", elem_id="listen-prepare")
    status = gr.Markdown("", elem_id="listen-status", elem_classes="status")
    with gr.Column(visible=False) as questions:
        audio = gr.Audio(label="What do you hear?", interactive=False, buttons=[], elem_id="listen-audio")
        ends_rolls(audio)
        with gr.Row():
            grades = {
                scale: gr.Radio(
                    _GRADES,
                    label=f"{scale.capitalize()}: 1 {low}, 5 {high}",
                    elem_id=f"listen-{scale}",
                    elem_classes="grades",
                    min_width=420,
                )
                for scale, (low, high) in ENDS.items()
            }
            guess = gr.Radio([REAL, GENERATED], label="Real or generated?", elem_id="listen-guess", min_width=420)
        following = gr.Button("Next", variant="primary", elem_id="listen-next")
    with gr.Accordion("Results so far", open=False):
        look = gr.Button("Show the results", elem_id="listen-results")
        results = gr.Markdown("")
    answers = [*grades.values(), guess]
    outputs = [sitting, status, start, questions, audio, *answers]

    def show(now: Sitting, page: gr.Request) -> dict[Any, Any]:
        ended = not now.left
        number = now.total - len(now.left) + 1
        return {
            sitting: now,
            status: f"Thank you, {now.rater}: you have rated all {now.total} excerpts."
            if ended
            else f"Excerpt {number} of {now.total}",
            start: gr.update(visible=ended),
            questions: gr.update(visible=not ended),
            audio: None if ended else kept(studio, page, audio, desk.sound(now), f"{now.left[0]}.ogg"),
            **dict.fromkeys(answers),
        }

    def first(chosen: str | None, rater: str | None, page: gr.Request) -> dict[Any, Any]:
        return show(desk.begin(chosen, rater), page)

    def after(page: gr.Request, now: Sitting | None, *said: Any) -> dict[Any, Any]:
        if now is None or not now.left:
            raise MusicAssetsError("Begin a session first.")
        return show(desk.rate(now, dict(zip(grades, said[:-1], strict=True)), said[-1]), page)

    def made(pairs: float, seed: float) -> dict[Any, Any]:
        fresh = desk.prepare(int(pairs), int(seed or 0))
        return {session: gr.update(choices=desk.sessions(), value=fresh), status: f"The session {fresh} is ready."}

    def known() -> Any:
        names = desk.sessions()
        return gr.update(choices=names, value=names[-1] if names else None)

    on(blocks.load, known, None, session)
    on(begin.click, first, [session, name], outputs)
    on(following.click, after, [sitting, *answers], outputs)
    on(prepare.click, made, [count, seed], [session, status], **waiting(SOUND, status))
    on(look.click, desk.results, None, results, **waiting(NETWORK, status))
