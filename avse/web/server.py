"""The server of the page: its routes, what it refuses, and how it starts and ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from avse.errors import AvseError, needs_extra
from avse.model import load
from avse.model_folder import embedded
from avse.web.jobs import Room

LIVE_MODEL = "avse-live"
_STREAMS = 2  # live ones at once
_LARGEST_MESSAGE = 1 << 20  # bytes of a message of a live stream
_SWEEP_SECONDS = 60.0
# The page loads nothing from other servers.
_POLICY = (
    b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws: wss: data: blob:; "
    b"frame-ancestors 'self'"
)
_HEADERS = [(b"content-security-policy", _POLICY), (b"x-content-type-options", b"nosniff")]


def offered(own: Mapping[str, str]) -> dict[str, str]:
    """What is said of each model that can be chosen: those that come with avse, and folders of one's own by name."""
    known = {name: about.get("description", "") for name, about in embedded().items() if "kind" not in about}
    mine = {name: str((load(folder).description or {}).get("description", "")) for name, folder in own.items()}
    return {"avse-small": "", **known, **mine}


def application(room: Room, models: Mapping[str, str], max_mb: float = 500.0) -> Any:
    """The application, for any ASGI server.

    Arguments
    ---------
    room : Room
    models : mapping of str to str
        See `offered`.
    max_mb : float
        Megabytes of an upload.

    Raises
    ------
    AvseError
        If Gradio is not installed.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(room.uploads)  # read when Gradio is imported
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    with needs_extra("web", "Pages"):
        import gradio
        from fastapi import FastAPI
        from starlette.responses import FileResponse, PlainTextResponse
        from starlette.routing import Mount, Route, WebSocketRoute
        from starlette.staticfiles import StaticFiles
    from avse.web import live, page
    from avse.web.worker import Worker

    folder = Path(__file__).parent

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(room))
        yield
        sweeping.cancel()
        worker.end()

    def result(request: Any) -> Any:
        path = room.find(request.path_params["token"], request.path_params["name"])
        return PlainTextResponse("There is no such file, or no longer.", 404) if path is None else FileResponse(path)

    async def stream(socket: Any) -> None:
        origin = socket.headers.get("origin", "")
        if origin.partition("://")[2] != socket.headers.get("host"):  # a page of another server
            await socket.close(1008)
            return
        await live.serve(socket, lambda: room.model(LIVE_MODEL), free)

    free, worker = asyncio.Semaphore(_STREAMS), Worker(room)
    routes = [
        Route("/avse/results/{token}/{name}", result),
        WebSocketRoute("/avse/live", stream),
        Mount("/avse/static", StaticFiles(directory=folder / "static")),
    ]
    app = FastAPI(routes=routes, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_Guarded)
    fonts: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    theme = gradio.themes.Default(primary_hue="blue", secondary_hue="blue", **fonts)
    style, scripts = folder / "static" / "page.css", ("page", "live")
    return gradio.mount_gradio_app(
        app,
        page.build(room, models, worker),
        path="/",
        max_file_size=int(max_mb * 1e6),
        show_error=False,
        ssr_mode=False,
        footer_links=[],
        run_history=False,
        theme=theme,
        css_paths=style,
        head="".join(f'<script defer src="avse/static/{name}.js"></script>' for name in scripts),
    )


class _Guarded:
    """Adds headers to every answer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await self._app(scope, receive, guarded if scope["type"] == "http" else send)


async def _sweep(room: Room) -> None:
    while True:
        await asyncio.to_thread(room.sweep)
        await asyncio.sleep(_SWEEP_SECONDS)


def serve(
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    models: Sequence[str] = (),
    device: str = "auto",
    max_mb: float = 500.0,
    max_minutes: float = 30.0,
    keep_minutes: float = 60.0,
    started: Any = print,
) -> None:
    """Serve the page until interrupted; all files of its visitors go with it.

    Arguments
    ---------
    host, port : str, int
        Where to listen.
    models : sequence of str
        Folders of models to offer beside those that come with avse.
    device : str
    max_mb, max_minutes : float
        Of an upload.
    keep_minutes : float
        After which files are deleted.
    started : callable
        Takes the address.

    Raises
    ------
    AvseError
        If Gradio is not installed, a model cannot be loaded, or the address is taken.
    """
    own = {Path(folder).resolve().name: folder for folder in models}
    offer = offered(own)
    with tempfile.TemporaryDirectory(prefix="avse-web-") as root, socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen()  # who comes before the server is ready waits
        except OSError as error:
            raise AvseError(f"{host}:{port}: cannot listen there ({error.strerror}). Choose another --port.") from None
        room = Room(root, models=own, device=device, longest=60 * max_minutes, kept=60 * keep_minutes)
        app = application(room, offer, max_mb)
        import uvicorn

        config = uvicorn.Config(app, log_level="warning", ws_max_size=_LARGEST_MESSAGE, timeout_graceful_shutdown=2)
        # A page that is open when the server stops is cut off, which is no fault.
        logging.getLogger("uvicorn.error").addFilter(
            lambda record: not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
        )
        started(f"http://{host}:{listening.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listening])
