"""A Python program uses Halyard: from a login to a change that arrives on a stream.

Asks for HALYARD_ENDPOINT, HALYARD_EMAIL and HALYARD_PASSWORD, as `halyard dev` writes them into dev.env. Makes a project of its
own. Ends with 1 and a sentence at the first answer that is not what the contract says.
"""

import os
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from contract import DEADLINE_S, ROOT, Mismatch, bearer, expect, generate_stubs, state_hash

# Two of this program may run at a time.
generate_stubs(sys.argv[2] if sys.argv[1:2] == ["--stubs"] else "flag_journey")

from halyard.admin.v1 import auth_service_pb2, auth_service_pb2_grpc  # noqa: E402
from halyard.admin.v1 import environment_service_pb2, environment_service_pb2_grpc  # noqa: E402
from halyard.admin.v1 import flag_service_pb2, flag_service_pb2_grpc  # noqa: E402
from halyard.admin.v1 import project_service_pb2, project_service_pb2_grpc  # noqa: E402
from halyard.evaluation.v1 import evaluation_pb2, evaluation_service_pb2, evaluation_service_pb2_grpc  # noqa: E402
from halyard.evaluation.v1 import flag_pb2, watch_service_pb2, watch_service_pb2_grpc  # noqa: E402

FLAG = "new-checkout"
LARGE = 9_007_199_254_740_993  # 2^53 + 1, which no double holds.


class Mirror:
    """What the server holds, as a stream tells it: it changes at Commit and at no other time."""

    def __init__(self):
        self.items = {}  # (kind, key) -> Put
        self.revision = 0
        self.resume_token = b""

    def next_commit(self, stream):
        """Reads one step, applies it, and returns its Begin."""
        begin, held = None, None
        for response in stream:
            message = response.WhichOneof("message")
            if message == "begin":
                begin = response.begin
                held = {} if begin.intent == watch_service_pb2.INTENT_SNAPSHOT else dict(self.items)
            elif message == "item" and response.item.HasField("put"):
                held[response.item.put.kind, response.item.put.key] = response.item.put
            elif message == "item":
                held.pop((response.item.delete.kind, response.item.delete.key), None)
            elif message == "commit":
                commit = response.commit
                expect("the state hash", state_hash(held), commit.state_hash)
                self.items, self.revision, self.resume_token = held, commit.revision, commit.resume_token
                return begin
            elif message == "goodbye":
                raise Mismatch("the stream said goodbye though nobody stopped the server")
        raise Mismatch("the stream ended without a Commit")

    def is_enabled(self, flag):
        put = self.items.get(("flag_configuration", flag))
        return put is not None and put.flag_configuration.enabled


class Answers:
    """The answers for one context, as a stream tells them: they change with whole batches."""

    def __init__(self):
        self.held = {}  # flag -> Evaluation
        self.revision = 0
        self.stream = ""

    def next_batch(self, stream):
        """Reads one batch, applies it, and returns the flags that it answered."""
        answered, removed = [], []
        for response in stream:
            message = response.WhichOneof("message")
            if message == "goodbye":
                raise Mismatch("the stream said goodbye though nobody stopped the server")
            if message != "batch":
                continue
            batch = response.batch
            answered += batch.evaluations
            removed += batch.removed
            if batch.more:
                continue
            if batch.intent == watch_service_pb2.INTENT_SNAPSHOT:
                self.held = {}
            for flag in removed:
                self.held.pop(flag, None)
            self.held.update((answer.flag, answer) for answer in answered)
            self.revision, self.stream = batch.revision, batch.stream
            return [answer.flag for answer in answered]
        raise Mismatch("the stream ended without a batch")


