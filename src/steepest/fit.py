"""`fit`: a run with the usual company of evaluation, progress, an event file, checkpoints and signals."""

import secrets
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter, time as now
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from steepest import events, pilot
from steepest.data import Source, open_source, to_device
from steepest.doctor.attended import Attended, keep
from steepest.doctor.examine import describe
from steepest.doctor.repair import Repair
from steepest.loggers import Loggers
from steepest.loop import Factor, Loss, Run, checks, settings
from steepest.loop.about import About
from steepest.loop.budget import Budget, budget_of
from steepest.loop.evaluate import Metrics
from steepest.loop.event_file import EventFile
from steepest.loop.folder import Folder
from steepest.loop.guard import Guard
from steepest.loop.journal import Journal
from steepest.loop.precision import Precision, check_precision
from steepest.loop.run import place
from steepest.loop.saving import Saving
from steepest.loop.sitting import Evaluation, Scores, Sitting, words
from steepest.pilot.company import Company
from steepest.record import Finding, Plan
from steepest.report.terminal import screen
from steepest.snapshot import only_deterministic, same_random_state_after, seed_everything

TOLD = (
    "steps", "epochs", "time", "batch_size", "seed", "clip", "precision", "compile", "deterministic", "workers",
    "microbatch", "checkpoint_activations", "evaluate_every", "patience",
)  # fmt: skip
"""Settings that are written down, and compared when a run goes on."""


@dataclass
class Result:
    """A trained model and what is known about its training.

    model: with the weights that evaluation sees, which is their mean where one is kept.
    status: "finished", "stopped" by patience, "interrupted" by Ctrl-C, or "terminated" by SIGTERM. steps: updates done;
    skipped: how many of them were not made because the loss was not finite. history: rows as
    `steepest.loop.journal.Journal` describes them. plan: None when the optimizer was given. best: the checkpoint with
    the lowest loss on val, None without val or out. noise_scale: the batch, in samples, from which larger ones begin to
    be wasted (McCandlish et al. 2018), as the end of the run has it; None when it was not read. findings: of the
    doctor, best first; repairs: those that were made, also where they were undone.
    """

    model: nn.Module
    plan: Plan | None
    history: list[dict[str, Any]]
    out: Path | None
    status: str
    steps: int
    skipped: int
    seconds: float
    best: Path | None = None
    noise_scale: float | None = None
    findings: list[Finding] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)

    def last(self, name: str) -> float:
        """Return the newest value of a number in the history, as "val/loss"."""
        for row in reversed(self.history):
            if name in row:
                return row[name]
        names = sorted({key for row in self.history for key in row})
        raise KeyError(f"The history holds no {name!r}; it holds {', '.join(names)}.")

    def __repr__(self) -> str:
        numbers = words(self.history[-1]) if self.history else "no history"
        return f"Result({self.status}, {self.steps} steps in {self.seconds:.1f} s, {numbers})"


