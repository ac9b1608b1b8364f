"""fedsec's local training engines with its mean."""

from importlib.metadata import version

import numpy as np
import torch
from workload import BATCH, CLASSES, LR, MOMENTUM, STEPS, Clock, Workload, arguments, report, run_rounds

from fedsec.data import normalization
from fedsec.data.datasets import Split
from fedsec.defenses import Mean
from fedsec.engine import BatchPlan, CohortTrainer, LocalTraining, ResidentData, Start
from fedsec.engine.allocator import tune_allocator
from fedsec.models import build


def main() -> None:
    parser = arguments()
    parser.add_argument("--engine", required=True)
    options = parser.parse_args()
    clock = Clock(options.warmup)
    tune_allocator()  # as every fedsec worker process does
    torch.set_num_threads(options.threads)
    workload = Workload.read(options.data)
    module = build("cnn", (1, 28, 28), CLASSES, activation="sigmoid")
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), workload.parameters, strict=True):
            parameter.copy_(value)

    split = Split(workload.raw.flatten(0, 1), workload.labels.flatten())
    clients = np.arange(len(split.labels)).reshape(len(workload.labels), -1)
    data = ResidentData.build(split, list(clients), normalization("unit"), torch.device("cpu"))
    trainer = CohortTrainer(module, data, engine=options.engine, threads=options.threads)
    local = LocalTraining(steps=STEPS, batch_size=BATCH, lr=LR, momentum=MOMENTUM)
    start = trainer.start(module)
    server = start.parameters.clone()
    mean = Mean()

    def one_round() -> None:
        plans = [BatchPlan(examples.reshape(STEPS, BATCH), np.full(STEPS, BATCH)) for examples in data.clients]
        server.add_(mean(trainer.train(Start(server, start.statistics), plans, local).updates))

    run_rounds(options, clock, one_round)
    shapes = [parameter.shape for parameter in module.parameters()]
    parts = server.split([shape.numel() for shape in shapes])
    parameters = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
    report(options.out, workload, clock, parameters, {"fedsec": version("fedsec")})


if __name__ == "__main__":
    main()
