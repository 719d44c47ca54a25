"""Request parameters, read as Prometheus reads them."""

import pytest

from promlike.api.label_values import unescape_name
from promlike.api.params import MAX_TIME_MS, Params, parse_duration_ns, parse_form, parse_time_ms
from promlike.errors import BadRequest
from promlike.model.blocks import StepGrid


def params(**values: str) -> Params:
    return Params(values.items())


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0),
        ("1435781451.781", 1_435_781_451_781),
        ("1435781451.7814", 1_435_781_451_781),
        ("-1.5", -1500),
        ("1.6e9", 1_600_000_000_000),
        (".5", 500),
        ("5e-4", 1),
        ("-5e-4", -1),
        ("1_000", 1_000_000),
        ("0x1p4", 16_000),
        ("2015-06-03T13:21:58,5Z", 1_433_337_718_500),
        ("1595066363000", 1_595_066_363_000_000),
        ("2015-06-03T13:21:58.555Z", 1_433_337_718_555),
        ("2015-06-03T14:21:58.555+01:00", 1_433_337_718_555),
        ("2015-06-03T12:51:58.5554-00:30", 1_433_337_718_555),
        ("1969-12-31T23:59:59.250Z", -750),
    ],
)
def test_times_are_seconds_or_rfc3339(text: str, ms: int) -> None:
    assert parse_time_ms(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "2015-06-03",
        "2015-13-03T13:21:58Z",
        "2015-06-03t13:21:58z",
        "nan",
        "inf",
        "_1",
        "1__0",
        "1e300",
        "1e400",
        " 1",
        "0x10",
        "1e17",
    ],
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="to a valid timestamp"):
        parse_time_ms(text)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("5m", 300_000), ("15", 15_000), ("0.25", 250), ("1.0006", 1000), ("0.9996", 999), ("1h30m", 5_400_000), ("-3", -3000), ("0", 0)],
)
def test_durations_are_seconds_or_units_and_are_cut_to_milliseconds(text: str, ms: int) -> None:
    assert params(timeout=text).duration_ms("timeout") == ms


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("5", ""),
        ("x", 'cannot parse "x" to a valid duration'),
        ("1e30", "It overflows int64"),
        ("-Inf", "It overflows int64"),
        ("-1h", "to a valid duration"),
        ("", "valid duration"),
    ],
)
def test_other_durations_are_refused(text: str, reason: str) -> None:
    if not reason:
        assert parse_duration_ns(text)
        return
    with pytest.raises(BadRequest, match=reason):
        parse_duration_ns(text)


def test_the_first_value_of_a_parameter_counts_and_all_are_kept() -> None:
    several = Params([("query", "body"), ("query", "url"), ("match[]", "a"), ("match[]", "b")])
    assert several.text("query") == "body"
    assert several.all("match[]", "match") == ["a", "b"]
    assert several.text("none", "other") == "other"


def test_a_grid_holds_start_and_the_last_step_before_end() -> None:
    assert params(start="0", end="100", step="15").grid() == StepGrid(start_ms=0, step_ms=15_000, count=7)
    assert params(start="10", end="10", step="1m").grid() == StepGrid(start_ms=10_000, step_ms=60_000, count=1)
    assert params(start="0", end="11000", step="1").grid().count == 11_001


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"start": "x"}, 'invalid parameter "start": cannot parse "x" to a valid timestamp'),
        ({"start": ""}, 'invalid parameter "start": cannot parse "" to a valid timestamp'),
        ({"end": "y"}, 'invalid parameter "end": cannot parse "y" to a valid timestamp'),
        ({"start": "2", "end": "1"}, 'invalid parameter "end": end timestamp must not be before start time'),
        ({"step": "z"}, 'invalid parameter "step": cannot parse "z" to a valid duration'),
        (
            {"step": "0"},
            'invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer',
        ),
        (
            {"end": "11001"},
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
    ],
)
def test_wrong_grids_are_refused_in_prometheus_words(values: dict[str, str], message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        params(**{"start": "0", "end": "100", "step": "1", **values}).grid()
    assert str(caught.value) == message


def test_limits_are_whole_and_not_negative() -> None:
    assert params().limit() == 0
    assert params(limit="7").limit() == 7
    for text in ("-1", "x", "1.5"):
        with pytest.raises(BadRequest, match='invalid parameter "limit"'):
            params(limit=text).limit()


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("", None),
        ("auto", None),
        ("raw", 0),
        ("0s", 0),
        ("0", 0),
        ("4m", 0),
        ("5m", 300_000),
        ("300s", 300_000),
        ("300", 300_000),
        ("59m", 300_000),
        ("1h", 3_600_000),
        ("3600", 3_600_000),
        ("30d", 3_600_000),
    ],
)
def test_a_source_resolution_is_the_coarsest_tier_that_is_no_coarser(text: str, ms: int | None) -> None:
    assert params(max_source_resolution=text).resolution_ms() == ms


def test_other_source_resolutions_are_refused() -> None:
    with pytest.raises(BadRequest, match='invalid parameter "max_source_resolution": cannot parse "fine" to a valid duration'):
        params(max_source_resolution="fine").resolution_ms()


def test_ends_of_a_span_may_be_far_away() -> None:
    assert params().bound_ms("start") is None
    for text in ("-292273086-05-16T16:47:06Z", "-1e30"):
        assert params(start=text).bound_ms("start") == -MAX_TIME_MS
    for text in ("292277025-08-18T07:12:54.999999999Z", "1e30"):
        assert params(end=text).bound_ms("end") == MAX_TIME_MS
    with pytest.raises(BadRequest, match="Invalid time value for 'end': cannot parse \"nan\" to a valid timestamp"):
        params(end="nan").bound_ms("end")


@pytest.mark.parametrize(
    ("text", "pairs", "problem"),
    [
        ("a=1&b=%C3%BC&c=x+y&d", [("a", "1"), ("b", "ü"), ("c", "x y"), ("d", "")], ""),
        ("a=1;b=2&c=3", [("c", "3")], "invalid semicolon separator in query"),
        ("a=%zz&b=%4", [], 'invalid URL escape "%zz"'),
        ("a=%4&b=1", [("b", "1")], 'invalid URL escape "%4"'),
        ("&&", [], ""),
    ],
)
def test_forms_are_read_as_go_reads_them(text: str, pairs: list[tuple[str, str]], problem: str) -> None:
    assert parse_form(text) == (pairs, problem)


@pytest.mark.parametrize(
    ("escaped", "name"),
    [
        ("job", "job"),
        ("U__http_2e_status", "http.status"),
        ("U__a__b", "a_b"),
        ("U___1f4a9_", "\U0001f4a9"),
        ("U__bad_zz_", "U__bad_zz_"),
        ("U__bad_d800_", "U__bad_d800_"),
        ("U__open_2e", "U__open_2e"),
        ("U__", ""),
    ],
)
def test_escaped_label_names_are_unescaped(escaped: str, name: str) -> None:
    assert unescape_name(escaped) == name
