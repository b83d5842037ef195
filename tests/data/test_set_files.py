"""Files of multisets: reading, every way they can be wrong, splitting."""

import io
import pathlib

import numpy as np
import pytest

from idspn_jax.data import clevr_features
from idspn_jax.data import clevr_scenes
from idspn_jax.data import set_files

SMALL = pathlib.Path(__file__).parent / 'clevr_scenes_small.json'
NAN = float('nan')


def _sets():
  return np.arange(1.0, 13.0).reshape(2, 3, 2)


def _save(folder, **arrays):
  path = folder / 'sets.npz'
  np.savez(path, **arrays)
  return path


def _message(path):
  with pytest.raises(ValueError) as caught:
    set_files.load_set_file(path)
  message = str(caught.value)
  assert '\n' not in message
  assert str(path) in message
  return message


@pytest.mark.parametrize('as_string', [False, True])
def test_npz_by_hand(tmp_path, as_string):
  path = _save(tmp_path, sets=_sets(), sizes=np.array([2, 0]))
  loaded = set_files.load_set_file(str(path) if as_string else path)
  expected = [[[1, 2], [3, 4], [0, 0]], [[0, 0], [0, 0], [0, 0]]]
  np.testing.assert_array_equal(loaded.sets, expected)
  assert loaded.sets.dtype == np.float64
  assert loaded.sizes.tolist() == [2, 0]
  assert loaded.kind == 'npz'
  assert loaded.feature_names is None


@pytest.mark.parametrize(
  'dtype', ['f2', 'f8', 'g', 'i1', 'i4', 'i8', 'u1', 'u8', '>f4', '>i8']
)
@pytest.mark.parametrize('size_dtype', ['i1', 'u8', 'i8'])
def test_number_types(tmp_path, dtype, size_dtype):
  sizes = np.array([3, 1], size_dtype)
  path = _save(tmp_path, sets=_sets().astype(dtype), sizes=sizes)
  loaded = set_files.load_set_file(path)
  np.testing.assert_array_equal(loaded.sets[0], _sets()[0])
  assert loaded.sets.dtype == np.float64
  assert loaded.sizes.dtype == np.int64


def test_compressed_files_and_further_arrays(tmp_path):
  path = tmp_path / 'SETS.NPZ'
  with open(path, 'wb') as file:
    np.savez_compressed(file, sets=_sets(), sizes=np.array([3, 1]), note='x')
  assert set_files.load_set_file(path).sizes.tolist() == [3, 1]


def test_padding_may_hold_anything(tmp_path):
  sets = _sets()
  sets[0, 2] = NAN
  sets[1, 1:] = np.inf
  path = _save(tmp_path, sets=sets, sizes=np.array([2, 1]))
  loaded = set_files.load_set_file(path).sets
  assert loaded[1].tolist() == [[7, 8], [0, 0], [0, 0]]
  assert np.isfinite(loaded).all()


def test_clevr_scenes():
  loaded = set_files.load_set_file(SMALL)
  np.testing.assert_array_equal(loaded.sets, clevr_scenes.load_scenes(SMALL))
  assert loaded.sizes.tolist() == [9, 4, 6, 7, 6, 7, 3, 10, 4, 6, 4, 9]
  assert loaded.kind == 'clevr'
  assert loaded.feature_names == clevr_features.FEATURE_NAMES
  mask = set_files.mask_of(loaded.sizes, 10)
  np.testing.assert_array_equal(loaded.sets[..., -1], mask)
  assert loaded.sets.dtype == np.float64


def test_clevr_errors_pass_through(tmp_path):
  path = tmp_path / 'scenes.json'
  path.write_text('{"scenes": []}')
  assert 'is empty' in _message(path)


