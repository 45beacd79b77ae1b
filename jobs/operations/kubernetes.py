"""Kubernetes manifests for Ray and for a nightly watch, as plain data: KubeRay's RayCluster and RayJob, and a CronJob.

KubeRay's own RayCronJob is an alpha feature that is off by default and knows no concurrency policy, so a CronJob with
`Forbid` makes the RayJob and waits for its end. Talks to no cluster. The fields are those of `ray.io/v1` (KubeRay 1.5 and
later) and of Kubernetes' own API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONFIG_FOLDER = "/etc/earthloom"
KUBECTL = "registry.k8s.io/kubectl:v1.34.1"
_SPOT = (
    {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
    {"key": "kubernetes.azure.com/scalesetpriority", "operator": "Equal", "value": "spot", "effect": "NoSchedule"},
    {"key": "eks.amazonaws.com/capacityType", "operator": "Equal", "value": "SPOT", "effect": "NoSchedule"},
)
"""Taints under which clouds keep GPU and spot nodes; EKS has none of its own, the last one is the label's name."""
_DEADLINE_S = 20 * 3600
_STORE = {"object-store-memory": "1000000000"}
"""Workers read and write storage themselves; Ray's own share would be a third of the memory, more than /dev/shm has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What a Ray cluster on Kubernetes consists of."""

    image: str
    ray_version: str
    secret: str = "earthloom-storage"
    """Name of the Secret whose keys become environment variables: AWS_ACCESS_KEY_ID and so on."""
    max_workers: int = 8
    gpus: int = 1
    """GPUs of each worker; 0: workers compute on CPUs."""
    cpus: int = 4
    memory: str = "16Gi"


def cluster_spec(cluster: Cluster, mounts: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The `spec` of a RayCluster: a head that computes nothing, and workers that come when there is work for them.

    Args:
        mounts: folder by name of the ConfigMap that is mounted there on the head.
    """
    workers = {"cpu": str(cluster.cpus), "memory": cluster.memory}
    workers |= {"nvidia.com/gpu": str(cluster.gpus)} if cluster.gpus else {}
    return {
        "rayVersion": cluster.ray_version,
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2", "idleTimeoutSeconds": 120, "upscalingMode": "Default",
            "resources": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
            "securityContext": _restricted(),
        },
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0", **_STORE},
            "template": _pod(cluster, "ray-head", {"cpu": "2", "memory": "8Gi"}, mounts or {}, ports=True),
        },
        "workerGroupSpecs": [
            {
                "groupName": "gpu" if cluster.gpus else "cpu", "replicas": 0, "minReplicas": 0,
                "maxReplicas": cluster.max_workers, "rayStartParams": dict(_STORE),
                "template": _pod(cluster, "ray-worker", workers, {}, tolerations=_SPOT),
            }
        ],
    }  # fmt: skip


def ray_cluster(name: str, cluster: Cluster) -> dict[str, Any]:
    """A RayCluster that stays, for runs that people start."""
    return {
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": name}, "spec": cluster_spec(cluster)
    }  # fmt: skip


def ray_job(name: str, cluster: Cluster, entrypoint: str, mounts: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A RayJob with a cluster of its own, which is gone some minutes after its end.

    KubeRay's retries would each start another cluster; what is left is the work of the next night, so there are none.
    """
    return {
        "apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": name},
        "spec": {
            "entrypoint": entrypoint, "submissionMode": "K8sJobMode", "backoffLimit": 0,
            "activeDeadlineSeconds": _DEADLINE_S, "shutdownAfterJobFinishes": True, "ttlSecondsAfterFinished": 300,
            "rayClusterSpec": cluster_spec(cluster, mounts),
        },
    }  # fmt: skip


def nightly(name: str, schedule: str, job: Mapping[str, Any], job_text: str, config_text: str) -> list[dict[str, Any]]:
    """A CronJob that makes a RayJob, unless the one before is still at work, with all that it needs.

    Args:
        name: name of every object that is made.
        schedule: in cron's five fields, UTC.
        job: the RayJob.
        job_text: the same as text.
        config_text: text of the file that is watched.
    """
    kind = f"rayjob/{job['metadata']['name']}"
    wait = ["wait", kind, "--for=jsonpath={.status.endTime}", f"--timeout={_DEADLINE_S + 600}s"]
    judge = ["wait", kind, "--for=jsonpath={.status.jobStatus}=SUCCEEDED", "--timeout=10s"]
    make = ["replace", "--force", "-f", "/job/rayjob.yaml"]
    labels = {"app.kubernetes.io/name": "earthloom", "app.kubernetes.io/instance": name}
    meta = {"name": name, "labels": labels}
    subject = {"kind": "ServiceAccount", "name": name}
    pod = {
        "serviceAccountName": name, "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}
        },
        "volumes": [{"name": "job", "configMap": {"name": name}}],
        "initContainers": [_kubectl("make", make), _kubectl("wait", wait)],
        "containers": [_kubectl("judge", judge)],
    }  # fmt: skip
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta,
         "data": {"watch.toml": config_text, "rayjob.yaml": job_text}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta, "rules": [
            {"apiGroups": ["ray.io"], "resources": ["rayjobs"],
             "verbs": ["get", "list", "watch", "create", "delete", "update", "patch"]},
        ]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta, "subjects": [subject],
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}},
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta, "spec": {
            "schedule": schedule, "timeZone": "Etc/UTC", "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600, "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 7,
            "jobTemplate": {"spec": {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": pod}}},
        }},
    ]  # fmt: skip


def _pod(
    cluster: Cluster, name: str, resources: Mapping[str, str], mounts: Mapping[str, str], *, ports: bool = False,
    tolerations: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:  # fmt: skip
    """A pod without root whose file system cannot be written to, but for scratch space and Ray's shared memory."""
    volumes: list[dict[str, Any]] = [
        {"name": "tmp", "emptyDir": {}}, {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
        *({"name": config, "configMap": {"name": config}} for config in mounts),
    ]  # fmt: skip
    places = [
        {"name": "tmp", "mountPath": "/tmp"}, {"name": "shm", "mountPath": "/dev/shm"},
        *({"name": config, "mountPath": folder, "readOnly": True} for config, folder in mounts.items()),
    ]  # fmt: skip
    named = (("gcs", 6379), ("dashboard", 8265), ("client", 10001), ("metrics", 8080))
    container: dict[str, Any] = {
        "name": name, "image": cluster.image, "securityContext": _restricted(),
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "env": [{"name": "MALLOC_ARENA_MAX", "value": "1"}],
        "envFrom": [{"secretRef": {"name": cluster.secret, "optional": True}}], "volumeMounts": places,
        **({"ports": [{"name": port, "containerPort": number} for port, number in named]} if ports else {}),
    }  # fmt: skip
    return {
        "metadata": {"annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}},
        "spec": {
            "automountServiceAccountToken": ports, "terminationGracePeriodSeconds": 30,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"},
            },
            **({"tolerations": [dict(toleration) for toleration in tolerations]} if tolerations else {}),
            "volumes": volumes, "containers": [container],
        },
    }  # fmt: skip


def _kubectl(name: str, arguments: Sequence[str]) -> dict[str, Any]:
    mount = [{"name": "job", "mountPath": "/job", "readOnly": True}]
    return {
        "name": name, "image": KUBECTL, "command": ["kubectl"], "args": [*arguments], "securityContext": _restricted(),
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}, "volumeMounts": mount,
    }  # fmt: skip


def _restricted() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
