// A Go program uses Halyard: from a login to a change that arrives on a stream.
//
// Asks for HALYARD_ENDPOINT, HALYARD_EMAIL and HALYARD_PASSWORD, as `halyard dev` writes them into dev.env, and for
// HALYARD_SERVICE_CONFIG, the file of the service config. Makes a project of its own. Ends with 1 and a sentence at the first
// answer that is not what the contract says.
package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"sort"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // Lets the service config's health check work.
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	admin "halyard.example/journey/gen/halyard/admin/v1"
	halyard "halyard.example/journey/gen/halyard/evaluation/v1"
)

const (
	flag     = "new-checkout"
	large    = 9_007_199_254_740_993 // 2^53 + 1, which no float64 holds.
	deadline = 20 * time.Second
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "flag journey:", err)
		os.Exit(1)
	}
}

func run() error {
	endpoint, err := url.Parse(os.Getenv("HALYARD_ENDPOINT"))
	if err != nil {
		return err
	}
	serviceConfig, err := os.ReadFile(os.Getenv("HALYARD_SERVICE_CONFIG"))
	if err != nil {
		return err
	}
	transport := insecure.NewCredentials()
	if endpoint.Scheme == "https" {
		if transport, err = tlsCredentials(); err != nil {
			return err
		}
	}
	connection, err := grpc.NewClient(endpoint.Host,
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(string(serviceConfig)))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return journey(ctx, connection)
}

// tlsCredentials are whom to trust, and the certificate to show, from the files that Halyard's own commands are told of.
func tlsCredentials() (credentials.TransportCredentials, error) {
	authority, err := os.ReadFile(os.Getenv("HALYARD_SERVER_CA_FILE"))
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(authority) {
		return nil, errors.New("HALYARD_SERVER_CA_FILE holds no certificate")
	}
	own, err := tls.LoadX509KeyPair(os.Getenv("HALYARD_OWN_CERTIFICATE_FILE"), os.Getenv("HALYARD_OWN_KEY_FILE"))
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(&tls.Config{RootCAs: authorities, Certificates: []tls.Certificate{own}}), nil
}

func journey(ctx context.Context, connection *grpc.ClientConn) error {
	shop, err := prepare(ctx, connection)
	if err != nil {
		return err
	}
	client := halyard.NewEvaluationServiceClient(connection)
	attributes, err := structpb.NewStruct(map[string]any{"plan": "gold"})
	if err != nil {
		return err
	}
	evaluate := func(ctx context.Context, flag string, minRevision uint64) (*halyard.Evaluation, error) {
		response, err := client.Evaluate(ctx, &halyard.EvaluateRequest{
			Flag:        flag,
			Context:     &halyard.Context{TargetingKey: "alice", Attributes: attributes},
			MinRevision: minRevision,
		})
		return response.GetEvaluation(), err
	}
	server := bearer(ctx, shop.serverKey)

	off, err := evaluate(server, flag, shop.revision)
	if err != nil {
		return err
	}
	quota, err := evaluate(server, "quota", shop.revision)
	if err != nil {
		return err
	}
	if err := all(
		expect("a new flag's variant", off.GetVariant(), "off"),
		expect("a new flag's value", off.GetBoolValue(), false),
		expect("a new flag's reason", off.GetReason(), halyard.Reason_REASON_DISABLED),
		expect("a 64-bit value", quota.GetIntegerValue(), int64(large)),
	); err != nil {
		return err
	}
	fmt.Printf("%s is %s at revision %d\n", flag, off.GetVariant(), off.GetRevision())

	revision, err := watchChange(server, connection, shop)
	if err != nil {
		return err
	}

	on, err := evaluate(server, flag, revision)
	if err != nil {
		return err
	}
	if err := all(
		expect("the flag's variant", on.GetVariant(), "on"),
		expect("the flag's value", on.GetBoolValue(), true),
		expect("the flag's reason", on.GetReason(), halyard.Reason_REASON_STATIC),
	); err != nil {
		return err
	}
	fmt.Printf("%s is %s at revision %d\n", flag, on.GetVariant(), on.GetRevision())

	_, missing := evaluate(server, "no-such-flag", 0)
	_, unknown := evaluate(bearer(ctx, "halyard_server_no"), flag, 0)
	_, invalid := admin.NewFlagServiceClient(connection).CreateFlag(bearer(ctx, shop.token), &admin.CreateFlagRequest{
		Flag: &admin.Flag{Project: shop.project, Key: "not a key"},
	})
	if err := refusals(missing, unknown, invalid); err != nil {
		return err
	}

	started := time.Now()
	short, cancel := context.WithTimeout(server, 300*time.Millisecond)
	defer cancel()
	_, late := evaluate(short, flag, revision+1_000)
	if code := status.Code(late); code != codes.DeadlineExceeded && code != codes.Unavailable {
		return fmt.Errorf("at the deadline: got %v", code)
	}
	if took := time.Since(started); took > 10*time.Second {
		return fmt.Errorf("the deadline was not kept: it took %v", took)
	}
	fmt.Println("refusals carry their codes and details, and deadlines are kept")
	return nil
}

// What an administrator made for the journey.
type shop struct {
	token     string
	project   string
	serverKey string
	revision  uint64
}

