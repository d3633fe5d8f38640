"""A gitlab-runner for the tests, built from the runner's own source."""
