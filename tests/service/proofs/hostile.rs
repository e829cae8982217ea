//! That no text breaks a method: every field of every request that holds text, found by reflection, is given what breaks parsers,
//! databases, logs and terminals, one field at a time, while the others hold what the method asks for.
//!
//! What is asserted of each answer: it is one of ours, and neither a failure nor a word of what is underneath.

#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::match_same_arms,
    reason = "kinds of fields without text, and a table by names"
)]

use futures_util::{StreamExt as _, stream};
use halyard::pb::admin::v1 as pb;
use halyard::rpc::admin::accounts::SignUp;
use prost_reflect::prost::Message as _;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, MethodDescriptor,
    Value,
};
use tonic::metadata::{AsciiMetadataValue, MetadataValue};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::app::{App, EMAIL, Keys, PASSWORD, evaluate, login};
use crate::people::Person;
use crate::raw;
use crate::support::database;
use crate::words::segment;

/// How deep messages are looked into, and how often the same one within itself.
const DEPTH: usize = 8;

fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "\0",
        "a\0b",
        "\u{1}\u{1b}[31m\u{7f}\u{85}",
        "\r\n\t injected: line",
        "'; drop table users; --",
        "' or '1'='1",
        "\") or 1=1 /*",
        "\\'; commit; --",
        "$1 %s %n {0} ${jndi:ldap://x}",
        "../../../../etc/passwd",
        "\u{202e}\u{200b}\u{feff}",
        "\u{212a}im@ex\u{430}mple.com",
        "\u{10ffff}\u{fffd}\u{d7ff}\u{e000}",
        "e\u{301}\u{301}\u{301}",
        "-1",
        "99999999999999999999999999",
        "1.99999999999999999999999",
        "00000000-0000-0000-0000-000000000000",
        "0000000000000000",
        "{\"a\":",
        "(((((((((((((((((((((a*)*)*)*)*)*)*)*)*)*",
        "NaN",
        " ",
    ]
    .map(str::to_owned)
    .into();
    texts.push("x".repeat(100_000));
    texts.push("ß".repeat(300));
    texts
}

/// A way to a field that holds text.
type Path = Vec<FieldDescriptor>;

/// Every field of a message that holds text.
fn paths(message: &MessageDescriptor) -> Vec<Path> {
    let mut found = Vec::new();
    walk(message, &mut Vec::new(), &mut found);
    found
}

fn walk(message: &MessageDescriptor, above: &mut Path, found: &mut Vec<Path>) {
    if above.len() >= DEPTH {
        return;
    }
    for field in message.fields() {
        let value = if field.is_map() {
            map_value(&field)
        } else {
            field.clone()
        };
        // A value within a value is a value.
        if above.iter().filter(|it| it.full_name() == field.full_name()).count() > 1 {
            continue;
        }
        above.push(field.clone());
        match value.kind() {
            Kind::String => found.push(above.clone()),
            Kind::Message(inner) => {
                // Of a map, the key is text as well.
                if field.is_map() {
                    found.push(above.clone());
                }
                walk(&inner, above, found);
            }
            _ if field.is_map() => found.push(above.clone()),
            _ => {}
        }
        above.pop();
    }
}

fn map_value(field: &FieldDescriptor) -> FieldDescriptor {
    let Kind::Message(entry) = field.kind() else {
        panic!("a map has entries")
    };
    entry.map_entry_value_field()
}

/// What there is to be named.
struct Ground {
    app: App,
    keys: Keys,
    administrator: Person,
    upload: String,
    invitation: String,
}

impl Ground {
    async fn new() -> Self {
        let open = |options: &mut halyard::server::Options| options.accounts.sign_up = SignUp::On;
        let app = App::start_with(database().await, open).await;
        let keys = app.shop().await;
        app.flag("f").await;
        segment(&app, "s").await;
        let request = pb::CreateSegmentUploadRequest {
            project: "shop".into(),
            environment: "dev".into(),
            segment: "s".into(),
        };
        let upload = app.segments().create_segment_upload(request).await.unwrap();
        let request = pb::CreateInvitationRequest {
            project: "shop".into(),
            role: pb::ProjectRole::Viewer.into(),
            ..Default::default()
        };
        let invitation = app.projects().create_invitation(request).await.unwrap();
        Self {
            invitation: invitation.into_inner().token,
            administrator: Person::administrator(&app).await,
            upload: upload.into_inner().upload,
            app,
            keys,
        }
    }

