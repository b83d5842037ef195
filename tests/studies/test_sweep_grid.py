"""Grids: how they are read, and the cells they make."""

import pytest

from idspn_jax import errors
from idspn_jax.studies import sweep_grid


class TestReading:
  def test_axes_and_seeds(self):
    grid = sweep_grid.parse(' model.momentum=0,0.9; :n=2,4 ;seed=0..2,7;')
    assert grid.axes == (
      sweep_grid.Axis('model.momentum', ('0', '0.9')),
      sweep_grid.Axis(':n', ('2', '4')),
    )
    assert grid.seeds == (0, 1, 2, 7)

  def test_lists_are_values(self):
    grid = sweep_grid.parse('optimizer.drops=[0.5, 0.9],[0.9],(1,2)')
    assert grid.axes[0].values == ('[0.5, 0.9]', '[0.9]', '(1,2)')
    assert grid.seeds is None

  @pytest.mark.parametrize(
    'text, message',
    [
      ('', 'has no setting'),
      (' ; ', 'has no setting'),
      ('seed', "'seed' is no setting with values"),
      ('=1', 'is no setting with values'),
      ('model..x=1', 'is no setting with values'),
      ('a b=1', 'is no setting with values'),
      ('a=1;a=2', 'a is given twice'),
      ('seed=1;seed=2', 'seed is given twice'),
      ('a=', 'has an empty value'),
      ('a=1,,2', 'has an empty value'),
      ('a=1,1', 'has a value twice'),
      ('a=0..3,2', 'has a value twice'),
      ('a=3..1', 'is no range'),
      ('a=0..100000000', 'is no range'),
      ('a=0..999;b=0..999', 'more than 100,000 cells'),
      ('seed=0,x', 'seeds are integers from 0; got 0,x'),
      ('seed=0,00', 'a seed is given twice: 0,00'),
      (':seed=0..2', 'write seed=0..2, without the colon'),
      ('seed=-1', 'seeds are integers from 0'),
    ],
  )
  def test_what_is_wrong_is_named(self, text, message):
    with pytest.raises(errors.UserError, match=message):
      sweep_grid.parse(text)


class TestCells:
  def test_the_last_axis_runs_fastest(self):
    grid = sweep_grid.parse(':n=2,4;model.momentum=0,0.9')
    cells = sweep_grid.expand(grid, lambda *given: given)
    assert [cell.name for cell in cells] == [
      'n=2,model.momentum=0',
      'n=2,model.momentum=0.9',
      'n=4,model.momentum=0',
      'n=4,model.momentum=0.9',
    ]
    assert cells[1].config(3) == ({'n': '2'}, ['model.momentum=0.9'], 3)

  def test_seeds_alone_are_one_cell(self):
    (cell,) = sweep_grid.expand(sweep_grid.parse('seed=0..3'), list)
    assert cell.name == 'all'

  def test_names_are_names_of_directories(self):
    grid = sweep_grid.parse(f'data.path=../x/y,{"z" * 300},~')
    names = [cell.name for cell in sweep_grid.expand(grid, list)]
    assert names[0] == 'data.path=..%2Fx%2Fy'
    assert len(names[1]) == 150
    assert all('/' not in name and name[0] not in '.~' for name in names)
    other = sweep_grid.parse(f'data.path={"z" * 301}')
    assert sweep_grid.expand(other, list)[0].name != names[1]
