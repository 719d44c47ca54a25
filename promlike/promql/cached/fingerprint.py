"""What answers depend on besides the query and the samples: daemons that differ in it do not share any."""

import platform
from functools import cache
from hashlib import blake2b

import numpy as np

from promlike import __version__
from promlike.promql.options import EngineOptions

FORMAT = 3
"""Of values in the shared cache. Rises with every change of what they hold, or of what the engine makes of the same samples."""

_FUNCTIONS = (np.exp, np.log, np.log2, np.log10, np.sqrt, np.sin, np.cos, np.tan, np.arctan, np.sinh, np.tanh, np.floor)


def fingerprint(options: EngineOptions) -> str:
    """Of the program, the machine's arithmetic, and the settings that answers depend on and keys do not tell."""
    return _digest(f"{FORMAT} {__version__} {options.features} {arithmetic()}".encode())


@cache
def arithmetic() -> str:
    """Of how this machine and its libraries round: vector units and libm differ in the last bit of some functions."""
    numbers = np.random.default_rng(1).uniform(0.01, 50.0, 4096)
    results = b"".join(function(numbers).tobytes() for function in _FUNCTIONS)
    results += np.power(numbers, numbers[::-1] / 50).tobytes() + np.fmod(numbers, numbers[::-1]).tobytes()
    return _digest(f"{platform.machine()} {np.__version__} {platform.libc_ver()}".encode() + results)


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()
