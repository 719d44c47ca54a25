"""The circuit breaker, on a clock of the test."""

from promlike.cache.breaker import Breaker


def test_it_is_open_for_a_while_after_each_failure_and_tells_the_ends_of_an_outage() -> None:
    clock = [0.0]
    breaker = Breaker(5.0, lambda: clock[0])
    assert not breaker.is_open()
    assert not breaker.succeeded()
    assert breaker.failed()
    clock[0] = 4.9
    assert breaker.is_open()
    clock[0] = 5.0
    assert not breaker.is_open()
    assert not breaker.failed()
    assert breaker.is_open()
    clock[0] = 10.0
    assert breaker.succeeded()
    assert not breaker.succeeded()
    assert not breaker.is_open()
