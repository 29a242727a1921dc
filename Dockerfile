# The target `slim` serves on CPUs without torch; `service` has torch, for GPUs and for bundles with CLIP.

# To pin the base image, name it by its digest: --build-arg BASE=python:3.11-slim-bookworm@sha256:...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS packages

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# The service writes only to /tmp, and to /jobs where jobs are kept: a volume that is mounted there gets its owner.
RUN install -d -o 10001 -g 10001 /jobs
ENV HOME=/tmp AFFECT_HOST=0.0.0.0 AFFECT_PORT=8000
EXPOSE 8000

# /readyz answers within five seconds, because it does not wait longer for a forward pass.
HEALTHCHECK --interval=10s --timeout=8s --start-period=60s --retries=3 CMD ["python", "-c", \
    "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['AFFECT_PORT']), timeout=7); \
    c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["python", "-m", "service"]

# Dependencies are installed before the sources are copied, so that a change of the code does not install them again.
WORKDIR /src
COPY pyproject.toml constraints.txt ./
# The file has each package's dependencies, too, so that nothing comes without a hash.
RUN python -m pip install --no-deps --require-hashes --requirement constraints.txt

FROM packages AS wheel
COPY README.md LICENSE ./
COPY client client
COPY model_core model_core
COPY service service
COPY training training
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheel .

FROM packages AS service

# The package index for torch, for instance one of CPU-only builds; if empty, torch comes from pip's default index.
# Only torch itself is taken from there, and its dependencies from the default index. Their versions are pinned without
# hashes: a build of torch for CPUs has other hashes, and the same version.
ARG TORCH_INDEX
COPY constraints-torch.txt ./
RUN python -c "import tomllib; \
        print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['torch'], sep='\n')" \
        > torch.txt \
    && if [ -n "$TORCH_INDEX" ]; then \
        python -m pip install --no-deps --index-url "$TORCH_INDEX" --constraint constraints-torch.txt \
            --requirement torch.txt; fi \
    && python -m pip install --constraint constraints-torch.txt --requirement torch.txt
COPY --from=wheel /wheel /wheel
RUN python -m pip install --no-deps /wheel/*.whl

# The user is numeric, so that "runAsNonRoot" can be checked without the image's user table.
USER 10001:10001
WORKDIR /

FROM packages AS slim
COPY --from=wheel /wheel /wheel
RUN python -m pip install --no-deps /wheel/*.whl
USER 10001:10001
WORKDIR /
