#!/usr/bin/env bash
# Train on a Slurm cluster, one task per GPU.
#
#   [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=8] [SRUN_ARGS="..."] \
#       bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py]
#
# Two minutes before the time limit, SIGTERM makes the tasks save and exit with status 75.
# A batch job is then requeued, and continues by itself:
#
#   sbatch --requeue --open-mode=append --signal=TERM@120 [options of sbatch] \
#       --wrap "bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG"
#
# A cancelled job is not requeued.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG [options of tools/train.py]" >&2
    exit 2
fi
gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-8}
# In the background, so that this shell can pass SIGTERM on. In the background bash makes
# srun ignore Ctrl-C, which the terminal sends to both; the trap undoes that.
(
    trap - INT TERM
    # shellcheck disable=SC2086  # SRUN_ARGS holds several arguments
    exec srun --partition="$1" --job-name="$2" \
        --gres="gpu:$gpus_per_node" \
        --ntasks="$gpus" \
        --ntasks-per-node="$gpus_per_node" \
        --cpus-per-task="${CPUS_PER_TASK:-8}" \
        --kill-on-bad-exit=1 \
        --signal=TERM@120 \
        ${SRUN_ARGS:-} \
        "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$3" \
        --launcher slurm "${@:4}"
) &
srun=$!
cancelled=
trap 'signalled=1 cancelled=1; kill -TERM "$srun" 2>/dev/null || true' TERM
trap 'signalled=1 cancelled=1' INT
signalled=1
while [ "$signalled" ]; do # a signal ends wait
    signalled= status=0
    wait "$srun" || status=$?
done
if [ "$status" -eq 75 ]; then # volo.errors.Interrupted.EXIT_STATUS
    if [ -z "$cancelled" ] && [ -n "${SLURM_JOB_ID:-}" ] &&
        scontrol requeue "$SLURM_JOB_ID"; then
        echo "interrupted and saved: job $SLURM_JOB_ID is requeued" >&2
    else
        echo "interrupted and saved: run the same command with --resume to continue" >&2
    fi
fi
exit "$status"
