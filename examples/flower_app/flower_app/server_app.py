"""What the server does: an ordinary ServerApp, but for the line that makes the strategy."""

import json
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from fedsec.defense import aggregate_state_dicts
from fedsec.flower import Received, RobustStrategy
from flower_app import task

app = ServerApp()


def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Test the model at the server."""
    return MetricRecord({"accuracy": task.accuracy(arrays.to_torch_state_dict())})


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train for some rounds."""
    torch.set_num_threads(1)
    config, nodes = context.run_config, int(context.run_config["nodes"])
    instead: list[float] = []

    def try_the_mean(received: Received) -> None:
        """What a mean of the same replies would have given."""
        states = list(received.replies.values())
        instead.append(task.accuracy(aggregate_state_dicts(states, "mean", reference=received.sent).state_dict))

    strategy = RobustStrategy(
        str(config["rule"]),
        observers=[try_the_mean],
        fraction_evaluate=0.0,
        min_train_nodes=nodes,
        min_available_nodes=nodes,
    )
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(task.make_model().state_dict()),
        num_rounds=int(config["rounds"]),
        evaluate_fn=evaluate,
    )
    accuracies = [float(str(metrics["accuracy"])) for metrics in result.evaluate_metrics_serverapp.values()]
    print(f"accuracy, from the untrained model on: {accuracies}; of a mean instead: {instead}")
    if config["report"]:
        Path(str(config["report"])).write_text(json.dumps({"accuracy": accuracies, "mean_instead": instead}))
