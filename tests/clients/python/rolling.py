"""Load on several replicas while somebody stops and starts them in turn: no request may fail, and no update be lost.

Asks for HALYARD_ENDPOINTS (addresses between commas), HALYARD_EMAIL and HALYARD_PASSWORD. Says `under load` when everybody is at work,
goes on until it is sent SIGTERM, and ends with 1 and the first sentences of what went wrong. All calls go over one channel with
docs/service-config.json, as those of an application would.
"""

import os
import signal
import sys
import threading
import uuid

import grpc

from contract import DEADLINE_S, ROOT, bearer, generate_stubs

generate_stubs("rolling")

from halyard.admin.v1 import auth_service_pb2, auth_service_pb2_grpc  # noqa: E402
from halyard.admin.v1 import environment_service_pb2, environment_service_pb2_grpc  # noqa: E402
from halyard.admin.v1 import flag_service_pb2, flag_service_pb2_grpc  # noqa: E402
from halyard.admin.v1 import project_service_pb2, project_service_pb2_grpc  # noqa: E402
from halyard.evaluation.v1 import evaluation_pb2, evaluation_service_pb2, evaluation_service_pb2_grpc  # noqa: E402
from halyard.evaluation.v1 import flag_pb2, watch_service_pb2, watch_service_pb2_grpc  # noqa: E402

FLAG = "new-checkout"
EVALUATORS = 4
WATCHERS = 3


class World:
    """What all of them share: a project, and what was done so far."""

    def __init__(self, channel):
        self.evaluation = evaluation_service_pb2_grpc.EvaluationServiceStub(channel)
        self.watch = watch_service_pb2_grpc.WatchServiceStub(channel)
        self.flags = flag_service_pb2_grpc.FlagServiceStub(channel)
        auth = auth_service_pb2_grpc.AuthServiceStub(channel)
        login = auth_service_pb2.LoginRequest(email=os.environ["HALYARD_EMAIL"], password=os.environ["HALYARD_PASSWORD"])
        token = auth.Login(login, timeout=DEADLINE_S, wait_for_ready=True).access_token
        self.admin = {"metadata": bearer(token), "timeout": DEADLINE_S}
        self.project = f"rolling-{uuid.uuid4().hex[:8]}"
        project = project_service_pb2.Project(key=self.project)
        project_service_pb2_grpc.ProjectServiceStub(channel).CreateProject(
            project_service_pb2.CreateProjectRequest(project=project), **self.admin
        )
        environment = environment_service_pb2.Environment(project=self.project, key="live")
        made = environment_service_pb2_grpc.EnvironmentServiceStub(channel).CreateEnvironment(
            environment_service_pb2.CreateEnvironmentRequest(environment=environment), **self.admin
        )
        secrets = {created.key.kind: created.secret for created in made.keys}
        self.server_key = bearer(secrets[environment_service_pb2.KEY_KIND_SERVER])
        flag = flag_service_pb2.Flag(project=self.project, key=FLAG, type=flag_pb2.VALUE_TYPE_BOOL)
        created = self.flags.CreateFlag(flag_service_pb2.CreateFlagRequest(flag=flag), **self.admin)
        self.revision = created.revisions[0].revision
        self.enabled = False
        self.over = threading.Event()
        # Nobody writes any more, and the last change was acknowledged.
        self.settled = threading.Event()
        self.wrong = []
        self.counts = {"evaluations": 0, "writes": 0, "steps": 0, "streams": 0}
        self.lock = threading.Lock()

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def fail(self, what):
        with self.lock:
            self.wrong.append(what)

    def guarded(self, work):
        def run():
            try:
                work(self)
            except Exception as error:  # Whatever it is, it must not go unnoticed with its thread.
                self.fail(f"{work.__name__} ended: {error!r}")

        return threading.Thread(target=run)


def said(error):
    return f"{error.code().name}: {error.details()}"


