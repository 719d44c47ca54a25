"""What `/api/v1/openapi.yaml` says of every route: the one place to describe a new one.

A test compares this table with the routes of the application and with the parameters that endpoints read, so none is forgotten.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from promlike.api.openapi_schema import (
    BOOLEAN,
    DURATION,
    LABELS,
    NUMBER,
    SAMPLE,
    TEXT,
    TEXTS,
    TIME,
    WHOLE,
    Schema,
    list_of,
    map_of,
    one_of,
    record,
)

JSON = "application/json"
PLAIN = "text/plain"
NDJSON = "application/x-ndjson"
EVENTS = "text/event-stream"
PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter. `repeated`: it may be given several times."""

    name: str
    about: str
    schema: Schema = field(default_factory=lambda: TEXT)
    required: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route with all its methods. `data` is what stands in the envelope of a JSON answer (None: no answer in JSON); `body` is what has
    to be sent, where that is no form. `since`: the version of OpenAPI that can describe it.
    """

    methods: str
    path: str
    summary: str
    tag: str
    parameters: tuple[Parameter, ...] = ()
    data: Schema | None = None
    answers: str = JSON
    status: int = 200
    body: str = ""
    since: str = "3.1"


def _p(name: str, about: str, schema: Schema = TEXT, *, required: bool = False) -> Parameter:
    return Parameter(name=name, about=about, schema=schema, required=required)


def _many(name: str, about: str, *, required: bool = False) -> Parameter:
    return Parameter(name=name, about=about, required=required, repeated=True)


QUERY = _p("query", "A PromQL expression.", required=True)
LIMIT = _p("limit", "Most entries of the answer; 0 for all.", WHOLE)
START, END = _p("start", "First time, included.", TIME), _p("end", "Last time, included.", TIME)
MATCH = _many("match[]", "A series selector; of several, any may match.")
FORCED = (
    _many("extra_filters[]", "A selector without a name, whose conditions every selector of the request gets, too."),
    _many("extra_filters", "The same."),
    _many("extra_label", "`name=value`: a label that all series of the answer have to have."),
)
OF_QUERIES = (
    *FORCED,
    _p("timeout", "Longest evaluation, if that is shorter than the server's.", DURATION),
    LIMIT,
    _p("lookback_delta", "How far back an instant vector looks, in place of the server's default.", DURATION),
    _p("stats", "Anything for statistics of the query, `all` for those of each step, too."),
    _p("max_source_resolution", "Which samples to read: raw, 5m, 1h or auto."),
)
OF_LABELS = (MATCH, START, END, LIMIT, *FORCED)
OF_SEARCH = (
    MATCH,
    *FORCED,
    START,
    END,
    _many("search[]", "A term; of several, any may fit. Without any, everything fits."),
    _p("fuzz_threshold", "How alike a text must be that does not contain a term, from 0 to 100.", NUMBER),
    _p("fuzz_alg", "What is alike: letters in order, or Jaro-Winkler similarity.", one_of("subsequence", "jarowinkler")),
    _p("case_sensitive", "Whether the case of letters counts; on unless switched off.", BOOLEAN),
    _p("sort_by", "By text, or the best first.", one_of("alpha", "score")),
    _p("sort_dir", "Direction of the order by text.", one_of("asc", "dsc")),
    _p("include_score", "Add how well a result fits, from 0 to 1.", BOOLEAN),
    _p("limit", "Most results: 100 unless told otherwise, at most --web.search.max-limit.", WHOLE),
    _p("batch_size", "Results a line.", WHOLE),
)
POOL = _p("scrapePool", "Name of a job.")

RESULT: Schema = {
    "oneOf": [
        record(resultType=one_of("vector"), result=list_of(record(metric=LABELS, value=SAMPLE))),
        record(resultType=one_of("matrix"), result=list_of(record(metric=LABELS, values=list_of(SAMPLE)))),
        record(resultType=one_of("scalar", "string"), result=SAMPLE),
    ],
    "properties": {
        "stats": record(timings=map_of(NUMBER), samples=record(totalQueryableSamples=WHOLE, samplesRead=WHOLE, peakSamples=WHOLE))
    },
}
COUNTS = list_of(record(name=TEXT, value=WHOLE))
METADATA = record(type=TEXT, help=TEXT, unit=TEXT)
TARGET = record(
    discoveredLabels=LABELS,
    labels=LABELS,
    scrapePool=TEXT,
    scrapeUrl=TEXT,
    globalUrl=TEXT,
    lastError=TEXT,
    lastScrape=TEXT,
    lastScrapeDuration=NUMBER,
    health=one_of("unknown", "up", "down"),
    scrapeInterval=TEXT,
    scrapeTimeout=TEXT,
)
NOTICE = record(text=TEXT, date=TEXT, active=BOOLEAN)
EXEMPLAR = record(labels=LABELS, value=TEXT, timestamp=NUMBER)
FORM = "GET POST"


def _api(methods: str, path: str, summary: str, tag: str, data: Schema, *parameters: Parameter) -> Operation:
    return Operation(methods=methods, path=f"/api/v1/{path}", summary=summary, tag=tag, data=data, parameters=parameters)


def _search(path: str, summary: str, *parameters: Parameter) -> Operation:
    return Operation(
        methods=FORM, path=f"/api/v1/search/{path}", summary=summary, tag="search", parameters=(*OF_SEARCH, *parameters), answers=NDJSON
    )


def _plain(methods: str, path: str, summary: str, tag: str = "management") -> Operation:
    return Operation(methods=methods, path=path, summary=summary, tag=tag, answers=PLAIN)


QUERYING = (
    _api(FORM, "query", "Evaluate a query at one time.", "query", RESULT, QUERY, _p("time", "When; now unless given.", TIME), *OF_QUERIES),
    _api(
        FORM,
        "query_range",
        "Evaluate a query at every step of a span of time.",
        "query",
        RESULT,
        QUERY,
        _p("start", "First step.", TIME, required=True),
        _p("end", "No step is later.", TIME, required=True),
        _p("step", "Time between steps.", DURATION, required=True),
        *OF_QUERIES,
        _p("nocache", "Compute everything anew.", BOOLEAN),
    ),
    _api(
        FORM,
        "query_exemplars",
        "Exemplars of the series that a query selects.",
        "query",
        list_of(record(seriesLabels=LABELS, exemplars=list_of(EXEMPLAR))),
        QUERY,
        START,
        END,
        *FORCED,
    ),
    _api(FORM, "format_query", "A query in canonical form.", "query", TEXT, QUERY),
    _api(FORM, "parse_query", "The syntax tree of a query.", "query", record(type=TEXT), QUERY),
)

LABEL_LOOKUPS = (
    _api(
        FORM,
        "series",
        "Labels of matching series.",
        "labels",
        list_of(LABELS),
        _many("match[]", "A series selector; of several, any may match.", required=True),
        START,
        END,
        LIMIT,
        *FORCED,
    ),
    _api(FORM, "labels", "Label names.", "labels", TEXTS, *OF_LABELS),
    _api(FORM, "label/{name}/values", "Values of one label, whose name may be escaped as `U__…`.", "labels", TEXTS, *OF_LABELS),
    _search("metric_names", "Find metric names.", _p("include_metadata", "Add type, help and unit of a metric.", BOOLEAN)),
    _search("label_names", "Find label names."),
    _search("label_values", "Find values of one label.", _p("label", "The name of the label.", required=True)),
    _api(
        "GET",
        "metadata",
        "Type, help and unit of metrics.",
        "labels",
        map_of(list_of(METADATA)),
        _p("limit", "Most metrics.", WHOLE),
        _p("limit_per_metric", "Most entries of a metric.", WHOLE),
        _p("metric", "Only this one."),
    ),
)

SCRAPING = (
    _api(
        "GET",
        "targets",
        "What is scraped and how that goes.",
        "targets",
        record(
            activeTargets=list_of(TARGET),
            droppedTargets=list_of(record(discoveredLabels=LABELS, scrapePool=TEXT)),
            droppedTargetCounts=map_of(WHOLE),
        ),
        _p("state", "Only targets in this state.", one_of("active", "dropped", "any")),
        POOL,
    ),
    _api(
        "GET",
        "targets/metadata",
        "Metadata of the metrics of targets.",
        "targets",
        list_of(record({"metric": TEXT}, target=LABELS, type=TEXT, help=TEXT, unit=TEXT)),
        _p("match_target", "A selector of labels of targets."),
        _p("metric", "Only this one."),
        _p("limit", "Entries after which no further target is looked at.", WHOLE),
    ),
    _api(
        "GET",
        "targets/relabel_steps",
        "What each relabelling rule of a job does to a target.",
        "targets",
        record(steps=list_of(record(rule=record(action=TEXT), output=LABELS, keep=BOOLEAN))),
        _p("scrapePool", "Name of a job.", required=True),
        _p("labels", "The target's labels before relabelling, as a JSON object.", required=True),
    ),
    _api("GET", "scrape_pools", "Names of all jobs.", "targets", record(scrapePools=TEXTS)),
    _api(
        "GET",
        "scrape_pools/config",
        "The configuration of a job.",
        "targets",
        record(yaml=TEXT),
        _p("scrapePool", "Name of a job.", required=True),
    ),
)

RULES = (
    _api(
        "GET",
        "rules",
        "Rule groups.",
        "rules",
        record({"groupNextToken": TEXT}, groups=list_of(record())),
        _p("type", "Only rules of this kind.", one_of("alert", "record")),
        *(_many(name, "Only these rules.") for name in ("rule_name[]", "rule_name")),
        *(_many(name, "Only these groups.") for name in ("rule_group[]", "rule_group")),
        *(_many(name, "Only these files.") for name in ("file[]", "file")),
        MATCH,
        _p("exclude_alerts", "Leave out active alerts.", BOOLEAN),
        _p("group_limit", "Most groups of a page.", WHOLE),
        _p("group_next_token", "Where the last page ended."),
    ),
    _api("GET", "alerts", "Active alerts.", "rules", record(alerts=list_of(record()))),
    _api(
        "GET",
        "alertmanagers",
        "Where alerts are sent.",
        "rules",
        record(activeAlertmanagers=list_of(record()), droppedAlertmanagers=list_of(record())),
    ),
)

STATUS = (
    _api("GET", "features", "What this server can do.", "status", map_of(map_of(BOOLEAN))),
    _api("GET", "notifications", "What an administrator should know now.", "status", list_of(NOTICE)),
    Operation(
        methods="GET",
        path="/api/v1/notifications/live",
        summary="Notifications as they change, as server-sent events; 204 when too many listen already.",
        tag="status",
        data=NOTICE,
        answers=EVENTS,
        since="3.2",
    ),
    _api("GET", "status/buildinfo", "Versions.", "status", map_of(TEXT)),
    _api("GET", "status/config", "The configuration in force.", "status", record(yaml=TEXT)),
    _api("GET", "status/flags", "The command line.", "status", map_of(TEXT)),
    _api(
        "GET",
        "status/runtimeinfo",
        "The running process.",
        "status",
        record(startTime=TEXT, CWD=TEXT, reloadConfigSuccess=BOOLEAN, lastConfigTime=TEXT, corruptionCount=WHOLE, storageRetention=TEXT),
    ),
    _api(
        "GET",
        "status/self_metrics",
        "Metrics of the server itself, as `/metrics` has them, in JSON.",
        "status",
        list_of(record(name=TEXT, help=TEXT, type=TEXT, metric=list_of(record(label=list_of(record(name=TEXT, value=TEXT)))))),
        _p("metric_name_pattern", "A regular expression that the whole name must match."),
    ),
    _api(
        "GET",
        "status/active_queries",
        "The queries that wait or run now, in VictoriaMetrics's words.",
        "status",
        list_of(
            record(
                id=TEXT,
                query=TEXT,
                start=WHOLE,
                end=WHOLE,
                step=WHOLE,
                duration=TEXT,
                durationSeconds=NUMBER,
                memoryBytes=WHOLE,
                remote_addr=TEXT,
                method=TEXT,
                path=TEXT,
                headers=map_of(TEXT),
            )
        ),
    ),
    _api(
        "GET",
        "status/top_queries",
        "The queries that were asked most often, took longest and took most time in all, in VictoriaMetrics's words.",
        "status",
        record(
            {"search.queryStats.lastQueriesCount": WHOLE},
            topN=TEXT,
            maxLifetime=TEXT,
            topByCount=list_of(record(query=TEXT, timeRangeSeconds=NUMBER, count=WHOLE)),
            topByAvgDuration=list_of(record(query=TEXT, timeRangeSeconds=NUMBER, count=WHOLE, avgDurationSeconds=NUMBER)),
            topBySumDuration=list_of(record(query=TEXT, timeRangeSeconds=NUMBER, count=WHOLE, sumDurationSeconds=NUMBER)),
        ),
        _p("topN", "How many of each kind; 20 unless given.", WHOLE),
        _p("maxLifetime", "How long ago the queries may have ended; 10m unless given.", DURATION),
    ),
    _api(
        "GET",
        "status/tsdb",
        "How many series there are, and which names and labels have most of them.",
        "status",
        record(
            {"seriesCountByFocusLabelValue": COUNTS},
            headStats=record(numSeries=WHOLE, numLabelPairs=WHOLE, chunkCount=WHOLE, minTime=WHOLE, maxTime=WHOLE),
            seriesCountByMetricName=COUNTS,
            labelValueCountByLabelName=COUNTS,
            memoryInBytesByLabelName=COUNTS,
            seriesCountByLabelValuePair=COUNTS,
        ),
        *OF_LABELS,
        _p("topN", "Another name of `limit`.", WHOLE),
        _p("focusLabel", "Also count the series of each value of this label."),
    ),
    _api(
        "GET",
        "status/tsdb/blocks",
        "What the store holds.",
        "status",
        record(blocks=list_of(record(ulid=TEXT, minTime=WHOLE, maxTime=WHOLE, stats=map_of(WHOLE), version=WHOLE))),
    ),
    _api(
        "GET",
        "status/walreplay",
        "How far the replay of the write-ahead log is; answered while the server starts.",
        "status",
        record(min=WHOLE, max=WHOLE, current=WHOLE, state=one_of("waiting", "in progress", "done")),
    ),
    Operation(
        methods="GET",
        path="/api/v1/openapi.yaml",
        summary="This document.",
        tag="status",
        parameters=(_p("openapi_version", "The version of OpenAPI.", one_of("3.1", "3.2")),),
        answers="application/yaml",
    ),
)

TRANSFER = (
    Operation(
        methods="POST", path="/api/v1/write", summary="Remote write 1.0 and 2.0.", tag="transfer", body=PROTOBUF, answers=PLAIN, status=204
    ),
    Operation(
        methods="POST",
        path="/api/v1/read",
        summary="Remote read: samples, or streamed XOR chunks, by what the request accepts.",
        tag="transfer",
        body=PROTOBUF,
        answers=PROTOBUF,
    ),
    Operation(
        methods="GET",
        path="/federate",
        summary="The newest samples of matching series, as text or, where Accept asks for it, protobuf.",
        tag="transfer",
        parameters=(MATCH, *FORCED),
        answers=PLAIN,
    ),
    _plain("GET", "/metrics", "Metrics of the server itself, as text or OpenMetrics.", "transfer"),
)


def _admin(path: str, summary: str, *parameters: Parameter, data: Schema | None = None) -> Operation:
    return Operation(
        methods="POST PUT",
        path=f"/api/v1/admin/{path}",
        summary=summary,
        tag="admin",
        parameters=parameters,
        data=data,
        status=204 if data is None else 200,
    )


MANAGEMENT = (
    _admin(
        "tsdb/delete_series",
        "Delete samples of matching series.",
        _many("match[]", "A series selector; of several, any may match.", required=True),
        START,
        END,
        *FORCED,
        _p("dry_run", "Only count the series.", BOOLEAN),
    ),
    _admin("tsdb/clean_tombstones", "Carry out deletions and give back space."),
    _admin("tsdb/snapshot", "Copy the store.", _p("skip_head", "Without what is not flushed.", BOOLEAN), data=record(name=TEXT)),
    _admin("cancel_query", "End a query that waits or runs.", _p("id", "As `status/active_queries` shows it.", WHOLE, required=True)),
    _plain("GET HEAD", "/-/healthy", "Is the process alive?"),
    _plain("GET HEAD", "/-/ready", "Does it answer queries?"),
    _plain("POST PUT", "/-/reload", "Read the configuration again; needs --web.enable-lifecycle."),
    _plain("POST PUT", "/-/quit", "Stop; needs --web.enable-lifecycle."),
    _plain("GET", "/version", "Versions, without an envelope."),
    Operation(methods="GET", path="/", summary="A page of links.", tag="management", answers="text/html"),
)

OPERATIONS: tuple[Operation, ...] = (*QUERYING, *LABEL_LOOKUPS, *SCRAPING, *RULES, *STATUS, *TRANSFER, *MANAGEMENT)

TAGS: Mapping[str, str] = {
    "query": "PromQL.",
    "labels": "Series, label names and values, metadata.",
    "search": "Names and values that fit search terms, as lines of JSON.",
    "targets": "Scraping.",
    "rules": "Rules and alerts.",
    "status": "The server itself.",
    "transfer": "Samples in and out.",
    "admin": "Deleting, copying, and ending queries; needs --web.enable-admin-api.",
    "management": "Life cycle.",
}
