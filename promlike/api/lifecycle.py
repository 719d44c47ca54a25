"""`/-/healthy`, `/-/ready`, `/-/reload`, `/-/quit`: plain text, as Prometheus answers."""

from aiohttp import web

from promlike.api.context import Api, Phase

DISABLED = "Lifecycle API is not enabled."
STOPPING = "X-Prometheus-Stopping"


async def healthy(api: Api, request: web.Request) -> web.Response:
    return web.Response(text="Prometheus Server is Healthy.\n")


async def ready(api: Api, request: web.Request) -> web.Response:
    return not_ready(api) or web.Response(text="Prometheus Server is Ready.\n")


def not_ready(api: Api) -> web.Response | None:
    """503 until the server has started, and once it stops."""
    match api.server.phase:
        case Phase.READY:
            return None
        case Phase.STARTING:
            return web.Response(status=503, text="Service Unavailable")
        case Phase.STOPPING:
            return web.Response(status=503, text="Service Unavailable", headers={STOPPING: "true"})


async def wrong_method(api: Api, request: web.Request) -> web.Response:
    return web.Response(status=405, text="Only POST or PUT requests allowed")


async def reload(api: Api, request: web.Request) -> web.Response:
    if not api.web.enable_lifecycle:
        return web.Response(status=403, text=DISABLED)
    await api.reload()
    return web.Response()


async def quit_(api: Api, request: web.Request) -> web.Response:
    if not api.web.enable_lifecycle:
        return web.Response(status=403, text=DISABLED)
    api.stop()
    return web.Response(text="Requesting termination... Goodbye!")
