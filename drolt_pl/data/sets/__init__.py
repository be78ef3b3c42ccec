"""Where the images of each data set are."""
