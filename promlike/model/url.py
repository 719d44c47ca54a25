"""URLs that may carry a password."""

import re


def shown_url(url: str) -> str:
    """A URL without its password, wherever that stands."""
    return re.sub(r"([?&]password=)[^&#]*", r"\1***", re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url))
