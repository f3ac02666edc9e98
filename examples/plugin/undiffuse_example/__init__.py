"""A sampling step and two loggers for undiffuse."""