def evaluate(world):
    """Whatever was acknowledged when it asks, the answer knows of it."""
    n = 0
    while not world.over.is_set():
        n += 1
        seen = world.revision
        context = evaluation_pb2.Context(targeting_key=f"user-{n}")
        request = evaluation_service_pb2.EvaluateRequest(flag=FLAG, context=context, min_revision=seen)
        try:
            answer = world.evaluation.Evaluate(request, metadata=world.server_key, timeout=DEADLINE_S).evaluation
        except grpc.RpcError as error:
            world.fail(f"Evaluate: {said(error)}")
            continue
        if answer.revision < seen:
            world.fail(f"Evaluate answered of revision {answer.revision} when {seen} was asked for")
        world.count("evaluations")


def write(world):
    """One flag, on and off: each change is the next revision, or one was lost or made twice."""
    while not world.over.wait(0.01):
        enabled = not world.enabled
        toggle = flag_service_pb2.Toggle(flag=FLAG, enabled=enabled)
        request = flag_service_pb2.ToggleFlagsRequest(
            project=world.project, environment="live", toggles=[toggle], request_id=str(uuid.uuid4())
        )
        try:
            revisions = world.flags.ToggleFlags(request, **world.admin).revisions
        except grpc.RpcError as error:
            world.fail(f"ToggleFlags: {said(error)}")
            continue
        if [revision.revision for revision in revisions] != [world.revision + 1]:
            world.fail(f"ToggleFlags gave {revisions} after revision {world.revision}")
        world.revision, world.enabled = revisions[0].revision, enabled
        world.count("writes")


def watch(world):
    """Follows as the contract has it: resumes after a goodbye, never goes back, and holds the last state in the end."""
    held, revision, token = {}, 0, b""
    while not (world.settled.is_set() and revision >= world.revision):
        world.count("streams")
        request = watch_service_pb2.WatchRequest(resume_token=token)
        # Each is a moment to see that it is over.
        request.heartbeat.seconds = 1
        stream = world.watch.Watch(request, metadata=world.server_key, wait_for_ready=True)
        goodbye = False
        try:
            for response in stream:
                message = response.WhichOneof("message")
                if message == "begin":
                    step = {} if response.begin.intent == watch_service_pb2.INTENT_SNAPSHOT else dict(held)
                elif message == "item" and response.item.HasField("put"):
                    step[response.item.put.kind, response.item.put.key] = response.item.put
                elif message == "item":
                    step.pop((response.item.delete.kind, response.item.delete.key), None)
                elif message == "commit":
                    if response.commit.revision < revision:
                        world.fail(f"a stream went back from revision {revision} to {response.commit.revision}")
                    held, revision, token = step, response.commit.revision, response.commit.resume_token
                    world.count("steps")
                elif message == "goodbye":
                    goodbye = True
                    pause = response.goodbye.reconnect_after
                    world.over.wait(min(pause.seconds + pause.nanos / 1e9, 1))
                if world.settled.is_set() and revision >= world.revision:
                    stream.cancel()
                    break
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                world.fail(f"Watch: {said(error)}")
        if not goodbye and not world.settled.is_set():
            world.fail("a stream ended without a goodbye")
    enabled = held["flag_configuration", FLAG].flag_configuration.enabled
    if enabled != world.enabled:
        world.fail(f"a stream holds {enabled} at revision {revision}, and {world.enabled} was written at {world.revision}")


def main():
    # Before there are threads, which inherit it: only this one is told.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    target = "ipv4:" + os.environ["HALYARD_ENDPOINTS"]
    service_config = (ROOT / "docs" / "service-config.json").read_text()
    # A name for all of them: a list of addresses is no authority that a request could carry.
    options = [("grpc.service_config", service_config), ("grpc.default_authority", "halyard")]
    with grpc.insecure_channel(target, options=options) as channel:
        world = World(channel)
        writer = world.guarded(write)
        workers = [world.guarded(work) for work in [evaluate] * EVALUATORS + [watch] * WATCHERS]
        for worker in [writer, *workers]:
            worker.start()
        print("under load", flush=True)
        signal.sigwait({signal.SIGTERM})
        world.over.set()
        writer.join()
        world.settled.set()
        for worker in workers:
            worker.join()
    print(" ".join(f"{name}={count}" for name, count in world.counts.items()), flush=True)
    if world.wrong:
        sys.exit(f"rolling.py: {len(world.wrong)} failures:\n" + "\n".join(world.wrong[:20]))


if __name__ == "__main__":
    main()
