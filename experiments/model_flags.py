"""Flags that say which trained model a binary uses: a run, or one by name."""

from absl import flags

from idspn_jax import errors

_WORKDIR = flags.DEFINE_string('workdir', None, 'Directory of the run.')
_STEP = flags.DEFINE_integer(
  'step', None, 'Which checkpoint; default: the newest.', lower_bound=0
)
_PRETRAINED = flags.DEFINE_string(
  'pretrained',
  None,
  'A model that comes with the package, by name, in place of --workdir.',
)


def check(purpose: str) -> None:
  """Refuses anything but one of --workdir and --pretrained.

  Args:
    purpose: what the binary does with the model, for the error.

  Raises:
    UserError: naming the flags.
  """
  if bool(_WORKDIR.value) == bool(_PRETRAINED.value):
    raise errors.UserError(
      f'Say which run {purpose}: --workdir=DIR, or --pretrained=NAME for a '
      'model that comes with the package.'
    )
  if _PRETRAINED.value and _STEP.value is not None:
    raise errors.UserError(
      f'--step={_STEP.value} is for checkpoints of a --workdir; a pretrained '
      'model has one step.'
    )


def task() -> str:
  """The name of the model's task; see `load` for errors."""
  from idspn_jax.runs import directory
  from idspn_jax.runs import files
  from idspn_jax.runs import pretrained

  if _PRETRAINED.value:
    return pretrained.task_of(_PRETRAINED.value)
  workdir = files.local_path(_WORKDIR.value, '--workdir')
  return directory.read_config(workdir).task


def load(
  data_path: str | None = None,
  num_objects: tuple[int, int] | None = None,
  ema: bool = True,
):
  """Loads the model that the flags name.

  Args:
    data_path: see `loading.load_run`.
    num_objects: likewise.
    ema: likewise.

  Returns:
    A `LoadedRun`.

  Raises:
    UserError: if there is no such model, or it is damaged or does not fit.
  """
  from idspn_jax.runs import loading
  from idspn_jax.runs import pretrained

  if _PRETRAINED.value:
    if not ema:
      raise errors.UserError(
        'A pretrained model keeps one set of parameters: leave out --noema.'
      )
    return pretrained.load_pretrained(_PRETRAINED.value, data_path, num_objects)
  return loading.load_run(
    _WORKDIR.value, _STEP.value, data_path, num_objects=num_objects, ema=ema
  )
