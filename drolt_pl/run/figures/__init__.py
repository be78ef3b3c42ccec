"""The figures of `drolt figure`: which runs each is made of, its measurement, and its drawing."""
