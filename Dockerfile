# The image of the operator, the router and their tools: one program, `arbiter`.
#
# Wheels come in from outside, checked against the locks, and nothing is fetched while it is built. Our own wheel is made
# here, with the router's hot modules compiled for this Python. `make image` lays out what is copied and builds it, with a
# container engine or without one; images/README.md says how.
ARG BASE=python:3.13-slim
ARG BUILD_BASE=python:3.13

FROM ${BUILD_BASE} AS build
# pip imports what it has just installed, and byte code of that moment would name its time.
ENV PYTHONDONTWRITEBYTECODE=1
COPY requirements.lock requirements-build.lock /build/
COPY wheelhouse /build/wheelhouse
# What compiles needs the types of what is shipped beside it, so that is installed twice; only the first one is shipped.
RUN set -eu; \
    python3 -m venv --without-pip /opt/arbiter; \
    python3 -m venv /build/tools; \
    install="install --no-index --no-cache-dir --no-compile --find-links=/build/wheelhouse --require-hashes"; \
    /build/tools/bin/pip --python /opt/arbiter/bin/python3 $install --requirement=/build/requirements.lock; \
    /build/tools/bin/pip $install --requirement=/build/requirements.lock --requirement=/build/requirements-build.lock
COPY LICENSE README.md hatch_build.py pyproject.toml /build/source/
COPY operator /build/source/operator
RUN set -eu; \
    HATCH_BUILD_HOOKS_ENABLE=1 /build/tools/bin/pip wheel --no-index --no-cache-dir --no-deps --no-build-isolation \
      --wheel-dir=/build/wheel /build/source; \
    /build/tools/bin/pip --python /opt/arbiter/bin/python3 install --no-index --no-cache-dir --no-compile \
      --no-deps /build/wheel/arbiter_operator-*.whl

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
    python3 -m compileall -q -f --invalidation-mode unchecked-hash "$library" /opt/arbiter; \
    arbiter --version; \
    python3 -c 'from arbiter.router import serve; assert serve.__file__.endswith(".so"), serve.__file__'
USER 65532:65532
ENTRYPOINT ["arbiter"]
