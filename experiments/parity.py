"""Compares the library with golden numbers of the official PyTorch code.

    python -m experiments.parity tests/parity/data/*.npz

Each file describes one configuration of the set autoencoder (a JSON string
`config`), its parameters under PyTorch names, and the float64 outputs, loss
and gradients of the official code; or, if it holds `dataset_ap`, a benchmark
of average precision. Prints the largest relative error of every file,
max|a - b| / max|b| per array, and exits with 1 if one exceeds --tolerance.
"""
