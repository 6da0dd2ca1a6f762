"""From slices to one float32 vector each, on disk, resumable: the third step of the walk.

`engine.embed` runs an encoder over the slices that have no vector yet; `feature_file` keeps what
is done; `pictures` brings slices to the encoder's size; the other files are one encoder each.
"""
