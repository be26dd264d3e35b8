"""A stand-in for a Kubernetes cluster, for tests only: an API server over real HTTP, controllers, and a kubelet that runs each
pod's command as a local process. What it does not have is listed in docs/kubernetes-training.md.
"""

from tests.kubesim.cluster import KubeSim

__all__ = ["KubeSim"]
