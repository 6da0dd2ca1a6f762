"""Choose the few slices worth annotating, label them, fine-tune a segmentation network, repeat.

Importing the package is cheap: torch, napari and SQLAlchemy load where they are used.
"""

__version__ = "0.1.0"
