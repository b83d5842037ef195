"""One file per experiment of the paper, behind the interface in `task`."""
