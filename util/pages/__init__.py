"""Web pages made from JSON manifests: the result page of a test and the page of a running training."""
