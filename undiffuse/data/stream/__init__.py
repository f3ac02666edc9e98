"""Data in many files, or in large ones, of which only what is needed next is in memory."""