def test_missing_directory_extension_and_empty(tmp_path):
  assert 'no such file' in _message(tmp_path / 'absent.npz')
  assert 'no such file' in _message(tmp_path / 'absent.json')
  assert "extension '.csv'" in _message(tmp_path / 'sets.csv')
  assert "extension ''" in _message(tmp_path / 'sets')
  (tmp_path / 'folder.npz').mkdir()
  assert 'directory' in _message(tmp_path / 'folder.npz')
  for name in ('empty.npz', 'empty.json'):
    (tmp_path / name).touch()
    assert '0 bytes' in _message(tmp_path / name)


def test_missing_array_says_what_was_found(tmp_path):
  message = _message(_save(tmp_path, points=_sets(), sizes=np.array([1, 1])))
  assert "no array 'sets'" in message and "'points', 'sizes'" in message
  message = _message(_save(tmp_path, sets=_sets()))
  assert "no array 'sizes'" in message and "found: ['sets'])" in message
  assert 'found: []' in _message(_save(tmp_path))


def test_bare_array(tmp_path):
  path = tmp_path / 'sets.npz'
  with open(path, 'wb') as file:
    np.save(file, _sets())
  assert 'bare array' in _message(path)


@pytest.mark.parametrize('shape', [(6,), (2, 6), (1, 2, 3, 2), (2, 0, 2)])
def test_wrong_shape_of_sets(tmp_path, shape):
  path = _save(tmp_path, sets=np.zeros(shape), sizes=np.array([1, 1]))
  message = _message(path)
  assert str(shape) in message and '(sets, elements, features)' in message


def test_no_sets(tmp_path):
  path = _save(tmp_path, sets=np.zeros((0, 3, 2)), sizes=np.zeros(0, int))
  assert '(0, 3, 2)' in _message(path)


@pytest.mark.parametrize(
  'sets, remedy',
  [
    (_sets().astype(str), 'astype(np.float64)'),
    (_sets() > 3, 'astype(float)'),
    (_sets() * 1j, 'imaginary parts as features'),
    (_sets().astype('datetime64[s]'), 'np.timedelta64(1, "s")'),
    (_sets().astype('timedelta64[s]'), 'np.timedelta64(1, "s")'),
  ],
)
def test_sets_that_are_no_real_numbers(tmp_path, sets, remedy):
  message = _message(_save(tmp_path, sets=sets, sizes=np.array([1, 1])))
  assert 'real numbers' in message and str(sets.dtype) in message
  assert remedy in message


@pytest.mark.parametrize('dtype', ['i8', 'u8', 'f8'])
def test_integers_are_exact(tmp_path, dtype):
  sets = (2**53 - np.arange(12).reshape(2, 3, 2)).astype(dtype)
  path = _save(tmp_path, sets=sets, sizes=np.array([3, 3]))
  loaded = set_files.load_set_file(path).sets
  np.testing.assert_array_equal(loaded.astype(np.int64), sets)


@pytest.mark.parametrize(
  'value, dtype',
  [
    (2**53 + 1, 'i8'),
    (-(2**63), 'i8'),
    (2**64 - 1, 'u8'),
    (1_700_000_000_123_456_789, '>i8'),
  ],
)
def test_integers_that_float64_skips_are_refused(tmp_path, value, dtype):
  sets = np.zeros((2, 3, 2), dtype)
  sets[1, 0, 1] = value
  sizes = np.array([3, 1])
  message = _message(_save(tmp_path, sets=sets, sizes=sizes))
  assert f'set 1, element 0, feature 1 is {value},' in message
  assert 'subtract' in message
  path = _save(tmp_path, sets=sets, sizes=np.array([3, 0]))
  np.testing.assert_array_equal(set_files.load_set_file(path).sets, 0)


@pytest.mark.parametrize(
  'sizes, words',
  [
    ([1.0, 2.0], ('integers', 'float64')),
    ([True, False], ('integers', 'bool')),
    ([1], ('(1,)', '2 sets')),
    ([1, 2, 3], ('(3,)', '2 sets')),
    ([[1], [2]], ('(2, 1)',)),
    (2, ('()',)),
    ([3, 4], ('set 1 has 4', '0 to 3')),
    ([-1, 4], ('set 0 has -1', '0 to 3')),
  ],
)
def test_wrong_sizes(tmp_path, sizes, words):
  message = _message(_save(tmp_path, sets=_sets(), sizes=np.array(sizes)))
  for word in ("'sizes'", *words):
    assert word in message


