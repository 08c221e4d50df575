"""CAD's calibration on the user's own model: its controls are trained and measured, and the verdict rule is stated."""