def fit(  # noqa: PLR0913
    model: nn.Module,
    loss: Loss,
    data: Any,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    time: str | float | None = None,
    val: Any = None,
    metrics: Metrics | None = None,
    evaluate_every: int | None = None,
    patience: int | None = None,
    plan: Plan | None = None,
    optimizer: Optimizer | None = None,
    schedule: Factor | None = None,
    batch_size: int = 32,
    microbatch: int | str | None = None,
    precision: str = "float32",
    clip: float | None = None,
    checkpoint_activations: bool | str = False,
    compile: bool = False,
    deterministic: bool = False,
    seed: int = 0,
    workers: int = 0,
    device: str | torch.device | None = None,
    out: str | Path | None = None,
    checkpoint_every: int | None = None,
    keep: int = 2,
    resume: str = "auto",
    repair: str | None = None,
    log: Any = True,
) -> Result:
    """Train the model and return it with what is known about its training.

    loss: loss(model, batch) -> a scalar tensor, or a dict of numbers with the key "loss"; see `steepest.Run`.
    data: arrays or tensors, a Dataset, a DataLoader or another iterable of batches, the path of a Parquet or text file.
    steps, epochs, time ("30m", evaluations and checkpoints included): the budget, one of the three. None of them: the
    run is open. Its rate stays, its weights are averaged over the last tenth of the steps, and it ends with a decay of
    the rate to zero: at the first Ctrl-C or SIGTERM, or when patience is at its end, over a tenth of the steps done; or
    when the same call comes again with steps=, which is where the decay then ends.
    val: data of the same kinds, evaluated ten times in the run and at its end, in an open one whenever its steps have
    grown by a tenth, each time one pass; evaluate_every: in steps, instead. metrics: name -> function(model, batch),
    averaged over val; each costs what it computes. patience: stop after so many evaluations without a lower loss.
    optimizer: None: the pilot chooses rule, rate, units and schedule; what it measures for that counts as steps, and
    the result holds its plan. plan: such a plan, as `steepest.plan` makes it, to train by without measuring.
    schedule: schedule(step, steps) -> factor of the rate, for an optimizer that is given.
    batch_size: rows or samples in an update, where the data is not in batches already. microbatch: how many of them go
    through the model at once, a number or "auto": as many as fit into memory; the update stays the same.
    precision: "float32", "bf16", "fp16", or "bf16-true" (bfloat16 weights).
    clip: the largest norm that the gradient may have; costs one pass over the gradients.
    checkpoint_activations: True: recompute those of repeated blocks, for less memory and one more forward pass.
    compile: compile the model once with torch.compile. deterministic: use only operators that give the same numbers
    each time; one that cannot raises an error with its name.
    seed: of the data's order and of every random number generator; they are set when training begins.
    workers: processes that read the data. device: where to train; None: where the model is.
    out: a folder for `events.jsonl`, `plan.json` and `checkpoints/`. checkpoint_every: in steps; None: every five
    minutes. The last `keep` checkpoints and the best are kept. resume: "auto": go on exactly from the newest sound
    checkpoint in `out`; "never": refuse a folder that holds a run.
    repair: "off": the doctor watches, and says what goes wrong and why (`result.findings`, and `incidents/` in `out`);
    it repairs nothing. It costs a look at each step, and replays where training does not go well. "auto": what a replay
    proves to help is done, for an optimizer that is given, and undone if it does not help after all
    (`result.repairs`); "ask": the same, after a question at the terminal. None: nobody watches.
    log: show progress; or where else to write numbers: "tensorboard", "wandb", "mlflow", "trackio", a function(row), or
    a list of these; False: show nothing.

    Ctrl-C, and SIGTERM, end training after the current step, saved if there is `out`; a second one ends at once. (Of
    an open run the first one begins the decay, and all else comes one later.)
    """
    asked = SimpleNamespace(**locals())
    _check(asked)
    seed_everything(seed)
    place(model, device)
    with ExitStack() as stack:
        if deterministic:
            stack.enter_context(only_deterministic())
        early: list[str] = []  # what there is to say before there is a screen
        folder = None if out is None else Folder.open(Path(out), keep, resume, stack, early.append)
        source = stack.enter_context(closing(open_source(data, batch_size, seed, workers)))
        run, company, attended = _run(asked, source, folder)
        stack.callback(run.close)
        if attended is not None:
            stack.callback(attended.close)
        evaluation = None
        if val is not None:
            looked_at = stack.enter_context(closing(open_source(val, batch_size, None, workers)))
            evaluation = Evaluation(looked_at, metrics or {}, evaluate_every, patience)
        plan = None if company is None else company.plan
        about = About(plan, {name: getattr(asked, name) for name in TOLD}, settings.hyper_parameters(run.optimizer))
        view = stack.enter_context(screen(run, bool(log)))
        run.say_with(view.say)
        for sentence in early:
            view.say(sentence)
        file = None if folder is None else stack.enter_context(EventFile(folder.path, view.say))
        saving = None if folder is None else Saving(run, folder.checkpoints, checkpoint_every, lambda: about.facts(run))
        start = about.start(run, secrets.token_hex(8) if folder is None else folder.checkpoints.run)
        sitting = Sitting(run, Journal(run, start, file), view, evaluation, saving)
        if attended is not None:
            attended.told = attended.mended = _teller(sitting, folder, file)
            attended.join(run, repair or "off")
            sitting.journal.listeners.append(attended.hear)
        result = _sit(sitting, folder, about, company, log)
        return result if attended is None else replace(result, findings=attended.findings, repairs=attended.repairs)


