# One file, five images:
#
#   docker build --build-arg SERVICE=serving -t slipstream/serving .
#
# An image holds the requirements of the shared library and of its own service, nothing else, in the
# versions that constraints.txt pins. torch is not pinned: a CPU build of it, from another package
# index, comes in through pip's own variables as build arguments:
#
#   --build-arg PIP_INDEX_URL=https://… --build-arg PIP_EXTRA_INDEX_URL=https://…
#
# --build-arg CODE_COMMIT=$(git rev-parse HEAD) lets training record which code made a model.
ARG SERVICE

# What all five stand on: built once, and again only when one of the two files changes.
FROM python:3.11-slim AS shared
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/slipstream
ENV PATH=/opt/slipstream/bin:$PATH
COPY constraints.txt /requirements/constraints.txt
COPY slipstream/requirements.txt /requirements/slipstream.txt
RUN pip install -c /requirements/constraints.txt -r /requirements/slipstream.txt

FROM shared AS build
ARG SERVICE
COPY services/${SERVICE}/requirements.txt /requirements/service.txt
# Both lists at once, so that the resolver sees every bound.
RUN pip install -c /requirements/constraints.txt -r /requirements/slipstream.txt -r /requirements/service.txt
WORKDIR /src
COPY pyproject.toml README.md ./
COPY slipstream slipstream
COPY services services
# The person's tool too: `docker compose exec training slipstream runs list`.
COPY slipstream_cli slipstream_cli
RUN pip install --no-deps .
# Kernels are compiled here, for containers that can't write beside the sources; the other services
# have none.
WORKDIR /opt
RUN case "$SERVICE" in serving|training) python -m slipstream.models.kernels;; esac

FROM python:3.11-slim AS runtime
RUN groupadd --gid 10001 slipstream \
 && useradd --uid 10001 --gid slipstream --no-create-home --home-dir /tmp --shell /usr/sbin/nologin slipstream \
 && install -d -o slipstream -g slipstream /data /data/lake /data/models /data/serving
COPY --from=build /opt/slipstream /opt/slipstream
# HOME: some libraries keep a cache in it; the root file system may be read-only.
ENV PATH=/opt/slipstream/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SLIPSTREAM_HTTP__HOST=0.0.0.0 \
    SLIPSTREAM_LAKE__URI=/data/lake \
    SLIPSTREAM_ARTIFACTS__DIRECTORY=/data/models \
    SLIPSTREAM_SERVING__CACHE_DIR=/data/serving
WORKDIR /data
# By number, which is what lets Kubernetes prove that it isn't root.
USER 10001:10001
HEALTHCHECK --interval=5s --timeout=5s --start-period=120s --retries=6 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['SLIPSTREAM_HTTP__PORT'] + '/health/ready', timeout=4)"]
ENTRYPOINT ["python", "-m", "services"]

# Each image starts its own service by default.
FROM runtime AS start-ingestion
ENV SLIPSTREAM_HTTP__PORT=8001
EXPOSE 8001
CMD ["ingestion"]

FROM runtime AS start-features
ENV SLIPSTREAM_HTTP__PORT=8002
EXPOSE 8002
CMD ["features"]

FROM runtime AS start-training
ENV SLIPSTREAM_HTTP__PORT=8003
EXPOSE 8003
ARG CODE_COMMIT=""
ENV SLIPSTREAM_TRAINING__CODE_COMMIT=${CODE_COMMIT}
CMD ["training"]

FROM runtime AS start-serving
ENV SLIPSTREAM_HTTP__PORT=8004
EXPOSE 8004
CMD ["serving"]

FROM runtime AS start-monitoring
ENV SLIPSTREAM_HTTP__PORT=8005
EXPOSE 8005
CMD ["monitoring"]

FROM start-${SERVICE}
