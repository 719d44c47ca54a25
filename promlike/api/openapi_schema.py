"""The few kinds of JSON Schema that the API's answers and parameters are made of."""

from collections.abc import Mapping

Schema = Mapping[str, object]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "array", "items": TEXT}
LABELS: Schema = {"type": "object", "additionalProperties": TEXT, "description": "Label names and values."}
TIME: Schema = {"type": "string", "description": "Seconds since 1970, with fractions, or RFC 3339."}
DURATION: Schema = {"type": "string", "description": "A duration as in PromQL, or a number of seconds."}
SAMPLE: Schema = {
    "type": "array",
    "prefixItems": [
        {"type": "number", "description": "Seconds since 1970."},
        {"type": "string", "description": "A number, NaN, +Inf or -Inf."},
    ],
    "minItems": 2,
    "maxItems": 2,
}


def list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def map_of(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def record(optional: Mapping[str, Schema] | None = None, /, **required: Schema) -> Schema:
    """An object with these members, and perhaps others."""
    schema: dict[str, object] = {"type": "object", "properties": {**required, **(optional or {})}}
    return schema | ({"required": list(required)} if required else {})


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}
