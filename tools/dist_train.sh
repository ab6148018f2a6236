#!/usr/bin/env bash
# Train with one process per GPU; without a GPU, on the CPU with gloo.
#
#   bash tools/dist_train.sh CONFIG PROCESSES [options of tools/train.py]
#
# On several nodes, run the same command on each, with NNODES, NODE_RANK and MASTER_ADDR
# in the environment. PORT (29500) is a free port of the first node.
#
# MAX_RESTARTS (0) is how often all ranks are restarted from the last checkpoint after one
# of them was killed, failed or hung. On SIGTERM and Ctrl-C they save and exit with status
# 75; GRACE (120) is how many seconds they have for it.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG PROCESSES [options of tools/train.py]" >&2
    exit 2
fi
config=$1
processes=$2
restarts=${MAX_RESTARTS:-0}
address=${MASTER_ADDR:-127.0.0.1}
port=${PORT:-29500}
node=${NODE_RANK:-0}
if [ "$restarts" -eq 0 ]; then
    meeting=(--node-rank="$node" --master-addr="$address" --master-port="$port")
else
    # torch can keep its store across restarts, but then ranks find the addresses of ranks
    # that have ended: give rank 0 a new one. This rendezvous also restarts other nodes.
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    meeting=(--rdzv-backend=c10d --rdzv-endpoint="$address:$port")
    meeting+=(--rdzv-conf="is_host=$([ "$node" -eq 0 ] && echo 1 || echo 0)")
    [ "${NNODES:-1}" != 1 ] || meeting+=(--local-addr="$address")
fi
exec "${PYTHON:-python}" "$(dirname "$0")/dist_run.py" \
    --nnodes="${NNODES:-1}" \
    --nproc-per-node="$processes" \
    --max-restarts="$restarts" \
    "${meeting[@]}" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "${@:3}"
