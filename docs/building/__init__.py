"""What Sphinx is taught for these pages: docstrings as they are, and shell blocks that run."""
