"""What Sphinx is taught for these pages: docstrings as they are written, and shell blocks that run."""
