"""Certifies a running server: writes what the vectors describe through the admin API, and compares every answer.

Asks for HALYARD_ENDPOINT, HALYARD_EMAIL and HALYARD_PASSWORD, as `halyard dev` writes them into dev.env. Makes a project for every
place of the vectors. Ends with 1 and every answer that differs.
"""

import os
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import grpc

from contract import DEADLINE_S, Mismatch, bearer, expect, generate_stubs

generate_stubs("certify")

import cases  # noqa: E402
import messages  # noqa: E402
from halyard.admin.v1 import auth_service_pb2, auth_service_pb2_grpc  # noqa: E402
from halyard.admin.v1 import environment_service_pb2, environment_service_pb2_grpc  # noqa: E402
from halyard.admin.v1 import flag_service_pb2, flag_service_pb2_grpc  # noqa: E402
from halyard.admin.v1 import project_service_pb2, project_service_pb2_grpc  # noqa: E402
from halyard.admin.v1 import segment_service_pb2, segment_service_pb2_grpc  # noqa: E402
from halyard.evaluation.v1 import evaluation_pb2, evaluation_service_pb2, evaluation_service_pb2_grpc  # noqa: E402

ENVIRONMENT = "live"
# Places that are written at the same time.
WORKERS = 8
# Fewer would mean that the vectors were not found.
LEAST_CASES = 2_000
PIECE = 50


class Administrator:
    """Writes what the vectors describe."""

    def __init__(self, channel):
        self.auth = auth_service_pb2_grpc.AuthServiceStub(channel)
        self.projects = project_service_pb2_grpc.ProjectServiceStub(channel)
        self.environments = environment_service_pb2_grpc.EnvironmentServiceStub(channel)
        self.flags = flag_service_pb2_grpc.FlagServiceStub(channel)
        self.segments = segment_service_pb2_grpc.SegmentServiceStub(channel)
        account = {"email": os.environ["HALYARD_EMAIL"], "password": os.environ["HALYARD_PASSWORD"]}
        login = self.auth.Login(auth_service_pb2.LoginRequest(**account), timeout=DEADLINE_S)
        self.options = {"metadata": bearer(login.access_token), "timeout": DEADLINE_S}

    def prepare(self, place, project):
        """Writes all but the flags' configurations, as a project of its own; returns its server key and the newest revision."""
        self.projects.CreateProject(project_service_pb2.CreateProjectRequest(project={"key": project}), **self.options)
        created = self.environments.CreateEnvironment(
            environment_service_pb2.CreateEnvironmentRequest(environment={"project": project, "key": ENVIRONMENT}), **self.options
        )
        (key,) = (each.secret for each in created.keys if each.key.kind == environment_service_pb2.KEY_KIND_SERVER)
        revisions = [0]
        for name, form in place.definitions.items():
            request = flag_service_pb2.CreateFlagRequest(flag=messages.flag(project, name, form))
            revisions += revisions_of(self.flags.CreateFlag(request, **self.options))
        for name in place.segments:
            request = segment_service_pb2.CreateSegmentRequest(segment={"project": project, "key": name})
            self.segments.CreateSegment(request, **self.options)
        for name, form in place.segments.items():
            if form is not None:
                revisions += self.configure_segment(project, name, form)
        for name, keys in place.key_lists.items():
            revisions += self.upload(project, name, keys)
        return key, max(revisions)

    def bring_to(self, state, project):
        """Writes the flags' configurations; returns the newest revision."""
        revisions = [0]
        for name, form in state.configurations.items():
            if form is not None:
                revisions += self.configure_flag(project, name, form)
        return max(revisions)

    def configure_segment(self, project, name, form):
        configuration = messages.segment_configuration(project, ENVIRONMENT, name, form)
        request = segment_service_pb2.UpdateSegmentConfigurationRequest(configuration=configuration)
        return revisions_of(self.segments.UpdateSegmentConfiguration(request, **self.options))

    def upload(self, project, name, keys):
        """Uploads a list in pieces, and activates it."""
        place = {"project": project, "environment": ENVIRONMENT, "segment": name}
        upload = self.segments.CreateSegmentUpload(segment_service_pb2.CreateSegmentUploadRequest(**place), **self.options).upload
        pieces = [keys[at : at + PIECE] for at in range(0, len(keys), PIECE)]
        for number, piece in enumerate(pieces):
            request = segment_service_pb2.UploadSegmentKeysRequest(project=project, upload=upload, piece=number, keys=piece)
            self.segments.UploadSegmentKeys(request, **self.options)
        replace = segment_service_pb2.UPLOAD_MODE_REPLACE
        request = segment_service_pb2.ActivateSegmentUploadRequest(project=project, upload=upload, mode=replace, pieces=len(pieces))
        return revisions_of(self.segments.ActivateSegmentUpload(request, **self.options))

    def configure_flag(self, project, name, form):
        configuration = messages.flag_configuration(project, ENVIRONMENT, name, form)
        request = flag_service_pb2.UpdateFlagConfigurationRequest(configuration=configuration)
        return revisions_of(self.flags.UpdateFlagConfiguration(request, **self.options))


