"""A few lines of Python for each method: how it is made, and how it is called on its own."""

from collections.abc import Callable

from fedsec.plugins.example_scenarios import example_options
from fedsec.plugins.registry import Entry

Code = tuple[dict[str, str], list[str]]
"""Names to import, by the name, from which module; and lines."""

_ROWS = "updates = torch.randn(12, 1000)  # one client's update a row"
_GENERATOR = "generator=torch.Generator().manual_seed(0)"
_LABELS = "labels = torch.randint(10, (40,))  # of the client's examples"
_KNOWLEDGE = "Knowledge(torch.randn(40, 16, 8, 8), torch.randn(40, 10), labels)"


def example_code(entry: Entry, module: str, class_name: str, section: str = "") -> str:
    """A few lines of Python; nothing for kinds that the engine alone calls.

    Args:
        entry: the method.
        module: to import its class from.
        class_name: of its class.
        section: the `Example:` section of its docstring.
    """
    options = example_options(entry, section)
    construction = f"{class_name}({', '.join(f'{name}={value!r}' for name, value in options.items())})"
    if entry.kind in ("dataset", "model"):
        modules, lines = _BY_KIND[entry.kind](entry, construction)
    elif entry.interface in _BY_INTERFACE:
        modules, lines = _BY_INTERFACE[entry.interface](entry, construction)
        modules = {**modules, class_name.partition(".")[0]: module}
    else:
        return ""
    statements = [f"import {name}" for name, source in sorted(modules.items()) if not source]
    if any("torch." in line for line in lines):
        statements.insert(0, "import torch")
    for source in sorted({source for source in modules.values() if source}, key=lambda path: ("fedsec" in path, path)):
        names = sorted((name for name, path in modules.items() if path == source), key=str.casefold)
        statements.append(f"from {source} import {', '.join(names)}")
    return "\n".join([*statements, "", *lines, ""])


def _rule(entry: Entry, construction: str) -> Code:
    context = [
        *([_GENERATOR] if entry.traits.get("draws") else []),
        *(["server_update=torch.randn(1000)"] if entry.traits.get("needs_server_update") else []),
        *(["losses=torch.rand(len(updates))"] if entry.traits.get("needs_losses") else []),
        *(['shapes={"weight": (10, 90), "bias": (100,)}'] if entry.traits.get("needs_shapes") else []),
    ]
    shown = "verdict.influence" + (", verdict.suspected" if entry.traits.get("detects") else "")
    call = f"verdict = {construction}.aggregate({', '.join(['updates', *context])})"
    return {}, [_ROWS, call, f"print(verdict.vector.shape, {shown})"]


def _wrapper(entry: Entry, construction: str) -> Code:
    name, _, arguments = construction.partition("(")
    line = f"verdict = {name}(Median(), {arguments}.aggregate(updates, {_GENERATOR})"
    return {"Median": "fedsec.defenses"}, [_ROWS, line, "print(verdict.vector.shape, verdict.suspected)"]


def _private(entry: Entry, construction: str) -> Code:
    prepare = "rule.prepare(num_clients=12, sample_rate=1.0, rounds=5)"
    return {}, [_ROWS, f"rule = {construction}", prepare, f"print(rule(updates, {_GENERATOR}).shape)"]


def _pre_aggregator(entry: Entry, construction: str) -> Code:
    context = f", {_GENERATOR}" if entry.traits.get("draws") else ""
    lines = [_ROWS, f"rule = Pipeline([{construction}, Median()])", f"print(rule(updates{context}).shape)"]
    return {"Median": "fedsec.defenses", "Pipeline": "fedsec.defenses"}, lines


def _transform(entry: Entry, construction: str) -> Code:
    if not entry.traits.get("needs_client"):
        context = f", {_GENERATOR}" if entry.traits.get("draws") else ""
        return {}, ["update = torch.randn(1000)", f"sent = {construction}(update{context})", "print(sent.shape)"]
    return {"nn": "torch", "ClientSide": "fedsec.defense.updates"}, [
        "model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))",
        "client = ClientSide(model, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 3]))",
        "update = {name: torch.randn_like(entry) for name, entry in model.named_parameters()}",
        f"sent = {construction}(update, client=client)",
        "print({name: int((entry == 0).sum()) for name, entry in sent.items()})",
    ]


