"""Tags and scores that a model gives to rows, and the calibration of tags."""
