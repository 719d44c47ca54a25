"""Memory goes back to the system."""

import asyncio

import numpy as np

from promlike.kernel import kernel
from promlike.model.blocks import Float64
from promlike.storage.memory import keep_freed, keep_trimmed, release_code, resident_bytes


def test_kernels_compile_and_run_after_the_compiler_s_code_was_let_go() -> None:
    assert release_code("llvmlite") > 1 << 20

    @kernel("(f8[::1],)")
    def total(values: Float64) -> float:
        return values.sum()  # type: ignore[no-any-return]  # a NumPy scalar, which is a float in the kernel

    assert total(np.arange(5.0)) == 10.0


def test_a_library_that_is_not_loaded_has_nothing_to_let_go() -> None:
    assert release_code("no-such-library") == 0


async def test_what_large_answers_leave_behind_is_given_back() -> None:
    trimming = asyncio.create_task(keep_trimmed(every_s=0.02, growth_bytes=8 << 20))
    await asyncio.sleep(0.05)
    before = resident_bytes()
    arrays = [np.ones(8000) for _ in range(2000)]
    assert resident_bytes() > before + (100 << 20)
    last = arrays[-1]
    arrays.clear()
    for _ in range(500):
        await asyncio.sleep(0.02)
        if resident_bytes() <= before + (30 << 20):
            break
    assert resident_bytes() <= before + (30 << 20)
    assert last.sum() == 8000
    trimming.cancel()
    await asyncio.wait([trimming])


def test_large_blocks_that_are_freed_are_given_back_at_once_or_kept() -> None:
    try:
        keep_freed(False)
        before = resident_bytes()
        arrays = [np.ones(200_000) for _ in range(100)]
        last = arrays[-1]  # what is freed below the last block is not at the end of the heap
        assert resident_bytes() > before + (140 << 20)
        arrays.clear()
        assert resident_bytes() < before + (30 << 20)
        assert last.sum() == 200_000
    finally:
        keep_freed(True)
