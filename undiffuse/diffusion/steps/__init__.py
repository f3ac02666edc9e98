"""Sampling steps."""
