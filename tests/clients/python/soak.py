"""A mixed load for a long time, while somebody stops, kills and starts replicas: counts what was asked, and checks every answer.

Asks for HALYARD_ENDPOINTS (addresses between commas), HALYARD_EMAIL, HALYARD_PASSWORD and HALYARD_RATE, evaluations a second; all else
has a rate of its own. Says `under load` when everybody is at work, goes on until it is sent SIGTERM, and then prints one JSON object.
Ends with 1 and the first sentences of what went wrong. All calls go over one channel with docs/service-config.json.

Requests are sent when they are due, whatever became of those before, and their latency counts from then.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
import uuid
from collections import Counter, defaultdict

import grpc

from contract import DEADLINE_S, ROOT, generate_stubs, state_hash
from percentiles import Percentiles

generate_stubs("soak")

from halyard.evaluation.v1 import evaluation_service_pb2 as asked  # noqa: E402
from halyard.evaluation.v1 import watch_service_pb2 as streamed  # noqa: E402
from halyard.admin.v1 import flag_service_pb2  # noqa: E402
from halyard.evaluation.v1 import evaluation_pb2, event_pb2  # noqa: E402
from soak_world import EXPERIMENT, METRIC, SPLIT, TOGGLED, World  # noqa: E402

EVALUATE_ALL_A_SECOND = 20
ASSIGNMENTS_A_SECOND = 20
BATCHES_A_SECOND = 5
EVENTS_A_BATCH = 10
WRITES_A_SECOND = 10
WATCHERS = 20
LISTENERS = 5
# What is due beyond this is missed, and counted as such: this machine cannot do more.
MOST_IN_FLIGHT = 2_000
# A pause of the load itself that is longer than this is noted: nobody got to run, the machine did other things.
STANDSTILL_S = 2
KEPT_UNITS = 1_000


class Load:
    def __init__(self, world):
        self.world = world
        self.over = asyncio.Event()
        # Nobody asks any more, and the last change was acknowledged.
        self.settled = asyncio.Event()
        self.counts = Counter()
        self.codes = defaultdict(Counter)
        self.latencies = defaultdict(Percentiles)
        self.wrong = []
        self.standstills = []
        self.arms = {}
        self.fresh = []

    def fail(self, what):
        self.wrong.append(what)

    async def pause(self, seconds):
        """Waits, or is told that it is over."""
        try:
            await asyncio.wait_for(self.over.wait(), seconds)
        except TimeoutError:
            pass

    async def watch_the_clock(self):
        while not self.over.is_set():
            before = time.monotonic()
            await asyncio.sleep(0.05)
            if (pause := time.monotonic() - before) > STANDSTILL_S:
                self.standstills.append((before, before + pause))

    def stood_still(self, since):
        return any(end > since for _, end in self.standstills)

    async def paced(self, kind, rate, call):
        """Makes a call whenever one is due, until it is over, and waits for the last of them."""
        due, flying = time.monotonic(), set()
        while not self.over.is_set():
            due += 1 / rate
            if (ahead := due - time.monotonic()) > 0:
                await asyncio.sleep(ahead)
            elif ahead < -STANDSTILL_S:
                # The load itself stood still; all that was due meanwhile at once would be another load.
                self.counts["not_sent"] += round(-ahead * rate)
                due = time.monotonic()
            else:
                # Whoever is behind must not keep the answers out.
                await asyncio.sleep(0)
            if len(flying) >= MOST_IN_FLIGHT:
                self.codes[kind]["MISSED"] += 1
                continue
            task = asyncio.ensure_future(self.measured(kind, due, call))
            flying.add(task)
            task.add_done_callback(flying.discard)
        await asyncio.gather(*flying)

    async def measured(self, kind, due, call):
        try:
            await call()
            code = "OK"
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            self.fail(f"{kind}: {code}: {error.details()}")
        except Exception as error:  # Whatever it is, it must not go unnoticed with its task.
            code = "WRONG"
            self.fail(f"{kind}: {error!r}")
        self.codes[kind][code] += 1
        self.latencies[kind].add(time.monotonic() - due)

    async def ask(self, method, request, credential):
        """Asks again where nobody ran while it was asked: that says nothing of the server, and every one of these calls may be repeated."""
        while True:
            began = time.monotonic()
            try:
                return await method(request, metadata=credential, timeout=DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED or not self.stood_still(began):
                    raise
                self.counts["asked_again"] += 1

    async def evaluate(self):
        """Every fifth asks for what was acknowledged last, and must be told of it."""
        n = random.randrange(1_000_000)
        seen = self.world.revision if n % 5 == 0 else 0
        flag = self.world.flags[n % len(self.world.flags)]
        request = asked.EvaluateRequest(flag=flag, context=self.world.context(n), min_revision=seen)
        response = await self.ask(self.world.evaluation.Evaluate, request, self.world.server_key)
        answer = response.evaluation
        if answer.revision < seen or answer.flag != flag or answer.error:
            self.fail(f"Evaluate of {flag} at {seen}: {answer}")

    async def evaluate_all(self):
        request = asked.EvaluateAllRequest(context=self.world.context(random.randrange(1_000_000)), flags=self.world.flags)
        response = await self.ask(self.world.evaluation.EvaluateAll, request, self.world.server_key)
        if len(response.evaluations) != len(self.world.flags):
            self.fail(f"EvaluateAll answered {len(response.evaluations)} of {len(self.world.flags)} flags")

    async def assign(self):
        """Half of them of a unit that is new, half of one that was told its arm before, perhaps by a replica that is gone."""
        known = bool(self.arms) and random.random() < 0.5
        unit = random.choice(list(self.arms)) if known else str(uuid.uuid4())
        request = asked.GetAssignmentRequest(experiment=EXPERIMENT, context=evaluation_pb2.Context(targeting_key=unit))
        response = await self.ask(self.world.evaluation.GetAssignment, request, self.world.server_key)
        part = response.participation
        if known and self.arms.get(unit, part.arm) != part.arm:
            self.fail(f"{unit} had the arm {self.arms[unit]} and has {part.arm} now")
        if not known:
            self.counts["units"] += 1
            self.counts["assignments_not_stored"] += not part.assignment_stored
            self.fresh.append((unit, part))
            self.arms[unit] = part.arm
            if len(self.arms) > KEPT_UNITS:
                del self.arms[next(iter(self.arms))]

    async def track(self):
        """What the last units did: they saw their arm, and half of them bought."""
        told, self.fresh = self.fresh[: EVENTS_A_BATCH // 2], self.fresh[EVENTS_A_BATCH // 2 :]
        events = []
        for unit, part in told:
            exposure = event_pb2.Exposure(
                experiment=EXPERIMENT, iteration=part.iteration, arm=part.arm, assignment_stored=part.assignment_stored
            )
            events.append(event_pb2.Event(id=str(uuid.uuid4()), unit=unit, exposure=exposure))
            metric = event_pb2.MetricEvent(metric=METRIC)
            events.append(event_pb2.Event(id=str(uuid.uuid4()), unit=unit, metric=metric))
        request = asked.TrackRequest(events=events)
        response = await self.ask(self.world.evaluation.Track, request, self.world.server_key)
        self.counts["events"] += len(events)
        fine = {event_pb2.EVENT_OUTCOME_ACCEPTED, event_pb2.EVENT_OUTCOME_EXCLUDED, event_pb2.EVENT_OUTCOME_DUPLICATE}
        for answer in response.answers:
            if answer.outcome not in fine:
                self.fail(f"Track: {answer}")

    async def write(self):
        """One after the other: each change is the next revision, or one was lost or made twice. The service configuration repeats no
        change, so whoever makes it does, with the request's id, where a replica died under it."""
        due = time.monotonic()
        while not self.over.is_set():
            due += 1 / WRITES_A_SECOND
            await self.pause(max(due - time.monotonic(), 0))
            await self.measured("ToggleFlags", max(due, time.monotonic()), self.toggle)

    async def toggle(self):
        world = self.world
        toggle = flag_service_pb2.Toggle(flag=TOGGLED, enabled=not world.enabled)
        request = flag_service_pb2.ToggleFlagsRequest(
            project=world.project, environment="live", toggles=[toggle], request_id=str(uuid.uuid4())
        )
        while True:
            began = time.monotonic()
            try:
                response = await world.administration.ToggleFlags(request, metadata=world.token, timeout=DEADLINE_S)
                break
            except grpc.aio.AioRpcError as error:
                code = error.code()
                unknown = code == grpc.StatusCode.DEADLINE_EXCEEDED and self.stood_still(began)
                if code != grpc.StatusCode.UNAVAILABLE and not unknown:
                    raise
                self.counts["writes_tried_again"] += 1
                await asyncio.sleep(0.1)
        revisions = [revision.revision for revision in response.revisions]
        if revisions != [world.revision + 1]:
            self.fail(f"ToggleFlags gave {revisions} after revision {world.revision}")
        world.revision, world.enabled = revisions[0], toggle.enabled

    async def all_end(self, tasks):
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if outcome is not None:
                self.fail(repr(outcome))

    def finished(self, revision):
        return self.settled.is_set() and revision >= self.world.revision

    async def follow(self, kind, mirror, open_stream):
        """A stream and its successors, until it is over and the last change was on it."""
        while not self.finished(mirror.revision):
            self.counts["streams"] += 1
            stream = open_stream(mirror)
            goodbye = None
            try:
                async for response in stream:
                    goodbye = mirror.take(response) or goodbye
                    if self.finished(mirror.revision):
                        stream.cancel()
                        return
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    self.fail(f"{kind}: {error.code().name}: {error.details()}")
            if goodbye is None:
                # A replica that was told to end says goodbye; one that was killed cannot.
                self.counts["streams_broken"] += 1
                await asyncio.sleep(0.1)
            else:
                self.counts["goodbyes"] += 1
                pause = goodbye.reconnect_after
                await self.pause(min(pause.seconds + pause.nanos / 1e9, 1))

    def report(self, seconds):
        return {
            "seconds": round(seconds, 1),
            "requests": {
                kind: {"codes": dict(self.codes[kind]), "latency_ms": self.latencies[kind].summary()}
                for kind in sorted(self.codes)
            },
            "counts": {
                name: self.counts[name]
                for name in [
                    "not_sent", "asked_again", "writes_tried_again", "units", "assignments_not_stored", "events",
                    "streams", "goodbyes", "streams_broken", "steps", "merged_steps", "batches",
                ]
            },
            "revision": self.world.revision,
            "first_revision": self.world.first_revision,
            "enabled": self.world.enabled,
            "standstills_s": [round(end - begin, 1) for begin, end in self.standstills],
            "wrong": len(self.wrong),
        }


