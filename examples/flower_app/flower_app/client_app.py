"""What a node does: it trains on its own digits, and some nodes flip the labels first."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedsec.attacks import LabelFlip
from fedsec.flower import poisoned
from flower_app import task

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the model that came, and send it back."""
    torch.set_num_threads(1)
    partition_id = int(context.node_config["partition-id"])
    inputs, targets = poisoned(
        context,
        *task.partition(partition_id, int(context.node_config["num-partitions"])),
        attack=LabelFlip(),
        partitions=range(int(context.run_config["flippers"])),
        num_classes=10,
    )
    model = task.make_model()
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    server_round = message.content.config_records["config"]["server-round"]
    seed = 1000 * int(str(server_round)) + partition_id
    loss = task.train(model, inputs, targets, int(context.run_config["local-steps"]), seed)
    metrics = MetricRecord({"num-examples": len(targets), "train-loss": loss})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)
