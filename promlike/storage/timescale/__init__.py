"""The TimescaleDB store: one wide hypertable, columnstore, binary COPY."""
