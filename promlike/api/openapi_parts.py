"""What descriptions of routes are made of: operations, parameters and answers that several have."""

from dataclasses import dataclass, field

from promlike.api.openapi_schema import (
    BOOLEAN,
    DURATION,
    LABELS,
    NUMBER,
    SAMPLE,
    TEXT,
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
    to be sent, where that is no form. `also`: other media types that it answers in when asked. `since`: the version of OpenAPI that can
    describe it.
    """

    methods: str
    path: str
    summary: str
    tag: str
    parameters: tuple[Parameter, ...] = ()
    data: Schema | None = None
    answers: str = JSON
    also: tuple[str, ...] = ()
    status: int = 200
    body: str = ""
    since: str = "3.1"


def param(name: str, about: str, schema: Schema = TEXT, *, required: bool = False) -> Parameter:
    return Parameter(name=name, about=about, schema=schema, required=required)


def many(name: str, about: str, *, required: bool = False) -> Parameter:
    return Parameter(name=name, about=about, required=required, repeated=True)


QUERY = param("query", "A PromQL expression.", required=True)
LIMIT = param("limit", "Most entries of the answer; 0 for all.", WHOLE)
START, END = param("start", "First time, included.", TIME), param("end", "Last time, included.", TIME)
MATCH = many("match[]", "A series selector; of several, any may match.")
FORCED = (
    many("extra_filters[]", "A selector without a name, whose conditions every selector of the request gets, too."),
    many("extra_filters", "The same."),
    many("extra_label", "`name=value`: a label that all series of the answer have to have."),
)
TRACE = param("trace", "Say in `trace` what was done for the answer, and how long each step took.", BOOLEAN)
OF_QUERIES = (
    *FORCED,
    param("timeout", "Longest evaluation, if that is shorter than the server's.", DURATION),
    LIMIT,
    param("lookback_delta", "How far back an instant vector looks, in place of the server's default.", DURATION),
    param("stats", "Anything for statistics of the query, `all` for those of each step, too."),
    param("max_source_resolution", "Which samples to read: raw, 5m, 1h or auto."),
    TRACE,
)
OF_LABELS = (MATCH, START, END, LIMIT, *FORCED)
OF_SEARCH = (
    MATCH,
    *FORCED,
    START,
    END,
    many("search[]", "A term; of several, any may fit. Without any, everything fits."),
    param("fuzz_threshold", "How alike a text must be that does not contain a term, from 0 to 100.", NUMBER),
    param("fuzz_alg", "What is alike: letters in order, or Jaro-Winkler similarity.", one_of("subsequence", "jarowinkler")),
    param("case_sensitive", "Whether the case of letters counts; on unless switched off.", BOOLEAN),
    param("sort_by", "By text, or the best first.", one_of("alpha", "score")),
    param("sort_dir", "Direction of the order by text.", one_of("asc", "dsc")),
    param("include_score", "Add how well a result fits, from 0 to 1.", BOOLEAN),
    param("limit", "Most results: 100 unless told otherwise, at most --web.search.max-limit.", WHOLE),
    param("batch_size", "Results a line.", WHOLE),
)
POOL = param("scrapePool", "Name of a job.")

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


def api(methods: str, path: str, summary: str, tag: str, data: Schema, *parameters: Parameter) -> Operation:
    return Operation(methods=methods, path=f"/api/v1/{path}", summary=summary, tag=tag, data=data, parameters=parameters)


def search(path: str, summary: str, *parameters: Parameter) -> Operation:
    return Operation(
        methods=FORM, path=f"/api/v1/search/{path}", summary=summary, tag="search", parameters=(*OF_SEARCH, *parameters), answers=NDJSON
    )


def plain(methods: str, path: str, summary: str, tag: str = "management") -> Operation:
    return Operation(methods=methods, path=path, summary=summary, tag=tag, answers=PLAIN)
