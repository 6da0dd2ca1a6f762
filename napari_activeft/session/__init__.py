"""An annotator's work on slices, without a window: strokes, undo, the journal, the time it takes.

``strokes``         what one stroke changed, and its bytes in the journal
``drawing``         the mask of one slice while it is drawn: undo, redo, recovery
``journal_writer``  puts strokes onto the disk, out of the way of whoever draws
``task_clock``      time on task, pauses excluded
``labelling``       a query from its lease to its answer
``volume_work``     one volume on the desk: which strokes count, one undo for all its slices
``edits``           which slices an edit in the viewer touched
``ahead``           volumes read before they are asked for
``review_list``     proposals and masks that wait for a second opinion
``tally``           what is labelled so far, and how long that takes
``seat``            one session at a time for each annotator
``sitting``         an annotator at an open project, with all of these
"""
