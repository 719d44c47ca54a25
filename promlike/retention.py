"""The retention that configuration and command line ask for together."""

from promlike.config.root import Config
from promlike.errors import BadRequest, ConfigError
from promlike.promql.series_selector import series_selector
from promlike.storage.keep import KeepOptions, KeepRule


def keep_options(config: Config, *, default_ms: int = 0, max_bytes: int = 0) -> KeepOptions:
    """What holds: the configuration's `storage` section, and where that says nothing, what the flags say.

    Raises ConfigError where a selector cannot be read.
    """
    storage = config.storage
    rules, problems = [], []
    for number, rule in enumerate(storage.retention):
        try:
            rules.append(KeepRule(matchers=series_selector(rule.match), keep_ms=rule.keep_ms))
        except BadRequest as error:
            problems.append(f"{rule.where}: storage.retention[{number}].match: {error}")
    if problems:
        raise ConfigError(problems)
    general = storage.tsdb.retention if storage.tsdb is not None else None
    return KeepOptions(
        default_ms=(general.time_ms if general is not None else 0) or default_ms,
        max_bytes=(general.size if general is not None else 0) or max_bytes,
        rules=tuple(rules),
    )
