"""What a notebook shows of refs, groups of refs and the cluster: models, HTML, widgets and their updates."""
