"""Names of metrics and labels as federation shows them."""

import re

from promlike.api.accept import Escaping

_LEGACY_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_LEGACY_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_NO_METRIC = re.compile(r"[^a-zA-Z0-9_:]|^(?=[0-9])", re.ASCII)
_NO_LABEL = re.compile(r"[^a-zA-Z0-9_]|^(?=[0-9])", re.ASCII)


def metric_name(name: str, escaping: Escaping) -> str:
    return name if escaping is Escaping.ALLOW_UTF8 else _NO_METRIC.sub("_", name)


def label_name(name: str, escaping: Escaping) -> str:
    return name if escaping is Escaping.ALLOW_UTF8 else _NO_LABEL.sub("_", name)


def is_plain_metric(name: str) -> bool:
    """May it stand in text without quotes?"""
    return _LEGACY_METRIC.fullmatch(name) is not None


def is_plain_label(name: str) -> bool:
    """May it stand in text without quotes?"""
    return _LEGACY_LABEL.fullmatch(name) is not None
