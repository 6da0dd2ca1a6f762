"""The experiment: labels that are there already act as the annotator.

For every selector, budget, seed and network some slices are chosen, a network is trained on them by
one recipe, and cases that it never saw are predicted and measured. One such training is a cell;
cells that build on each other (the rounds of one budget) make a chain. The project's store is only
read.

``plan``      which chains there are, and what tells them apart
``material``  slices, vectors, label maps, and which cases are tested
``choice``    what a selector takes, in memory
``cells``     what is known of a cell, and the tables that hold cells
``chain``     choose, train, predict, measure
``running``   all chains, one process or several side by side in one folder
``curves``    what cells come to, with intervals
``study``     the protocol of the older study, and all that differs from ours
"""
