"""Commands that look into a trained network: robustness, steadiness over time, number formats, failures."""