def _inspector(entry: Entry, construction: str) -> Code:
    return {"nn": "torch"}, [
        "model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))  # as received",
        "images, labels = torch.rand(20, 1, 8, 8), torch.arange(20) % 10",
        f"inspection = {construction}.inspect(model, images, labels, expected=model)",
        "print(inspection.verdict, *inspection.reasons)",
    ]


def _local(entry: Entry, construction: str) -> Code:
    return {}, [
        "gradients = torch.randn(8, 1000)  # one example's gradient a row",
        "generator = torch.Generator().manual_seed(0)  # of the noise alone",
        f"print({construction}.noisy_mean(gradients, 8, generator).shape)",
    ]


def _data(entry: Entry, construction: str) -> Code:
    has_classes = "classification" in (entry.traits.get("tasks") or ("classification",))
    targets, classes = ("torch.arange(20) % 10", 10) if has_classes else ("torch.randn(20)", None)
    return {}, [
        f"images, targets = torch.rand(20, 1, 16, 16), {targets}",
        "generator = torch.Generator().manual_seed(0)",
        f"attack = {construction}",
        f"images, targets = attack.poison(images, targets, num_classes={classes}, generator=generator)",
    ]


def _updates(entry: Entry, construction: str) -> Code:
    if entry.traits.get("trains"):
        return {}, [f"attack = {construction}  # it trains: the engine gives it the attackers' machines"]
    modules, lines = {"AttackerView": "fedsec.threat"}, ["generator = torch.Generator().manual_seed(0)"]
    known = "12, 2, 1, generator"
    if entry.traits.get("knows_defense"):
        modules |= {"AggregatorTrial": "fedsec.defense", "Median": "fedsec.defenses"}
        known += ", AggregatorTrial(Median(), generator)"
    return modules, [
        "honest, own = torch.randn(10, 1000), torch.randn(2, 1000)  # one client's update a row",
        *lines,
        f"view = AttackerView(own, honest, torch.zeros(1000), {known})",
        f"print({construction}.craft(view).shape, view.report)",
    ]


def _knowledge_attack(entry: Entry, construction: str) -> Code:
    return {"Knowledge": "fedsec.threat"}, [
        _LABELS,
        f"knowledge = {_KNOWLEDGE}",
        "generator = torch.Generator().manual_seed(0)",
        f"sent = {construction}.distort(knowledge, num_classes=10, generator=generator)",
    ]


def _at_the_cut(entry: Entry, construction: str) -> Code:
    return dict.fromkeys(("CutBatch", "PixelScale"), "fedsec.threat"), [
        "draws = torch.Generator().manual_seed(0)",
        "marked = torch.tensor([True, False, False, False])",
        "batch = CutBatch(marked, known=marked.roll(1), scale=PixelScale(), generator=draws)",
        f"attack = {construction}",
        "inputs, gradients = torch.rand(4, 1, 8, 8), torch.randn(4, 16)",
        "print(attack.fed(inputs, batch).shape, attack.learned(gradients, batch))",
    ]


def _knowledge_defense(entry: Entry, construction: str) -> Code:
    return {"Knowledge": "fedsec.threat"}, [
        _LABELS,
        f"clients = [{_KNOWLEDGE} for _ in range(4)]",
        f"admissions = {construction}.admit(clients)",
        "print([float(admission.examples.mean()) for admission in admissions])",
    ]


def _inversion(entry: Entry, construction: str) -> Code:
    modules = {"nn": "torch", "cross_entropy": "torch.nn.functional", "Observation": "fedsec.threat"}
    return modules, [
        "model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))",
        "loss = cross_entropy(model(torch.rand(1, 1, 8, 8)), torch.tensor([3]))",
        "gradient = torch.autograd.grad(loss, model.parameters())",
        "seen = Observation.of_gradient(model, gradient, input_shape=(1, 8, 8), num_classes=10, batch_size=1)",
        f"recovered = {construction}.reconstruct(seen)",
        "print(recovered.labels, None if recovered.images is None else recovered.images.shape)",
    ]