    /// What a field of this name asks for. `None`: it is left out.
    fn plain(&self, method: &str, field: &FieldDescriptor) -> Option<Value> {
        let id = &self.administrator.id.to_string();
        let text = match field.name() {
            "project" => "shop",
            "environment" => "dev",
            "flag" => "f",
            "segment" => "s",
            "upload" => &self.upload,
            "key" if method.starts_with("Create") => "new",
            "key" if method.contains("Environment") => "dev",
            "key" if method.contains("Segment") => "s",
            "key" if method.contains("Project") => "shop",
            "key" => "f",
            "key_id" => &self.keys.server_id,
            // One of the two says which.
            "id" | "email" if method == "GetUser" => "",
            "id" => id,
            "service_token_id" | "invitation_id" => "0000000000000001",
            "email" if method == "Login" => EMAIL,
            "user" => EMAIL,
            "email" => "somebody@example.com",
            "password" | "current_password" | "new_password" | "password_confirmation" => PASSWORD,
            "token" => &self.invitation,
            "refresh_token" => "x",
            "targeting_key" => "ada",
            // The lists of what is served have keys of their own.
            _ => "",
        };
        match field.kind() {
            Kind::String if !field.is_list() && !text.is_empty() => Some(Value::String(text.to_owned())),
            Kind::Bool if field.name() == "validate_only" => Some(Value::Bool(true)),
            Kind::Enum(_) if !field.is_list() && field.name() != "lifecycle" => Some(Value::EnumNumber(1)),
            Kind::Uint64 if field.name() == "revision" => Some(Value::U64(1)),
            Kind::Message(inner) if !field.is_list() && !field.is_map() => {
                let nested = ["project", "environment", "flag", "segment", "configuration", "user"];
                nested
                    .contains(&field.name())
                    .then(|| Value::Message(self.message(method, &inner)))
            }
            _ => None,
        }
    }

    fn message(&self, method: &str, descriptor: &MessageDescriptor) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields() {
            if field.containing_oneof().is_none()
                && let Some(value) = self.plain(method, &field)
            {
                message.set_field(&field, value);
            }
        }
        message
    }

    fn credential(&self, method: &MethodDescriptor) -> Option<String> {
        if method.parent_service().full_name().starts_with("halyard.evaluation.") {
            return Some(self.keys.server.clone());
        }
        let open = ["SignUp", "Login", "Refresh", "AcceptInvitation"];
        (!open.contains(&method.name())).then(|| self.administrator.token())
    }

    async fn call(&self, method: &MethodDescriptor, message: Vec<u8>) -> Result<Vec<u8>, Status> {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        raw::call(&self.app.channel, &path, self.credential(method).as_deref(), message).await
    }
}

/// Puts a text at the end of a path, making what is on the way.
fn put(message: &mut DynamicMessage, path: &[FieldDescriptor], text: &str) {
    let [field, rest @ ..] = path else { return };
    if field.is_map() {
        let value = map_value(field);
        let (key, value) = match (value.kind(), rest) {
            (Kind::Message(inner), [_, ..]) => {
                let mut within = DynamicMessage::new(inner);
                put(&mut within, rest, text);
                ("key".to_owned(), Value::Message(within))
            }
            (Kind::String, _) => (text.to_owned(), Value::String(text.to_owned())),
            _ => (text.to_owned(), Value::default_value_for_field(&value)),
        };
        message.set_field(field, Value::Map([(MapKey::String(key), value)].into()));
        return;
    }
    let value = match field.kind() {
        Kind::Message(inner) => {
            let mut within = match message.get_field(field).into_owned() {
                Value::Message(within) => within,
                _ => DynamicMessage::new(inner),
            };
            put(&mut within, rest, text);
            Value::Message(within)
        }
        _ => Value::String(text.to_owned()),
    };
    let value = if field.cardinality() == Cardinality::Repeated {
        Value::List(vec![value])
    } else {
        value
    };
    message.set_field(field, value);
}

/// What is wrong with an answer, if it is.
fn wrong(answer: &Result<Vec<u8>, Status>) -> Option<String> {
    let Err(status) = answer else { return None };
    let failures = [
        Code::Internal,
        Code::Unknown,
        Code::DataLoss,
        Code::Unimplemented,
        Code::Unavailable,
        Code::DeadlineExceeded,
        Code::Cancelled,
    ];
    let info = status.get_details_error_info();
    let said = format!("{status:?} {}", String::from_utf8_lossy(status.details())).to_lowercase();
    let leaks = [
        "select ",
        "insert into",
        "update users",
        "sqlstate",
        "relation \"",
        "constraint",
        "syntax error",
        "invalid byte",
        "panicked",
        "src/",
        "postgres",
        "tokio",
        "prost",
    ];
    if failures.contains(&status.code()) {
        return Some(format!("failed: {status:?}"));
    }
    if info.is_none_or(|info| info.domain != "halyard" || info.reason.is_empty()) {
        return Some(format!("is not ours: {status:?}"));
    }
    leaks
        .iter()
        .find(|leak| said.contains(*leak))
        .map(|leak| format!("tells of {leak}: {said}"))
}

fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(halyard::pb::DESCRIPTORS).unwrap();
    let services = pool
        .services()
        .filter(|service| service.full_name().starts_with("halyard."));
    services
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect()
}

/// Fails unless the server goes on as if nothing had been asked.
async fn serves(ground: &Ground) {
    login(&ground.app.channel, EMAIL, PASSWORD).await.unwrap();
    evaluate(&ground.app.channel, &ground.keys.server, "f", 0)
        .await
        .unwrap();
}

