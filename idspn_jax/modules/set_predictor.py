"""From any input to a set: an encoder to a vector, and the set decoder."""

from flax import linen as nn
import jax

from idspn_jax.modules import set_decoder
from idspn_jax.solvers import decode as decode_lib


class SetPredictor(nn.Module):
  """Encodes an input into a vector and decodes that vector into a set.

  The model of Section 4.3, with an `ImageEncoder`.

  Attributes:
    encoder: a module from inputs `(B, ...)` to latent vectors `(B, Z)`, which
      takes the argument `train`.
    decoder: the set decoder.
  """

  encoder: nn.Module
  decoder: set_decoder.SetDecoder

  def encode(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns latent vectors, `(B, ...)` to `(B, Z)`.

    Args:
      x: inputs.
      train: take BatchNorm's statistics from the batch, and update them.
    """
    return self.encoder(x, train=train)

  def encode_sets(self, sets: jax.Array) -> jax.Array:
    """Latent vectors of sets by the decoder's encoder, `(B, Z)`."""
    return self.decoder.encoder(sets)

  def decode(self, z: jax.Array, **options) -> decode_lib.Decoded:
    """Decodes latent vectors, `(B, Z)`; options as in `SetDecoder.solve`."""
    return self.decoder.solve(z, **options)

  def solve(
    self, x: jax.Array, train: bool = False, **options
  ) -> decode_lib.Decoded:
    """Predicts sets and reports on the way.

    Args:
      x: inputs, `(B, ...)`.
      train: see `encode`.
      **options: as in `SetDecoder.solve`.

    Returns:
      A `Decoded`.
    """
    return self.decoder.solve(self.encode(x, train), **options)

  def __call__(self, x: jax.Array, train: bool = False, **options) -> jax.Array:
    """Predicts sets, `(B, ...)` to `(B, N, D)`.

    Args:
      x: inputs.
      train: see `encode`.
      **options: as in `SetDecoder.__call__`.

    Returns:
      Sets.

    Raises:
      ValueError: if shapes or options do not fit; names the remedy.
    """
    return self.decoder(self.encode(x, train), **options)
