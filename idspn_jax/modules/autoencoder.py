"""The set autoencoder of Sections 4.1 and 4.2."""

from flax import linen as nn
import jax

from idspn_jax.modules import set_decoder
from idspn_jax.solvers import decode as decode_lib


class SetAutoencoder(nn.Module):
  """Encodes a set into a vector and decodes that vector into a set.

  Attributes:
    input_encoder: a permutation-invariant module, `(B, N, D_in)` to `(B, Z)`.
    decoder: the set decoder.
    condition_on_input: give the input's features to the decoder as known
      features (class numbering, Section 4.1).
  """

  input_encoder: nn.Module
  decoder: set_decoder.SetDecoder
  condition_on_input: bool = False

  def encode(self, x: jax.Array) -> jax.Array:
    """Returns latent vectors, `(B, N, D_in)` to `(B, Z)`."""
    return self.input_encoder(x)

  def decode(
    self, z: jax.Array, x: jax.Array | None = None, **options
  ) -> decode_lib.Decoded:
    """Decodes latent vectors; options as in `SetDecoder.solve`.

    Args:
      z: latent vectors, `(B, Z)`.
      x: the input, needed if the decoder is conditioned on it.
      **options: passed on.

    Returns:
      A `Decoded`.

    Raises:
      ValueError: if the input is missing, or known features are given too.
    """
    if self.condition_on_input:
      if x is None or 'known_features' in options:
        raise ValueError(
          'With condition_on_input the input x is needed and is the known '
          'features; give x, and not known_features.'
        )
      options['known_features'] = x
    return self.decoder.solve(z, **options)

  def __call__(self, x: jax.Array, **options) -> jax.Array:
    """Reconstructs sets, `(B, N, D_in)` to `(B, N, D)`.

    Args:
      x: input sets.
      **options: as in `SetDecoder.__call__`.

    Returns:
      Sets.

    Raises:
      ValueError: if shapes or options do not fit; names the remedy.
    """
    set_decoder.refuse_options(
      {k: v for k, v in options.items() if k not in set_decoder.OPTIONS}
    )
    return self.decode(self.encode(x), x, **options).set
