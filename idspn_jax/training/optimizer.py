"""The outer optimiser: learning-rate schedule, clipping, weight decay."""

import ml_collections
import optax


def learning_rate(
  config: ml_collections.ConfigDict,
) -> float | optax.Schedule:
  """The learning rate, as a number or as a function of the step.

  Args:
    config: a complete configuration, see `runs.config`.
  """
  own = config.optimizer
  rate, steps = config.learning_rate, config.steps
  falling = round(config.cooldown * steps)
  if falling:
    rate = optax.linear_schedule(rate, 0.0, falling, steps - falling)
  elif own.schedule == 'cosine':
    rate = optax.cosine_decay_schedule(rate, steps)
  elif own.schedule == 'linear':
    rate = optax.linear_schedule(rate, 0.0, steps)
  elif own.schedule == 'steps':
    at = [round(share * steps) for share in own.drops]
    drops = {step: own.drop_factor ** at.count(step) for step in at}
    rate = optax.piecewise_constant_schedule(rate, drops)
  if not own.warmup_steps:
    return rate
  warmup = optax.linear_schedule(0.0, 1.0, own.warmup_steps)
  after = rate if callable(rate) else optax.constant_schedule(rate)
  # The first step already moves: it has the rate of step 1 of the warm-up.
  return lambda step: warmup(step + 1) * after(step)


def make_optimizer(
  config: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
  """Builds the optimiser; by default Adam as in the paper (Appendix F).

  Args:
    config: a complete configuration, see `runs.config`.
  """
  own = config.optimizer
  rate = learning_rate(config)
  if own.name == 'sgd':
    last = [optax.sgd(rate, own.momentum or None)]
    if own.weight_decay:
      # After the momentum, which only gradients enter.
      last = [
        optax.trace(own.momentum) if own.momentum else optax.identity(),
        optax.add_decayed_weights(own.weight_decay),
        optax.scale_by_learning_rate(rate),
      ]
  elif own.weight_decay:
    last = [optax.adamw(rate, weight_decay=own.weight_decay)]
  else:
    last = [optax.adam(rate)]
  if own.clip_norm:
    last = [optax.clip_by_global_norm(own.clip_norm), *last]
  # Plain Adam is not wrapped: its state keeps the form of older checkpoints.
  return last[0] if len(last) == 1 else optax.chain(*last)