def _teller(sitting: Sitting, folder: Folder | None, file: EventFile | None) -> Callable[[Finding | Repair], None]:
    """Return what tells of a finding, or of a repair: to the user, in the event file, and as an incident."""

    def tell(found: Finding | Repair) -> None:
        if isinstance(found, Repair):
            sitting.view.say(str(found))
            if file is not None:
                file.write({"event": "repair", "time": round(now(), 3), **asdict(found)})
        else:
            sitting.view.say("\n".join(describe(found)))
            sitting.journal.finding(asdict(found))
        if folder is not None:
            try:
                keep(found, folder.path)
            except OSError as error:
                sitting.view.say(f"the incident was not written: {error}")

    return tell


def _check(asked: SimpleNamespace) -> None:
    """Refuse what cannot be, before anything is done."""
    checks.check_model(asked.model)
    checks.check_loss_function(asked.loss)
    checks.check_resume(asked.resume)
    checks.check_repair(asked.repair)
    if asked.schedule is not None and asked.optimizer is None:
        raise ValueError("schedule= goes with optimizer=; without one the pilot chooses both.")
    if asked.plan is not None and asked.optimizer is not None:
        raise ValueError("plan= is in place of optimizer=; received both.")
    checks.check_seed(asked.seed)
    check_precision(asked.precision)
    checks.check_evaluation(asked.val, asked.evaluate_every, asked.patience)
    checks.check_metrics(asked.metrics, asked.val)


def _run(asked: SimpleNamespace, source: Source, folder: Folder | None) -> tuple[Run, Company | None, Attended | None]:
    """Return the run, set up by a plan where no optimizer was given, what goes with it then, and who watches."""
    budget = budget_of(asked.steps, asked.epochs, asked.time, source.batches)
    if folder is not None and folder.found is not None:
        budget = _as_it_began(budget, folder)
    optimizer, schedule, company = asked.optimizer, asked.schedule, None
    if optimizer is None:
        plan = asked.plan or (folder and folder.plan()) or _measured(asked, source, budget)
        _check_plan(plan, budget)
        company = Company(plan, pilot.build(asked.model, plan), source)
        optimizer, schedule, source = company.choice.optimizer, company.choice.schedule, company.source
        if folder is None or folder.found is None:
            company.choice.begin()
        if asked.plan is None:
            budget = budget.without(plan.spent)
    attended = None
    if asked.repair is not None:
        source = attended = Attended(source, asked.model, optimizer, asked.loss)
    run = Run(
        asked.model, asked.loss, source, optimizer=optimizer, steps=budget.steps, time=budget.seconds,
        schedule=schedule, microbatch=asked.microbatch, precision=asked.precision, clip=asked.clip,
        checkpoint_activations=asked.checkpoint_activations, compile=asked.compile, seed=asked.seed,
    )  # fmt: skip
    if company is not None:
        company.join(run)
        run.guard = Guard(run.gradient, run.optimizer, run.average)
    return run, company, attended


def _check_plan(plan: Plan, budget: Budget) -> None:
    """Raise ValueError for the plan of a run with a budget where there is none, and the other way round."""
    if plan.settings.get("open", False) != budget.open:
        made, make = ("without", "with steps=") if not budget.open else ("with", "without steps=")
        raise ValueError(f"The plan was made for a run {made} a budget, which this one is not; make it {make}.")


def _as_it_began(budget: Budget, folder: Folder) -> Budget:
    """Return the budget that the run in a folder is taken up with: none where it began with none, whatever is asked."""
    if not folder.is_open():
        if budget.open:
            raise ValueError(f"The run in {folder.path} began with a budget; give it steps=, epochs= or time= again.")
        return budget
    if budget.seconds is not None:
        raise ValueError(f"The run in {folder.path} began without a budget; end it by steps= or epochs=, not by time=.")
    return Budget()


def _measured(asked: SimpleNamespace, source: Source, budget: Budget) -> Plan:
    """Have the pilot measure the model on the first batches of the run."""
    device = next(asked.model.parameters(), torch.zeros(())).device
    rounding = "kahan" if asked.precision == "bf16-true" else "nearest"
    forward = Precision(asked.precision, device).forward
    with same_random_state_after():
        moved = (to_device(batch, device) for batch in source.epoch(0))
        return pilot.measure(asked.model, asked.loss, moved, budget.length, rounding=rounding, forward=forward)