def listen(watch, flags, environments, where, client_key, admin):
    """A client key is told of the answers that change, and acknowledges them."""
    project, flag = where
    update = flag_service_pb2.UpdateFlagRequest(flag=flag_service_pb2.Flag(project=project, key=flag, client_visible=True))
    update.update_mask.paths.append("client_visible")
    answers = Answers()
    request = watch_service_pb2.WatchEvaluationsRequest(client=watch_service_pb2.ClientInfo(name="alice's browser"))
    request.context.targeting_key = "alice"
    stream = watch.WatchEvaluations(request, metadata=client_key, timeout=DEADLINE_S)
    expect("what a client key sees of flags that are not for clients", answers.next_batch(stream), [])
    flags.UpdateFlag(update, **admin)
    expect("the flag that became visible", answers.next_batch(stream), [flag])
    expect("its answer", (answers.held[flag].bool_value, answers.held[flag].variant), (True, "on"))
    acknowledged = watch_service_pb2.AcknowledgeRequest(stream=answers.stream, revision=answers.revision)
    watch.Acknowledge(acknowledged, metadata=client_key, timeout=DEADLINE_S)
    asked = environment_service_pb2.GetPropagationRequest(
        project=project, environment="live", revision=answers.revision
    )
    deadline = time.monotonic() + DEADLINE_S
    while (told := environments.GetPropagation(asked, **admin)).applied < 1:
        if time.monotonic() > deadline:
            raise Mismatch(f"the acknowledgement does not show in {told}")
        time.sleep(0.1)
    expect("who is behind", [lagging.client for lagging in told.behind if lagging.client == "alice's browser"], [])
    stream.cancel()
    print(f"a client key heard the answer change, and acknowledged revision {answers.revision}")


def refused(code, call):
    """The details of a refusal by their types' names, once its code is the one expected."""
    try:
        call()
    except grpc.RpcError as error:
        expect("the refusal's code", error.code(), code)
        details = {}
        for packed in rpc_status.from_call(error).details:
            detail = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])()
            packed.Unpack(detail)
            details[detail.DESCRIPTOR.name] = detail
        return details
    raise Mismatch(f"the call was answered, though {code} was expected")


def main():
    endpoint = urlsplit(os.environ["HALYARD_ENDPOINT"])
    service_config = (ROOT / "docs" / "service-config.json").read_text()
    options = [("grpc.service_config", service_config)]
    if endpoint.scheme == "https":
        made = grpc.secure_channel(endpoint.netloc, tls_credentials(), options=options)
    else:
        made = grpc.insecure_channel(endpoint.netloc, options=options)
    with made as channel:
        journey(channel)


def tls_credentials():
    """Whom to trust, and the certificate to show, from the files that Halyard's own commands are told of."""
    files = ["HALYARD_SERVER_CA_FILE", "HALYARD_OWN_KEY_FILE", "HALYARD_OWN_CERTIFICATE_FILE"]
    return grpc.ssl_channel_credentials(*[Path(os.environ[name]).read_bytes() for name in files])


