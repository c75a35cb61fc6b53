"""The processes of gutscore_rs: provisioner, work group launcher, workers."""
