"""From accepted masks to a network: data set, loss, what learns, the loop, the files of a run."""
