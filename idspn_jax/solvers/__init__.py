"""The inner problem `argmin_Y L(Y, z, θ)` and its derivatives; no Flax."""