func prepare(ctx context.Context, connection *grpc.ClientConn) (*shop, error) {
	login, err := admin.NewAuthServiceClient(connection).Login(ctx, &admin.LoginRequest{
		Email:    os.Getenv("HALYARD_EMAIL"),
		Password: os.Getenv("HALYARD_PASSWORD"),
	})
	if err != nil {
		return nil, err
	}
	fmt.Println("logged in as", login.GetUser().GetEmail())
	ctx = bearer(ctx, login.GetAccessToken())

	suffix := make([]byte, 4)
	if _, err := rand.Read(suffix); err != nil {
		return nil, err
	}
	project := fmt.Sprintf("go-%x", suffix)
	_, err = admin.NewProjectServiceClient(connection).CreateProject(ctx, &admin.CreateProjectRequest{
		Project: &admin.Project{Key: project},
	})
	if err != nil {
		return nil, err
	}
	environment, err := admin.NewEnvironmentServiceClient(connection).CreateEnvironment(ctx, &admin.CreateEnvironmentRequest{
		Environment: &admin.Environment{Project: project, Key: "live"},
	})
	if err != nil {
		return nil, err
	}
	made := &shop{token: login.GetAccessToken(), project: project}
	for _, created := range environment.GetKeys() {
		if created.GetKey().GetKind() == admin.KeyKind_KEY_KIND_SERVER {
			made.serverKey = created.GetSecret()
		}
	}
	fmt.Printf("made %s with an environment and %d keys\n", project, len(environment.GetKeys()))

	for _, flag := range []*admin.Flag{
		{
			Project:    project,
			Key:        "quota",
			Type:       halyard.ValueType_VALUE_TYPE_INTEGER,
			Variants:   []*halyard.Variant{{Key: "large", Value: &halyard.Variant_IntegerValue{IntegerValue: large}}},
			OffVariant: "large",
		},
		{Project: project, Key: flag, Type: halyard.ValueType_VALUE_TYPE_BOOL},
	} {
		created, err := admin.NewFlagServiceClient(connection).CreateFlag(ctx, &admin.CreateFlagRequest{Flag: flag})
		if err != nil {
			return nil, err
		}
		made.revision = created.GetRevisions()[0].GetRevision()
	}
	return made, nil
}

// Sees the flag being turned on, and returns the revision since when it is.
func watchChange(ctx context.Context, connection *grpc.ClientConn, shop *shop) (uint64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := halyard.NewWatchServiceClient(connection)
	stream, err := client.Watch(ctx, &halyard.WatchRequest{})
	if err != nil {
		return 0, err
	}
	mirror := newMirror()
	begin, err := mirror.nextCommit(stream)
	if err != nil {
		return 0, err
	}
	if err := all(
		expect("the first step", begin.GetIntent(), halyard.Intent_INTENT_SNAPSHOT),
		expect("the snapshot's revision", mirror.revision, shop.revision),
		expect("whether the snapshot has the flag on", mirror.isEnabled(flag), false),
	); err != nil {
		return 0, err
	}

	toggled, err := admin.NewFlagServiceClient(connection).ToggleFlags(bearer(ctx, shop.token), &admin.ToggleFlagsRequest{
		Project:     shop.project,
		Environment: "live",
		Toggles:     []*admin.Toggle{{Flag: flag, Enabled: true}},
	})
	if err != nil {
		return 0, err
	}
	revision := toggled.GetRevisions()[0].GetRevision()
	begin, err = mirror.nextCommit(stream)
	if err != nil {
		return 0, err
	}
	if err := all(
		expect("the second step", begin.GetIntent(), halyard.Intent_INTENT_DELTA),
		expect("the change's revision", mirror.revision, revision),
		expect("whether the change turns the flag on", mirror.isEnabled(flag), true),
	); err != nil {
		return 0, err
	}
	fmt.Printf("the stream carried the change to revision %d, %d items, state hash verified\n", revision, len(mirror.items))

	resumed, err := client.Watch(ctx, &halyard.WatchRequest{ResumeToken: mirror.resumeToken})
	if err != nil {
		return 0, err
	}
	begin, err = mirror.nextCommit(resumed)
	if err != nil {
		return 0, err
	}
	return revision, all(
		expect("a resumed stream", begin.GetIntent(), halyard.Intent_INTENT_NONE),
		expect("its revision", mirror.revision, revision),
	)
}

func refusals(missing, unknown, invalid error) error {
	var fields []string
	for _, violation := range detail[*errdetails.BadRequest](invalid).GetFieldViolations() {
		fields = append(fields, violation.GetField())
	}
	sort.Strings(fields)
	return all(
		expect("an unknown flag's code", status.Code(missing), codes.NotFound),
		expect("what is missing", detail[*errdetails.ResourceInfo](missing).GetResourceName(), "no-such-flag"),
		expect("a bad key's code", status.Code(unknown), codes.Unauthenticated),
		expect("why", detail[*errdetails.ErrorInfo](unknown).GetReason(), "INVALID_CREDENTIAL"),
		expect("by whom", detail[*errdetails.ErrorInfo](unknown).GetDomain(), "halyard"),
		expect("an invalid request's code", status.Code(invalid), codes.InvalidArgument),
		expect("every invalid field", fields, []string{"flag.key", "flag.type"}),
	)
}

// The refusal's detail of a type, or an empty one.
func detail[T any](refusal error) (found T) {
	for _, detail := range status.Convert(refusal).Details() {
		if detail, ok := detail.(T); ok {
			return detail
		}
	}
	return found
}

// The context with a credential.
func bearer(ctx context.Context, credential string) context.Context {
	return metadata.NewOutgoingContext(ctx, metadata.Pairs("authorization", "Bearer "+credential))
}

func expect(what string, actual, expected any) error {
	if !reflect.DeepEqual(actual, expected) {
		return fmt.Errorf("%s: expected %v, got %v", what, expected, actual)
	}
	return nil
}

// The first of the errors that there are.
func all(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
