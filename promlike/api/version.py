"""Which Prometheus this server stands for, and which promlike it is."""

import sys

from promlike import __version__

PROMETHEUS_VERSION = "3.14.0"
"""The Prometheus release whose API this is. Grafana and others switch features by `version` of buildinfo, so it must name a Prometheus; our
own version stands in `revision`."""


def build_info() -> dict[str, str]:
    """No `features`: a non-empty one makes Grafana take the server for Mimir."""
    return {
        "version": PROMETHEUS_VERSION,
        "revision": f"promlike-{__version__}",
        "branch": "main",
        "buildUser": "promlike",
        "buildDate": "",
        "goVersion": f"python{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}",
    }
