"""A real web server on this machine that gives files, and can be told to do it badly."""

import contextlib
import re
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Manner:
    """How one request is answered; by default as a good server does."""

    status: int | None = None
    """This status and no file."""
    cut: int | None = None
    """Bytes of the body after which the connection ends."""
    reset: bool = False
    """It ends with a reset."""
    hang: bool = False
    """It does not end, and nothing more comes."""
    length: int | None = None
    """A lie: what Content-Length says, and Content-Range of the whole file."""
    chunked: bool = False
    """The body comes in chunks, of a length that nobody knows."""
    ranges: bool = True
    """Whether Range is understood."""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """What was asked for, and how much of it was sent."""

    path: str
    start: int | None
    """First byte of Range."""
    sent: int = 0


class FileServer:
    """Give ``files``; a path's ``manners`` are used up one a request, and then ``manner`` holds."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.manner = Manner()
        self.manners: defaultdict[str, list[Manner]] = defaultdict(list)
        self.requests: list[Request] = []
        self.over = threading.Event()
        self.url = ""

    @property
    def sent(self) -> int:
        """Bytes of all bodies together."""
        return sum(request.sent for request in self.requests)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.lstrip("/")
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        request = Request(path, int(asked[1]) if asked else None)
        self.requests.append(request)
        manner = self.manners[path].pop(0) if self.manners[path] else self.manner
        if manner.status is not None or path not in self.files:
            self.head(handler, manner.status or 404, {"Content-Length": "0"} | manner.headers)
            return
        body = self.files[path]
        total = len(body) if manner.length is None else manner.length
        partial = request.start is not None and manner.ranges
        start = request.start if request.start is not None and partial else 0
        if partial and start >= len(body):
            self.head(handler, 416, {"Content-Range": f"bytes */{total}", "Content-Length": "0"})
            return
        length = {"Transfer-Encoding": "chunked"} if manner.chunked else {"Content-Length": str(total - start)}
        place = {"Content-Range": f"bytes {start}-{total - 1}/{total}"} if partial else {}
        self.head(handler, 206 if partial else 200, length | place | manner.headers)
        self.body(handler, request, manner, body[start:])

    def head(self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for name, value in ({"Connection": "close"} | headers).items():
            handler.send_header(name, value)
        handler.end_headers()

    def body(self, handler: BaseHTTPRequestHandler, request: Request, manner: Manner, body: bytes) -> None:
        body = body if manner.cut is None else body[: manner.cut]
        for start in range(0, len(body), 8192):
            piece = body[start : start + 8192]
            request.sent += len(piece)  # before the client can have it, and look
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if manner.chunked else piece)
        if manner.chunked and manner.cut is None:
            handler.wfile.write(b"0\r\n\r\n")
        if manner.hang:
            self.over.wait()
        if manner.reset:
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()


@contextmanager
def file_server() -> Iterator[FileServer]:
    """A server on a free port of this machine, as long as the block runs."""
    files = FileServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):  # the client has gone
                files.answer(self)

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().finish()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    files.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield files
    finally:
        files.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