def _feature_inversion(entry: Entry, construction: str) -> Code:
    return {"nn": "torch", "FeatureObservation": "fedsec.threat"}, [
        "extractor = nn.Conv2d(1, 16, 3, padding=1)",
        "features = extractor(torch.rand(2, 1, 8, 8)).detach()",
        "seen = FeatureObservation(extractor, features, (1, 8, 8))",
        f"recovered = {construction}.reconstruct(seen)",
        "print(recovered.images.shape)",
    ]


def _hijacking_server(entry: Entry, construction: str) -> Code:
    return {"nn": "torch", "HijackView": "fedsec.threat"}, [
        "client = nn.Conv2d(1, 4, 3, padding=1)",
        "view = HijackView(nn.Conv2d(1, 4, 3, padding=1), torch.rand(20, 1, 8, 8))",
        f"server = {construction}.begin(view, generator=torch.Generator().manual_seed(0))",
        "sent = client(torch.rand(4, 1, 8, 8)).detach()",
        "answer = server.gradient(sent, generator=torch.Generator().manual_seed(1))",
        "print(answer.shape, server.reconstruct(sent).images.shape)",
    ]


def _text_inversion(entry: Entry, construction: str) -> Code:
    modules = {"build": "fedsec.models", "NextToken": "fedsec.tasks", "TextObservation": "fedsec.threat.texts"}
    return modules, [
        'model = build("char_transformer", (10,), 30)',
        "texts = torch.randint(1, 30, (2, 11))  # the client's, and what follows at each place",
        "loss = NextToken(30).losses(model(texts[:, :-1].float()), texts[:, 1:]).mean()",
        "gradient = torch.autograd.grad(loss, list(model.parameters()))",
        "seen = TextObservation.of_gradient(model, gradient, length=10, num_tokens=30, batch_size=2)",
        f"recovered = {construction}.reconstruct(seen)",
        "print(recovered.token_set, recovered.tokens)",
    ]


def _malicious_server(entry: Entry, construction: str) -> Code:
    modules = {"cross_entropy": "torch.nn.functional", "build": "fedsec.models"}
    return modules | dict.fromkeys(("Observation", "ServerView"), "fedsec.threat"), [
        f"server = {construction}",
        "images, labels = torch.rand(4, 1, 8, 8), torch.tensor([3, 1, 4, 1])  # the client's",
        "knowledge = dict(auxiliary=torch.rand(40, 1, 8, 8), auxiliary_labels=torch.arange(40) % 10)",
        'crafted = server.craft(ServerView(build("mlp", (1, 8, 8), 10), (1, 8, 8), 10, batch_size=4, **knowledge))',
        "loss = cross_entropy(crafted(images), labels)",
        "gradient = torch.autograd.grad(loss, list(crafted.parameters()))  # what the client sends",
        "seen = Observation.of_gradient(crafted, gradient, input_shape=(1, 8, 8), num_classes=10, batch_size=4)",
        "recovered = server.reconstruct(seen)",
        "print(recovered.images.shape, recovered.notes)",
    ]


def _membership(entry: Entry, construction: str) -> Code:
    modules = dict.fromkeys(("GradientProducts", "MembershipView", "ShadowModels"), "fedsec.threat")
    return modules, [
        "hardness, members = torch.randn(200), torch.arange(200) < 100  # whom the observer must tell from the rest",
        "seen = hardness + members * torch.tensor([[1.0], [2.0], [3.0]]) + torch.randn(3, 200)  # after three rounds",
        "inside = torch.rand(16, 200).argsort(0) < 8  # 8 of 16 shadow models were trained on each example",
        "shadows = ShadowModels(hardness + 3 * inside + torch.randn(16, 200), inside, torch.randn(16, 300))",
        "updates = GradientProducts(members + torch.randn(3, 200), torch.ones(3, 200), torch.ones(3))",
        "view = MembershipView(seen, (1, 2, 3), shadows, torch.randn(300), updates)",
        f"scores = {construction}.infer(view)",
        "print(scores[members].mean(), scores[~members].mean())",
    ]


