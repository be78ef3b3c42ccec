"""Runs the benchmarks and writes README.md from what they print: `make bench`, about 50 minutes on two idle cores."""

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CPU = (
    "startup",
    "loss",
    "centroid_pass",
    "training_step",
    "joint_epoch",
    "scaling",
    "growth",
    "data",
    "photos",
    "predict",
    "sweep",
    "features",
)
TEXT = """# Benchmarks

Each file asks one question and prints ratios: both sides are measured in turn in one run, and the table shows the
median and the range. Absolute times mean nothing on another machine. The baselines are fixed in the files, and none is
a test.

| file | question |
| --- | --- |
| `startup.py` | how long until anything happens |
| `loss.py` | the loss against the literal method, and its memory |
| `centroid_pass.py` | what the centroid pass adds to an epoch |
| `training_step.py` | what Lightning adds to a bare loop |
| `joint_epoch.py` | a whole epoch against research-style code |
| `scaling.py` | two ranks against one |
| `growth.py` | time and memory against images, classes, the batch and ranks: fitted exponents, and growth.png |
| `data.py` | the data pipelines against plain ones; `--images FOLDER` for your own JPEG files |
| `photos.py` | large JPEG files against torchvision's loader, and the limit of decoding |
| `predict.py` | predictions of many files against a bare loop, and their memory |
| `sweep.py` | what a sweep adds to the training of its jobs |
| `features.py` | an epoch on stored features against reading them and the matrix products |
| `gpu_loss.py`, `gpu_recipe.py`, `gpu_imagenet.py` | on a GPU: the loss, a full schedule, ImageNet-shaped throughput |

The last run, {date}, by `{command}`; this page is written by it:

```
{output}
```

**On a GPU**: [notes.md](notes.md) has what was measured on an H100. Not measured yet: the loss inside a CUDA graph, and
`gpu_recipe.py` to its end.
{notes}"""


def measured(name: str, *extra: str) -> tuple[list[str], int]:
    """The lines that a benchmark prints, the end of its standard error if it fails, and its exit code."""
    printed: list[str] = []
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            [sys.executable, str(HERE / f"{name}.py"), *extra],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        for text in process.stdout:
            print(text, end="", flush=True)
            printed.append(text.rstrip())
        code = process.wait()
        if code:
            errors.seek(0)
            failure = ["", f"{name}.py FAILED with exit code {code}:", *errors.read().splitlines()[-20:]]
            print(*failure, sep="\n", flush=True)
            printed += failure
    return printed, code


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", help="passed to data.py")
    arguments = parser.parse_args()
    printed: list[str] = []
    failed: list[str] = []
    for name in CPU:
        extra = ["--images", arguments.images] if name == "data" and arguments.images else []
        extra += ["--png", str(HERE / "growth.png")] if name == "growth" else []
        lines, code = measured(name, *extra)
        printed += lines
        failed += [name] if code else []
    notes = HERE / "notes.md"
    page = TEXT.format(
        date=datetime.date.today().isoformat(),
        command="python benchmarks/run.py" + (" --images FOLDER" if arguments.images else ""),
        output="\n".join(printed).strip(),
        notes="\n" + notes.read_text() if notes.exists() else "",
    )
    (HERE / "README.md").write_text(page)
    if failed:
        sys.exit(f"error: {', '.join(failed)} failed: the table says how")
