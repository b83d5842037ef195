"""Training: state, step, parallelism, evaluation, and the loop around them."""
