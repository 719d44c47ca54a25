"""`trace=1`, as in VictoriaMetrics: an answer comes with what was done for it, and how long each step took."""

from aiohttp import web

from promlike import __version__
from promlike.api.params import Params
from promlike.model.trace import OFF, Trace

SHOWN = ("query", "time", "start", "end", "step", "lookback_delta", "max_source_resolution", "nocache")
"""Parameters that the first message tells."""


def new_trace(params: Params, request: web.Request) -> Trace:
    """One that begins now; `OFF` unless it was asked for."""
    if not params.boolean("trace"):
        return OFF
    trace = Trace("promlike %s: %s", __version__, request.path)
    for name in SHOWN:
        if params.text(name):
            trace.add(f"{name}=%s", params.text(name))
    return trace
