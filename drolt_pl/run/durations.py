"""Durations in words."""


def spelt(seconds: float) -> str:
    """`0.4 s`, `41 s`, `6 min 40 s`, `25 min`, `2 h 5 min`."""
    whole = round(seconds)
    if seconds < 1:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
