"""Pictures of a test and of an experiment: a web page, an image, a terminal plot, a file for Flent."""
