"""A run on disk: directory and lock, config, checkpoints, logs, loading."""
