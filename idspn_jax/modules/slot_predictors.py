"""Slot Attention and Slot MLP from pictures to sets (Table 3, Section 4.3)."""

from collections.abc import Sequence
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from idspn_jax.modules import slot_attention
from idspn_jax.modules import slot_backbone
from idspn_jax.ops import precision
from idspn_jax.solvers import option_checks

# The interval that `[-1, 1]` becomes in the loss: its centre and half width.
COORDINATES = {'unit': (0.5, 0.5), 'symmetric': (0.0, 1.0), 'scene': (0.0, 3.0)}


def rescale_coordinates(
  sets: jax.Array,
  coordinates: str,
  *,
  mask: jax.Array | None = None,
  num_coordinates: int = 3,
) -> jax.Array:
  """Brings sets to the scale in which a row of Table 3 takes its loss.

  The models' outputs, and the library's targets, have coordinates in `[-1, 1]`.
  Slot Attention is compared at three scales; a larger one weighs coordinates
  more against the other features. `coordinates` is one of

  - 'unit': in `[0, 1]`, the rows Slot Attention and Slot MLP.
  - 'symmetric': in `[-1, 1]`, as iDSPN; the row Slot Attention*.
  - 'scene': in `[-3, 3]`, CLEVR's own units; the row Slot Attention†.

  For the rows * and † the loss is also taken at every iteration, see
  `SlotAttentionPredictor.all_iterations`. A sigmoid that covers the interval
  gives the same predictions at every scale, so the models need not know it.

  Args:
    sets: predictions or targets, `(..., N, D)`, the first features being
      coordinates in `[-1, 1]`.
    coordinates: the scale.
    mask: of targets, true for elements that exist, `(..., N)`; the others
      become zero as a whole, as in the authors' data. Without it their
      coordinates are at the centre of the interval, which is 0.5 for 'unit'.
    num_coordinates: how many features are coordinates.

  Returns:
    `(..., N, D)`.

  Raises:
    ValueError: if the scale is unknown, or there are too few features.
  """
  if coordinates not in COORDINATES:
    raise ValueError(
      f'coordinates is {coordinates!r}; choose one of {tuple(COORDINATES)}.'
    )
  count = option_checks.integer('num_coordinates', num_coordinates, least=0)
  _check_coordinates(count, sets.shape[-1])
  center, scale = COORDINATES[coordinates]
  moved = center + scale * sets[..., :count]
  sets = jnp.concatenate([moved, sets[..., count:]], axis=-1)
  return sets if mask is None else jnp.where(mask[..., None], sets, 0)


def _check_coordinates(count, features):
  if count > features:
    raise ValueError(
      f'num_coordinates must be at most the number of features; got {count} '
      f'and {features}.'
    )


class SlotHead(nn.Module):
  """Predicts an element from every slot: `Linear → ReLU → Linear → sigmoid`.

  As in the authors' code every feature passes a sigmoid, the classes too;
  coordinates are then stretched to `[-1, 1]`.

  Attributes:
    set_dim: features per element D.
    num_coordinates: how many of them, the first, are coordinates.
    hidden_dim: width of the hidden layer.
  """

  set_dim: int
  num_coordinates: int = 3
  hidden_dim: int = 64

  @nn.compact
  def __call__(self, slots: jax.Array) -> jax.Array:
    """Maps slots `(..., N, S)` to elements `(..., N, D)`.

    Args:
      slots: one or several sets of slots.

    Returns:
      Elements; coordinates in `[-1, 1]`, other features in `[0, 1]`.

    Raises:
      ValueError: if an attribute is wrong.
    """
    for name, least in (('set_dim', 1), ('num_coordinates', 0)):
      option_checks.integer(name, getattr(self, name), least=least)
    option_checks.integer('hidden_dim', self.hidden_dim, least=1)
    count = self.num_coordinates
    _check_coordinates(count, self.set_dim)
    hidden = nn.relu(slot_backbone.dense(self.hidden_dim, 'hidden')(slots))
    out = nn.sigmoid(slot_backbone.dense(self.set_dim, 'output')(hidden))
    return jnp.concatenate([2 * out[..., :count] - 1, out[..., count:]], -1)


