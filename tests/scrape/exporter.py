"""A target for tests: an HTTP server on loopback whose answers the test writes, and what it was asked."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from multidict import CIMultiDictProxy

TEXT = "text/plain; version=0.0.4"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@dataclass(slots=True, kw_only=True)
class Exporter:
    port: int = 0
    scheme: str = "http"
    body: str | bytes = "m 1\n"
    status: int = 200
    content_type: str = TEXT
    delay_s: float = 0.0
    redirect: str = ""
    pages: dict[str, tuple[str | bytes, str]] = field(default_factory=dict)
    """Body and content type of paths that differ from `body`."""
    asked: list[str] = field(default_factory=list)
    headers: list["CIMultiDictProxy[str]"] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}/metrics"

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(str(request.rel_url))
        self.headers.append(request.headers)
        await asyncio.sleep(self.delay_s)
        if self.redirect and request.path != self.redirect:
            raise web.HTTPFound(self.redirect)
        body, content_type = self.pages.get(request.path, (self.body, self.content_type))
        data = body.encode() if isinstance(body, str) else body
        response = web.Response(body=data, status=self.status, headers={"Content-Type": content_type})
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            response.enable_compression(web.ContentCoding.gzip)
        return response


@asynccontextmanager
async def exporter(tls: ssl.SSLContext | None = None) -> AsyncIterator[Exporter]:
    """A running exporter on a free port of loopback."""
    target = Exporter(scheme="https" if tls else "http")
    application = web.Application()
    application.router.add_get("/{path:.*}", target.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        target.port = runner.addresses[0][1]
        yield target
    finally:
        await runner.cleanup()
