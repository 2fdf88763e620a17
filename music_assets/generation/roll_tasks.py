# torch's functions are typed in part
# pyright: reportUnknownMemberType=false
"""Requests to a network that reads piano rolls: music for one piano, from nothing, from notes or behind a file."""

from collections.abc import Generator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from music_assets.checkpoints.storage import Checkpoint
from music_assets.foundation.midi.editing import Note
from music_assets.foundation.midi.writing import midi_bytes
from music_assets.generation.choice import Filters
from music_assets.generation.request import Request, Wishes
from music_assets.generation.source import SourceFile
from music_assets.generation.task import REPEATED_NOTES, USUAL_TEMPO, BadRequest, Bar, Candidate, Task
from music_assets.models.decoding import together
from music_assets.models.roll_rnn import NO_GENRE, RollRNN, genre_number
from music_assets.tokens import rolls
from music_assets.tokens.remi import encode
from music_assets.tokens.rolls import HOLD, KEYS, LOWEST_PITCH, ONSET, STEPS_PER_QUARTER, VELOCITY
from music_assets.tokens.vocabulary import TIME_SIGNATURES

_PIANO = 0
_COMMON_TIME = TIME_SIGNATURES.index((4, 4))
_UNHEARD = ("instruments", "density", "length", "fill_file", "instrument", "to_bar", "forgetting", "guidance_at_end")


class RollTask(Task):
    """Steps of a roll, bar by bar; the network has no end mark, so that it writes as many bars as it is asked for."""

    def __init__(self, checkpoint: Checkpoint, request: Request) -> None:
        super().__init__(checkpoint, request)
        assert isinstance(checkpoint.network, RollRNN)
        self.network = checkpoint.network
        for name in _UNHEARD:
            if getattr(request, name) != Request.model_fields[name].default:
                raise BadRequest(
                    f"The {checkpoint.facts.architecture} writes for one piano and knows no {name.replace('_', ' ')}: "
                    "leave it out, or ask another network."
                )
        self.bars = request.bars or request.max_bars
        signature = request.time_signature_index
        self._given, self._source, self._at = self._from_notes(), None, 0
        if request.continue_file is not None:
            self._source = SourceFile(request.continue_file)
            first = self._source.continued_from(request.from_bar)
            self.first_bar, self._at = first + 1, int(self._source.ticks(first, 0)[0])
            self._given = self._before(self._source)
            signature = self._source.time_signature(first - 1) if signature is None else signature
        self.signature = _COMMON_TIME if signature is None else signature
        numerator, denominator = TIME_SIGNATURES[self.signature]
        self.bar_steps = STEPS_PER_QUARTER * 4 * numerator // denominator
        self._written = np.zeros((request.count, self.bars * self.bar_steps, KEYS), np.uint8)

    def write(self) -> Generator[Bar]:
        """See :meth:`Task.write`."""
        begun = 0 if self._source else len(self._given)
        self._written[:, :begun] = self._given[: self._written.shape[1]] if begun else 0
        chooser = _Chooser(self.network, self.request, genre_number(self.vocabulary, self.request.genre), self._given)
        for step in range(self._written.shape[1]):
            if step >= begun:
                self._written[:, step] = chooser.next([random.random((2, KEYS)) for random in self.randoms])
            if (step + 1) % self.bar_steps == 0:
                number = (step + 1) // self.bar_steps - 1
                for row in range(self.request.count):
                    yield Bar(row, number, self._bar(row, number), number == self.bars - 1)

    def finish(self, index: int, bars: Sequence[NDArray[np.int64]], ended: bool) -> Candidate:
        """See :meth:`Task.finish`."""
        roll = self._written[index, : len(bars) * self.bar_steps]
        ending = "length" if ended else "stopped"
        if self._source is None:
            score = rolls.decode(roll, self._tempo, TIME_SIGNATURES[self.signature])
            return Candidate(index, self._document(roll), midi_bytes(score), ending)
        editor = self._source.editor()
        editor.cut(self._at)
        onset, key, length = rolls.struck(roll)
        begins, ends = (
            self._at + np.rint(steps * editor.ticks_per_quarter / STEPS_PER_QUARTER).astype(np.int64)
            for steps in (onset, onset + length)
        )
        columns = zip(begins.tolist(), ends.tolist(), (key + LOWEST_PITCH).tolist(), strict=True)
        editor.add(Note(begin, end, pitch, VELOCITY, _PIANO) for begin, end, pitch in columns)
        if self.request.tempo is not None:
            editor.set_tempo(self._at, self.request.tempo)
        if self.request.time_signature is not None:
            editor.set_time_signature(self._at, *TIME_SIGNATURES[self.signature])
        return Candidate(index, self._document(roll), editor.to_bytes(), ending)

    def _document(self, roll: NDArray[np.uint8]) -> NDArray[np.uint16]:
        return encode(rolls.decode(roll, self._tempo, TIME_SIGNATURES[self.signature]))

    def _bar(self, row: int, number: int) -> NDArray[np.int64]:
        """The notes that begin in a bar, none longer than to its end."""
        start = number * self.bar_steps
        return self._document(self._written[row, start : start + self.bar_steps]).astype(np.int64)

    @property
    def _tempo(self) -> float:
        return self.request.tempo or USUAL_TEMPO

    def _from_notes(self) -> NDArray[np.uint8]:
        """The notes to begin with, a roll of quarter notes. Raises BadRequest if a piano lacks one of them."""
        roll = np.zeros((STEPS_PER_QUARTER * len(self.request.notes), KEYS), np.uint8)
        for number, pitch in enumerate(self.request.notes):
            if not 0 <= pitch - LOWEST_PITCH < KEYS:
                raise BadRequest(f"A piano has no pitch {pitch}: begin with pitches from {LOWEST_PITCH} to 108.")
            roll[STEPS_PER_QUARTER * number :][:STEPS_PER_QUARTER, pitch - LOWEST_PITCH] = HOLD
            roll[STEPS_PER_QUARTER * number, pitch - LOWEST_PITCH] = ONSET
        return roll

    def _before(self, source: SourceFile) -> NDArray[np.uint8]:
        """The last steps before the bar to go on from, as many as the network looks at. Raises BadRequest."""
        steps = round(self._at / source.ticks_per_quarter * STEPS_PER_QUARTER)
        roll = rolls.encode(source.score)[:steps]
        if not roll.any():
            raise BadRequest(
                f"{source.name} has no notes for a piano before bar {self.first_bar}: choose another file."
            )
        silence = np.zeros((steps - len(roll), KEYS), np.uint8)
        return np.concatenate([roll, silence])[-self.network.config.context :]


