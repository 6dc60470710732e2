"""One node process: boot and recovery, the pipeline of the primary, the backup's log, shutdown."""
