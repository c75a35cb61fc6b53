#!/bin/bash -l
#SBATCH --job-name=gutscore-ab12
#SBATCH --comment=gutscore-ab12
#SBATCH --dependency=singleton
#SBATCH --chdir=/home/ada/logs
#SBATCH --output=/home/ada/logs/slurm-%A_%a.out
#SBATCH --error=/home/ada/logs/slurm-%A_%a.err
#SBATCH --export=ALL
#SBATCH --signal=B:USR1@15
#SBATCH --no-requeue
#SBATCH --array=0-4%3
#SBATCH --time=00:01:40
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=2

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
    srun --nodes=1 --ntasks=1 --ntasks-per-node=1 --cpus-per-task=2 --cpu-bind=none --mem=0 --no-kill --kill-on-bad-exit=0 /opt/env/bin/python -P -m gutscore_rs_workers.workergroup --access /home/ada/.state/access &
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
