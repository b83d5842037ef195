"""The study of gradients as a whole, on models of some steps."""

import copy
import csv
import html.parser
import json
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

import idspn_jax as ij
from idspn_jax import errors
from idspn_jax.figures import gradients as figures
from idspn_jax.runs import loading
from idspn_jax.runs import pretrained
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.studies import gradient_answers
from idspn_jax.studies import gradient_cost
from idspn_jax.studies import gradient_csv
from idspn_jax.studies import gradient_curves
from idspn_jax.studies import gradient_option_cost
from idspn_jax.studies import gradient_page
from idspn_jax.studies import gradient_problem
from idspn_jax.studies import gradient_reference
from idspn_jax.studies import gradient_report
from idspn_jax.studies import gradient_settings
from idspn_jax.studies import gradient_sweeps
from idspn_jax.studies import gradient_training
from idspn_jax.tasks import registry

SETTINGS = (
  gradient_settings.SETTINGS[0],
  gradient_settings.Setting('Dense', 'dense'),
)


@pytest.fixture(scope='module')
def configs(small):
  smooth = {'model__activation': 'tanh', 'model__pool': 'sum'}
  return {'tanh_sum': small(**smooth)}


@pytest.fixture(scope='module')
def curves(configs, tmp_path_factory):
  """A directory with training curves, and their content."""
  directory = str(tmp_path_factory.mktemp('curves'))
  patch = pytest.MonkeyPatch()
  patch.setattr(gradient_training, 'CHUNK', 2)
  patch.setitem(gradient_training.RATES, 'adam', (1e-3, 1e-2, 1e9))
  rows = []
  settings = {
    'seeds': 2,
    'tune_steps': 4,
    'steps': 6,
    'settings': SETTINGS,
    'optimizers': ('adam',),
    'progress': rows.append,
  }
  content = gradient_curves.train(configs, directory, **settings)
  assert len(rows) == 2
  # Nothing is trained twice.
  again = gradient_curves.train(configs, directory, **settings)
  assert len(rows) == 2 and again == content
  with pytest.raises(errors.UserError, match='other models'):
    gradient_curves.train({'other': configs['tanh_sum']}, directory, **settings)
  patch.undo()
  return directory, content


def test_curves_from_before_a_setting_are_continued(curves, configs, tmp_path):
  directory, content = curves
  older = copy.deepcopy(content)
  del older['configs']['tanh_sum']['on_nonfinite']
  (tmp_path / gradient_curves.FILE).write_text(json.dumps(older))
  assert gradient_curves.read(str(tmp_path))['configs'] == content['configs']
  rows = []
  gradient_curves.train(
    configs,
    str(tmp_path),
    seeds=2,
    tune_steps=4,
    steps=6,
    settings=SETTINGS,
    optimizers=('adam',),
    progress=rows.append,
  )
  assert rows == []


def test_the_stored_study_has_all_of_today_s_settings():
  root = pathlib.Path(__file__).parents[2]
  content = gradient_curves.read(str(root / 'results' / 'gradients'))
  for config in content['configs'].values():
    assert {*ij.default_config()} <= {*config}


@pytest.mark.parametrize('configs', [[], {'a': 3}, {'a': {}}])
def test_a_file_without_configs_is_refused(configs, tmp_path):
  path = tmp_path / gradient_curves.FILE
  path.write_text(json.dumps({'configs': configs, 'rows': []}))
  with pytest.raises(errors.UserError, match='holds no configs'):
    gradient_curves.read(str(tmp_path))


