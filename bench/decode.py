"""`python -m bench.decode`: remote write bodies of both versions to columns, on one core, nothing stored."""

import time
from collections.abc import Sequence
from typing import Any

from bench.bodies import make_bodies, version_2
from bench.fleet import make_fleet
from promlike.kernel import compile_kernels
from promlike.model.labels import Labels
from promlike.remote_write.decode_v1 import DecoderV1
from promlike.remote_write.decode_v2 import DecoderV2
from promlike.remote_write.decoder import Decoder

SECONDS = 2.0


def main() -> None:
    compile_kernels(["promlike.remote_write.kernels"])
    for series, samples_per_body in ((2000, 2000), (10_000, 2000), (10_000, 500), (100_000, 2000)):
        fleet = make_fleet(series=series, steps=20, end_ms=int(time.time() * 1000))
        bodies = make_bodies(fleet, connections=1, samples_per_body=samples_per_body)[0]
        for version, sent in ((1, bodies), (2, [version_2(body) for body in bodies])):
            rate, new_us = measure(version, sent, series, samples_per_body)
            size = sum(map(len, sent)) / fleet.samples
            print(
                f"version {version}, {series} series, {samples_per_body} samples a body: {rate / 1e6:.1f} M samples/s;"
                f" {new_us:.1f} µs a new series; {size:.0f} bytes a sample"
            )


def measure(version: int, bodies: Sequence[bytes], series: int, samples_per_body: int) -> tuple[float, float]:
    """Samples a second once all series are known, and microseconds for each series while none is."""
    refs: dict[Labels, int] = {}

    def series_ref(labels: Labels) -> int:
        return refs.setdefault(labels, len(refs))

    decoder: Decoder[Any] = DecoderV1(series_ref) if version == 1 else DecoderV2(series_ref)
    began = time.perf_counter()
    for body in bodies[: series // samples_per_body]:
        decoder.decode(body)
    first = time.perf_counter() - began
    samples = 0
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        for body in bodies:
            samples += len(decoder.decode(body).refs)
    return samples / (time.perf_counter() - began), first / series * 1e6


if __name__ == "__main__":
    main()
