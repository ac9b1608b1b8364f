"""FedAvg as most research code writes it: one model, one client after another, eager PyTorch."""

import torch
from torch.nn import functional as F
from workload import BATCH, LR, MOMENTUM, Clock, Workload, arguments, report, run_rounds


def main() -> None:
    options = arguments().parse_args()
    clock = Clock(options.warmup)
    torch.set_num_threads(options.threads)
    workload = Workload.read(options.data)
    model = workload.model()
    server = [parameter.detach().clone() for parameter in model.parameters()]
    pairs = zip(workload.images, workload.labels, strict=True)
    clients = [list(zip(images.split(BATCH), labels.split(BATCH), strict=True)) for images, labels in pairs]

    def one_round() -> None:
        total = [torch.zeros_like(value) for value in server]
        for batches in clients:
            with torch.no_grad():
                for parameter, value in zip(model.parameters(), server, strict=True):
                    parameter.copy_(value)
            optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
            for images, labels in batches:
                optimizer.zero_grad()
                F.cross_entropy(model(images), labels).backward()
                optimizer.step()
            with torch.no_grad():
                for sum_, parameter in zip(total, model.parameters(), strict=True):
                    sum_ += parameter
        for value, sum_ in zip(server, total, strict=True):
            value.copy_(sum_ / len(clients))

    run_rounds(options, clock, one_round)
    report(options.out, workload, clock, server, {})


if __name__ == "__main__":
    main()
