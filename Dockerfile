FROM python:3.11-slim-bookworm AS service

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# The package index for torch, for instance one of CPU-only builds; if empty, torch comes from pip's default index.
ARG TORCH_INDEX

WORKDIR /src

# Dependencies are installed before the sources are copied, so that a change of the code does not install them again.
# Only torch itself is taken from the other index; its dependencies come with the rest.
COPY pyproject.toml ./
RUN python -c "import tomllib; all = tomllib.load(open('pyproject.toml', 'rb')); project = all['project']; \
        extras = project['optional-dependencies']; \
        print(*all['build-system']['requires'], *project['dependencies'], *extras['serve'], *extras['openvino'], \
        sep='\n')" > requirements.txt \
    && if [ -n "$TORCH_INDEX" ]; then \
        python -m pip install --no-deps --index-url "$TORCH_INDEX" "$(grep '^torch[<>=]' requirements.txt)"; fi \
    && python -m pip install --requirement requirements.txt

COPY README.md LICENSE ./
COPY model_core model_core
COPY service service
COPY training training
RUN python -m pip install --no-deps --no-build-isolation . && rm -r /src/*

# The user is numeric, so that "runAsNonRoot" can be checked without the image's user table. The service writes only to
# /tmp.
USER 10001:10001
WORKDIR /
ENV HOME=/tmp AFFECT_HOST=0.0.0.0 AFFECT_PORT=8000
EXPOSE 8000

# /readyz answers within five seconds, because it does not wait longer for a forward pass.
HEALTHCHECK --interval=10s --timeout=8s --start-period=60s --retries=3 CMD ["python", "-c", \
    "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['AFFECT_PORT']), timeout=7); \
    c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["python", "-m", "service"]
