"""Evaluators of PromQL's functions: they take values in flight, call kernels and give a value; one family of functions a module."""
