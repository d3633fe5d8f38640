"""Pipelines: what ``.gitlab-ci.yml`` says, what is made of it and how it runs."""
