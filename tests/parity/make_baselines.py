"""Makes `baselines/*.npz`: numbers of PyTorch for the models of Section 4.1.

    python tests/parity/make_baselines.py

Needs PyTorch, which the tests do not. The models are put together from
PyTorch's own layers as the paper's code does it, with its parameter names. Each
file holds float64 arrays: `input` and `target` (one-hot), `noise` of the random
position encoding, `output`, `loss` (class-restricted matching, cross-entropy,
mean over elements and sets), `param/NAME` and `grad/NAME`; and `config`.
"""

import json
import math
import pathlib

import numpy as np
from scipy import optimize
import torch
from torch import nn

B, N, K, HIDDEN = 3, 6, 3, 16


class DeepSetsLayer(nn.Module):
  """A linear layer for the element, one for the mean."""

  def __init__(self, inputs, outputs):
    super().__init__()
    self.lin0 = nn.Linear(inputs, outputs)
    self.lin1 = nn.Linear(inputs, outputs)

  def forward(self, x):
    return self.lin0(x) + self.lin1(x.mean(dim=1, keepdim=True))


class DeepSets(nn.Module):
  """Two layers."""

  def __init__(self):
    super().__init__()
    self.ds = nn.Sequential(
      DeepSetsLayer(K, HIDDEN), nn.ReLU(), DeepSetsLayer(HIDDEN, N)
    )

  def forward(self, x, noise):
    del noise
    return self.ds(x)


class BiLSTM(nn.Module):
  """Two bidirectional layers between linear ones."""

  def __init__(self):
    super().__init__()
    self.proj_in = nn.Linear(K, HIDDEN)
    self.rnn = nn.LSTM(HIDDEN, HIDDEN, 2, batch_first=True, bidirectional=True)
    self.proj_out = nn.Linear(2 * HIDDEN, N)

  def forward(self, x, noise):
    del noise
    return self.proj_out(self.rnn(self.proj_in(x))[0])


class Transformer(nn.Module):
  """PyTorch's encoder-decoder; `positions` as in our `SetTransformer`."""

  def __init__(self, positions):
    super().__init__()
    self.positions = positions
    self.transformer = nn.Transformer(
      HIDDEN, 8, 2, 2, 2 * HIDDEN, dropout=0.0, batch_first=True
    )
    random = positions == 'random'
    self.proj_src = nn.Linear(K, HIDDEN)
    self.proj_tgt = nn.Linear(K, HIDDEN // 2 if random else HIDDEN)
    self.proj_out = nn.Linear(HIDDEN, N)
    if random:
      self.alpha = nn.Parameter(torch.tensor([0.3]))
      self.beta = nn.Parameter(torch.tensor([-0.4]))

  def forward(self, x, noise):
    target = self.proj_tgt(x)
    if self.positions == 'sinusoidal':
      angle = torch.arange(N)[:, None] * torch.exp(
        torch.arange(0, HIDDEN, 2) * (-math.log(1e4) / HIDDEN)
      )
      waves = torch.stack([torch.sin(angle), torch.cos(angle)], dim=-1)
      target = target + waves.reshape(N, HIDDEN)
    if self.positions == 'random':
      noise = self.alpha + torch.exp(self.beta) * noise
      target = torch.cat([target, noise], dim=-1)
    return self.proj_out(self.transformer(self.proj_src(x), target))


MODELS = {
  'deep_sets': DeepSets,
  'bilstm': BiLSTM,
  'transformer': lambda: Transformer('none'),
  'transformer_pe': lambda: Transformer('sinusoidal'),
  'transformer_random_pe': lambda: Transformer('random'),
}


def matched_loss(classes, numbers, logits):
  """Every class matched on its own."""
  cost = -torch.log_softmax(logits, dim=-1)
  total = 0.0
  for b in range(B):
    for k in range(K):
      rows = torch.nonzero(classes[b] == k)[:, 0]
      own = cost[b][rows][:, numbers[b][rows]]
      i, j = optimize.linear_sum_assignment(own.detach().numpy())
      total = total + own[i, j].sum()
  return total / (B * N)


def main():
  """Writes one file per model."""
  torch.set_default_dtype(torch.float64)
  directory = pathlib.Path(__file__).parent / 'baselines'
  directory.mkdir(exist_ok=True)
  for seed, (name, build) in enumerate(MODELS.items()):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, K, (B, N))
    classes[:, :2] = 0  # Every set holds equal elements.
    same = classes[:, :, None] == classes[:, None]
    numbers = (same & np.tril(np.ones((N, N), bool), -1)).sum(-1)
    noise = rng.normal(size=(B, N, HIDDEN // 2))
    model = build()
    # Biases and norms start at constants, which would hide mix-ups.
    with torch.no_grad():
      for parameter in model.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    one_hot = np.eye(K)[classes]
    output = model(torch.tensor(one_hot), torch.tensor(noise))
    loss = matched_loss(torch.tensor(classes), torch.tensor(numbers), output)
    loss.backward()
    arrays = {
      'input': one_hot,
      'target': np.eye(N)[numbers],
      'noise': noise,
      'output': output.detach().numpy(),
      'loss': loss.item(),
    }
    for key, parameter in model.named_parameters():
      arrays[f'param/{key}'] = parameter.detach().numpy()
      arrays[f'grad/{key}'] = parameter.grad.numpy()
    config = {
      'model': name,
      'set_size': N,
      'n_classes': K,
      'hidden_dim': HIDDEN,
      'torch': torch.__version__,
    }
    np.savez_compressed(
      directory / f'{name}.npz', config=json.dumps(config), **arrays
    )
    print(name, loss.item())


if __name__ == '__main__':
  main()
