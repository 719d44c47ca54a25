"""Which exposition formats a target is asked for, and which one it sent."""

from email.message import Message

from promlike.config.scrape import PROTOCOLS, ScrapeConfig

UTF8_PROTOCOLS = frozenset({"OpenMetricsText1.0.0", "PrometheusText1.0.0"})


def accept_header(config: ScrapeConfig) -> str:
    """The formats in the configured order, each with the escaping of names where the format knows one, then anything."""
    weight = len(config.scrape_protocols) + 1
    parts = []
    for name in config.scrape_protocols:
        if media := PROTOCOLS[name]:
            escaping = f";escaping={config.metric_name_escaping_scheme}" if name in UTF8_PROTOCOLS else ""
            parts.append(f"{media}{escaping};q=0.{weight}")
        weight -= 1
    return ",".join([*parts, f"*/*;q=0.{weight}"])


def is_openmetrics(content_type: str, config: ScrapeConfig) -> bool:
    """Is the body OpenMetrics, or else the Prometheus text format? Raise ValueError when it is neither and no fallback is configured."""
    header = Message()
    header["Content-Type"] = content_type
    media = header.get_content_type() if content_type.strip() else ""
    if media == "application/openmetrics-text":
        return True
    if media == "text/plain" and "/" in content_type:
        return False
    if config.fallback_scrape_protocol:
        return config.fallback_scrape_protocol.startswith("OpenMetrics")
    if not media:
        raise ValueError("the target sent no Content-Type, and fallback_scrape_protocol is not set")
    raise ValueError(f'the target sent the Content-Type "{content_type}", and fallback_scrape_protocol is not set')
