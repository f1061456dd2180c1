"""The Jupyter layer: what `%load_ext ipyremote` adds to a notebook. The only package that knows IPython and widgets.

extension   load and unload: configuration, events, formatters, magics, the cluster card
magics      %%remote and %remote_status;  capture: which names a cell reads
outputs     text of tasks, under the cell that asked;  outlet: the ways out of this process
live        what is on screen;  models: what is known of it;  views: snapshots to HTML;  records: what tasks say
shown       one display;  publisher: what is sent of it;  clicks: what buttons do;  grid: the cells of a board
dashboard   the cluster as it goes on;  panels: its HTML;  timeline: Chrome traces
waits       a `get` that takes long;  textbar: the same in a terminal;  entrances: progress, dashboard, timeline
widgets     the live form of a display;  pages: how long a widget lives
updater     the thread that does what need not, or must not, happen in the user's cell
"""
