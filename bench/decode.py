"""`python -m bench.decode`: remote write bodies to columns, on one core, nothing stored."""

import time

from bench.bodies import make_bodies
from bench.fleet import make_fleet
from promlike.kernel import compile_kernels
from promlike.model.labels import Labels
from promlike.remote_write.decode_v1 import DecoderV1

SECONDS = 2.0


def main() -> None:
    compile_kernels(["promlike.remote_write.kernels"])
    for series, samples_per_body in ((2000, 2000), (10_000, 2000), (10_000, 500), (100_000, 2000)):
        fleet = make_fleet(series=series, steps=20, end_ms=int(time.time() * 1000))
        bodies = make_bodies(fleet, connections=1, samples_per_body=samples_per_body)[0]
        refs: dict[Labels, int] = {}
        decoder = DecoderV1(lambda labels, refs=refs: refs.setdefault(labels, len(refs)))  # type: ignore[misc]  # a bound default
        began = time.perf_counter()
        for body in bodies[: series // samples_per_body]:
            decoder.decode(body)
        first = time.perf_counter() - began
        samples = 0
        began = time.perf_counter()
        while time.perf_counter() - began < SECONDS:
            for body in bodies:
                samples += len(decoder.decode(body).refs)
        rate = samples / (time.perf_counter() - began) / 1e6
        print(f"{series} series, {samples_per_body} samples a body: {rate:.1f} M samples/s; {first / series * 1e6:.1f} µs a new series")


if __name__ == "__main__":
    main()
