"""GitLab as the platform sets it up and works with it: its state, its runners, its pipelines."""
