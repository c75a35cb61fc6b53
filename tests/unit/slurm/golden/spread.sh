#!/bin/bash -l
#SBATCH --job-name=gutscore-ab12
#SBATCH --comment=gutscore-ab12
#SBATCH --dependency=singleton
#SBATCH --chdir=/home/ada/logs
#SBATCH --output=/home/ada/logs/slurm-%j.out
#SBATCH --error=/home/ada/logs/slurm-%j.err
#SBATCH --export=ALL
#SBATCH --signal=B:USR1@100
#SBATCH --no-requeue
#SBATCH --time=1-12:30:00
#SBATCH --nodes=3
#SBATCH --ntasks=3
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --gpus-per-node=4
#SBATCH --partition=gpu,cpu
#SBATCH --account=physics
#SBATCH --qos=long
#SBATCH '--constraint=intel&ib'

# double_well, resource set 1; written by gutscore_rs, see `gutscore-rs script`.
_step=
_stop=
_signalled=
_pass_on() {
    _stop=1
    _signalled=1
    if [ -n "$_step" ]; then kill -s USR1 "$_step" 2>/dev/null; fi
}
trap _pass_on USR1 TERM

export SLURM_EXPORT_ENV=ALL
export GUTSCORE_RS_JOB_START="${EPOCHSECONDS:-$(date +%s)}"

_status=0
if [ -z "$_stop" ]; then
    srun --nodes=3 --ntasks=3 --ntasks-per-node=1 --cpus-per-task=8 --cpu-bind=none --mem=0 --no-kill --kill-on-bad-exit=0 /opt/env/bin/python -P -m gutscore_rs_workers.workergroup --access /home/ada/.state/access &
    _step=$!
    # A signal may have come after the start and before its number was known.
    if [ -n "$_stop" ]; then _pass_on; fi
    _status=127
    while :; do
        _signalled=
        wait "$_step"
        _code=$?
        # 127: an earlier round has already told how it ended.
        if [ "$_code" -ne 127 ]; then _status=$_code; fi
        if [ -z "$_signalled" ]; then break; fi
    done
    _step=
fi

exit "$_status"
