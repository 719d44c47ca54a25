"""Numbers of bytes for people."""

_UNITS = tuple((unit, 1 << 10 * power) for power, unit in reversed(list(enumerate(("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")))))


def format_size(count: int) -> str:
    """`1GiB512MiB`, exact, as Prometheus writes sizes."""
    parts = []
    for unit, size in _UNITS:
        if count >= size:
            parts.append(f"{count // size}{unit}")
            count %= size
    return "".join(parts) or "0B"
