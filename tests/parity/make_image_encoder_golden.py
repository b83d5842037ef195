"""Makes `image_encoder/*.npz`: numbers of PyTorch for the image encoder.

    PYTHONPATH=. python tests/parity/make_image_encoder_golden.py

Needs PyTorch, which the tests do not. The model is put together from PyTorch's
own layers, with torchvision's names for the ResNet and the official ones for
the head. Each file holds float64 arrays: `train/output` and `eval/output`;
`stats/NAME`, the running averages after one step of training; `grad/NAME`, the
gradients of all parameters in training mode, and `grad/images`, for the
cotangent of `image_encoder_case`, as its `kept` keeps them.
"""

import numpy as np
import torch
from torch import nn

from tests.parity import image_encoder_case as golden


class Block(nn.Module):
  """A basic block of ResNet-18."""

  def __init__(self, inputs, outputs, stride):
    super().__init__()
    self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(outputs)
    self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
    self.bn2 = nn.BatchNorm2d(outputs)
    self.downsample = None
    if stride != 1 or inputs != outputs:
      self.downsample = nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride, bias=False),
        nn.BatchNorm2d(outputs),
      )

  def forward(self, x):
    y = torch.relu(self.bn1(self.conv1(x)))
    y = self.bn2(self.conv2(y))
    if self.downsample is not None:
      x = self.downsample(x)
    return torch.relu(x + y)


class Encoder(nn.Module):
  """ResNet-18 without pool and classifier, and the head."""

  def __init__(self, case):
    super().__init__()
    width = golden.WIDTH
    if case.stem == 'imagenet':
      self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
      self.maxpool = nn.MaxPool2d(3, 2, 1)
    else:
      self.conv1 = nn.Conv2d(3, width, 3, 2, 1, bias=False)
      self.maxpool = nn.Identity()
    self.bn1 = nn.BatchNorm2d(width)
    inputs = width
    for i in range(4):
      outputs = width * 2**i
      stage = nn.Sequential(
        Block(inputs, outputs, 1 if i == 0 else 2), Block(outputs, outputs, 1)
      )
      self.add_module(f'layer{i + 1}', stage)
      inputs = outputs
    stride = 32 if case.stem == 'imagenet' else 16
    positions = (case.image_size // stride // 2) ** 2
    self.end = nn.Sequential(
      nn.BatchNorm2d(inputs),
      nn.Conv2d(inputs, case.latent_dim // positions, 2, 2),
    )

  def forward(self, x):
    x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
    x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
    return self.end(x).flatten(1)


def numbers(case):
  """The arrays of one file."""
  model = Encoder(case)
  shapes = {
    name: tuple(value.shape)
    for name, value in model.state_dict().items()
    if not name.endswith('num_batches_tracked')
  }
  state = golden.weights(shapes)
  state = {name: torch.tensor(value) for name, value in state.items()}
  model.load_state_dict(state)
  images = torch.tensor(golden.pictures(case).transpose(0, 3, 1, 2))
  images.requires_grad_()
  model.eval()
  arrays = {'eval/output': model(images).detach().numpy()}
  model.train()
  output = model(images)
  arrays['train/output'] = output.detach().numpy()
  output.backward(torch.tensor(golden.cotangent(case)))
  for name, value in model.named_buffers():
    if 'running' in name:
      arrays[f'stats/{name}'] = value.numpy()
  for name, value in model.named_parameters():
    arrays[f'grad/{name}'] = golden.kept(value.grad.numpy())
  grad = images.grad.numpy().transpose(0, 2, 3, 1)
  return arrays | {'grad/images': golden.kept(grad)}


def main():
  """Writes one file per case."""
  torch.set_default_dtype(torch.float64)
  golden.DIRECTORY.mkdir(exist_ok=True)
  for name, case in golden.CASES.items():
    path = golden.DIRECTORY / f'{name}.npz'
    np.savez_compressed(path, **numbers(case))


if __name__ == '__main__':
  main()
