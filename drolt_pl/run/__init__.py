"""One run: assembled, trained, recorded, resumed."""
