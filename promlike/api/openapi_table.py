"""What `/api/v1/openapi.yaml` says of every route: the one place to describe a new one.

A test compares this table with the routes of the application and with the parameters that endpoints read, so none is forgotten.
"""

from collections.abc import Mapping

from promlike.api.openapi_parts import (
    COUNTS,
    END,
    EVENTS,
    EXEMPLAR,
    FORCED,
    FORM,
    LIMIT,
    MATCH,
    METADATA,
    NOTICE,
    OF_LABELS,
    OF_QUERIES,
    PLAIN,
    POOL,
    PROTOBUF,
    QUERY,
    RESULT,
    START,
    TARGET,
    Operation,
    Parameter,
    api,
    many,
    param,
    plain,
    search,
)
from promlike.api.openapi_schema import (
    BOOLEAN,
    DURATION,
    LABELS,
    NUMBER,
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

QUERYING = (
    api(
        FORM, "query", "Evaluate a query at one time.", "query", RESULT, QUERY, param("time", "When; now unless given.", TIME), *OF_QUERIES
    ),
    api(
        FORM,
        "query_range",
        "Evaluate a query at every step of a span of time.",
        "query",
        RESULT,
        QUERY,
        param("start", "First step.", TIME, required=True),
        param("end", "No step is later.", TIME, required=True),
        param("step", "Time between steps.", DURATION, required=True),
        *OF_QUERIES,
        param("nocache", "Compute everything anew.", BOOLEAN),
    ),
    api(
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
    Operation(
        methods=FORM,
        path="/api/v1/sql",
        summary="Answer a statement of SQL that reads; needs --web.enable-sql-api.",
        tag="query",
        parameters=(
            param("query", "One statement.", required=True),
            param("format", "Of the answer, unless Accept says it.", one_of("json", "csv", "arrow")),
            param("limit", "Most rows, if that is less than --web.sql.max-rows.", WHOLE),
            param("timeout", "Longest execution, if that is shorter than the server's.", DURATION),
            *(many(name, "Refused: SQL cannot be held to some series.") for name in ("extra_filters[]", "extra_filters", "extra_label")),
        ),
        data=record(columns=list_of(record(name=TEXT, type=TEXT)), rows=list_of(list_of({}))),
        also=("text/csv", "application/vnd.apache.arrow.stream"),
    ),
    api(FORM, "format_query", "A query in canonical form.", "query", TEXT, QUERY),
    api(FORM, "parse_query", "The syntax tree of a query.", "query", record(type=TEXT), QUERY),
)

LABEL_LOOKUPS = (
    api(
        FORM,
        "series",
        "Labels of matching series.",
        "labels",
        list_of(LABELS),
        many("match[]", "A series selector; of several, any may match.", required=True),
        START,
        END,
        LIMIT,
        *FORCED,
    ),
    api(FORM, "labels", "Label names.", "labels", TEXTS, *OF_LABELS),
    api(FORM, "label/{name}/values", "Values of one label, whose name may be escaped as `U__…`.", "labels", TEXTS, *OF_LABELS),
    search("metric_names", "Find metric names.", param("include_metadata", "Add type, help and unit of a metric.", BOOLEAN)),
    search("label_names", "Find label names."),
    search("label_values", "Find values of one label.", param("label", "The name of the label.", required=True)),
    api(
        "GET",
        "metadata",
        "Type, help and unit of metrics.",
        "labels",
        map_of(list_of(METADATA)),
        param("limit", "Most metrics.", WHOLE),
        param("limit_per_metric", "Most entries of a metric.", WHOLE),
        param("metric", "Only this one."),
    ),
)

SCRAPING = (
    api(
        "GET",
        "targets",
        "What is scraped and how that goes.",
        "targets",
        record(
            activeTargets=list_of(TARGET),
            droppedTargets=list_of(record(discoveredLabels=LABELS, scrapePool=TEXT)),
            droppedTargetCounts=map_of(WHOLE),
        ),
        param("state", "Only targets in this state.", one_of("active", "dropped", "any")),
        POOL,
    ),
    api(
        "GET",
        "targets/metadata",
        "Metadata of the metrics of targets.",
        "targets",
        list_of(record({"metric": TEXT}, target=LABELS, type=TEXT, help=TEXT, unit=TEXT)),
        param("match_target", "A selector of labels of targets."),
        param("metric", "Only this one."),
        param("limit", "Entries after which no further target is looked at.", WHOLE),
    ),
    api(
        "GET",
        "targets/relabel_steps",
        "What each relabelling rule of a job does to a target.",
        "targets",
        record(steps=list_of(record(rule=record(action=TEXT), output=LABELS, keep=BOOLEAN))),
        param("scrapePool", "Name of a job.", required=True),
        param("labels", "The target's labels before relabelling, as a JSON object.", required=True),
    ),
    api("GET", "scrape_pools", "Names of all jobs.", "targets", record(scrapePools=TEXTS)),
    api(
        "GET",
        "scrape_pools/config",
        "The configuration of a job.",
        "targets",
        record(yaml=TEXT),
        param("scrapePool", "Name of a job.", required=True),
    ),
)

RULES = (
    api(
        "GET",
        "rules",
        "Rule groups.",
        "rules",
        record({"groupNextToken": TEXT}, groups=list_of(record())),
        param("type", "Only rules of this kind.", one_of("alert", "record")),
        *(many(name, "Only these rules.") for name in ("rule_name[]", "rule_name")),
        *(many(name, "Only these groups.") for name in ("rule_group[]", "rule_group")),
        *(many(name, "Only these files.") for name in ("file[]", "file")),
        MATCH,
        param("exclude_alerts", "Leave out active alerts.", BOOLEAN),
        param("group_limit", "Most groups of a page.", WHOLE),
        param("group_next_token", "Where the last page ended."),
    ),
    api("GET", "alerts", "Active alerts.", "rules", record(alerts=list_of(record()))),
    api(
        "GET",
        "alertmanagers",
        "Where alerts are sent.",
        "rules",
        record(activeAlertmanagers=list_of(record()), droppedAlertmanagers=list_of(record())),
    ),
)

STATUS = (
    api("GET", "features", "What this server can do.", "status", map_of(map_of(BOOLEAN))),
    api("GET", "notifications", "What an administrator should know now.", "status", list_of(NOTICE)),
    Operation(
        methods="GET",
        path="/api/v1/notifications/live",
        summary="Notifications as they change, as server-sent events; 204 when too many listen already.",
        tag="status",
        data=NOTICE,
        answers=EVENTS,
        since="3.2",
    ),
    api("GET", "status/buildinfo", "Versions.", "status", map_of(TEXT)),
    api("GET", "status/config", "The configuration in force.", "status", record(yaml=TEXT)),
    api("GET", "status/flags", "The command line.", "status", map_of(TEXT)),
    api(
        "GET",
        "status/runtimeinfo",
        "The running process.",
        "status",
        record(startTime=TEXT, CWD=TEXT, reloadConfigSuccess=BOOLEAN, lastConfigTime=TEXT, corruptionCount=WHOLE, storageRetention=TEXT),
    ),
    api(
        "GET",
        "status/self_metrics",
        "Metrics of the server itself, as `/metrics` has them, in JSON.",
        "status",
        list_of(record(name=TEXT, help=TEXT, type=TEXT, metric=list_of(record(label=list_of(record(name=TEXT, value=TEXT)))))),
        param("metric_name_pattern", "A regular expression that the whole name must match."),
    ),
    api(
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
    api(
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
        param("topN", "How many of each kind; 20 unless given.", WHOLE),
        param("maxLifetime", "How long ago the queries may have ended; 10m unless given.", DURATION),
    ),
    api(
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
        param("topN", "Another name of `limit`.", WHOLE),
        param("focusLabel", "Also count the series of each value of this label."),
    ),
    api(
        "GET",
        "status/tsdb/blocks",
        "What the store holds.",
        "status",
        record(blocks=list_of(record(ulid=TEXT, minTime=WHOLE, maxTime=WHOLE, stats=map_of(WHOLE), version=WHOLE))),
    ),
    api(
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
        parameters=(param("openapi_version", "The version of OpenAPI.", one_of("3.1", "3.2")),),
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
    plain("GET", "/metrics", "Metrics of the server itself, as text or OpenMetrics.", "transfer"),
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
        many("match[]", "A series selector; of several, any may match.", required=True),
        START,
        END,
        *FORCED,
        param("dry_run", "Only count the series.", BOOLEAN),
    ),
    _admin("tsdb/clean_tombstones", "Carry out deletions and give back space."),
    _admin("tsdb/snapshot", "Copy the store.", param("skip_head", "Without what is not flushed.", BOOLEAN), data=record(name=TEXT)),
    _admin("cancel_query", "End a query that waits or runs.", param("id", "As `status/active_queries` shows it.", WHOLE, required=True)),
    plain("GET HEAD", "/-/healthy", "Is the process alive?"),
    plain("GET HEAD", "/-/ready", "Does it answer queries?"),
    plain("POST PUT", "/-/reload", "Read the configuration again; needs --web.enable-lifecycle."),
    plain("POST PUT", "/-/quit", "Stop; needs --web.enable-lifecycle."),
    plain("GET", "/version", "Versions, without an envelope."),
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
