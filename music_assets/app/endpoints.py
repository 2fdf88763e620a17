"""What programs can call: a file and wishes go in, a MIDI file comes back."""

import threading
from typing import Any

import gradio as gr

from music_assets.app.context import Studio
from music_assets.app.events import NETWORK, shown
from music_assets.app.sources import Source
from music_assets.app.state import program_request
from music_assets.app.tabs.files import received
from music_assets.app.tabs.panel import kept
from music_assets.app.takes import Batch, write
from music_assets.foundation.errors import MusicAssetsError
from music_assets.generation.request import Request
from music_assets.generation.task import BadRequest

GUIDE = """
The studio answers programs too: `/compose`, `/continue` and `/fill` take wishes, named as the fields of
`music_assets.generation.Request`, and the latter two a MIDI file; each gives a MIDI file back.

With Python (`pip install gradio_client`):

```python
from gradio_client import Client, handle_file

studio = Client("http://127.0.0.1:7860")
tune = studio.predict({"bars": 8, "seed": 1}, api_name="/compose")
longer = studio.predict(handle_file(tune), {"bars": 4}, api_name="/continue")
other = studio.predict(handle_file(longer), {"from_bar": 3, "to_bar": 4}, api_name="/fill")
print(other)  # the path of a MIDI file
```

With curl:

```shell
url=http://127.0.0.1:7860/gradio_api
event=$(curl -s $url/call/compose -H 'Content-Type: application/json' \\
  -d '{"data": [{"bars": 8, "seed": 1}]}' | cut -d'"' -f4)
curl -sN $url/call/compose/$event                      # waits; the answer names the url of the file
curl -s $url/upload -F files=@song.mid                 # sends a file: the answer is ["its path"]
```

A file that was sent is named in `data` by its path:
`{"data": [{"path": "its path", "meta": {"_type": "gradio.FileData"}}, {"bars": 4}]}`.
Requests wait in one queue with those of the page. A wish that cannot be is answered by one sentence.
"""
"""For people who write such programs."""


def endpoints(studio: Studio) -> None:
    """The named endpoints, without anything to see."""
    with gr.Row(visible=False):
        file = gr.File(label="file", type="filepath")
        wishes = gr.JSON(label="wishes")
        answer = gr.File(label="MIDI file")
        trigger = gr.Button("Ask")

    def compose(wishes: Any, page: gr.Request) -> str:
        return written(program_request(wishes, count=1), None, page)

    def go_on(file: str | None, wishes: Any, page: gr.Request) -> str:
        source = sent(studio, page, file)
        return written(program_request(wishes, count=1, continue_file=source.name), source, page)

    def fill(file: str | None, wishes: Any, page: gr.Request) -> str:
        source = sent(studio, page, file)
        return written(program_request(wishes, count=1, fill_file=source.name), source, page)

    def written(request: Request, source: Source | None, page: gr.Request) -> str:
        tab = f"program {threading.get_ident()}"
        flag = studio.stops.begin(str(page.session_hash), tab)
        try:
            batch = last(studio, request, source, flag)
        finally:
            studio.stops.end(str(page.session_hash), tab, flag)
        (take,) = batch.takes
        return kept(studio, page, answer, take.candidate.midi, f"{batch.name(take)}.mid")

    for name, function, inputs, told in (
        ("compose", compose, [wishes], "Music from nothing: wishes to a MIDI file."),
        ("continue", go_on, [file, wishes], "A MIDI file goes on, behind its last bar or from from_bar on."),
        ("fill", fill, [file, wishes], "Bars from_bar to to_bar of a MIDI file written anew."),
    ):
        if name == "fill" and not studio.model.reads_tokens:
            continue
        trigger.click(
            shown(function), inputs, answer, api_name=name, api_description=told, concurrency_id=NETWORK,
            concurrency_limit=1,
        )  # fmt: skip


def sent(studio: Studio, page: gr.Request, file: str | None) -> Source:
    """The file that a program has sent. Raises BadRequest."""
    source = received(studio, page, file)
    if source is None:
        raise BadRequest("There is no file: send one.")
    return source


def last(studio: Studio, request: Request, source: Source | None, flag: threading.Event) -> Batch:
    """What a request comes to in the end."""
    batch = None
    for grown in write(studio.model.checkpoint, request, flag, source):
        batch = grown
    if batch is None or flag.is_set():
        raise MusicAssetsError("The program that asked is gone.")
    return batch