#[test]
fn an_answer_that_failed_or_tells_is_found() {
    use tonic_types::ErrorDetails;
    let ours = |code, message: &str| {
        let details = ErrorDetails::with_error_info("REASON", "halyard", std::collections::HashMap::new());
        Err(Status::with_error_details(code, message, details))
    };
    assert!(wrong(&ours(Code::InvalidArgument, "is empty")).is_none());
    assert!(wrong(&ours(Code::Internal, "is empty")).is_some());
    assert!(wrong(&ours(Code::NotFound, "syntax error at or near")).is_some());
    assert!(wrong(&Err(Status::invalid_argument("is empty"))).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_breaks_a_method() {
    let ground = Ground::new().await;
    let (texts, mut calls) = (texts(), 0);
    let mut found = Vec::new();
    for method in methods() {
        let paths = paths(&method.input());
        calls += paths.len() * texts.len();
        let cases = paths.iter().flat_map(|path| texts.iter().map(move |text| (path, text)));
        let answers = stream::iter(cases.map(async |(path, text)| {
            let mut message = ground.message(method.name(), &method.input());
            put(&mut message, path, text);
            let answer = ground.call(&method, message.encode_to_vec()).await;
            let wrong = wrong(&answer)?;
            let path: Vec<_> = path.iter().map(FieldDescriptor::name).collect();
            let text: String = text.chars().take(40).collect();
            Some(format!("{} {} = {text:?} {wrong}", method.full_name(), path.join(".")))
        }));
        let wrong: Vec<_> = answers.buffer_unordered(8).filter_map(async |it| it).collect().await;
        found.extend(wrong);
        serves(&ground).await;
    }
    assert!(found.is_empty(), "{} answers:\n{}", found.len(), found.join("\n"));
    assert!(calls > 5_000, "{calls}");
}

/// Written, not only validated: what is accepted is read back as it was, and what is not changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_accepted_is_kept_as_it_is() {
    let ground = Ground::new().await;
    for text in texts() {
        let words = pb::UpdateFlagRequest {
            flag: Some(pb::Flag {
                description: text.clone(),
                ..crate::app::bool_flag("f")
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["description".into()],
            }),
            ..Default::default()
        };
        let get = pb::GetFlagRequest {
            project: "shop".into(),
            flag: "f".into(),
        };
        let written = ground.app.flags().update_flag(words).await;
        let read = ground
            .app
            .flags()
            .get_flag(get)
            .await
            .unwrap()
            .into_inner()
            .flag
            .unwrap();
        match written {
            Ok(_) => assert_eq!(read.description, text),
            Err(status) => {
                assert_eq!(status.code(), Code::InvalidArgument, "{text:?}");
                assert_ne!(read.description, text);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_message_are_refused_by_every_method() {
    let ground = Ground::new().await;
    // Text that is no UTF-8; a length beyond the end; an endless number; an unknown field.
    let invalid: [&[u8]; 4] = [b"\x0a\x02\xff\xfe", b"\x0a\xff\xff\x03x", &[0xff; 40], b"\x0a"];
    for method in methods() {
        for bytes in invalid {
            let answer = ground.call(&method, bytes.to_vec()).await;
            assert!(wrong(&answer).is_none(), "{}: {answer:?}", method.full_name());
        }
        let unknown = ground.call(&method, b"\xfa\x7f\x03abc".to_vec()).await;
        assert!(wrong(&unknown).is_none(), "{}: {unknown:?}", method.full_name());
    }
    serves(&ground).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_makes_no_sense_breaks_nothing() {
    let ground = Ground::new().await;
    let mut values: Vec<AsciiMetadataValue> = [
        "",
        " ",
        "Bearer",
        "Bearer ",
        "Bearer  x",
        "bearer\tx",
        "Basic eDp4",
        "-1",
        "9e99S",
    ]
    .map(|text| text.parse().unwrap())
    .into();
    values.push(MetadataValue::try_from("x".repeat(9_000)).unwrap());
    // Not ASCII, and not text either.
    values.push(MetadataValue::try_from(&b"Bearer \xff\xfe"[..]).unwrap());
    values.push(MetadataValue::try_from("Bearer \u{212a}".as_bytes()).unwrap());
    for method in methods() {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        for name in [
            "authorization",
            "x-halyard-reason",
            "grpc-timeout",
            "grpc-encoding",
            "traceparent",
            "content-encoding",
        ] {
            for value in &values {
                let message = ground.message(method.name(), &method.input()).encode_to_vec();
                let mut request = Request::new(message);
                if let Some(credential) = ground.credential(&method) {
                    let header = format!("Bearer {credential}").parse().unwrap();
                    request.metadata_mut().insert("authorization", header);
                }
                request.metadata_mut().insert(name, value.clone());
                let answer = raw::send(&ground.app.channel, &path, request).await;
                let unsupported =
                    name == "grpc-encoding" && answer.as_ref().is_err_and(|it| it.code() == Code::Unimplemented);
                assert!(
                    unsupported || wrong(&answer).is_none(),
                    "{path} {name}: {value:?}: {answer:?}"
                );
            }
        }
    }
    serves(&ground).await;
}
