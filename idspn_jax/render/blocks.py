"""Loops over the blocks of an image that cover a rectangle.

Only these blocks are computed, so that small things cost little.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

ROWS, COLUMNS = 32, 32


def padded(size: int, block: int) -> int:
  """The next multiple of a block's side."""
  return -(-size // block) * block


def rectangle(x: jax.Array, y: jax.Array, width: int, height: int) -> jax.Array:
  """The smallest row of blocks that hold points, wherever they begin.

  Args:
    x: columns of points, `(..., P)`.
    y: rows of points.
    width: columns of the image.
    height: rows of the image.

  Returns:
    First row and column of the image, both even, and numbers of rows and
    columns of blocks, `(4, ...)`, int32; the numbers are 0 if no point's box
    meets the image. Blocks stay within sides padded to multiples of a block's.
  """

  def span(values, size, block):
    low = jnp.clip(jnp.floor(jnp.min(values, -1)), 0, size).astype(jnp.int32)
    high = jnp.clip(jnp.floor(jnp.max(values, -1)) + 1, 0, size)
    low -= low % 2
    number = (high.astype(jnp.int32) - low + block - 1) // block
    return jnp.minimum(low, padded(size, block) - number * block), number

  row, rows = span(y, height, ROWS)
  column, columns = span(x, width, COLUMNS)
  return jnp.stack([row, column, rows, columns])


def update(
  where: jax.Array,
  arrays: Any,
  function: Callable[[jax.Array, jax.Array, Any], Any],
  *leading: jax.Array,
) -> Any:
  """Replaces the blocks of images that cover a rectangle.

  Args:
    where: one rectangle, `(4,)`, as `rectangle` gives it.
    arrays: a tree of images `(H, W)`, sides multiples of a block's.
    function: gets a block's first row and column and a tree of its parts
      `(ROWS, COLUMNS)`; returns their new values. What reads the parts should
      lie in a conditional: otherwise compilers copy whole images, to update one
      in place while the old one is still read.
    *leading: indices of further axes before the images' rows.

  Returns:
    The images.
  """
  row, column, rows, columns = where

  def body(k, arrays):
    top = row + k // columns * ROWS
    left = column + k % columns * COLUMNS
    # Of one type also where integers have 64 bits by default.
    start = tuple(jnp.asarray(i, jnp.int32) for i in (*leading, top, left))
    size = (1,) * len(leading) + (ROWS, COLUMNS)

    def read(image):
      part = jax.lax.dynamic_slice(image, start, size)
      return part.reshape(ROWS, COLUMNS)

    def write(image, part):
      part = part.reshape(size)
      return jax.lax.dynamic_update_slice(image, part, start)

    parts = function(top, left, jax.tree.map(read, arrays))
    return jax.tree.map(write, arrays, parts)

  return jax.lax.fori_loop(0, rows * columns, body, arrays)


def coordinates(top: jax.Array, left: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Columns and rows of a block's samples' middles, `(ROWS, COLUMNS)`."""
  shape = (ROWS, COLUMNS)
  x = jax.lax.broadcasted_iota(jnp.float32, shape, 1) + 0.5
  y = jax.lax.broadcasted_iota(jnp.float32, shape, 0) + 0.5
  return x + left.astype(jnp.float32), y + top.astype(jnp.float32)
