"""Training on Kubernetes: manifests, the launcher beside Dagster, and what runs inside the pods."""