class Mirror:
    """What a stream of items says the server holds."""

    def __init__(self, load, number):
        self.load, self.number = load, number
        self.held, self.revision, self.token = {}, 0, b""
        self.begin, self.step, self.items = None, {}, 0

    def wrong(self, what):
        self.load.fail(f"stream {self.number}, at revision {self.revision}: {what}")

    def take(self, response):
        """Takes a message, and returns what it says about the end."""
        message = response.WhichOneof("message")
        if message == "begin":
            self.begin, self.items = response.begin, 0
            snapshot = response.begin.intent == streamed.INTENT_SNAPSHOT
            self.step = {} if snapshot else dict(self.held)
            if snapshot and self.token and response.begin.reason != streamed.SNAPSHOT_REASON_CHEAPER_AS_SNAPSHOT:
                self.wrong(f"everything again, though it had a token: {response.begin}")
            if not snapshot and response.begin.from_revision != self.revision:
                self.wrong(f"a step that does not follow: {response.begin}")
        elif message == "item":
            self.items += 1
            change = getattr(response.item, response.item.WhichOneof("change"))
            if response.item.HasField("put"):
                self.step[change.kind, change.key] = change
            else:
                self.step.pop((change.kind, change.key), None)
        elif message == "commit":
            self.commit(response.commit)
        elif message == "heartbeat" and response.heartbeat.head_revision > self.revision:
            self.wrong(f"a heartbeat behind what it has not sent: {response.heartbeat}")
        elif message == "goodbye":
            return response.goodbye
        return None

    def commit(self, commit):
        begin = self.begin
        if begin is None or begin.to_revision != commit.revision or begin.item_count != self.items:
            self.wrong(f"a step that is not what it announced: {begin}, {self.items} items, {commit}")
        if commit.revision < self.revision:
            self.wrong(f"back to revision {commit.revision}")
        if state_hash(self.step) != commit.state_hash:
            self.wrong(f"another state than the server's at revision {commit.revision}")
        if self.revision and commit.revision > self.revision + 1:
            self.load.counts["merged_steps"] += 1
        self.held, self.revision, self.token, self.begin = self.step, commit.revision, commit.resume_token, None
        self.load.counts["steps"] += 1

    def enabled(self):
        return self.held["flag_configuration", TOGGLED].flag_configuration.enabled