def revisions_of(response):
    return [each.revision for each in response.revisions]


def answer(evaluations, case, key, revision):
    """What the server answers, in the form of the case's `expected`."""
    request = evaluation_service_pb2.EvaluateRequest(
        flag=case["flag"], context=messages.context(case["context"]), min_revision=revision
    )
    try:
        evaluation = evaluations.Evaluate(request, metadata=bearer(key), timeout=DEADLINE_S).evaluation
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            return None
        raise
    expect("whether a value comes with a variant", evaluation.WhichOneof("value") is not None, evaluation.variant != "")
    given = {"variant": evaluation.variant or None, "reason": evaluation_pb2.Reason.Name(evaluation.reason).removeprefix("REASON_")}
    if evaluation.rule:
        given["rule"] = evaluation.rule
    if evaluation.error:
        given["error"] = evaluation_pb2.EvaluationError.Name(evaluation.error).removeprefix("EVALUATION_ERROR_")
    return given


def certify(administrator, evaluations, place, project):
    """The sentences about answers that differ, and how many there were in all."""
    wrong, count, state = [], 0, place.states[0]
    try:
        key, revision = administrator.prepare(place, project)
        for state in place.states:
            revision = max(revision, administrator.bring_to(state, project))
            for case in state.cases:
                given = answer(evaluations, case, key, revision)
                count += 1
                if given != case["expected"]:
                    wrong.append(f"{case['name']}: expected {case['expected']}, answered {given}")
    except grpc.RpcError as error:
        names = ", ".join(case["name"] for case in state.cases)
        wrong.append(f"{names}, and what would follow: {error.code().name}: {error.details()}")
    return wrong, count


def main():
    places, left_out = cases.read()
    run = uuid.uuid4().hex[:8]
    target = urlsplit(os.environ["HALYARD_ENDPOINT"]).netloc
    with grpc.insecure_channel(target) as channel, ThreadPoolExecutor(WORKERS) as workers:
        administrator = Administrator(channel)
        evaluations = evaluation_service_pb2_grpc.EvaluationServiceStub(channel)
        work = [
            workers.submit(certify, administrator, evaluations, place, f"python-{run}-{number}")
            for number, place in enumerate(places)
        ]
        results = [each.result() for each in work]
    wrong = [sentence for sentences, _ in results for sentence in sentences]
    count = sum(answered for _, answered in results)
    if wrong:
        raise Mismatch(f"{len(wrong)} differ:\n" + "\n".join(wrong))
    expect("whether all cases were asked", count >= LEAST_CASES, True)
    print(f"{count} answers in {len(places)} projects are those of the vectors; {left_out} cases only stored rows can be like")


if __name__ == "__main__":
    try:
        main()
    except Mismatch as mismatch:
        sys.exit(f"certify.py: {mismatch}")
    except grpc.RpcError as error:
        sys.exit(f"certify.py: {error.code().name}: {error.details()}")
