"""A code location with one asset of many partitions, each step in a pod of its own; every step notes when it ran."""

import os
import time

import dagster as dg
from dagster_k8s import k8s_job_executor

NUM_PARTITIONS = 200


@dg.asset(partitions_def=dg.StaticPartitionsDefinition([f"p{number:03d}" for number in range(NUM_PARTITIONS)]))
def piece(context: dg.AssetExecutionContext) -> None:
    """One row is one partition: beginning, end and process go into a file that all steps append to."""
    began = time.time()
    time.sleep(0.05)
    line = f"{context.partition_key} {began} {time.time()} {os.getpid()}\n"
    note = os.open(os.environ["KUBESIM_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(note, line.encode())
    os.close(note)


defs = dg.Definitions(
    assets=[piece],
    jobs=[dg.define_asset_job("pieces", selection=[piece])],
    executor=k8s_job_executor,
)