class _Chooser:
    """Draws the next step of each roll: which keys are struck, and which go on to sound."""

    def __init__(self, network: RollRNN, asked: Wishes, genre: int, given: NDArray[np.uint8]) -> None:
        self._network, self._asked, self._rows = network, asked, asked.count
        self._groups = together(asked.count, network.device)
        rows = self._groups[-1].stop
        self._filters = Filters(asked.temperature, asked.top_k, asked.top_p, asked.min_p)
        self._genres = [torch.full((rows,), genre, device=network.device)]
        if asked.guidance != 1:
            self._genres.append(torch.full((rows,), NO_GENRE, device=network.device))
        self._states = [
            [network.initial_state(group.stop - group.start, 0) for group in self._groups] for _ in self._genres
        ]
        classes = asked.pitch_classes
        self._keys = np.array([classes is None or (key + LOWEST_PITCH) % 12 in classes for key in range(KEYS)])
        roll = np.concatenate([np.zeros((1, KEYS), np.uint8), given])  # silence is before all music
        self._input = np.repeat(roll[None], rows, axis=0)
        self._recent = np.full((asked.count, REPEATED_NOTES), -1)
        for _, key in sorted(zip(*(column.tolist() for column in rolls.struck(given)[:2]), strict=True)):
            self._remember(slice(None), key)

    def next(self, uniforms: Sequence[NDArray[np.float64]]) -> NDArray[np.uint8]:
        """One step of each roll, uint8[B, 88], by numbers in [0, 1) for its strikes and holds, float64[2, 88] each."""
        logits = self._logits()
        step = np.zeros((self._rows, KEYS), np.uint8)
        for row, uniform in enumerate(uniforms):
            strike, hold = logits[row].reshape(2, KEYS).astype(np.float64)
            strike[self._recent[row][self._recent[row] >= 0]] -= np.log(self._asked.repetition_penalty)
            chance = filtered(_sigmoid(strike / self._asked.temperature) * self._keys, self._filters)
            sounding = self._input[row, -1] > 0
            step[row, sounding & (uniform[1] < _sigmoid(hold / self._asked.temperature))] = HOLD
            struck = np.flatnonzero(uniform[0] < chance)
            step[row, struck] = ONSET
            for key in struck.tolist():
                self._remember(row, key)
        self._input = np.zeros((len(self._input), 1, KEYS), np.uint8)
        self._input[: self._rows, 0] = step
        return step

    def _remember(self, row: int | slice, key: int) -> None:
        self._recent[row, :-1] = self._recent[row, 1:]
        self._recent[row, -1] = key

    @torch.no_grad()
    def _logits(self) -> NDArray[np.float32]:
        """Of the step after the input, float32[B, 176], guided."""
        planes = torch.from_numpy(np.concatenate([self._input == ONSET, self._input == HOLD], axis=2))
        found: list[NDArray[np.float32]] = []
        for genres, states in zip(self._genres, self._states, strict=True):
            parts: list[NDArray[np.float32]] = []
            for number, group in enumerate(self._groups):
                part = planes[group].to(genres.device)
                logits, states[number] = self._network.decode(part, states[number], genres[group])
                parts.append(logits[:, -1].float().cpu().numpy())
            found.append(np.concatenate(parts)[: self._rows])
        if len(found) == 1:
            return found[0]
        return (found[1] + self._asked.guidance * (found[0] - found[1])).astype(np.float32, copy=False)


def filtered(chance: NDArray[np.float64], filters: Filters) -> NDArray[np.float64]:
    """The chances of keys to be struck, float64[88], 0 for those that are left out.

    Top-k keeps the k likeliest keys; top-p the fewest that hold this share of the notes to be expected; min-p those at
    least so many times as likely as the likeliest.
    """
    order = np.argsort(-chance, kind="stable")
    kept = np.ones(len(chance), dtype=bool)
    if filters.top_k:
        kept[order[filters.top_k :]] = False
    if filters.top_p < 1 and chance.sum() > 0:
        before = np.cumsum(chance[order]) - chance[order]
        kept[order[before >= filters.top_p * chance.sum()]] = False
    kept &= chance >= filters.min_p * chance.max()
    return np.where(kept, chance, 0.0)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))
