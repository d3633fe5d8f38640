"""A double of GitLab for the tests: container, API, runner coordinator, Git and registry."""
