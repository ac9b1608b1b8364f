"""Flower's client side; a module of its own, so that Ray's workers import it once and keep the data in memory."""

import os
from functools import cache
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn
from torch.nn import functional as F
from workload import BATCH, LR, MOMENTUM, Workload, build_model

client_app = ClientApp()


@cache
def resident() -> tuple[Workload, nn.Sequential]:
    """Data and model, once in each worker process."""
    torch.set_num_threads(1)
    return Workload.read(Path(os.environ["WORKLOAD_DATA"])), build_model()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Ten steps from the server's parameters."""
    workload, model = resident()
    client = int(context.node_config["partition-id"])
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    images, labels = workload.images[client], workload.labels[client]
    for batch, target in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        optimizer.zero_grad()
        F.cross_entropy(model(batch), target).backward()
        optimizer.step()
    content = {
        "arrays": ArrayRecord(model.state_dict()),
        "metrics": MetricRecord({"num-examples": len(labels)}),
    }
    return Message(content=RecordDict(content), reply_to=message)
