# One file, five images:
#
#   docker build --build-arg SERVICE=serving -t slipstream/serving .
#
# An image holds the requirements of the shared library and of its own service, nothing else, in the versions and with the digests
# that deploy/image/*.txt pin. torch is not among them, since the machine decides which build fits: the newest one of
# TORCH_INDEX_URL, without a GPU by default. With one:
#
#   --build-arg SERVICE=training --build-arg TORCH_INDEX_URL=https://download.pytorch.org/whl/cu130
#
# Other package indexes come in by pip's own variables as build arguments: PIP_INDEX_URL, PIP_EXTRA_INDEX_URL.
# --build-arg CODE_COMMIT=$(git rev-parse HEAD) labels the image, and lets training record which code made a model.
ARG SERVICE

# What all five stand on: built once, and again only when the pins change. pip and the compilers' tools stay in these stages.
FROM python:3.11-slim AS shared
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN apt-get update \
 && apt-get install -y --no-install-recommends binutils \
 && rm -rf /var/lib/apt/lists/* \
 && python -m venv --without-pip /opt/slipstream
# PIP_PYTHON: python -m pip installs for that interpreter, which has none.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_PYTHON=/opt/slipstream/bin/python
COPY deploy/image/library.txt /pins/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip install --no-compile --no-deps --require-hashes -r /pins/library.txt

FROM shared AS wheel
COPY deploy/image/build.txt /pins/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip install --no-compile --no-deps --require-hashes -r /pins/build.txt
WORKDIR /src
COPY pyproject.toml README.md ./
COPY slipstream slipstream
COPY services services
# services/monitoring/runbook_pages leads there.
COPY docs/runbook docs/runbook
# The person's tool too: `docker compose exec training slipstream runs list`.
COPY slipstream_cli slipstream_cli
RUN python -m pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels .

# Kernels are compiled here, since containers can't write next to the sources: once for the two images that have them.
FROM shared AS kernels
COPY deploy/image/serving.txt /pins/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip install --no-compile --no-deps --require-hashes -r /pins/serving.txt
WORKDIR /opt
RUN --mount=from=wheel,source=/wheels,target=/wheels \
    python -m pip install --no-compile --no-deps --no-index /wheels/*.whl && /opt/slipstream/bin/python -m slipstream.models.kernels

FROM shared AS build
ARG SERVICE
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
COPY deploy/image/${SERVICE}.txt constraints.txt deploy/image/trim.py /pins/
COPY services/${SERVICE}/requirements.txt /pins/requirements.txt
# setuptools comes with torch, which needs it to compile only. Some of torch's files are for newer Pythons, and have no bytecode.
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip install --no-compile --no-deps --require-hashes -r /pins/${SERVICE}.txt \
 && if grep '^torch' /pins/requirements.txt >/pins/torch.txt; then \
      python -m pip install --no-compile --extra-index-url "$TORCH_INDEX_URL" -c /pins/constraints.txt -r /pins/torch.txt \
      && python -m pip uninstall --yes setuptools; \
    fi \
 && site=$(/opt/slipstream/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
 && python /pins/trim.py "$site" \
 && { /opt/slipstream/bin/python -m compileall -qq -j 0 "$site" || true; }
RUN --mount=from=wheel,source=/wheels,target=/wheels python -m pip install --no-deps --no-index /wheels/*.whl

FROM build AS built-ingestion
FROM build AS built-features
FROM build AS built-monitoring
FROM build AS built-training
COPY --from=kernels /opt/slipstream/lib/python3.11/site-packages/slipstream/models/kernels \
    /opt/slipstream/lib/python3.11/site-packages/slipstream/models/kernels
FROM build AS built-serving
COPY --from=kernels /opt/slipstream/lib/python3.11/site-packages/slipstream/models/kernels \
    /opt/slipstream/lib/python3.11/site-packages/slipstream/models/kernels
FROM built-${SERVICE} AS built

FROM python:3.11-slim AS runtime
# Nothing installs packages in a container.
RUN python -m pip uninstall --quiet --yes --root-user-action ignore setuptools wheel pip \
 && rm -rf "$(python -c 'import ensurepip, os; print(os.path.dirname(ensurepip.__file__))')" /usr/local/bin/pip* /root/.cache \
 && groupadd --gid 10001 slipstream \
 && useradd --uid 10001 --gid slipstream --no-create-home --home-dir /tmp --shell /usr/sbin/nologin slipstream \
 && install -d -m 700 -o slipstream -g slipstream /data /data/lake /data/models /data/serving
COPY --from=built /opt/slipstream /opt/slipstream
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
ARG SERVICE
ARG VERSION=""
ARG CODE_COMMIT=""
LABEL org.opencontainers.image.title="slipstream/${SERVICE}" \
      org.opencontainers.image.description="The service ${SERVICE} of Slipstream, real-time recommendations" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${CODE_COMMIT}" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim"
