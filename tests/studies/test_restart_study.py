"""The study of several starts: choices by hand, and on a small run."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import random_multisets
from idspn_jax import errors
from idspn_jax.runs import loading
from idspn_jax.solvers import restarts as restarts_lib
from idspn_jax.studies import restart_report
from idspn_jax.studies import restart_study as study
from idspn_jax.training import loop
from tests.training import toy

# Three starts of four sets.
STARTS = study.Starts(
  energy=np.array(
    [
      [5.0, 1.0, 1.00, np.nan],
      [1.0, 2.0, 1.05, 3.0],
      [2.0, 0.5, 9.00, 2.0],
    ]
  ),
  loss=np.array(
    [
      [50.0, 1.0, 1.0, np.nan],
      [1.0, 3.0, 2.0, 4.0],
      [0.5, 2.0, 9.0, 8.0],
    ]
  ),
)


class TestChoices:
  def test_by_energy_and_by_target(self):
    assert study.loss_by_energy(STARTS, 2) == (1 + 1 + 1 + 4) / 4
    assert study.loss_by_energy(STARTS, 3) == (1 + 2 + 1 + 8) / 4
    assert study.loss_by_target(STARTS, 3) == (0.5 + 1 + 1 + 4) / 4

  def test_stuck_sets(self):
    starts = study.Starts(STARTS.energy[:, :3], STARTS.loss[:, :3])
    found = study.stuck_sets(starts)
    assert found == {
      'share': pytest.approx(1 / 3),
      'share_of_loss': pytest.approx(50 / 52),
      'auc': 1.0,
    }

  def test_whether_the_energy_is_a_judge(self):
    target = np.array([0.5, 1.5, 0.9, 2.5])
    assert study.judge(STARTS, target, 1) == {
      'energy': pytest.approx(3.0),  # Of 5, 1, 1 and one that diverged.
      'energy of the target': pytest.approx(1.2),
      'targets below': 0.75,
    }
    found = study.judge(STARTS, target, 3)
    assert found['energy'] == pytest.approx(1.0)
    assert found['targets below'] == 0.5

  def test_the_worst_are_restarted(self):
    starts = study.Starts(
      np.array([[5.0, 1.0, 2.0, 3.0], [1.0, 0.5, 0.5, 4.0]]),
      np.array([[50.0, 1.0, 2.0, 3.0], [1.0, 9.0, 9.0, 9.0]]),
    )
    # The first set only; of two, the fourth stays where its energy is less.
    for share in (0.25, 0.5):
      loss, mean = study.restart_worst(starts, share, 2, batch=4)
      assert (loss, mean) == ((1 + 1 + 2 + 3) / 4, 1 + share)
    assert study.restart_worst(starts, 1.0, 2, batch=4) == (
      study.loss_by_energy(starts, 2),
      2.0,
    )

  def test_search_stops_when_two_energies_agree(self):
    loss, mean = study.stop_when_agreed(STARTS, 0.1, 3)
    # Only the energies of the third set agree, after two starts.
    assert mean == (3 + 3 + 2 + 3) / 4
    assert loss == study.loss_by_energy(STARTS, 3)
    loss, mean = study.stop_when_agreed(STARTS, 1.0, 3)
    assert mean == (3 + 2 + 2 + 3) / 4
    assert loss == (1 + 1 + 1 + 8) / 4

  @pytest.mark.parametrize(
    'make',
    (
      study.around,
      study.antithetic,
      study.fresh,
      study.permuted_noise,
      study.orthogonal,
    ),
  )
  def test_draws(self, make):
    y, key = jnp.ones((5000, 4, 2)), jax.random.key(0)
    draw = make(0.5)
    starts = np.stack([draw(y, key, k) for k in range(5)])
    np.testing.assert_array_equal(starts[0], y)
    centre = 0.0 if make is study.fresh else 1.0
    np.testing.assert_allclose(starts[1:].mean((1, 2, 3)), centre, atol=0.02)
    np.testing.assert_allclose(starts[1:].std((1, 2, 3)), 0.5, atol=0.02)
    assert len({start.tobytes() for start in starts}) == 5
    if make is study.antithetic:
      np.testing.assert_allclose(starts[1] + starts[2], 2.0, atol=1e-5)

  def test_orthogonal_noise(self):
    y, key = jnp.ones((6, 2, 2)), jax.random.key(0)
    draw = study.orthogonal(0.5)
    noise = np.stack([draw(y, key, k) - y for k in range(1, 9)], axis=1)
    noise = noise.reshape(6, 2, 4, 4)
    # Two blocks of as many starts as a set has numbers.
    gram = noise @ np.swapaxes(noise, -1, -2)
    expected = np.broadcast_to(np.eye(4), gram.shape)
    np.testing.assert_allclose(gram, expected, atol=1e-6)
    assert np.abs(noise[:, 0] - noise[:, 1]).min() > 0


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  config = random_multisets.get_config('n=3,d=2,T=4')
  with config.unlocked():
    config.update_from_flattened_dict(
      {
        'data.num_train': 64,
        'data.num_test': 32,
        'model.hidden_dim': 8,
        'model.latent_dim': 8,
        'batch_size': 8,
        'eval_batch_size': 8,
        'steps': 8,
        'log_every': 8,
        'eval_every': 8,
        'checkpoint_every': 8,
      }
    )
  workdir = str(tmp_path_factory.mktemp('run'))
  loop.train_and_evaluate(config, workdir)
  return loading.load_run(workdir)


def test_starts_are_those_of_the_decoder(trained):
  decoding = study.Decoding(trained, 32)
  restarts = restarts_lib.Restarts(3, scale=0.5, keep_all=True)
  found = decoding.restarted(restarts)
  initial = decoding.initial(study.around(0.5), 1)
  first, reached = decoding.starts(initial, [4])
  np.testing.assert_allclose(first.energy[0], found.energy[0], rtol=1e-5)
  np.testing.assert_allclose(first.loss[0], found.loss[0], rtol=1e-5)
  assert found.loss.shape == (3, 32) and reached.shape == (1, 32, 3, 2)
  # No step leaves a set where it was, and its energy is that of the set.
  still, same = decoding.starts(reached, [0])
  np.testing.assert_array_equal(same, reached)
  np.testing.assert_allclose(still.energy, first.energy, rtol=1e-5)
  energies = decoding.energies(reached[:, 5], decoding.sets[5])
  np.testing.assert_allclose(energies, first.energy[:, 5], rtol=1e-5)
  targets, _ = decoding.starts(decoding.sets[None], [0])
  assert targets.energy.shape == (1, 32)
  energies = decoding.energies(decoding.sets[5][None], decoding.sets[5])
  np.testing.assert_allclose(targets.energy[:, 5], energies, rtol=1e-5)


@pytest.mark.deep
def test_report(trained, tmp_path):
  report = restart_report.Report(trained, 32)
  sections = dict(report.sections())
  assert len(sections) == 9
  paths = report.save(str(tmp_path))
  assert {path.rsplit('/', 1)[1] for path in paths} == {
    'study.json',
    'losses.png',
    'stuck_set.png',
  }
  content = json.loads((tmp_path / 'study.json').read_text())
  counts = content['counts']
  assert [row['starts'] for row in counts] == [1, 2, 4, 8, 16]
  losses = [row['by target'] for row in counts]
  assert losses == sorted(losses, reverse=True)
  assert all(row['by energy'] >= row['by target'] - 1e-9 for row in counts)
  assert {'device', 'versions', 'date', 'config', 'sets'} <= content.keys()
  totals = {row['way']: row['loss'] for row in content['totals']}
  one = counts[0]['pulled to each start, by energy']
  assert totals['1 × 4'] == pytest.approx(one, rel=1e-5)


def test_some_sections_of_the_report(trained, tmp_path):
  report = restart_report.Report(trained, 32)
  with pytest.raises(errors.UserError, match='judges.*counts, stuck, judge'):
    dict(report.sections(['judges']))
  with pytest.raises(errors.UserError, match='--sections=: .*counts, stuck'):
    dict(report.sections([]))
  assert len(dict(report.sections(['judge']))) == 2
  report.save(str(tmp_path))
  content = json.loads((tmp_path / 'study.json').read_text())
  assert 'totals' not in content
  rows = content['judge']
  assert [row['starts'] for row in rows] == [1, 2, 4, 8, 16]
  shares = [row['targets below'] for row in rows]
  assert shares == sorted(shares, reverse=True)


def test_what_cannot_be_studied_is_named(trained, tmp_path):
  loop.train_and_evaluate(toy.get_config(), str(tmp_path), task=toy.build)
  run = loading.load_run(str(tmp_path), task=toy.build)
  with pytest.raises(errors.UserError, match='autoencodes sets'):
    study.Decoding(run, 8)
  config = trained.config.copy_and_resolve_references()
  with config.unlocked():
    config.model.initial_set = 'normal'
  with pytest.raises(errors.UserError, match='initial_set=learned'):
    study.Decoding(trained._replace(config=config), 8)