def journey(channel):
    auth = auth_service_pb2_grpc.AuthServiceStub(channel)
    login = auth.Login(
        auth_service_pb2.LoginRequest(email=os.environ["HALYARD_EMAIL"], password=os.environ["HALYARD_PASSWORD"]),
        timeout=DEADLINE_S,
    )
    admin = {"metadata": bearer(login.access_token), "timeout": DEADLINE_S}
    print(f"logged in as {login.user.email}")

    project = f"python-{uuid.uuid4().hex[:8]}"
    project_service_pb2_grpc.ProjectServiceStub(channel).CreateProject(
        project_service_pb2.CreateProjectRequest(project=project_service_pb2.Project(key=project)), **admin
    )
    environments = environment_service_pb2_grpc.EnvironmentServiceStub(channel)
    environment = environments.CreateEnvironment(
        environment_service_pb2.CreateEnvironmentRequest(
            environment=environment_service_pb2.Environment(project=project, key="live")
        ),
        **admin,
    )
    keys = {created.key.kind: created.secret for created in environment.keys}
    server_key = bearer(keys[environment_service_pb2.KEY_KIND_SERVER])
    print(f"made {project} with an environment and {len(keys)} keys")

    flags = flag_service_pb2_grpc.FlagServiceStub(channel)
    flags.CreateFlag(
        flag_service_pb2.CreateFlagRequest(
            flag=flag_service_pb2.Flag(
                project=project,
                key="quota",
                type=flag_pb2.VALUE_TYPE_INTEGER,
                variants=[flag_pb2.Variant(key="large", integer_value=LARGE)],
                off_variant="large",
            )
        ),
        **admin,
    )
    created = flags.CreateFlag(
        flag_service_pb2.CreateFlagRequest(
            flag=flag_service_pb2.Flag(project=project, key=FLAG, type=flag_pb2.VALUE_TYPE_BOOL)
        ),
        **admin,
    )

    evaluation = evaluation_service_pb2_grpc.EvaluationServiceStub(channel)

    def evaluate(flag, min_revision, metadata=server_key, timeout=DEADLINE_S):
        context = evaluation_pb2.Context(targeting_key="alice")
        context.attributes.update({"plan": "gold"})
        request = evaluation_service_pb2.EvaluateRequest(flag=flag, context=context, min_revision=min_revision)
        return evaluation.Evaluate(request, metadata=metadata, timeout=timeout).evaluation

    off = evaluate(FLAG, created.revisions[0].revision)
    expect("a new flag's value", (off.bool_value, off.variant), (False, "off"))
    expect("a new flag's reason", off.reason, evaluation_pb2.REASON_DISABLED)
    expect("a 64-bit value", evaluate("quota", off.revision).integer_value, LARGE)
    print(f"{FLAG} is {off.variant} at revision {off.revision}")

    watch = watch_service_pb2_grpc.WatchServiceStub(channel)
    mirror = Mirror()
    stream = watch.Watch(watch_service_pb2.WatchRequest(), metadata=server_key, timeout=DEADLINE_S)
    expect("the first step", mirror.next_commit(stream).intent, watch_service_pb2.INTENT_SNAPSHOT)
    expect("the snapshot's revision", mirror.revision, off.revision)
    expect("whether the snapshot has the flag on", mirror.is_enabled(FLAG), False)

    toggled = flags.ToggleFlags(
        flag_service_pb2.ToggleFlagsRequest(
            project=project, environment="live", toggles=[flag_service_pb2.Toggle(flag=FLAG, enabled=True)]
        ),
        **admin,
    )
    revision = toggled.revisions[0].revision
    expect("the second step", mirror.next_commit(stream).intent, watch_service_pb2.INTENT_DELTA)
    expect("the change's revision", mirror.revision, revision)
    expect("whether the change turns the flag on", mirror.is_enabled(FLAG), True)
    stream.cancel()
    print(f"the stream carried the change to revision {revision}, {len(mirror.items)} items, state hash verified")

    request = watch_service_pb2.WatchRequest(resume_token=mirror.resume_token)
    resumed = watch.Watch(request, metadata=server_key, timeout=DEADLINE_S)
    expect("a resumed stream", mirror.next_commit(resumed).intent, watch_service_pb2.INTENT_NONE)
    expect("its revision", mirror.revision, revision)
    resumed.cancel()

    on = evaluate(FLAG, revision)
    expect("the flag's value", (on.bool_value, on.variant), (True, "on"))
    expect("the flag's reason", on.reason, evaluation_pb2.REASON_STATIC)
    print(f"{FLAG} is {on.variant} at revision {on.revision}")

    listen(watch, flags, environments, (project, FLAG), bearer(keys[environment_service_pb2.KEY_KIND_CLIENT]), admin)

    details = refused(grpc.StatusCode.NOT_FOUND, lambda: evaluate("no-such-flag", 0))
    expect("what is missing", details["ResourceInfo"].resource_name, "no-such-flag")
    details = refused(grpc.StatusCode.UNAUTHENTICATED, lambda: evaluate(FLAG, 0, metadata=bearer("halyard_server_no")))
    expect("why", (details["ErrorInfo"].domain, details["ErrorInfo"].reason), ("halyard", "INVALID_CREDENTIAL"))
    invalid = flag_service_pb2.CreateFlagRequest(flag=flag_service_pb2.Flag(project=project, key="not a key"))
    details = refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: flags.CreateFlag(invalid, **admin))
    fields = sorted(violation.field for violation in details["BadRequest"].field_violations)
    expect("every invalid field", fields, ["flag.key", "flag.type"])

    started = time.monotonic()
    try:
        evaluate(FLAG, revision + 1_000, timeout=0.3)
        raise Mismatch("a revision that does not exist was answered")
    except grpc.RpcError as error:
        in_time = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
        expect("the code at the deadline", error.code() in in_time, True)
    expect("whether the deadline was kept", time.monotonic() - started < 10, True)
    print("refusals carry their codes and details, and deadlines are kept")


if __name__ == "__main__":
    try:
        main()
    except Mismatch as mismatch:
        sys.exit(f"flag_journey.py: {mismatch}")
    except grpc.RpcError as error:
        sys.exit(f"flag_journey.py: {error.code().name}: {error.details()}")
