"""Several presets trained alike on the same data and compared by the same yardsticks."""
