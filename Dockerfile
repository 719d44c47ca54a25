# Two stages: dependencies and compiled kernels are made in the first, the second holds neither pip's cache nor a compiler.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY promlike promlike
RUN python -m venv /opt/promlike && /opt/promlike/bin/pip install --no-cache-dir .
# Numba finds a compiled kernel by CPU, by path and by the source's time stamp: a generic CPU is the same on every machine the image runs
# on (and costs a third of the decoder's speed, by `python -m bench.decode`), and whole seconds survive the image's layers.
ENV NUMBA_CPU_NAME=generic NUMBA_CACHE_DIR=/opt/promlike/kernels
RUN cd /opt/promlike/lib/python3.13/site-packages && find promlike -name '*.py' -exec touch -d @1700000000 {} + && \
    /opt/promlike/bin/python -m compileall -q promlike && \
    /opt/promlike/bin/python -c 'from promlike.kernel import compile_kernels; print(compile_kernels(), "kernels")'

FROM python:3.13-slim
RUN useradd --system --uid 65532 --home-dir /data --shell /usr/sbin/nologin promlike && install -d -o promlike -g promlike /data /etc/promlike
COPY --from=build /opt/promlike /opt/promlike
# Numba uses a cache only where it may write.
RUN chown -R promlike:promlike /opt/promlike/kernels
COPY config/promlike.yml /etc/promlike/promlike.yml
ENV PATH=/opt/promlike/bin:$PATH PYTHONUNBUFFERED=1 NUMBA_CPU_NAME=generic NUMBA_CACHE_DIR=/opt/promlike/kernels
USER promlike
WORKDIR /data
VOLUME /data
EXPOSE 9090
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9090/-/healthy', timeout=4)"]
ENTRYPOINT ["promlike", "serve"]
CMD ["--config.file=/etc/promlike/promlike.yml", "--storage.tsdb.path=/data"]
