"""Bounds and densities of a denoiser."""