class SlotAttentionPredictor(nn.Module):
  """Slot Attention for set prediction: `backbone → slots → head`.

  The defaults are the authors' for CLEVR at 128 × 128. The scale of the
  coordinates belongs to the loss: `rescale_coordinates`.

  Attributes:
    num_slots: elements per set N.
    set_dim: features per element D; 19 in the layout of
      `data.clevr_features`, whose coordinates are those of the scene over 3.
    num_coordinates: how many of them, the first, are coordinates.
    width: channels of the backbone.
    strides: of its convolutions, see `SlotBackbone`.
    slot_dim: features per slot S.
    mlp_dim: hidden width of Slot Attention's residual MLP.
    iterations: T.
    head_dim: hidden width of the head.
    dtype: see `SlotBackbone` and `SlotAttention`; the head is at least float32.
    axis_name: the axis of `jax.pmap` over which batches are divided, or None.
  """

  num_slots: int = 10
  set_dim: int = 19
  num_coordinates: int = 3
  width: int = 64
  strides: Sequence[int] = slot_backbone.STRIDES
  slot_dim: int = 64
  mlp_dim: int = 128
  iterations: int = 3
  head_dim: int = 64
  dtype: Any = None
  axis_name: str | None = None

  def setup(self):
    self.backbone = slot_backbone.SlotBackbone(
      self.width, self.strides, dtype=self.dtype
    )
    self.attention = slot_attention.SlotAttention(
      self.num_slots,
      self.slot_dim,
      self.mlp_dim,
      self.iterations,
      dtype=self.dtype,
      axis_name=self.axis_name,
    )
    self.head = SlotHead(self.set_dim, self.num_coordinates, self.head_dim)

  def __call__(self, images: jax.Array, **options: Any) -> jax.Array:
    """Predicts sets from pictures, `(B, H, W, 3)` to `(B, N, D)`.

    Args:
      images: uint8 in 0 to 255, or floating in `[0, 1]`.
      **options: `num_slots`, `iterations` and `initial_slots` as in
        `SlotAttention.attend`.

    Returns:
      Sets; coordinates in `[-1, 1]`, other features in `[0, 1]`.

    Raises:
      ValueError: if shapes or options do not fit; names the remedy.
    """
    return self.head(self._slots(images, options)[-1])

  def all_iterations(self, images: jax.Array, **options: Any) -> jax.Array:
    """Predicts a set after every iteration, for a loss at each of them.

    Args:
      images: as in a call.
      **options: as in a call.

    Returns:
      Sets, `(T, B, N, D)`; the last ones are what a call returns.

    Raises:
      ValueError: if shapes or options do not fit; names the remedy.
    """
    return self.head(self._slots(images, options))

  def _slots(self, images, options):
    known = ('num_slots', 'iterations', 'initial_slots')
    unknown = sorted(set(options) - set(known))
    if unknown:
      raise ValueError(
        f'Unknown options {", ".join(unknown)}; known are {", ".join(known)}. '
        'For the sets of every iteration call the method all_iterations.'
      )
    x = self.backbone(images)
    batch, rows, columns, width = x.shape
    x = x.reshape(batch, rows * columns, width)
    return self.attention.attend(x, **options).slots


class SlotMLPPredictor(nn.Module):
  """Slot MLP: an MLP instead of Slot Attention, between the same ends.

  The backbone's features are averaged to a grid of `pooled` × `pooled`
  positions, flattened, and mapped to all slots together. Slot n is thus always
  made by the same weights: the model is not equivariant to anything, and has
  one number of slots.

  Locatello et al. say of the MLP that it maps resized and flattened features to
  ordered slots; the size of the grid and the hidden widths are choices of this
  library.

  Attributes:
    num_slots: elements per set N.
    set_dim: features per element D, see `SlotAttentionPredictor`.
    num_coordinates: how many of them, the first, are coordinates.
    width: channels of the backbone.
    strides: of its convolutions, see `SlotBackbone`.
    pooled: rows, and columns, of the grid that is flattened.
    hidden_dims: widths of the MLP's hidden layers.
    slot_dim: features per slot S.
    head_dim: hidden width of the head.
    dtype: type that all but the head compute in, see `SlotBackbone`.
  """

  num_slots: int = 10
  set_dim: int = 19
  num_coordinates: int = 3
  width: int = 64
  strides: Sequence[int] = slot_backbone.STRIDES
  pooled: int = 8
  hidden_dims: Sequence[int] = (512, 512)
  slot_dim: int = 64
  head_dim: int = 64
  dtype: Any = None

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Predicts sets from pictures, `(B, H, W, 3)` to `(B, N, D)`.

    Args:
      images: uint8 in 0 to 255, or floating in `[0, 1]`.

    Returns:
      Sets; coordinates in `[-1, 1]`, other features in `[0, 1]`.

    Raises:
      ValueError: if shapes or attributes do not fit; names the remedy.
    """
    for name in ('num_slots', 'slot_dim', 'pooled'):
      option_checks.integer(name, getattr(self, name), least=1)
    backbone = slot_backbone.SlotBackbone(
      self.width, self.strides, dtype=self.dtype, name='backbone'
    )
    x = self._pool(backbone(images))
    batch = x.shape[0]
    x = x.reshape(batch, math.prod(x.shape[1:]))
    for i, width in enumerate(self.hidden_dims):
      width = option_checks.integer(f'hidden_dims[{i}]', width, least=1)
      x = nn.relu(slot_backbone.dense(width, f'mlp_{i}', dtype=self.dtype)(x))
    size = self.num_slots * self.slot_dim
    x = slot_backbone.dense(size, 'mlp_output', dtype=self.dtype)(x)
    slots = precision.at_least_float32(x)
    slots = slots.reshape(batch, self.num_slots, self.slot_dim)
    head = SlotHead(
      self.set_dim, self.num_coordinates, self.head_dim, name='head'
    )
    return head(slots)

  def all_iterations(self, images: jax.Array) -> jax.Array:
    """Predicts sets as an array with one iteration, `(1, B, N, D)`.

    So a loss over the iterations of `SlotAttentionPredictor` applies here too.

    Args:
      images: as in a call.

    Returns:
      Sets, `(1, B, N, D)`.

    Raises:
      ValueError: if shapes or attributes do not fit; names the remedy.
    """
    return self(images)[None]

  def _pool(self, x):
    rows, columns = x.shape[1:3]
    if rows % self.pooled or columns % self.pooled:
      raise ValueError(
        f'pooled must divide the rows and columns of the features, {rows} and '
        f'{columns}; got {self.pooled}. Take another one, or pictures of '
        'another size.'
      )
    window = (rows // self.pooled, columns // self.pooled)
    return nn.avg_pool(x, window, strides=window)
