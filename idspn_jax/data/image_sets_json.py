"""Files of images' sets in JSON; see `image_sets`."""

from collections.abc import Mapping
import json
import pathlib
import reprlib
import sys
from typing import Any

import numpy as np

from idspn_jax.data import set_layout

# Names that predictions and metrics use for something else.
RESERVED = (
  'attributes',
  'energy',
  'margin',
  'presence',
  'residual',
  'set_size',
)
_EXAMPLE = '{"images": [{"file": "a.png", "elements": [{"x": 0.3}]}]}'


def check_feature(where: str, name: Any) -> None:
  """Refuses what cannot name a feature.

  Raises:
    ValueError: opening with `where`.
  """
  if not isinstance(name, str) or not name.strip():
    raise ValueError(f'{where}: a feature is named {name!r}; give it a name.')
  if name in RESERVED:
    raise ValueError(
      f'{where}: the name {name!r} is taken by what is predicted; rename the '
      'feature.'
    )


def check_classes(where: str, name: str, classes: Any) -> tuple[str, ...]:
  """The classes of a category as a tuple.

  Raises:
    ValueError: if they are not different texts; opening with `where`.
  """
  right = isinstance(classes, list) and classes
  right = right and all(isinstance(c, str) and c for c in classes)
  if not right or len(set(classes)) < len(classes):
    raise ValueError(
      f'{where}: the classes of {name!r} are {reprlib.repr(classes)}; give a '
      'list of different texts.'
    )
  return tuple(classes)


def read(path: pathlib.Path) -> tuple[Any, ...]:
  """Reads a file.

  Args:
    path: of a file that exists.

  Returns:
    The parts of an `image_sets.ImageSets`.

  Raises:
    ValueError: if the file is not as described; one line.
  """
  images, given = _parse(path)
  for name, classes in given.items():
    check_feature(str(path), name)
    given[name] = check_classes(str(path), name, classes)
  files, sets = [], []
  for i, image in enumerate(images):
    file, elements = _image(f'{path}: image {i}', image)
    files.append(file)
    sets.append(elements)
  kinds = _kinds(path, files, sets, given)
  classes = _classes(sets, kinds, given)
  layout = set_layout.Layout(
    tuple(name for name, is_text in kinds.items() if not is_text),
    tuple(set_layout.Category(name, c) for name, c in classes.items()),
  )
  return tuple(files), *_arrays(sets, layout), layout


def _parse(path):
  """The list of images and the mapping of categories."""
  try:
    content = json.loads(path.read_text('utf-8-sig'))
  except OSError as e:
    raise ValueError(
      f'{path}: cannot be read ({e.strerror}); check its permissions.'
    ) from e
  except (ValueError, RecursionError) as e:
    raise ValueError(f'{path}: not valid JSON ({e}); write {_EXAMPLE}.') from e
  images = content.get('images') if isinstance(content, Mapping) else None
  if not isinstance(images, list):
    found = sorted(content) if isinstance(content, Mapping) else content
    raise ValueError(
      f"{path}: no list 'images' at the top level (found: "
      f'{reprlib.repr(found)}); write {_EXAMPLE}.'
    )
  if not images:
    raise ValueError(f"{path}: the list 'images' is empty; add images.")
  given = content.get('categories', {})
  if not isinstance(given, dict):
    raise ValueError(
      f"{path}: 'categories' is {reprlib.repr(given)}; write "
      '{"colour": ["red", "green"]}.'
    )
  return images, given


def _image(where, image):
  """File name and elements of one image."""
  if not isinstance(image, Mapping) or not isinstance(image.get('file'), str):
    raise ValueError(
      f"{where}: {reprlib.repr(image)} has no text 'file'; write "
      '{"file": "a.png", "elements": []}.'
    )
  elements = image.get('elements')
  if not isinstance(elements, list):
    raise ValueError(
      f"{where} ({image['file']!r}): no list 'elements' (found: "
      f'{reprlib.repr(sorted(image))}); add it, empty if the set is.'
    )
  return image['file'], elements


def _kinds(path, files, sets, given):
  """Whether each feature is a category, by name, in order of the file.

  Raises:
    ValueError: if elements differ in features, or a value is not as described.
  """
  kinds: dict[str, bool] = {}
  for i, (file, elements) in enumerate(zip(files, sets, strict=True)):
    for n, element in enumerate(elements):
      where = f'{path}: image {i} ({file!r}), element {n}'
      if not isinstance(element, dict) or not element:
        raise ValueError(
          f'{where}: {reprlib.repr(element)} has no features; write '
          '{"x": 0.3, "colour": "red"}.'
        )
      if not kinds:
        for name, value in element.items():
          check_feature(where, name)
          kinds[name] = isinstance(value, str)
      if set(element) != set(kinds):
        raise ValueError(
          f'{where}: has the features {sorted(element)}, those before have '
          f'{sorted(kinds)}; give every element the same.'
        )
      for name, value in element.items():
        _check_value(where, name, value, kinds[name], given)
  if not kinds:
    raise ValueError(
      f'{path}: no set has an element; give at least one element.'
    )
  unknown = [name for name in given if not kinds.get(name)]
  if unknown:
    raise ValueError(
      f"{path}: 'categories' names {unknown[0]!r}, but elements have no such "
      'text; remove it or correct the name.'
    )
  return kinds


def _check_value(where, name, value, is_text, given):
  shown = reprlib.repr(value)
  if is_text:
    if not isinstance(value, str) or not value:
      raise ValueError(
        f'{where}: {name!r} is {shown}, but a text before; write texts '
        'throughout.'
      )
    if name in given and value not in given[name]:
      raise ValueError(
        f'{where}: {name!r} is {shown}; choose one of '
        f'{", ".join(given[name])}, or add it to "categories".'
      )
    return
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise ValueError(
      f'{where}: {name!r} is {shown}; write a number throughout, or a text '
      'throughout.'
    )
  # False for NaN too.
  if not abs(value) <= sys.float_info.max:
    raise ValueError(
      f'{where}: {name!r} is {shown}, not a finite number; correct it or '
      'remove the element.'
    )


def _classes(sets, kinds, given):
  """The classes of every category."""
  found = {}
  for name, is_text in kinds.items():
    if is_text:
      seen = sorted({element[name] for s in sets for element in s})
      found[name] = given.get(name, tuple(seen))
  return found


def _arrays(sets, layout):
  """Values, classes and sizes."""
  sizes = np.asarray([len(s) for s in sets], np.int64)
  shape = len(sets), max(int(sizes.max()), 1)
  values = np.zeros((*shape, len(layout.continuous)))
  classes = {c.name: np.zeros(shape, np.int64) for c in layout.categories}
  index = {
    c.name: {label: k for k, label in enumerate(c.classes)}
    for c in layout.categories
  }
  for i, elements in enumerate(sets):
    for n, element in enumerate(elements):
      values[i, n] = [element[name] for name in layout.continuous]
      for name, places in index.items():
        classes[name][i, n] = places[element[name]]
  return values, classes, sizes
