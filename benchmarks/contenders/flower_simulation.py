"""Flower's simulation on Ray: one worker process a core, each with one thread, and its FedAvg strategy."""

import os
from importlib.metadata import version

os.environ.update(FLWR_TELEMETRY_ENABLED="0", RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")

import torch
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from workload import CLIENTS, Clock, Workload, arguments, report


def main() -> None:
    options = arguments().parse_args()
    clock = Clock(options.warmup)
    os.environ["WORKLOAD_DATA"] = str(options.data.resolve())
    from flower_client import client_app

    torch.set_num_threads(1)
    workload = Workload.read(options.data)
    server = ServerApp()

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        def after(number: int, arrays: ArrayRecord) -> None:
            if number:  # it is also called before the first round
                clock.lap()

        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=CLIENTS, min_available_nodes=CLIENTS)
        result = strategy.start(
            grid,
            ArrayRecord(workload.model().state_dict()),
            num_rounds=options.warmup + options.rounds,
            evaluate_fn=after,
        )
        parameters = list(result.arrays.to_torch_state_dict().values())
        report(options.out, workload, clock, parameters, {"flwr": version("flwr"), "ray": version("ray")})

    run_simulation(
        server,
        client_app,
        num_supernodes=CLIENTS,
        backend_config={
            "init_args": {"num_cpus": options.threads, "num_gpus": 0, "log_to_driver": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )


if __name__ == "__main__":
    main()
