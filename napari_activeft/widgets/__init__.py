"""What is seen in napari. No logic: what a click means is in `session` and `workflow`."""
