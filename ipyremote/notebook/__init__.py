"""The Jupyter layer: what `%load_ext ipyremote` adds to a notebook. The only package that imports IPython and widgets.

extension       loading and unloading: events, formatters, magics, completion, the cluster card
configuration   the traits of `%config IPyRemote`
magics          `%%remote`, `%remote_status` and the other magics
autoreload      edited modules are reloaded in workers, too
views           `progress`, `dashboard` and `timeline` of the public API
cells/          a `%%remote` cell from its text to a submitted task
display/        refs, boards of refs, the cluster card and dashboards on screen
output/         text and errors of tasks, shown below the cell that started them
static/         the JavaScript and the style sheet of the widget
"""
