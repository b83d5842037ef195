"""Group numbers of any integer type, made comparable without a change."""

import jax
import jax.numpy as jnp
import numpy as np


def _integers(side, shape, ids):
  """One side's groups as an array of integers; zeros if None."""
  if ids is None:
    return np.zeros(shape, np.int8)
  if not isinstance(ids, jax.Array):
    ids = np.asarray(ids)
  if ids.dtype == bool:
    ids = ids.astype(np.int8)
  if not jnp.issubdtype(ids.dtype, jnp.integer):
    raise ValueError(
      f'The groups of the {side} need integers; got {ids.dtype}.'
    )
  if ids.shape != shape:
    raise ValueError(
      f'The groups of the {side} need shape {shape} to fit the costs; got '
      f'{ids.shape}.'
    )
  return ids


def _narrow(side, ids):
  """NumPy's 64-bit integers in 32 bits, as JAX will keep them."""
  if ids.dtype.itemsize <= 4 or isinstance(ids, jax.Array):
    return ids
  limits = np.iinfo(np.int32)
  if ids.size and not limits.min <= ids.min() <= ids.max() <= limits.max:
    raise ValueError(
      f'The groups of the {side} are 64-bit integers in NumPy and those of the '
      'other side an array of JAX, which has 32 bits; give both as NumPy '
      'arrays, or enable jax_enable_x64.'
    )
  return ids.astype(np.int32)


def comparable(
  row_groups: jax.Array | np.ndarray | None,
  column_groups: jax.Array | np.ndarray | None,
  row_shape: tuple[int, ...],
  column_shape: tuple[int, ...],
) -> tuple[jax.Array | np.ndarray | None, jax.Array | np.ndarray | None]:
  """Brings the groups of rows and columns to one integer type.

  JAX without `jax_enable_x64` cuts integers to 32 bits. NumPy arrays that need
  more are therefore renumbered by rank first.

  Args:
    row_groups: any integers, negative ones too, of `row_shape`, or None.
    column_groups: likewise, of `column_shape`.
    row_shape: `(..., N)`.
    column_shape: `(..., M)`.

  Returns:
    Groups of both sides, equal where they were equal; a side without groups is
    of group 0. None for both if neither has groups.

  Raises:
    ValueError: if groups are no integers, do not fit, or have no type in
      common.
  """
  if row_groups is None and column_groups is None:
    return None, None
  rows = _integers('rows', row_shape, row_groups)
  columns = _integers('columns', column_shape, column_groups)
  in_numpy = not isinstance(rows, jax.Array) | isinstance(columns, jax.Array)
  wide = jax.config.jax_enable_x64
  if not (wide or in_numpy):
    rows, columns = _narrow('rows', rows), _narrow('columns', columns)
  dtype = np.promote_types(rows.dtype, columns.dtype)
  fits = np.issubdtype(dtype, np.integer) and (wide or dtype.itemsize <= 4)
  if fits:
    return rows.astype(dtype), columns.astype(dtype)
  if in_numpy and np.issubdtype(dtype, np.integer):
    together = np.concatenate([np.ravel(rows), np.ravel(columns)], dtype=dtype)
    _, ranks = np.unique(together, return_inverse=True)
    ranks = ranks.astype(np.int32)
    return (
      ranks[: rows.size].reshape(row_shape),
      ranks[rows.size :].reshape(column_shape),
    )
  raise ValueError(
    'The groups of rows and columns need one integer type; got '
    f'{rows.dtype} and {columns.dtype}.'
  )
