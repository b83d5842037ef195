"""The training loop; it knows an experiment through `tasks.task.Task` only."""