class Answers:
    """What a stream of answers says."""

    def __init__(self, load, number):
        self.load, self.number = load, number
        self.held, self.revision, self.token = {}, 0, b""

    def take(self, response):
        message = response.WhichOneof("message")
        if message == "batch":
            batch = response.batch
            if batch.intent == streamed.INTENT_SNAPSHOT:
                self.held = {}
            self.held.update((answer.flag, answer) for answer in batch.evaluations)
            self.applied(batch.revision, batch.resume_token)
            self.load.counts["batches"] += 1
        elif message == "heartbeat":
            self.applied(response.heartbeat.head_revision, response.heartbeat.resume_token)
        elif message == "goodbye":
            return response.goodbye
        return None

    def applied(self, revision, token):
        if revision < self.revision:
            self.load.fail(f"listener {self.number} went back from revision {self.revision} to {revision}")
        self.revision, self.token = revision, token

    def enabled(self):
        return self.held[TOGGLED].variant == "on"


async def main():
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    options = [
        ("grpc.service_config", (ROOT / "docs" / "service-config.json").read_text()),
        # A name for all of them: a list of addresses is no authority that a request could carry.
        ("grpc.default_authority", "halyard"),
    ]
    async with grpc.aio.insecure_channel("ipv4:" + os.environ["HALYARD_ENDPOINTS"], options=options) as channel:
        world = World(channel)
        await world.furnish(os.environ["HALYARD_EMAIL"], os.environ["HALYARD_PASSWORD"])
        load = Load(world)
        watchers = [Mirror(load, number) for number in range(WATCHERS)]
        listeners = [Answers(load, number) for number in range(LISTENERS)]
        began = time.monotonic()
        asking = [
            load.watch_the_clock(),
            load.paced("Evaluate", float(os.environ["HALYARD_RATE"]), load.evaluate),
            load.paced("EvaluateAll", EVALUATE_ALL_A_SECOND, load.evaluate_all),
            load.paced("GetAssignment", ASSIGNMENTS_A_SECOND, load.assign),
            load.paced("Track", BATCHES_A_SECOND, load.track),
            load.write(),
        ]
        following = [
            *(load.follow("Watch", mirror, world.watch_items) for mirror in watchers),
            *(load.follow("WatchEvaluations", answers, world.watch_answers) for answers in listeners),
        ]
        asking = [asyncio.ensure_future(work) for work in asking]
        following = [asyncio.ensure_future(work) for work in following]
        print("under load", flush=True)
        ends = asyncio.ensure_future(over.wait())
        # Whoever ends before it is over ends with what went wrong.
        await asyncio.wait([ends, *asking, *following], return_when=asyncio.FIRST_COMPLETED)
        load.over.set()
        await load.all_end(asking)
        load.settled.set()
        await load.all_end(following)
        for mirror in watchers + listeners:
            if mirror.enabled() != world.enabled:
                load.fail(f"{type(mirror).__name__} {mirror.number} holds {mirror.enabled()} at {mirror.revision}")
        print(json.dumps(load.report(time.monotonic() - began)), flush=True)
    if load.wrong:
        sys.exit(f"soak.py: {len(load.wrong)} failures:\n" + "\n".join(load.wrong[:20]))


asyncio.run(main())
