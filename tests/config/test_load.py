"""Reading prometheus.yml: pairs of files, defaults, inheritance, warnings, and what is shown."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from promlike.config.load import builtin_config, load_config, parse_config, to_yaml
from promlike.config.root import Config
from promlike.config.scrape import DEFAULT_PROTOCOLS
from promlike.config.secret import Secret
from promlike.errors import ConfigError

HERE = Path(__file__).parent
GOOD = sorted((HERE / "good").glob("*.yml"))
BAD = sorted((HERE / "bad").glob("*.yml"))
SHIPPED = HERE.parent.parent / "config" / "promlike.yml"


def parse(text: str, **environ: str) -> Config:
    return parse_config(text, file="x.yml", environ=environ)


def load(path: Path) -> Config:
    return load_config(path, environ={"REPLICA": "b"})


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_file_is_refused_with_every_problem_and_its_line(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    problems = [problem.replace(f"{path.parent}/", "") for problem in caught.value.problems]
    assert problems == path.with_suffix(".txt").read_text().splitlines()


@pytest.mark.parametrize("path", [*GOOD, SHIPPED], ids=lambda path: path.stem)
def test_what_is_shown_of_a_good_file_reads_as_the_same_configuration(path: Path) -> None:
    config = load(path)
    shown = parse_config(to_yaml(config), file=config.file, base_dir=path.parent, environ={})
    assert to_yaml(shown) == to_yaml(config).replace("5$$", "5$")
    own = [job for job in config.scrape_configs if job.where.startswith(config.file)]
    assert [job.discovery.static_configs for job in shown.scrape_configs[: len(own)]] == [job.discovery.static_configs for job in own]


def test_the_full_file_uses_every_kind_of_section() -> None:
    config = load(HERE / "good" / "full.yml")
    job = config.scrape_configs[0]
    assert config.global_.external_labels == (("region", "eu"), ("replica", "b"), ("price", "5$"))
    assert (job.scrape_interval_ms, job.scrape_timeout_ms, job.body_size_limit) == (15_000, 5_000, 512 << 10)
    assert job.params == (("module", ("http_2xx", "second")),)
    assert job.http.basic_auth is not None
    assert job.http.basic_auth.password == Secret("very secret")
    assert job.discovery.file_sd_configs[0].files == (str(HERE / "good/targets/*.yml"), "/etc/targets.json")
    assert [name for name, _ in job.discovery.others] == ["kubernetes_sd_configs", "consul_sd_configs"]
    assert config.remote_write[0].queue_config is not None
    assert config.rule_files == (str(HERE / "good/rules/*.yml"), "/etc/promlike/rules.yml")
    assert config.scrape_configs[-1].job_name == "from another file"


def test_defaults_are_those_of_prometheus() -> None:
    job = parse("scrape_configs: [{job_name: a}]").scrape_configs[0]
    assert (job.scrape_interval_ms, job.scrape_timeout_ms) == (60_000, 10_000)
    assert (job.metrics_path, job.scheme) == ("/metrics", "http")
    assert (job.honor_labels, job.honor_timestamps, job.track_timestamps_staleness) == (False, True, False)
    assert (job.enable_compression, job.http.follow_redirects, job.http.enable_http2) == (True, True, True)
    assert job.scrape_protocols == DEFAULT_PROTOCOLS
    assert job.metric_name_validation_scheme == "utf8"
    assert parse("").global_.evaluation_interval_ms == 60_000


@pytest.mark.parametrize(
    ("defaults", "own", "interval_ms", "timeout_ms"),
    [
        ("", "", 60_000, 10_000),
        ("scrape_interval: 5s", "", 5_000, 5_000),
        ("scrape_interval: 20s", "", 20_000, 10_000),
        ("{scrape_interval: 20s, scrape_timeout: 15s}", "", 20_000, 15_000),
        ("{scrape_interval: 20s, scrape_timeout: 15s}", "scrape_interval: 12s", 12_000, 12_000),
        ("scrape_interval: 20s", "scrape_timeout: 18s", 20_000, 18_000),
    ],
)
def test_a_job_takes_interval_and_timeout_from_global(defaults: str, own: str, interval_ms: int, timeout_ms: int) -> None:
    text = f"scrape_configs:\n- job_name: a\n  {own}\n" + (
        f"global: {defaults if defaults[0] == '{' else '{' + defaults + '}'}" if defaults else ""
    )
    job = parse(text).scrape_configs[0]
    assert (job.scrape_interval_ms, job.scrape_timeout_ms) == (interval_ms, timeout_ms)


@pytest.mark.parametrize(
    ("text", "value"),
    [("a${X}b", "a1b"), ("$X", "1"), ("${Y}", ""), ("$$X", "$X"), ("5$", "5$"), ("${X}${X}", "11")],
)
def test_external_labels_take_variables_from_the_environment(text: str, value: str) -> None:
    config = parse_config(f"global: {{external_labels: {{a: '{text}'}}}}", file="x.yml", environ={"X": "1"})
    assert config.global_.external_labels == (("a", value),)
    assert bool(config.warnings) == ("Y" in text)


def test_a_key_that_changes_nothing_gives_one_warning() -> None:
    text = "scrape_configs:\n" + "".join(f"- job_name: {name}\n  consul_sd_configs: [{{server: a}}]\n" for name in "abc")
    warnings = parse(text).warnings
    assert len(warnings) == 1
    assert warnings[0].startswith("x.yml:3: consul_sd_configs: this service discovery is not supported yet")


@pytest.mark.parametrize(
    "text", ["rule_files: []", "alerting: {alertmanagers: []}", "global: {scrape_native_histograms: false}", "runtime: {gogc: 75}"]
)
def test_a_key_that_says_what_is_so_anyway_gives_no_warning(text: str) -> None:
    assert parse(text).warnings == ()


@pytest.mark.parametrize("text", ["rule_files: [a.yml]", "alerting: {alertmanagers: [{}]}", "remote_write: [{url: http://a}]"])
def test_rules_alerting_and_remote_write_are_kept_with_a_warning(text: str) -> None:
    config = parse(text)
    assert len(config.warnings) == 1
    assert config != replace(Config(), global_=config.global_)


def test_secrets_are_masked_wherever_they_are_printed() -> None:
    config = load(HERE / "good" / "full.yml")
    for text in (to_yaml(config), repr(config), str(config)):
        assert "very secret" not in text
        assert "token of" not in text
    assert "hidden" not in to_yaml(config)


def test_merge_keys_are_understood() -> None:
    first, second = load(HERE / "good" / "merged.yml").scrape_configs
    assert (first.job_name, first.scrape_interval_ms) == ("first", 20_000)
    assert (second.job_name, second.scrape_interval_ms) == ("second", 25_000)
    assert second.discovery.static_configs == first.discovery.static_configs


def test_without_a_file_the_server_scrapes_itself() -> None:
    config = builtin_config("localhost:1234")
    assert config.warnings == ()
    assert config.scrape_configs[0].discovery.static_configs[0].targets == ("localhost:1234",)


def test_the_shipped_file_scrapes_the_server_and_a_node_exporter() -> None:
    config = load_config(SHIPPED)
    assert config.warnings == ()
    found = {job.job_name: job.discovery.static_configs[0].targets for job in config.scrape_configs}
    assert found == {"promlike": ("localhost:9090",), "node": ("localhost:9100",)}


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yml: cannot be read: No such file"):
        load_config("/tmp/nowhere.yml")


@pytest.mark.parametrize("path", [HERE / "good" / "prometheus_2_42.yml", SHIPPED], ids=lambda path: path.stem)
def test_prometheus_takes_our_files(path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    subprocess.run([promtool, "check", "config", str(path)], check=True, capture_output=True)
