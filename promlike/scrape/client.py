"""HTTP towards targets: one session a job, so that connections stay open between scrapes."""

import asyncio
import os
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile

import aiohttp
from yarl import URL

from promlike import __version__
from promlike.config.http_client import HTTPClientConfig, TLSConfig
from promlike.config.secret import Secret
from promlike.errors import PromlikeError
from promlike.scrape.proxy import proxy_for

USER_AGENT = f"promlike/{__version__}"
KEEPALIVE_SECONDS = 300.0
_TLS_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}


class FetchFailed(PromlikeError):
    """No usable answer; the message says why."""


class BodyTooLarge(FetchFailed):
    """The answer is longer than the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A 200: the body decompressed, and the Content-Type header."""

    body: bytearray
    content_type: str


@dataclass(slots=True, eq=False)
class HttpClient:
    """Requests with the settings of one section. Certificates are read again when their files change, secrets for every request."""

    config: HTTPClientConfig
    _session: aiohttp.ClientSession | None = None
    _certificates: tuple[int, ...] = ()
    _environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    async def get(self, url: str, headers: Mapping[str, str], *, timeout_ms: int, max_bytes: int = 0) -> Answer:
        """Fetch a URL. Raise FetchFailed when the answer is no 200 or does not come in time, BodyTooLarge over `max_bytes` (0: any)."""
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await self._get(url, headers, max_bytes)
        except TimeoutError as error:
            raise FetchFailed(f'Get "{url}": no complete answer within {timeout_ms / 1000:g} s') from error
        except (aiohttp.ClientError, ssl.SSLError, OSError, ValueError) as error:
            raise FetchFailed(f'Get "{url}": {_reason(error)}') from error

    async def close(self) -> None:
        """Close connections; idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _get(self, url: str, headers: Mapping[str, str], max_bytes: int) -> Answer:
        tls = self.config.tls_config
        async with (await self._open_session()).get(
            URL(url, encoded=True),
            headers={"User-Agent": USER_AGENT, **headers, **self._own_headers()},
            allow_redirects=self.config.follow_redirects,
            proxy=proxy_for(url, self.config.proxy, self._environ),
            proxy_headers={name: value.reveal() for name, values in self.config.proxy.proxy_connect_header for value in values},
            server_hostname=tls.server_name if tls and tls.server_name else None,
        ) as response:
            if response.status != 200:
                raise FetchFailed(f"server returned HTTP status {response.status} {response.reason}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if max_bytes and len(body) > max_bytes:
                    raise BodyTooLarge(f"the body exceeds body_size_limit, {max_bytes} bytes")
            return Answer(body=body, content_type=response.headers.get("Content-Type", ""))

    async def _open_session(self) -> aiohttp.ClientSession:
        tls = self.config.tls_config
        stamps = tuple(_modified(path) for path in (tls.ca_file, tls.cert_file, tls.key_file)) if tls else ()
        if self._session is None or stamps != self._certificates:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS, ssl=ssl_context(tls) if tls else True)
            # Another scrape may come by while the old session closes, so the new one is in place before.
            old, self._certificates = self._session, stamps
            self._session = session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None)
            )
            if old is not None:
                await old.close()
            return session
        return self._session

    def _own_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for name, header in self.config.http_headers:
            values = [*header.values, *(secret.reveal() for secret in header.secrets), *(_content(path) for path in header.files)]
            headers[name] = ", ".join(values)
        if basic := self.config.basic_auth:
            user = _content(basic.username_file) if basic.username_file else basic.username
            pair = f"{user}:{_secret(basic.password, basic.password_file)}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        elif bearer := self.config.authorization:
            credentials = _secret(bearer.credentials, bearer.credentials_file)
            headers["Authorization"] = f"{bearer.type.strip()} {credentials}".strip()
        elif self.config.bearer_token or self.config.bearer_token_file:
            headers["Authorization"] = f"Bearer {_secret(self.config.bearer_token, self.config.bearer_token_file)}"
        return headers


def _reason(error: Exception) -> str:
    """What went wrong, in the words of the operating system where it is its error."""
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
        cause = error.os_error
        text = os.strerror(cause.errno) if cause.errno and cause.errno > 0 else str(cause)
        return f"cannot connect to {error.host}:{error.port}: {text}"
    return str(error) or type(error).__name__


def ssl_context(tls: TLSConfig) -> ssl.SSLContext:
    """The TLS settings. Raise OSError or ssl.SSLError naming what cannot be used."""
    context = ssl.create_default_context(cafile=tls.ca_file or None, cadata=tls.ca or None)
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.min_version:
        context.minimum_version = _TLS_VERSIONS[tls.min_version]
    if tls.max_version:
        context.maximum_version = _TLS_VERSIONS[tls.max_version]
    if tls.cert_file and tls.key_file:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    elif tls.cert or tls.cert_file:
        # OpenSSL's module reads certificates from files only.
        with NamedTemporaryFile("w", suffix=".pem") as chain:
            chain.write(f"{tls.cert or _content(tls.cert_file)}\n{_secret(tls.key, tls.key_file)}\n")
            chain.flush()
            context.load_cert_chain(chain.name)
    return context


def _modified(path: str) -> int:
    return Path(path).stat().st_mtime_ns if path else 0


def _content(path: str) -> str:
    return Path(path).read_text(encoding="utf-8").strip()


def _secret(value: Secret, path: str) -> str:
    return _content(path) if path else value.reveal()
