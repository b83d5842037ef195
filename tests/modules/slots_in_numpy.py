"""Slot Attention, its backbone and its head once more, in NumPy and loops.

Written from the equations, for comparison in float64. Parameters are Flax's
dictionaries.
"""

import numpy as np


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def linear(params, x):
  return x @ params['kernel'] + params.get('bias', 0.0)


def layer_norm(params, x):
  center = np.mean(x, axis=-1, keepdims=True)
  variance = np.mean((x - center) ** 2, axis=-1, keepdims=True)
  normal = (x - center) / np.sqrt(variance + 1e-3)
  return normal * params['scale'] + params['bias']


def gru(params, state, x):
  """One step for one slot, `(S,)`."""
  reset = sigmoid(linear(params['ir'], x) + linear(params['hr'], state))
  update = sigmoid(linear(params['iz'], x) + linear(params['hz'], state))
  new = np.tanh(linear(params['in'], x) + reset * linear(params['hn'], state))
  return (1 - update) * new + update * state


def iteration(params, slots, x):
  """One iteration for one input set, `(N, S)` and `(P, C)`.

  Returns:
    The slots, and the attention `(N, P)`.
  """
  x = layer_norm(params['norm_inputs'], x)
  key, value = linear(params['key'], x), linear(params['value'], x)
  query = linear(params['query'], layer_norm(params['norm_slots'], slots))
  size = slots.shape[1]
  attention = np.zeros((len(slots), len(x)))
  for p in range(len(x)):
    score = np.exp([key[p] @ q / np.sqrt(size) for q in query])
    attention[:, p] = score / np.sum(score)
  after = []
  for n in range(len(slots)):
    weight = attention[n] + 1e-8
    mean = sum(w * v for w, v in zip(weight, value, strict=True)) / sum(weight)
    slot = gru(params['gru'], slots[n], mean)
    hidden = linear(params['mlp_hidden'], layer_norm(params['norm_mlp'], slot))
    after.append(slot + linear(params['mlp_output'], np.maximum(hidden, 0)))
  return np.array(after), attention


def convolution(params, x, stride):
  """Of one picture `(H, W, C)`, padded so that `ceil(size / stride)` is left.

  An odd number of padded rows has the larger half at the end.
  """
  kernel, size = params['kernel'], params['kernel'].shape[0]
  counts = [-(-length // stride) for length in x.shape[:2]]
  pads = []
  for count, length in zip(counts, x.shape[:2], strict=True):
    total = max((count - 1) * stride + size - length, 0)
    pads.append((total // 2, total - total // 2))
  x = np.pad(x, (*pads, (0, 0)))
  out = np.zeros((*counts, kernel.shape[-1]))
  for i in range(counts[0]):
    for j in range(counts[1]):
      top, left = i * stride, j * stride
      window = x[top : top + size, left : left + size]
      out[i, j] = np.einsum('yxc,yxco->o', window, kernel) + params['bias']
  return out


def backbone(params, image, strides):
  """Features of one picture with values in `[0, 1]`, `(H', W', C)`."""
  x = 2 * image - 1
  for i, stride in enumerate(strides):
    x = np.maximum(convolution(params[f'conv_{i}'], x, stride), 0)
  rows, columns = x.shape[:2]
  for i in range(rows):
    for j in range(columns):
      y, z = i / max(rows - 1, 1), j / max(columns - 1, 1)
      position = np.array([y, z, 1 - y, 1 - z])
      x[i, j] = x[i, j] + linear(params['position']['embedding'], position)
  hidden = np.maximum(
    linear(params['hidden'], layer_norm(params['norm'], x)), 0
  )
  return linear(params['output'], hidden)


def head(params, slots, num_coordinates):
  hidden = np.maximum(linear(params['hidden'], slots), 0)
  out = sigmoid(linear(params['output'], hidden))
  out[:, :num_coordinates] = 2 * out[:, :num_coordinates] - 1
  return out
