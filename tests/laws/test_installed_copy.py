"""Which copy of the package the tests run."""

import os
import pathlib

import pytest

import idspn_jax


@pytest.mark.skipif(
  os.environ.get('IDSPN_JAX_TEST_INSTALLED') != '1',
  reason='only when an installed copy is to be tested',
)
def test_the_installed_copy_is_tested():
  parts = pathlib.Path(idspn_jax.__file__).resolve().parts
  assert 'site-packages' in parts, idspn_jax.__file__