class TestTraining:
  def test_rows(self, curves):
    for row in curves[1]['rows']:
      assert np.shape(row['loss']) == (2, 3)
      assert np.all(np.isfinite(row['loss']))
      assert np.all(np.isfinite(row['test_loss']))
      assert row['seeds'] == [1, 2]
      assert row['rate'] in (1e-3, 1e-2)
      assert len(row['tried']) == 3
      assert row['tried'][-1]['loss'] is None or row['tried'][-1]['loss'] > 10

  def test_starts_are_the_same(self, curves):
    """Before the first step the mode makes no difference."""
    free, dense = (row['loss'] for row in curves[1]['rows'])
    assert free[0][0] == pytest.approx(dense[0][0], rel=0.2)
    assert free[0] != dense[0]

  def test_sgd_takes_steps_of_the_rate(self, configs):
    """A lane is plain gradient descent with a falling rate."""
    config = configs['tanh_sum']
    trainer = gradient_training.Trainer(config, SETTINGS[0], 'sgd')
    lanes = [gradient_training.Lane(0.5, 3), gradient_training.Lane(0.0, 3)]
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(gradient_training, 'CHUNK', 1)
      found = trainer.train(lanes, 2)
    moved, still = found.variables
    experiment = trainer.experiment
    key = jax.random.fold_in(jax.random.key(3), 0)
    first = experiment.task.init(key)
    for a, b in zip(
      jax.tree.leaves(first), jax.tree.leaves(still), strict=True
    ):
      np.testing.assert_array_equal(a, b)
    params = first['params']
    with experiment.data(3).train(0) as batches:
      for rate in (0.5, 0.25):
        gradient = jax.grad(
          lambda p, batch: experiment.task.loss(p, {}, batch, key)[0]
        )(params, next(batches))
        params = jax.tree.map(lambda p, g, r=rate: p - r * g, params, gradient)
    for a, b in zip(
      jax.tree.leaves(params), jax.tree.leaves(moved['params']), strict=True
    ):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

  def test_divergence_takes_a_smaller_rate(self, configs, monkeypatch):
    monkeypatch.setattr(gradient_training, 'CHUNK', 2)
    tried = [{'rate': 0.1, 'loss': 2.0}, {'rate': 1e30, 'loss': 1.0}]
    monkeypatch.setattr(gradient_training, 'tune', lambda *args: tried)
    row, _ = gradient_training.train_setting(
      configs['tanh_sum'], SETTINGS[0], 'sgd', seeds=2, tune_steps=2, steps=4
    )
    assert row['rate'] == 0.1 and row['diverged_at'] == [1e30]
    assert row['at_edge']
    assert row['tuned_rate'] == 1e30 and row['tuned_at_edge']

  def test_a_finite_loss_above_the_start_is_divergence(self, monkeypatch):
    """Also of one seed alone; and where no smaller rate was tried."""
    monkeypatch.setattr(gradient_training, 'CHUNK', 2)
    ends = {
      8.0: [0.2, 3.0],
      4.0: [0.45, 0.2],
      2.0: [0.36, 0.37],
      1.0: [0.2] * 2,
    }

    class Trainer:
      def __init__(self, *args):
        pass

      def train(self, lanes, steps):
        last = [ends[lane.rate][lane.seed - 1] for lane in lanes]
        loss = np.array([[0.35, 0.3, end] for end in last])
        return gradient_training.Curves(loss, loss, loss, loss[:, -1], last)

    monkeypatch.setattr(gradient_training, 'Trainer', Trainer)
    config = ml_collections.ConfigDict({'seed': 0})
    for rates, rate, diverged_at in (
      ((1.0, 2.0, 4.0, 8.0), 2.0, [8.0, 4.0]),
      ((4.0, 8.0), 4.0, [8.0, 4.0]),
    ):
      tried = [{'rate': rate, 'loss': 1 / rate} for rate in rates]
      monkeypatch.setattr(gradient_training, 'tune', lambda *args, t=tried: t)
      row, _ = gradient_training.train_setting(
        config, SETTINGS[0], 'sgd', seeds=2, tune_steps=2, steps=4
      )
      assert row['rate'] == rate and row['diverged_at'] == diverged_at
      assert row['tuned_rate'] == 8.0 and row['tuned_at_edge']
      assert row['at_edge'] == (rate == rates[0])

  def test_a_rate_that_ends_above_its_start_is_not_tuned(self):
    """Its last steps may be below those of the others' all the same."""

    class Trainer:
      def train(self, lanes, steps):
        start = [0.1 if lane.rate == 4 else 0.5 for lane in lanes]
        end = [0.3 if lane.rate == 4 else 0.4 / lane.rate for lane in lanes]
        loss = np.array([start, end]).T
        return gradient_training.Curves(loss, loss, loss, loss[:, -1], [])

    rows = gradient_training.tune(Trainer(), (1.0, 1.6, 4.0), 0, 4, 4)
    found = {row['rate']: row['loss'] for row in rows}
    assert found == {1.0: 0.4, 1.6: 0.25, 4.0: np.inf}

  def test_what_counts_as_diverged(self):
    loss = np.array(
      [[0.3, 0.1], [0.4, 0.32], [0.3, 0.34], [20.0, 12.0], [np.nan, 0.1]]
    )
    test_loss = np.array([0.1, 0.3, 0.3, 12.0, 0.1])
    np.testing.assert_array_equal(
      gradient_training.diverged(loss, test_loss),
      [False, False, True, True, False],
    )
    assert gradient_training.diverged(loss[:1], np.array([np.inf]))[0]
    assert gradient_training.diverged(loss[:1] * np.nan, test_loss[:1])[0]

  @pytest.mark.parametrize(
    ('best', 'rates'),
    [
      (4.0, [1.0, 2.0, 4.0, 8.0, 16.0]),
      (0.3, [0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0]),
      (1.9, [1.0, 2.0, 4.0]),
      (1e9, [2.0**i for i in range(gradient_training.MOST_RATES)]),
    ],
  )
  def test_the_grid_grows_at_its_edges(self, best, rates):
    """Losses here are the distance in octaves."""

    class Trainer:
      def train(self, lanes, steps):
        distance = [abs(np.log2(lane.rate / best)) for lane in lanes]
        loss = np.repeat(np.array(distance)[:, None], steps // 2, axis=1)
        return gradient_training.Curves(loss, loss, loss, loss[:, -1], [])

    rows = gradient_training.tune(Trainer(), (1.0, 2.0, 4.0), 0, 10, 2)
    assert [row['rate'] for row in rows] == rates
    nearest = min(rates, key=lambda rate: abs(np.log2(rate / best)))
    assert min(rows, key=lambda row: row['loss'])['rate'] == nearest

  def test_the_grid_grows_down_where_all_diverge(self):
    class Trainer:
      def train(self, lanes, steps):
        loss = [[1.0 if lane.rate < 0.3 else np.nan] for lane in lanes]
        loss = np.repeat(np.array(loss), steps // 2, axis=1)
        return gradient_training.Curves(loss, loss, loss, loss[:, -1], [])

    rows = gradient_training.tune(Trainer(), (1.0, 2.0), 0, 10, 1)
    assert [row['rate'] for row in rows][-3:] == [0.5, 1.0, 2.0]
    assert [row['loss'] for row in rows][-3:] == [np.inf] * 3
    assert rows[0]['rate'] < 0.3

  def test_wrong_steps(self, configs):
    trainer = gradient_training.Trainer(configs['tanh_sum'], SETTINGS[0], 'sgd')
    with pytest.raises(ValueError, match='multiple of 25'):
      trainer.train([gradient_training.Lane(0.1, 0)], 30)
    with pytest.raises(errors.UserError, match='optimizer'):
      gradient_training.Trainer(configs['tanh_sum'], SETTINGS[0], 'lion')


def run_of(config):
  """A run that was not trained, without variables."""
  experiment = registry.build(config)
  data = experiment.data(config.seed)
  return loading.LoadedRun('here', config, experiment.task, data, 0, {})


class TestProblem:
  def test_is_that_of_the_decoder(self, curves):
    directory, _ = curves
    path = gradient_curves.trained_path(directory, 'tanh_sum')
    run = pretrained.read(path, directory)
    problem, descent = gradient_problem.of_run(run, 4)
    own = descent.run(problem.energy, problem.inputs, descent.iterations)
    sets = jnp.asarray(run.data.examples(4)['input'])
    expected = run.task.decode(run.variables, sets, jax.random.key(0))
    np.testing.assert_allclose(own.set, expected.set, rtol=1e-5, atol=1e-6)
    loss = run.task.evaluate(run.variables, {'input': sets}, jax.random.key(0))[
      'loss'
    ]
    np.testing.assert_allclose(problem.loss(own.set), loss, rtol=1e-5)

  @pytest.mark.parametrize(
    ('activation', 'pool', 'count'),
    (
      ('relu', 'fs', 3 * 5 + 2 * 4),
      ('relu', 'rnfs', 9 * 5 + 8 * 4),
      ('relu', 'max', 3 * 5 + 4),
      ('relu', 'sum', 3 * 5),
      ('tanh', 'fs', 2 * 4),
      ('tanh', 'mean', 0),
    ),
  )
  def test_margins_are_zero_on_kinks(
    self, variables_of, rng, activation, pool, count
  ):
    encoder = ij.SetEncoder(5, 4, pool, activation=activation)
    y = jnp.asarray(rng.normal(size=(2, 3, 2)), jnp.float32)
    params = variables_of(encoder, y)['params']
    inputs = energy_lib.Inputs(params, jnp.zeros((2, 4)), y)
    margins = jax.jit(gradient_problem.margins(encoder))
    assert margins(inputs, y).shape == (2, count)
    # Two equal elements tie in every feature.
    tied = y.at[:, 1].set(y[:, 0])
    zeros = jnp.sum(jnp.abs(margins(inputs, tied)) < 1e-6, axis=-1)
    sorts = {'fs': 4, 'rnfs': 4 * 5}.get(pool, 0)
    assert np.all(zeros >= sorts)
    if count and activation == 'relu':
      # On the hyperplane of the first unit.
      w, b = params['hidden']['kernel'][:, 0], params['hidden']['bias'][0]
      if pool != 'rnfs':
        on = y.at[0, 0].set(-b * w / jnp.sum(w * w))
        assert np.min(np.abs(margins(inputs, on)[0])) < 1e-6

  def test_others_are_refused(self, small):
    from configs import class_numbering

    config = class_numbering.get_config('model=idspn')
    with pytest.raises(errors.UserError, match='compare_gradients') as refused:
      gradient_problem.of_run(run_of(config), 4)
    # What is wrong is the task, not where results go.
    assert "config.task is 'class_numbering'" in str(refused.value)
    assert 'here' not in str(refused.value)
    config = small(model__projection='simplex')
    with pytest.raises(errors.UserError, match='projection'):
      gradient_problem.of_run(run_of(config), 4)
    config = small(model__optimizer='line_search')
    with pytest.raises(errors.UserError, match='gradient_descent'):
      gradient_problem.of_run(run_of(config), 4)

  def test_sets_too_large_are_refused(self, small):
    config = small(data__set_size=33, data__set_dim=32)
    with pytest.raises(errors.UserError, match='1056 numbers.*1024'):
      gradient_problem.of_run(run_of(config), 4)

  def test_what_is_left_out_is_told(self, small):
    changes = {'model__restarts': 4, 'model__tolerance': 1e-3}
    found = gradient_problem.left_out(small(**changes))
    assert len(found) == 2
    assert 'config.model.restarts=4 ' in found[0]
    assert 'config.model.tolerance=0.001 ' in found[1]
    assert gradient_problem.left_out(small()) == []

  def test_a_model_of_bfloat16_is_studied_in_float64(self, small, x64):
    run = run_of(small(model__dtype='bfloat16'))
    variables = run.task.init(jax.random.key(0))
    problem, _ = gradient_problem.of_run(run._replace(variables=variables), 4)
    (told,) = gradient_problem.left_out(run.config)
    assert 'config.model.dtype=bfloat16 ' in told
    inputs = gradient_reference.in_float64(problem.inputs)
    y = inputs.initial_set
    # Differences that bfloat16 does not see.
    moved = problem.energy(inputs, y + 1e-9) - problem.energy(inputs, y)
    expected = 1e-9 * jnp.sum(
      energy_lib.energy_gradient(problem.energy)(inputs, y), axis=(-2, -1)
    )
    np.testing.assert_allclose(moved, expected, rtol=1e-3)


class _Links(html.parser.HTMLParser):
  """Collects what a page refers to."""

  def __init__(self):
    super().__init__()
    self.found, self.open, self.rows = [], [], 0

  def handle_starttag(self, tag, attrs):
    self.rows += tag == 'tr'
    if tag not in ('meta', 'img'):
      self.open.append(tag)
    self.found += [v for k, v in attrs if k in ('src', 'href')]

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


@pytest.fixture(scope='module')
def saved(curves, tmp_path_factory):
  """A report's directory and files."""
  directory, content = curves
  with pytest.MonkeyPatch.context() as patch:
    for name, values in (
      ('GAMMAS', (0.1, 10.0)),
      ('CG_ITERATIONS', (1, 4)),
      ('TERMS', (0, 2)),
      ('SCALES', (1.0,)),
      ('STARTS', (1, 2)),
    ):
      patch.setattr(gradient_sweeps, name, values)
    report = gradient_report.Report()
    titles = []
    path = gradient_curves.trained_path(directory, 'tanh_sum')
    run = pretrained.read(path, directory)
    report.add_model(
      'tanh_sum_trained',
      run,
      sets=6,
      iterations=(1, 3),
      settings=SETTINGS,
      progress=lambda title, text: titles.append(title),
    )
  assert titles == ['Sets', *gradient_report.SECTIONS.values()]
  rows = gradient_cost.cost_rows(run.config, 2, SETTINGS)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(gradient_cost, 'cost_rows', lambda config, repeats: rows)
    assert 'Dense' in report.add_cost('tanh_sum', run.config, 2)
    every = list(gradient_option_cost.variants(run.config.model.iterations))
    few = [every[1], *every[-2:]]
    patch.setattr(gradient_option_cost, 'variants', lambda iterations: few)
    table = report.add_option_cost('tanh_sum', run.config, 2)
    assert '| starts ' in table and '| inner steps T ' in table
  report.add_training(content)
  out = tmp_path_factory.mktemp('report')
  return out, report.save(str(out))


class TestReport:
  def test_json(self, saved, read_json):
    content = read_json(saved[0] / 'report.json')
    assert {'device', 'versions', 'date', 'answers'} <= content.keys()
    smooth = content['models']['tanh_sum_trained']
    assert sum(smooth['counts'].values()) == len(smooth['sets']) == 6
    assert set(smooth['sections']) == set(gradient_report.SECTIONS)
    for rows in smooth['sections'].values():
      for row in rows:
        assert row['sets'] <= 6
    # No kinks: JSON has no infinity.
    assert all(row['kink'] is None for row in smooth['sets'])
    assert smooth['counts']['at a kink'] == 0
    assert smooth['counts']['exact'] > 0
    modes = {
      (row['setting'], row['iterations']): row['theta']['error']
      for row in smooth['sections']['modes']
    }
    assert modes['Dense', None] < 1e-6 < modes['Jacobian-free', None]
    starts = smooth['sections']['starts']
    assert [row['starts'] for row in starts] == [1, 1, 2, 2]

  def test_tables(self, saved):
    for name, columns in (
      ('gradients.csv', {'model', 'section', 'setting', 'cosine', 'error'}),
      ('sets.csv', {'model', 'set', 'status', 'residual', 'rank'}),
      ('cost.csv', {'setting', 'iterations', 'peak_bytes', 'median_seconds'}),
      ('option_cost.csv', {'varied', 'value', 'peak_bytes', 'median_seconds'}),
      ('training.csv', {'setting', 'seed', 'step', 'loss', 'rate'}),
    ):
      with open(saved[0] / name, encoding='utf-8', newline='') as f:
        rows = list(csv.DictReader(f))
      assert rows and columns <= rows[0].keys()

  def test_costs_of_options(self, saved, read_json):
    rows = read_json(saved[0] / 'report.json')['option_cost']['tanh_sum']
    unrolled, few, many = rows
    assert unrolled['mode'] == 'unrolled' and unrolled['value'] == 3
    assert unrolled['peak_bytes'] > few['peak_bytes']
    # Starts are decoded one after another on a CPU.
    assert (few['starts'], many['starts']) == (4, 8)
    assert many['peak_bytes'] <= 1.05 * few['peak_bytes']
    assert all(len(row['seconds']) == 2 for row in rows)

  def test_every_option_is_varied(self):
    every = list(gradient_option_cost.variants(10))
    found = {}
    for variant in every:
      found.setdefault(variant.varied, []).append(variant.value)
    assert all(len({*values}) > 1 for values in found.values())
    assert {'inner steps T', 'γ', 'CG iterations', 'Neumann terms'} < {*found}
    assert {'Neumann scale', 'linearised at', 'starts'} < {*found}

  def test_empty_tables_have_a_header(self, tmp_path):
    gradient_report.Report().save_tables(str(tmp_path))
    for name in gradient_csv.COLUMNS:
      (line,) = (tmp_path / name).read_text('utf-8').splitlines()
      assert line.startswith('model,')

  def test_what_was_left_out_and_fell_back_is_told(self, saved):
    """In answers and on the page; older studies do not say either."""
    report = gradient_report.Report()
    report._models['m'] = {
      'left_out': ['config.model.restarts=4 is left out.'],
      'counts': {'exact': 1},
      'sets': [{}],
      'sections': {'modes': []},
    }
    assert 'm: config.model.restarts=4 is left out.' in report.answers()
    content = json.loads((saved[0] / 'report.json').read_text('utf-8'))
    rows = content['models']['tanh_sum_trained']['sections']['modes']
    text = gradient_report.section_table(rows)
    assert 'max_growth' not in text
    text = gradient_report.section_table([{**rows[0], 'fallbacks': 1}])
    assert 'max_growth' in text
    del rows[0]['fallbacks']
    assert 'max_growth' not in gradient_report.section_table(rows[:1])

  def test_legends_are_off_the_curves(self, saved):
    content = json.loads((saved[0] / 'report.json').read_text('utf-8'))
    model = content['models']['tanh_sum_trained']
    rows = model['sections']
    for drawn in (
      figures.draw_iterations(rows['iterations'], model['residuals'], 3, ''),
      figures.draw_sweeps(
        rows['gamma'], rows['cg_iterations'], rows['neumann'], ''
      ),
    ):
      (legend,) = drawn.legends
      axes = drawn.axes[0]
      assert axes.get_legend() is None
      lines = axes.get_lines()
      styles = {(line.get_linestyle(), line.get_marker()) for line in lines}
      assert {('-', 'o'), ('--', 'x')} <= styles
      drawn.canvas.draw()
      assert not legend.get_window_extent().overlaps(axes.get_window_extent())

  def test_page_is_whole_and_fetches_nothing(self, saved):
    text = (saved[0] / 'report.html').read_text('utf-8')
    links = _Links()
    links.feed(text)
    assert not links.open and links.rows > 20
    images = [path for path in saved[1] if path.endswith('.png')]
    assert len(links.found) == len(images) == 4 + 1 + 1
    assert all(link.startswith('data:image/png;') for link in links.found)
    assert '://' not in text  # The letters of a picture may spell http.

  def test_text_is_escaped(self):
    page = gradient_page.Page('a < b')
    page.items(['<script>'])
    assert '<script>' not in page.html() and 'a &lt; b' in page.html()


def row_of(setting, loss, **more):
  return {
    'setting': setting,
    'loss': [loss, loss],
    'test_loss': [loss[-1], loss[-1]],
    'steps': 20,
    'steps_per_point': 10,
    'rate': 0.1,
    'at_edge': False,
    'fallbacks': [[0.0]],
    **more,
  }


class TestAnswers:
  def test_who_trains_best(self):
    rows = [row_of('cheap', [4.0, 2.0]), row_of('dear', [3.0, 1.0])]
    cost = [
      {
        'setting': name,
        'iterations': t,
        'peak_bytes': peak * 2**20 * t,
        'median_seconds': seconds if t == 1 else None,
      }
      for name, peak, seconds in (('cheap', 1, 1.0), ('dear', 2, 4.0))
      for t in (1, 4)
    ]
    table = gradient_answers.training_table(rows, cost)
    # In the cheap one's 20 s the dear one takes 5 steps.
    assert [r['loss at equal time'] for r in table] == [2.0, 3.0]
    text = ' '.join(gradient_answers.trains_best(table))
    assert 'equal steps dear trains best: test loss 1' in text
    assert 'equal time cheap' in text
    assert 'in the middle of their training' in text
    assert 'cheap within 1.05 MiB; dear within 3 MiB' in text
    assert 'cheap × 4.00' in gradient_answers.memory_growth(cost)

  def test_spread_of_the_seeds(self):
    """Modes within a standard deviation of the best are told with it."""

    def of(setting, *test):
      return row_of(setting, [4.0, 1.0], test_loss=[*test])

    rows = [of('a', 1.0, 1.4), of('b', 1.3, 1.5), of('c', 1.6, 1.8)]
    table = gradient_answers.training_table(rows, [])
    (text,) = gradient_answers.trains_best(table)
    assert 'a trains best: test loss 1.2 ± 0.28, training loss 1' in text
    assert 'of 3 modes compared; within its spread: b.' in text
    # One seed has no spread.
    table = gradient_answers.training_table([of('a', 1.0), of('b', 1.1)], [])
    (text,) = gradient_answers.trains_best(table)
    assert text.endswith('of 2 modes compared.')

  def test_modes_of_diverged_seeds_are_not_the_best(self):
    """Of rows from before finite losses counted as diverged too."""
    far = row_of('far', [0.3, 0.1])
    far = {**far, 'loss': [[0.3, 0.1], [0.3, 2.5]], 'test_loss': [0.1, 0.1]}
    rows = [far, row_of('near', [0.3, 0.2], tuned_at_edge=True)]
    table = gradient_answers.training_table(rows, [])
    assert [row['diverged seeds'] for row in table] == [1, 0]
    assert [row['rate at the edge'] for row in table] == [False, True]
    (text,) = gradient_answers.trains_best(table)
    assert 'near trains best' in text
    assert text.endswith('seeds diverged under far.')

  def test_diverged(self):
    rows = [row_of('a', [np.nan, np.nan])]
    table = gradient_answers.training_table(rows, [])
    assert gradient_answers.trains_best(table) == ['Every mode diverged.']

  def test_closest(self):
    def mode(name, t, error):
      measures = {'scaled_error': error}
      return {'setting': name, 'iterations': t, 'theta': measures}

    rows = [
      mode('Jacobian-free', None, 0.1),
      mode('Dense', None, 0.0),
      mode('Jacobian-free', 10, 0.5),
      mode('Dense', 10, 0.505),
    ]
    first, second = gradient_answers.closest(rows)
    assert 'with Dense: relative error 0' in first
    assert 'Jacobian-free = Dense' in second
    rows = [mode('Dense', None, None)]
    assert gradient_answers.closest(rows) == [
      'No set has an exact gradient; there is nothing to compare.'
    ]
