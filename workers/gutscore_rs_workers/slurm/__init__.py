"""Resource sets on Slurm: submission, polls, judgement, release; and the place of a launcher inside a job."""
