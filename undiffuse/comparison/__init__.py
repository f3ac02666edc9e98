"""Several presets trained alike and compared."""
