"""Why a file cannot be used as MIDI."""

from music_assets.foundation.errors import MusicAssetsError


class BadMidi(MusicAssetsError):
    """A file that cannot be used. ``verdict`` is a short stable reason, ``detail`` one sentence."""

    def __init__(self, verdict: str, detail: str) -> None:
        super().__init__(f"{verdict}: {detail}")
        self.verdict = verdict
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.verdict, self.detail)
