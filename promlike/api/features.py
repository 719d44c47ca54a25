"""`/api/v1/features`: what this server can do, by area, in the names of Prometheus. What is left out is not there."""

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer
from promlike.api.params import Params
from promlike.promql.aggregations import AGGREGATIONS
from promlike.promql.functions import FUNCTIONS
from promlike.promql.options import Features

ALWAYS = "at_modifier bool by group_left group_right ignoring negative_offset offset on per_query_lookback_delta per_step_stats"
OPERATORS = "+ - * / % ^ == != > < >= <= =~ !~ and or unless atan2"


async def features(api: Api, params: Params, request: web.Request) -> Answer:
    promql = api.query_options.features
    return answer(
        {
            "api": _api(api),
            "prometheus": {"agent_mode": False, "auto_reload_config": False},
            "promql": _promql(promql),
            "promql_functions": {name: spec.enabled(promql) for name, spec in sorted(FUNCTIONS.items())},
            "promql_operators": _operators(promql),
            "scrape": {"extra_scrape_metrics": True, "start_timestamp_zero_ingestion": False},
            "service_discovery": {"file": True, "http": True, "static": True},
            "tsdb": {"exemplar_storage": True, "native_histograms": False, "out_of_order_ingestion": True},
        }
    )


def _api(api: Api) -> dict[str, bool]:
    always = "federation label_values_match metadata openapi_3.1 openapi_3.2 query_stats query_warnings remote_read search"
    return dict.fromkeys(always.split(), True) | {
        "admin": api.web.enable_admin_api,
        "exclude_alerts": True,
        "sql": api.web.enable_sql_api,
        "lifecycle": api.web.enable_lifecycle,
        "remote_write_receiver": api.web.flags.get("web.enable-remote-write-receiver") != "false",
    }


def _promql(promql: Features) -> dict[str, bool]:
    return dict.fromkeys(ALWAYS.split(), True) | {
        "anchored": promql.promql_extended_range_selectors,
        "delayed_name_removal": promql.promql_delayed_name_removal,
        "duration_expr": promql.promql_duration_expr,
        "experimental_functions": promql.promql_experimental_functions,
        "fill": promql.promql_binop_fill_modifiers,
        "subqueries": True,
        "smoothed": promql.promql_extended_range_selectors,
        "type_and_unit_labels": promql.type_and_unit_labels,
        "use_start_timestamps": promql.use_start_timestamps,
        "without": True,
    }


def _operators(promql: Features) -> dict[str, bool]:
    aggregations = {name: promql.promql_experimental_functions or not spec.experimental for name, spec in sorted(AGGREGATIONS.items())}
    return aggregations | dict.fromkeys(OPERATORS.split(), True)
