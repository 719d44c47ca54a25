"""Classes that protoc made from `proto/`; `proto/README.md` has the command. Never edited by hand."""
