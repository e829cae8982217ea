"""What the load of the soak works on: a project with flags of several makes, an experiment that runs, and the credentials for it."""

import uuid

from contract import DEADLINE_S, bearer

from halyard.admin.v1 import auth_service_pb2, auth_service_pb2_grpc
from halyard.admin.v1 import environment_service_pb2, environment_service_pb2_grpc
from halyard.admin.v1 import experiment_service_pb2, experiment_service_pb2_grpc
from halyard.admin.v1 import flag_service_pb2, flag_service_pb2_grpc
from halyard.admin.v1 import project_service_pb2, project_service_pb2_grpc
from halyard.admin.v1 import service_token_service_pb2, service_token_service_pb2_grpc
from halyard.evaluation.v1 import evaluation_pb2, evaluation_service_pb2_grpc, flag_pb2
from halyard.evaluation.v1 import watch_service_pb2, watch_service_pb2_grpc

# What is written.
TOGGLED = "toggled"
SPLIT = "split"
ON_TRIAL = "on-trial"
EXPERIMENT = "trial"
METRIC = "purchase"
# Beside those, with a rule each.
RULED = 20


class World:
    def __init__(self, channel):
        self.channel = channel
        self.evaluation = evaluation_service_pb2_grpc.EvaluationServiceStub(channel)
        self.watch = watch_service_pb2_grpc.WatchServiceStub(channel)
        self.administration = flag_service_pb2_grpc.FlagServiceStub(channel)
        self.project = f"soak-{uuid.uuid4().hex[:8]}"
        self.flags = [TOGGLED, SPLIT, *(f"ruled-{n}" for n in range(RULED))]
        self.enabled = False

    async def furnish(self, email, password):
        login = auth_service_pb2.LoginRequest(email=email, password=password)
        logged_in = await auth_service_pb2_grpc.AuthServiceStub(self.channel).Login(
            login, timeout=DEADLINE_S, wait_for_ready=True
        )
        self.admin = {"metadata": bearer(logged_in.access_token), "timeout": DEADLINE_S}
        project = project_service_pb2.Project(key=self.project)
        await project_service_pb2_grpc.ProjectServiceStub(self.channel).CreateProject(
            project_service_pb2.CreateProjectRequest(project=project), **self.admin
        )
        environment = environment_service_pb2.Environment(project=self.project, key="live")
        made = await environment_service_pb2_grpc.EnvironmentServiceStub(self.channel).CreateEnvironment(
            environment_service_pb2.CreateEnvironmentRequest(environment=environment), **self.admin
        )
        secrets = {created.key.kind: created.secret for created in made.keys}
        self.server_key = bearer(secrets[environment_service_pb2.KEY_KIND_SERVER])
        self.client_key = bearer(secrets[environment_service_pb2.KEY_KIND_CLIENT])
        # A login would be over before a long soak is.
        token = service_token_service_pb2.CreateServiceTokenRequest(
            project=self.project, role=auth_service_pb2.PROJECT_ROLE_DEVELOPER, name="soak"
        )
        created = await service_token_service_pb2_grpc.ServiceTokenServiceStub(self.channel).CreateServiceToken(
            token, **self.admin
        )
        self.token = bearer(created.secret)
        for flag in [*self.flags, ON_TRIAL]:
            self.revision = await self.make_flag(flag)
        self.first_revision = self.revision = await self.run_experiment()

    async def make_flag(self, key):
        flag = flag_service_pb2.Flag(project=self.project, key=key, type=flag_pb2.VALUE_TYPE_BOOL, client_visible=True)
        request = flag_service_pb2.CreateFlagRequest(flag=flag)
        created = await self.administration.CreateFlag(request, **self.admin)
        if key == TOGGLED:
            return created.revisions[0].revision
        configuration = flag_service_pb2.FlagConfiguration(
            project=self.project, environment="live", flag=key, enabled=True
        )
        shares = [flag_pb2.WeightedVariant(variant=variant, weight=1) for variant in ("on", "off")]
        if key == SPLIT:
            configuration.default_serve.split.variants.extend(shares)
        elif key != ON_TRIAL:
            condition = flag_pb2.Condition(attribute="country", operator=flag_pb2.OPERATOR_EQUALS)
            condition.values.add().string_value = "DE"
            serve = flag_pb2.Serve(split=flag_pb2.Split(variants=shares))
            configuration.rules.append(flag_pb2.Rule(conditions=[condition], serve=serve))
        request = flag_service_pb2.UpdateFlagConfigurationRequest(configuration=configuration)
        updated = await self.administration.UpdateFlagConfiguration(request, **self.admin)
        return updated.revisions[0].revision

    async def run_experiment(self):
        experiments = experiment_service_pb2_grpc.ExperimentServiceStub(self.channel)
        experiment = experiment_service_pb2.Experiment(
            project=self.project,
            environment="live",
            key=EXPERIMENT,
            flag=ON_TRIAL,
            allocation_millionths=1_000_000,
            arms=[
                experiment_service_pb2.Arm(variant="on", weight=1),
                experiment_service_pb2.Arm(variant="off", weight=1, control=True),
            ],
            primary_metric=experiment_service_pb2.Metric(
                key=METRIC, kind=experiment_service_pb2.METRIC_KIND_CONVERSION
            ),
        )
        await experiments.CreateExperiment(
            experiment_service_pb2.CreateExperimentRequest(experiment=experiment), **self.admin
        )
        started = await experiments.StartExperiment(
            experiment_service_pb2.StartExperimentRequest(
                project=self.project, environment="live", experiment=EXPERIMENT
            ),
            **self.admin,
        )
        return started.revisions[0].revision

    def context(self, n):
        context = evaluation_pb2.Context(targeting_key=f"user-{n}")
        context.attributes["country"] = ("DE", "FR")[n % 2]
        return context

    def watch_items(self, mirror):
        request = watch_service_pb2.WatchRequest(resume_token=mirror.token)
        request.heartbeat.seconds = 1
        return self.watch.Watch(request, metadata=self.server_key, wait_for_ready=True)

    def watch_answers(self, answers):
        context = evaluation_pb2.Context(targeting_key=f"listener-{answers.number}")
        request = watch_service_pb2.WatchEvaluationsRequest(
            context=context, flags=[TOGGLED, SPLIT], resume_token=answers.token
        )
        request.heartbeat.seconds = 1
        return self.watch.WatchEvaluations(request, metadata=self.client_key, wait_for_ready=True)
