"""The study of gradients from the command line."""

import pathlib

import pytest

PRETRAINED = '--pretrained=multisets_n4_d4'
CONFIG = '--config=configs/random_multisets.py:n=2,d=2,T=3'

WRONG = {
  (): '--config=FILE',
  (PRETRAINED,): '--out=DIR',
  (PRETRAINED, '--workdir=x'): '--workdir=DIR',
  (PRETRAINED, CONFIG): 'not two',
  (PRETRAINED, '--train_steps=25', '--out={tmp}/o'): '--config',
  (CONFIG, '--train_steps=30', '--out={tmp}/o'): 'multiple of 25',
  (CONFIG, '--train_steps=25', '--tune_steps=7', '--out={tmp}/o'): '25',
  (CONFIG, '--train_steps=25', '--curves=x', '--out={tmp}/o'): 'not both',
  (CONFIG, '--iterations=0', '--out={tmp}'): '--iterations',
  # Before any training.
  (
    '--config=configs/random_multisets.py:n=33,d=32,T=3',
    '--config.data.num_train=128',
    '--config.data.num_test=8',
    '--train_steps=25',
    '--tune_steps=25',
    '--out={tmp}',
  ): '1056 numbers',
  (
    '--config=configs/class_numbering.py:setting=reduced',
    '--out={tmp}',
  ): "config.task is 'class_numbering'",
  (PRETRAINED, '--curves={tmp}/none', '--out={tmp}'): 'none',
  ('--pretrained=clevr', '--out={tmp}'): 'pretrained',
}


@pytest.mark.parametrize('flags', WRONG, ids=' '.join)
def test_wrong_flags_are_one_line(run, flags, tmp_path):
  done = run(
    'compare_gradients', *(flag.format(tmp=tmp_path) for flag in flags)
  )
  assert done.returncode == 2, done.stderr
  assert done.stderr.count('\n') == 1
  assert WRONG[flags] in done.stderr


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_fresh_models_trained_and_studied(start, tiny, tmp_path, read_json):
  flags = (
    *tiny,
    f'--out={tmp_path}',
    '--sets=4',
    '--iterations=1,3',
    '--train_steps=25',
    '--tune_steps=25',
    '--seeds=1',
    '--repeats=1',
  )
  # Not by `run`, which ends what takes longer than other commands.
  process = start('compare_gradients', *flags)
  output, told = process.communicate(timeout=1700)
  assert process.returncode == 0, told
  content = read_json(tmp_path / 'report.json')
  assert set(content['models']) == {
    'relu_fs_fresh',
    'tanh_sum_fresh',
    'relu_fs_trained',
    'tanh_sum_trained',
  }
  assert set(content['cost']) == {'relu_fs', 'tanh_sum'}
  assert set(content['option_cost']) == {'relu_fs', 'tanh_sum'}
  rows = content['training']['rows']
  # Ten modes, two models, two optimisers.
  assert len(rows) == 40
  for line in output.splitlines():
    if line.startswith('Saved '):
      assert pathlib.Path(line.removeprefix('Saved ')).exists()