def test_enormous_unsigned_size(tmp_path):
  sizes = np.array([1, 2**64 - 1], np.uint64)
  message = _message(_save(tmp_path, sets=_sets(), sizes=sizes))
  assert f'set 1 has {2**64 - 1}' in message


@pytest.mark.parametrize('dtype', ['f2', 'f4', 'f8'])
@pytest.mark.parametrize('value, word', [(NAN, 'nan'), (-np.inf, '-inf')])
def test_values_that_are_not_finite(tmp_path, value, word, dtype):
  sets = _sets().astype(dtype)
  sets[1, 2, 0] = value
  message = _message(_save(tmp_path, sets=sets, sizes=np.array([3, 3])))
  assert f'set 1, element 2, feature 0 is {word}, not finite' in message
  assert 'remove the set' in message


@pytest.mark.parametrize('value', [1e25, 1e300, 5e-324])
def test_every_finite_value_is_kept(tmp_path, value):
  path = _save(tmp_path, sets=_sets() * value, sizes=np.array([3, 3]))
  loaded = set_files.load_set_file(path)
  np.testing.assert_array_equal(loaded.sets, _sets() * value)


def test_remote_paths_and_home(tmp_path, monkeypatch):
  with pytest.raises(ValueError, match='gs://bucket/sets.npz: remote'):
    set_files.load_set_file('gs://bucket/sets.npz')
  _save(tmp_path, sets=_sets(), sizes=np.array([3, 1]))
  monkeypatch.setenv('HOME', str(tmp_path))
  assert len(set_files.load_set_file('~/sets.npz').sets) == 2


def test_python_objects_are_never_unpickled(tmp_path):
  arrays = {'sets': _sets(), 'sizes': np.array([1, [2]], object)}
  assert "array 'sizes'" in _message(_save(tmp_path, **arrays))


def test_text_and_pickles_are_not_archives(tmp_path):
  path = tmp_path / 'sets.npz'
  for content in (b'1.0, 2.0\n', b'\x80\x04K\x01.', b'PK\x03\x04', b'\x00'):
    path.write_bytes(content)
    assert 'not a readable .npz file' in _message(path)


def test_every_truncation_is_one_clear_error(tmp_path):
  whole = io.BytesIO()
  np.savez_compressed(whole, sets=_sets(), sizes=np.array([3, 1]))
  path = tmp_path / 'sets.npz'
  for length in range(1, len(whole.getvalue()), 7):
    path.write_bytes(whole.getvalue()[:length])
    assert 'np.savez' in _message(path)


def test_random_damage_is_an_error_or_harmless(tmp_path):
  whole = io.BytesIO()
  np.savez_compressed(whole, sets=_sets(), sizes=np.array([3, 1]))
  rng = np.random.default_rng(0)
  path = tmp_path / 'sets.npz'
  failures = 0
  for _ in range(200):
    content = bytearray(whole.getvalue())
    for at in rng.integers(len(content), size=3):
      content[at] = rng.integers(256)
    path.write_bytes(content)
    try:
      loaded = set_files.load_set_file(path)
    except ValueError as error:
      failures += 1
      assert '\n' not in str(error)
    else:
      assert np.isfinite(loaded.sets).all()
  assert failures > 100


