#!/usr/bin/env bash
# Train with one process a GPU (with gloo, on the CPU, where there is no GPU).
#
#   bash tools/dist_train.sh CONFIG PROCESSES [options of tools/train.py]
#
# Several nodes: the same command on each, with NNODES, NODE_RANK and MASTER_ADDR
# in the environment. PORT is the master's.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG PROCESSES [options of tools/train.py]" >&2
    exit 2
fi
config=$1
processes=$2
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node-rank="${NODE_RANK:-0}" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" \
    --master-port="${PORT:-29500}" \
    --nproc-per-node="$processes" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "${@:3}"
