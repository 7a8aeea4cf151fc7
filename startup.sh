#!/usr/bin/env bash
# Start command of a RunPod pod: finds the volume, says what it runs on, and becomes the orchestrator.
# Arguments are the orchestrator's own, e.g. --only sdxl.
set -euo pipefail

# It could rent and stop machines; nothing here needs it.
unset RUNPOD_API_KEY

say() { printf 'startup: %s\n' "$*"; }

fail() {
    say "$*" >&2
    exit 1
}

# Pods mount a network volume at /workspace, serverless workers at /runpod-volume.
find_weights() {
    local volume
    for volume in /workspace /runpod-volume; do
        if [[ -d $volume/models ]]; then
            printf '%s' "$volume/models"
            return
        fi
    done
}

log_versions() {
    say "$(python --version)"
    python - <<'PYTHON'
from importlib.metadata import PackageNotFoundError, version

for name in ("torch", "diffusers", "transformers"):
    try:
        print(f"startup: {name} {version(name)}")
    except PackageNotFoundError:
        print(f"startup: {name} is not installed")
PYTHON
    if command -v nvidia-smi >/dev/null; then
        say "card: $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true)"
    else
        say "card: none, as far as nvidia-smi can tell"
    fi
}

check_outbox() {
    local outbox=${OUTBOX_DIR:-$(dirname "$MODEL_ROOT")/outbox}
    mkdir -p "$outbox" || fail "$outbox cannot be made by user $(id -u). Set OUTBOX_DIR to a folder on the volume."
    [[ -w $outbox ]] || fail "$outbox cannot be written by user $(id -u). Set OUTBOX_DIR to another folder."
}

# bash would not pass SIGTERM on to a child, so the last step replaces it.
main() {
    cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
    export MODEL_ROOT=${MODEL_ROOT:-$(find_weights)}
    [[ -n $MODEL_ROOT ]] ||
        fail "no weights: neither /workspace/models nor /runpod-volume/models exists. Attach the volume or set MODEL_ROOT."
    [[ -d $MODEL_ROOT ]] || fail "no weights: MODEL_ROOT is $MODEL_ROOT, which is no folder."
    say "weights: $MODEL_ROOT"
    check_outbox
    log_versions
    exec python dual_orchestrator.py "$@"
}

main "$@"
