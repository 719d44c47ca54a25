"""promlike: a metrics server that stands where Prometheus stands and keeps its samples in a SQL database."""

__version__ = "0.1.0"