class TestDigest:
  def test_is_fixed(self):
    """Runs store it: it must not change with versions."""
    found = set_files.digest(_sets(), np.array([2, 0]))
    assert found == (
      'a87f6c1497c7db14926430c6d2cec8ffdf60b3bd7a7252a7c8805b8fdc4b2277'
    )

  def test_does_not_depend_on_the_container(self, tmp_path):
    expected = set_files.digest(_sets(), np.array([2, 3]))
    for number, dtype in enumerate(('f2', '>f4', 'f8', 'i8', 'u1')):
      path = tmp_path / f'{number}.npz'
      sets = np.asfortranarray(_sets().astype(dtype))
      sizes = np.array([2, 3], ('u1', 'i8')[number % 2])
      np.savez_compressed(path, sets=sets, sizes=sizes, note='x')
      assert set_files.digest(*set_files.load_set_file(path)[:2]) == expected

  def test_does_not_depend_on_padding_and_minus_zero(self):
    sets = np.zeros((2, 3, 2))
    expected = set_files.digest(sets, np.array([2, 0]))
    sets[0, 2], sets[1], sets[0, 1] = NAN, 7.0, -0.0
    assert set_files.digest(sets, np.array([2, 0])) == expected

  def test_depends_on_all_else(self):
    sets, sizes = _sets(), np.array([2, 1])
    other = sets.copy()
    other[0, 1, 1] = np.nextafter(other[0, 1, 1], 9)
    wider = np.concatenate([sets, sets[:, :1]], axis=1)
    found = {
      set_files.digest(*arguments)
      for arguments in (
        (sets, sizes),
        (other, sizes),
        (wider, sizes),
        (sets, np.array([1, 1])),
        (sets[::-1], sizes),
        (sets[:1], sizes[:1]),
        (sets.reshape(2, 2, 3), sizes),
      )
    }
    assert len(found) == 7

  def test_clevr_scenes(self):
    found = set_files.load_set_file(SMALL)
    assert len(set_files.digest(found.sets, found.sizes)) == 64

  def test_shapes_that_do_not_fit(self):
    with pytest.raises(ValueError, match='sizes'):
      set_files.digest(_sets(), np.array([1]))


def test_with_presence_by_hand():
  sets = np.array([[[1, 2], [3, 4]], [[5, NAN], [NAN, 8]]], np.float32)
  features = set_files.with_presence(sets, np.array([2, 0]))
  expected = [[[1, 2, 1], [3, 4, 1]], [[0, 0, 0], [0, 0, 0]]]
  np.testing.assert_array_equal(features, expected)
  assert features.dtype == np.float32


@pytest.mark.parametrize(
  'shape, sizes',
  [
    ((2, 3), [1, 1]),
    ((2, 3, 1), [1]),
    ((2, 3, 1), [1, 4]),
    ((2, 3, 1), [-1, 3]),
    ((2, 3, 1), [1.5, 3]),
  ],
)
def test_with_presence_rejects(shape, sizes):
  with pytest.raises(ValueError, match='sizes'):
    set_files.with_presence(np.zeros(shape), np.array(sizes))


@pytest.mark.parametrize(
  'n, fraction, num_test',
  [(2, 0.5, 1), (10, 0.2, 2), (10, 0.01, 1), (10, 0.99, 9), (3, 0.5, 2)],
)
def test_split_is_a_partition(n, fraction, num_test):
  train, test = set_files.split(n, fraction, seed=0)
  assert len(test) == num_test
  assert sorted([*train, *test]) == list(range(n))


def test_split_depends_on_the_seed_alone():
  first, again = (set_files.split(100, 0.3, 7) for _ in range(2))
  np.testing.assert_array_equal(first[0], again[0])
  np.testing.assert_array_equal(first[1], again[1])
  other = set_files.split(100, 0.3, 8)
  assert set(first[1]) != set(other[1])


@pytest.mark.parametrize('n', [-1, 0, 1])
def test_split_of_too_few(n):
  with pytest.raises(ValueError, match=rf'^{n} set'):
    set_files.split(n, 0.5, 0)


@pytest.mark.parametrize('fraction', [0.0, 1.0, -0.1, 2, NAN])
def test_split_fraction_out_of_range(fraction):
  with pytest.raises(ValueError, match='10 sets'):
    set_files.split(10, fraction, 0)
