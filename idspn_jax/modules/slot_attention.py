"""Slot Attention: slots that compete for the elements of an input set."""

from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from idspn_jax.modules import slot_backbone
from idspn_jax.ops import batch_noise
from idspn_jax.ops import precision
from idspn_jax.solvers import option_checks


class Attended(NamedTuple):
  """What Slot Attention computed, iteration by iteration.

  Attributes:
    slots: after every iteration, `(T, B, N, S)`.
    attention: of the slots to the input elements, `(T, B, N, P)`; sums to one
      over the slots, for every element. The update takes its weighted mean
      with weights that sum to one over the elements instead.
  """

  slots: jax.Array
  attention: jax.Array


class SlotAttention(nn.Module):
  """Iterative attention with a softmax over slots instead of over inputs.

  With keys `k` and values `v` of the normalised input, and `T` times

      a = softmax over slots of (k · q / √S),  q of the normalised slots,
      u = mean of v with weights a + ε (normalised over the inputs),
      slots = GRU(state=slots, input=u),
      slots = slots + MLP(LayerNorm(slots)).

  The first slots are drawn from a Gaussian with learned mean and learned log
  standard deviation per feature, shared by all slots. The module is equivariant
  to permutations of these slots and invariant to those of the input.

  The GRU is Flax's `GRUCell`, applied to every slot: the function of PyTorch's,
  and of Keras's with `reset_after=True`, whose two biases of the reset gate and
  of the update gate are one here. As in the authors' code, LayerNorm has an ε
  of 1e-3 and weights start as Keras starts them; only the recurrent weights are
  orthogonal gate by gate instead of all together, at the same scale.

  Attributes:
    num_slots: number of slots N.
    slot_dim: features per slot S, also of keys, queries and values.
    mlp_dim: hidden width of the residual MLP.
    iterations: T.
    epsilon: added to the attention before it is normalised over the inputs.
    dtype: type that keys, queries, values and their products are computed in,
      for example `jnp.bfloat16`; None for that of the input and the parameters.
      Parameters, softmax and slots are at least float32.
    axis_name: the axis of `jax.pmap` over which batches are divided, so that
      the first slots are those of the whole batch; None elsewhere.

  References:
    Locatello et al.: Object-Centric Learning with Slot Attention. NeurIPS
    2020; Algorithm 1.
  """

  num_slots: int
  slot_dim: int = 64
  mlp_dim: int = 128
  iterations: int = 3
  epsilon: float = 1e-8
  dtype: Any = None
  axis_name: str | None = None

  def setup(self):
    for name in ('num_slots', 'slot_dim', 'mlp_dim', 'iterations'):
      option_checks.integer(name, getattr(self, name), least=1)
    option_checks.number('epsilon', self.epsilon, positive=False)
    glorot = nn.initializers.xavier_uniform()
    size = self.slot_dim
    self.mean = self.param('mean', glorot, (1, size))
    self.log_sigma = self.param('log_sigma', glorot, (1, size))

    def norm(name):
      return nn.LayerNorm(epsilon=slot_backbone.NORM_EPSILON, name=name)

    def project(name):
      return slot_backbone.dense(size, name, use_bias=False, dtype=self.dtype)

    self.norm_inputs, self.norm_slots, self.norm_mlp = (
      norm(name) for name in ('norm_inputs', 'norm_slots', 'norm_mlp')
    )
    self.key, self.query, self.value = (
      project(name) for name in ('key', 'query', 'value')
    )
    self.gru = nn.GRUCell(
      size,
      # Keras draws the three gates' weights as one (S, 3S) matrix.
      kernel_init=nn.initializers.variance_scaling(0.5, 'fan_avg', 'uniform'),
      recurrent_kernel_init=nn.initializers.orthogonal(3**-0.5),
      name='gru',
    )
    self.mlp_hidden = slot_backbone.dense(self.mlp_dim, 'mlp_hidden')
    self.mlp_output = slot_backbone.dense(size, 'mlp_output')

  def _first_slots(self, x, num_slots, given):
    shape = (x.shape[0], num_slots, self.slot_dim)
    if given is not None:
      given = precision.at_least_float32(jnp.asarray(given))
      if given.shape not in (shape, shape[1:]):
        raise ValueError(
          f'The initial slots need shape {shape} or {shape[1:]}; got '
          f'{given.shape}.'
        )
      return jnp.broadcast_to(given.reshape((-1, *shape[1:])), shape)
    noise = batch_noise.normal_rows(
      self.make_rng('initial_set'), shape, x.dtype, self.axis_name
    )
    return self.mean[None] + jnp.exp(self.log_sigma)[None] * noise

  def _iterate(self, slots, key, value):
    query = self.query(self.norm_slots(slots)) * self.slot_dim**-0.5
    wide = jnp.promote_types(key.dtype, jnp.float32)
    logits = jnp.einsum('bns,bps->bnp', query, key, preferred_element_type=wide)
    attention = nn.softmax(logits, axis=-2)
    weights = attention + self.epsilon
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    update = jnp.einsum(
      'bnp,bps->bns',
      weights.astype(value.dtype),
      value,
      preferred_element_type=wide,
    )
    slots, _ = self.gru(slots, update)
    hidden = nn.relu(self.mlp_hidden(self.norm_mlp(slots)))
    return slots + self.mlp_output(hidden), attention

  def attend(
    self,
    x: jax.Array,
    *,
    num_slots: int | None = None,
    iterations: int | None = None,
    initial_slots: jax.Array | None = None,
  ) -> Attended:
    """Returns slots and attention of every iteration.

    Args:
      x: input sets, `(B, P, C)`.
      num_slots: N instead of the module's.
      iterations: T instead of the module's.
      initial_slots: `(B, N, S)` or `(N, S)`, instead of drawing them from the
        'initial_set' random stream.

    Returns:
      An `Attended`.

    Raises:
      ValueError: if shapes or options do not fit; names the remedy.
    """
    x = precision.at_least_float32(jnp.asarray(x))
    if x.ndim != 3 or 0 in x.shape[1:]:
      raise ValueError(
        'Slot Attention needs input sets of shape (B, P, C) with at least one '
        f'element and one feature; got {x.shape}. Flatten the rows and columns '
        'of a feature map first.'
      )
    num_slots = self.num_slots if num_slots is None else num_slots
    num_slots = option_checks.integer('num_slots', num_slots, least=1)
    iterations = self.iterations if iterations is None else iterations
    iterations = option_checks.integer('iterations', iterations, least=1)
    x = self.norm_inputs(x)
    key, value = self.key(x), self.value(x)
    slots = self._first_slots(x, num_slots, initial_slots)
    steps = []
    for _ in range(iterations):
      slots, attention = self._iterate(slots, key, value)
      steps.append((slots, attention))
    return Attended(*(jnp.stack(arrays) for arrays in zip(*steps, strict=True)))

  def __call__(
    self,
    x: jax.Array,
    *,
    num_slots: int | None = None,
    iterations: int | None = None,
    initial_slots: jax.Array | None = None,
    all_iterations: bool = False,
  ) -> jax.Array:
    """Maps input sets `(B, P, C)` to slots `(B, N, S)`.

    Args:
      x: input sets.
      num_slots: see `attend`, as the next ones.
      iterations: T instead of the module's.
      initial_slots: instead of drawn ones.
      all_iterations: return the slots after every iteration.

    Returns:
      Slots, `(B, N, S)`, or `(T, B, N, S)` with `all_iterations`.

    Raises:
      ValueError: if shapes or options do not fit; names the remedy.
    """
    every = option_checks.flag('all_iterations', all_iterations)
    slots = self.attend(
      x,
      num_slots=num_slots,
      iterations=iterations,
      initial_slots=initial_slots,
    ).slots
    return slots if every else slots[-1]
