"""From crops to calibrated estimates: how networks are run for answers."""
