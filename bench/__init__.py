"""The same load and the same queries against promlike, Prometheus and VictoriaMetrics: `make bench`, or `python -m bench --help`."""