def _sit(sitting: Sitting, folder: Folder | None, about: About, company: Company | None, log: Any) -> Result:
    """Take up what is there, train, and return what came of it."""
    run, began = sitting.run, perf_counter()
    noise = None if company is None else company.noise
    if company is not None:
        sitting.journal.listeners.append(company.hear)
    status = _taken_up(folder, sitting, about) or _train(sitting, folder, about, log)
    run.average.keep()
    seconds = perf_counter() - began
    sitting.view.say(_farewell(run, status, seconds, folder))
    if noise is not None and noise.scale() is not None:
        sitting.view.say(str(noise))
    return Result(
        model=run.model, plan=about.plan, history=sitting.journal.history, out=None if folder is None else folder.path,
        status=status, steps=run.position.step, skipped=run.position.skipped, seconds=seconds,
        best=None if folder is None else folder.best(), noise_scale=None if noise is None else noise.scale(),
    )  # fmt: skip


def _taken_up(folder: Folder | None, sitting: Sitting, about: About) -> str | None:
    """Go on from the checkpoint that was found; return how the run had ended, None if it has not."""
    if folder is None:
        return None
    run, view, found = sitting.run, sitting.view, folder.found
    if found is None:
        if (folder.path / events.FILE).exists():
            sitting.journal.resume(0)
        return None
    before, after = found.facts["settings"], about.settings(run)
    settings.check_shapes(found.facts["model"], settings.shapes(run.model), found.path)
    own = [dict(group) for group in run.optimizer.param_groups]
    tree = found.read()
    run.load_state_dict(tree)
    if before["batch_size"] != after["batch_size"]:  # the place in the data is counted in batches
        run.position.batch = run.position.batch * before["batch_size"] // after["batch_size"]
    sitting.scores = Scores(**tree["sitting"])
    if run.budget.open:
        _end_as_asked(run, about)
    hyper = settings.put_back(run.optimizer, found.facts["hyper"], about.hyper, own) if about.plan is None else []
    changed = [*hyper, *settings.changes(before, after, run.budget.open)]
    ended = sitting.ended()
    if ended is not None:
        sitting.journal.recall(found.step)
        view.say(f"this run has {ended} at step {found.step}: more steps= go on from there, another out= begins anew")
        return ended
    sitting.journal.resume(found.step)
    view.say(f"going on from step {found.step}, as {found.path} holds it")
    if run.budget.since is not None:
        view.say(f"the rate falls to zero from step {run.budget.since} to step {run.steps}, where the run ends")
    for sentence in settings.describe_changes(changed):
        view.say(sentence)
    return None


def _end_as_asked(run: Run, about: About) -> None:
    """Let an open run end where this call asks for it, if it has not been told that before."""
    given = about.given
    asked = budget_of(given["steps"], given["epochs"], given["time"], run.source.batches)
    if not asked.endless and asked.steps != run.steps:
        run.finish(asked.steps)


def _train(sitting: Sitting, folder: Folder | None, about: About, log: Any) -> str:
    """Train, and let journal and loggers know how it ended."""
    run, journal = sitting.run, sitting.journal
    where = None if folder is None else folder.path
    start = journal.start
    loggers = Loggers([] if isinstance(log, bool) else log, out=where, run=start["run"], config=start["config"])
    loggers.begin(run.position.step)
    journal.listeners.append(loggers.write)
    sitting.troubles.append(loggers.problems)
    if about.plan is not None and run.position.step == 0:
        sitting.view.say(str(about.plan))
        if folder is not None:
            journal.listeners.append(folder.plan_keeper(about.plan, sitting.view.say))
    status = "failed"
    try:
        status = sitting.train()
        journal.end(status, steps=run.position.step, skipped=run.position.skipped)
    except BaseException as error:
        journal.end("failed", steps=run.position.step, error=f"{type(error).__name__}: {error}")
        raise
    finally:
        loggers.close(status)
        sitting.tell()
    return status


def _farewell(run: Run, status: str, seconds: float, folder: Folder | None) -> str:
    done = run.position.step
    where = "" if folder is None else f"; events in {folder.path / events.FILE}"
    if status == "finished":
        return f"finished {done} steps in {seconds:.1f} s{where}"
    if status == "stopped":
        return f"stopped after {done} steps in {seconds:.1f} s: the loss on val did not fall any more{where}"
    after = f"{done} steps" if run.endless else f"{done} of {run.budget}"
    if folder is None:
        return f"{status} after {after}, {seconds:.1f} s; the model is as step {done} left it"
    saved = f"saved in {folder.path}: the same call goes on from there"
    return f"{status} after {after}, {seconds:.1f} s, {saved}"
