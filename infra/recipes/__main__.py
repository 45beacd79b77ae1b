"""`python -m infra.recipes NAME --data DIR --out FOLDER`: lay out a recipe's data and its file, and train it.

FOLDER then holds NAME.toml with all that it names, and `earthloom train FOLDER/NAME.toml` goes on with it; the model is
FOLDER/model. The bytes that come out depend on the machine's kind, beside the recipe.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from earthloom.jobs.command import main as earthloom
from earthloom.tiling.errors import EarthloomError
from infra.recipes.pretrained import write_lite0, write_lite0_classifier
from infra.recipes.shipped import LAY_OUTS


def lay_out(name: str, data: Path, folder: Path) -> Path:
    """Put the recipe's file, its data and its first weights into a folder, and return the file.

    Raises:
        MissingObjectError: naming the data that is absent.
        CardError: if the first weights cannot be fetched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    LAY_OUTS[name](data, folder)
    file = folder / f"{name}.toml"
    shutil.copyfile(Path(__file__).with_name(file.name), file)
    learned = {"lite0.safetensors": write_lite0, "lite0-classifier.safetensors": write_lite0_classifier}
    for first, write in learned.items():
        if f"/{first}" in file.read_text("utf-8") and not (folder / first).is_file():
            write(folder / first)
    return file


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.recipes", description="Train a model by its recipe.")
    parser.add_argument("name", choices=sorted(LAY_OUTS))
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the recipe's folder of data")
    parser.add_argument("--out", type=Path, required=True, help="folder for the file, its data and the model")
    parser.add_argument("--lay-out", action="store_true", help="only write the file and its data")
    options = parser.parse_args(arguments)
    try:
        file = lay_out(options.name, options.data, options.out)
    except EarthloomError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(file)
    if not options.lay_out:
        earthloom(["train", str(file)])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