def _property(entry: Entry, construction: str) -> Code:
    modules = {"nn": "torch", "cross_entropy": "torch.nn.functional"}
    return {**modules, "Observation": "fedsec.threat", "PropertyView": "fedsec.threat"}, [
        "model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))  # as two clients received it, of one class each",
        "images, labels = torch.rand(2, 8, 1, 8, 8), torch.tensor([[0] * 8, [2] * 8])",
        "losses = [cross_entropy(model(own), of) for own, of in zip(images, labels, strict=True)]",
        "sent = [torch.autograd.grad(loss, list(model.parameters())) for loss in losses]",
        "knowledge = dict(input_shape=(1, 8, 8), num_classes=10, batch_size=8)",
        "seen = [Observation.of_gradient(model, gradient, **knowledge) for gradient in sent]",
        "updates = torch.stack([torch.cat([part.flatten() for part in gradient]) for gradient in sent])",
        "view = PropertyView(updates, 10, updates, torch.tensor([0, 2]), seen)",
        f"print({construction}.most_likely(view))",
    ]


def _labels_at_cut(entry: Entry, construction: str) -> Code:
    views, own, more = ["LabelView"], [], ""
    if "adapt=True" in construction:  # then it trains the party's part of the network further
        views, more = ["LabelView", "OwnPart"], ", own"
        own = [
            "part, images = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 6)), torch.rand(40, 1, 8, 8)",
            "own = OwnPart(part, images[:32], images[32:])",
        ]
    return dict.fromkeys(views, "fedsec.threat"), [
        "labels = torch.arange(40) % 2  # which the party does not know, but for the last eight",
        "gradients = torch.randn(2, 6)[labels] * (1 + labels[:, None]) + 0.1 * torch.randn(40, 6)",
        "activations = torch.randn(2, 6)[labels] + 0.1 * torch.randn(40, 6)",
        *own,
        f"view = LabelView(gradients[:32], activations[:32], 2, gradients[32:], activations[32:], labels[32:]{more})",
        f"print({construction}.infer(view))",
    ]


def _at_cut(entry: Entry, construction: str) -> Code:
    return {}, [
        "gradients, labels = torch.randn(8, 6), torch.arange(8) % 2",
        f"defense = {construction}",
        "sent = defense.passed_on(gradients, labels, torch.Generator().manual_seed(0))",
        "print(sent.shape, defense.penalize(torch.rand(8, 16), torch.randn(8, 6)))",
    ]


def _model(entry: Entry, construction: str) -> Code:
    shape = "(3, 32, 32)" if entry.name != "linear" else "(10,)"
    if "next_token" in entry.traits.get("tasks", ()):
        shape = "(80,)"
    return {"build": "fedsec.models"}, [f'model = build("{entry.name}", {shape}, 10)']


def _dataset(entry: Entry, construction: str) -> Code:
    return {"load": "fedsec.data"}, [f'dataset = load("{entry.name}")', "print(len(dataset.train))"]


_BY_KIND: dict[str, Callable[[Entry, str], Code]] = {"dataset": _dataset, "model": _model}
_BY_INTERFACE: dict[str, Callable[[Entry, str], Code]] = {
    "DataPoisoning": _data,
    "UpdatePoisoning": _updates,
    "KnowledgePoisoning": _knowledge_attack,
    "ActivationPoisoning": _at_the_cut,
    "Inversion": _inversion,
    "FeatureInversion": _feature_inversion,
    "HijackingServer": _hijacking_server,
    "TextInversion": _text_inversion,
    "MaliciousServer": _malicious_server,
    "MembershipInference": _membership,
    "PropertyInference": _property,
    "LabelInference": _labels_at_cut,
    "Aggregator": _rule,
    "RuleWrapper": _wrapper,
    "PrivateAggregator": _private,
    "PreAggregator": _pre_aggregator,
    "UpdateTransform": _transform,
    "ModelInspector": _inspector,
    "LocalDefense": _local,
    "KnowledgeDefense": _knowledge_defense,
    "ActivationDefense": _at_cut,
}
