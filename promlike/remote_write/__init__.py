"""Remote write: what another Prometheus, an agent or a script pushes to `/api/v1/write`."""
