"""From a push to a trained model, on any platform with GitLab: the check before a release."""
