"""Read prometheus.yml: the file, the files it names, and the values every job ends up with."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from glob import glob
from pathlib import Path

import yaml

from promlike.config.document import Document, Invalid, compose, entries, in_order
from promlike.config.root import Config, GlobalConfig
from promlike.config.scrape import PROTOCOLS, ScrapeConfig
from promlike.config.section import read_section, section, unknown_key, write_section
from promlike.config.values import items
from promlike.errors import ConfigError

DEFAULT_TIMEOUT_MS = 10_000


def load_config(path: str | Path, *, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration of a file. Relative paths inside start at its folder.

    Raise ConfigError with every problem found, each with file and line.
    """
    path = Path(path)
    return parse_config(_read(path), file=str(path), base_dir=path.parent, environ=environ)


def parse_config(text: str, *, file: str, base_dir: str | Path = ".", environ: Mapping[str, str] | None = None) -> Config:
    """The configuration of a text; `file` is what messages call it.

    `environ` (default: the process's) fills `${VAR}` in external labels.
    """
    document = Document(file=file, base_dir=Path(base_dir), environ=os.environ if environ is None else environ)
    root = compose(text, document)
    config = Config()
    if root is not None:
        try:
            config = read_section(Config, root, document, "")
        except Invalid as wrong:
            document.reject(wrong, "")
    jobs = [*config.scrape_configs, *_included(config, document)]
    settled = _settle_global(config.global_, document)
    config = replace(
        config,
        global_=settled,
        rule_files=tuple(str(document.base_dir / name) for name in config.rule_files),
        scrape_configs=tuple(_settle_jobs(jobs, settled, document)),
        file=file,
    )
    document.raise_problems()
    return replace(config, warnings=tuple(in_order(document.warnings)))


def builtin_config(address: str = "localhost:9090") -> Config:
    """What is used when there is no file: scrape ourselves."""
    return parse_config(_BUILTIN.format(address=address), file="built-in configuration")


_BUILTIN = """
global:
  scrape_interval: 15s
scrape_configs:
  - job_name: promlike
    static_configs:
      - targets: ["{address}"]
"""


def to_yaml(config: Config) -> str:
    """The configuration in force as YAML, defaults filled in and secrets masked, as `/api/v1/status/config` shows it.

    Jobs of scrape_config_files are left out: the key that names those files stands there instead.
    """
    own = tuple(job for job in config.scrape_configs if job.where.startswith(f"{config.file}:"))
    return yaml.safe_dump(write_section(replace(config, scrape_configs=own)), sort_keys=False, allow_unicode=True, width=10_000)


def job_yaml(job: ScrapeConfig) -> str:
    """One job as YAML, defaults filled in and secrets masked, wherever it was read."""
    return yaml.safe_dump(write_section(job), sort_keys=False, allow_unicode=True, width=10_000)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}"]) from error


def _included(config: Config, document: Document) -> Iterator[ScrapeConfig]:
    """The jobs of scrape_config_files."""
    for pattern in config.scrape_config_files:
        for name in sorted(glob(str(document.base_dir / pattern))):  # noqa: PTH207  # Path.glob takes no absolute patterns
            path = Path(name)
            inner = Document(file=name, base_dir=path.parent, environ=document.environ)
            try:
                yield from _jobs_of(compose(_read(path), inner), inner)
            except ConfigError as error:
                inner.problems += error.problems
            document.problems += inner.problems
            document.warnings += inner.warnings


def _jobs_of(root: yaml.MappingNode | None, document: Document) -> tuple[ScrapeConfig, ...]:
    jobs: tuple[ScrapeConfig, ...] = ()
    if root is None:
        return jobs
    for label, value in entries(root, document, ""):
        if label.value != "scrape_configs":
            unknown_key(label, ["scrape_configs"], document, "")
            continue
        try:
            jobs = items(section(ScrapeConfig)).read(value, document, "scrape_configs")
        except Invalid as wrong:
            document.reject(wrong, "scrape_configs")
    return jobs


def _settle_global(defaults: GlobalConfig, document: Document) -> GlobalConfig:
    return replace(
        defaults,
        scrape_timeout_ms=defaults.scrape_timeout_ms or min(DEFAULT_TIMEOUT_MS, defaults.scrape_interval_ms),
        external_labels=tuple((name, _expand(value, name, document)) for name, value in defaults.external_labels),
    )


_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|(\w+)|\$)")


def _expand(text: str, label: str, document: Document) -> str:
    """`${VAR}` and `$VAR` from the environment, `$$` as `$`."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if not name:
            return "$" if match[0] == "$$" else ""
        if name not in document.environ:
            document.warnings.append(
                f"{document.file}: external_labels.{label}: the environment has no variable {name}; it counts as empty"
            )
        return document.environ.get(name, "")

    return _VARIABLE.sub(value, text)


_INHERITED = (
    "scrape_protocols sample_limit body_size_limit target_limit label_limit label_name_length_limit label_value_length_limit "
    "keep_dropped_targets metric_name_validation_scheme metric_name_escaping_scheme scrape_failure_log_file"
).split()
_INHERITED_SWITCHES = (
    "scrape_native_histograms always_scrape_classic_histograms convert_classic_histograms_to_nhcb extra_scrape_metrics"
).split()


def _settle_jobs(jobs: list[ScrapeConfig], defaults: GlobalConfig, document: Document) -> Iterator[ScrapeConfig]:
    """Every job with the values it takes from `global`; problems with names and times are reported."""
    first: dict[str, ScrapeConfig] = {}
    for job in jobs:
        if job.job_name in first:
            where = first[job.job_name].where
            document.problems.append(f'{job.where}: two scrape configs have the job name "{job.job_name}"; the first is at {where}')
        first.setdefault(job.job_name, job)
        settled = _settle_job(job, defaults)
        if settled.scrape_timeout_ms > settled.scrape_interval_ms:
            document.problems.append(f'{job.where}: the scrape_timeout of job "{job.job_name}" is longer than its scrape_interval')
        unread = [name for name in settled.scrape_protocols if not PROTOCOLS[name]]
        if unread and "scrape_protocols" not in {warning.split(": ")[1] for warning in document.warnings}:
            document.warnings.append(
                f"{job.where}: scrape_protocols: {unread[0]} is not read yet; the text formats beside it are asked for"
            )
        yield settled


def _settle_job(job: ScrapeConfig, defaults: GlobalConfig) -> ScrapeConfig:
    interval = job.scrape_interval_ms or defaults.scrape_interval_ms
    inherited = {name: getattr(job, name) or getattr(defaults, name) for name in _INHERITED}
    switches = {name: getattr(job, name) if getattr(job, name) is not None else getattr(defaults, name) for name in _INHERITED_SWITCHES}
    return replace(
        job,
        scrape_interval_ms=interval,
        scrape_timeout_ms=job.scrape_timeout_ms or min(defaults.scrape_timeout_ms, interval),
        **inherited,
        **switches,
    )
