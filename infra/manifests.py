"""Writes the Kubernetes manifests below infra/kubernetes, by the code that makes those of `earthloom schedule`.

python -m infra.manifests
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from earthloom.jobs.operations.kubernetes import Cluster, ray_cluster, ray_job
from earthloom.jobs.operations.schedule import ScheduleConfig, render, to_yaml
from earthloom.jobs.operations.watched import read_watched

FOLDER = Path(__file__).parent / "kubernetes"
IMAGE = "registry.example.com/earthloom:cuda"
_NIGHTLY = "infra/kubernetes/nightly.toml"
_JOB = "python -m earthloom run s3://scenes/2026/ --model landwater --sensor sentinel2-l2a --out s3://maps"


def manifests() -> dict[str, str]:
    """The text of each file, by its name."""
    cluster = Cluster(image=IMAGE, ray_version=version("ray"))
    secret = f"# Needs KubeRay, and a Secret {cluster.secret!r} with the AWS_* names. `image` is where your registry has it.\n"
    config = ScheduleConfig(file=_NIGHTLY, kind="kubernetes", at="02:30", image=IMAGE)
    return {
        "raycluster.yaml": secret + to_yaml(ray_cluster("earthloom", cluster)),
        "rayjob.yaml": secret + to_yaml(ray_job("earthloom-once", cluster, _JOB)),
        "nightly.yaml": render(config, read_watched(_NIGHTLY, None, {})),
    }


def main() -> None:
    """Write them."""
    for name, text in manifests().items():
        (FOLDER / name).write_text(text)
        print(FOLDER / name)


if __name__ == "__main__":
    main()
