"""Two processes that read a share each train on the same batches as one."""

import itertools
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np

from idspn_jax.data import clevr_tree
from idspn_jax.tasks import clevr_pictures

PROGRAM = pathlib.Path(__file__).with_name('in_processes.py')
ROOT = pathlib.Path(__file__).parents[2]


def start(index, port, tree):
  # One device each; what is imported is what this test imports.
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''}
  environment['PYTHONPATH'] = os.pathsep.join([str(ROOT), *sys.path])
  return subprocess.Popen(
    [sys.executable, str(PROGRAM), str(index), str(port), str(tree)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=environment,
  )


def test_shares_make_up_the_batches_of_one_process(clevr_tree_path):
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
  started = [start(i, port, clevr_tree_path) for i in range(2)]
  outputs = [process.communicate(timeout=120) for process in started]
  found = [
    [float(line) for line in out.splitlines() if line[0].isdigit()]
    for out, _ in outputs
  ]
  source = clevr_tree.TreePictures(clevr_tree_path, 'train')
  whole = clevr_pictures.TrainingBatches(source, 8, 4, 0)
  with whole.stream(1) as batches:
    expected = [
      np.sum(b['image'].reshape(4, -1).sum(1) * np.arange(4.0))
      for b in itertools.islice(batches, 3)
    ]
  assert found == [expected, expected], outputs
