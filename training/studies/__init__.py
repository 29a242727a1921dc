"""Commands that study a trained network: robustness, stability over time, number formats, failures."""
