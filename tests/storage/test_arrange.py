"""Rows as a database returns them, in the order that was asked for."""

import numpy as np

from promlike.storage.arrange import arrange, rows_of


def test_rows_are_found_wherever_the_ids_lie() -> None:
    random = np.random.default_rng(1)
    for size in (0, 1, 2, 50):
        ids = random.choice(2**31 - 1, size, replace=False).astype(np.int32)
        strangers = random.integers(0, 2**31 - 1, 20).astype(np.int32)
        found = np.repeat(random.permutation(np.concatenate([ids, strangers])), 3).astype(np.int32)
        row = {int(each): at for at, each in enumerate(ids)}
        assert rows_of(ids, found).tolist() == [row.get(int(each), -1) for each in found]


def test_samples_come_in_order_of_row_and_time_the_last_of_equal_times() -> None:
    refs = np.array([5, 3, 9], np.int32)
    found = np.array([3, 5, 3, 7, 5, 3, 5], np.int32)
    ts = np.array([20, 10, 10, 10, 11, 20, 10], np.int64)
    values = np.arange(7, dtype=np.float64)
    block = arrange(refs, found, ts, values)
    assert block.offsets.tolist() == [0, 2, 4, 4]
    assert block.ts_ms.tolist() == [10, 11, 10, 20]
    assert block.values.tolist() == [6.0, 4.0, 2.0, 5.0]
