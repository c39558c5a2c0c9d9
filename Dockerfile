# Every package of the suite in one image, without conda; the code is the checkout that is mounted at /work.
#   docker build --tag pldrepro .
#   docker run --rm --volume "$PWD:/work" --user "$(id -u):$(id -g)" pldrepro snakemake --cores 2
# Apptainer makes its own image of it: docs/running.md.
FROM python:3.12-slim-bookworm

# An index with another build of torch, such as one for CPUs only; empty: pip's own choice.
ARG TORCH_INDEX=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

# The commit of the code is recorded with every run.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /work

COPY requirements.txt /opt/requirements.txt
RUN python -m pip install --require-hashes --no-deps --requirement /opt/requirements.txt \
    && python -m pip install torch==2.13.0 ${TORCH_INDEX:+--index-url "$TORCH_INDEX"}

# With `--user` the image knows no name for the user, and Snakemake asks for one.
ENV PYTHONPATH=/work HOME=/tmp USER=pldrepro
WORKDIR /work
CMD ["snakemake", "--list-target-rules"]
