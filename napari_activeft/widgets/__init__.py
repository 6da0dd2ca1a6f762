"""What is seen in napari: panels that show the project and call what computes, no logic in them.

``session_dock``   the dock widget: the panels in the order of the work
``session_state``  the open project, shared by the panels
``desk``           the volume that is being labelled, as layers of the viewer
``*_panel``        one step of the work each
"""
