# The image of the operator, the router and their tools: one program, `arbiter`.
#
# Its wheels come in from outside, those of others checked against requirements.lock, and nothing is fetched while it is
# built. `make image` lays them out and builds it, with a container engine or without one; images/README.md says how.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
COPY requirements.lock /build/
COPY wheelhouse /build/wheelhouse
RUN python3 -m venv /build/pip \
    && python3 -m venv --without-pip /opt/arbiter \
    && /build/pip/bin/pip --python /opt/arbiter/bin/python3 install --no-index --no-cache-dir --no-compile \
       --find-links=/build/wheelhouse --require-hashes --requirement=/build/requirements.lock \
    && /build/pip/bin/pip --python /opt/arbiter/bin/python3 install --no-index --no-cache-dir --no-compile \
       --no-deps /build/wheelhouse/arbiter_operator-*.whl

FROM ${BASE}
ARG VERSION=unknown
LABEL org.opencontainers.image.title="arbiter" \
      org.opencontainers.image.description="Keeps the best local language model behind a stable Kubernetes endpoint." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/arbiter /opt/arbiter
ENV PATH=/opt/arbiter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Nothing installs packages later, and nothing may become another user. Byte code is made here, because a read-only root
# takes none; it does not name the time of its source, so the same source gives the same image.
RUN set -eu; \
    library=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))'); \
    rm -rf "$library"/ensurepip "$library"/site-packages/pip* /usr/local/bin/pip* /usr/share/python-wheels; \
    find / -xdev -type f -perm /6000 -exec chmod ug-s {} +; \
    python3 -m compileall -q --invalidation-mode unchecked-hash "$library" /opt/arbiter; \
    arbiter --version
USER 65532:65532
ENTRYPOINT ["arbiter"]
