//! The audit log as its readers have it.

use halyard::domain::access::Role;
use halyard::domain::audit::{Entry, Head};
use halyard::domain::change::Digest;
use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::audit_service_client::AuditServiceClient;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use halyard::pb::admin::v1::verify_chain_response::Verdict;
use halyard::pb::evaluation::v1 as evaluation;
use tonic::{Code, Request};
use uuid::Uuid;

use crate::app::{App, Client, EMAIL, PASSWORD, login, toggle};
use crate::people::member;
use crate::refusals::{invalid, refused};

fn of(project: &str) -> pb::ListEntriesRequest {
    pb::ListEntriesRequest {
        project: project.into(),
        ..Default::default()
    }
}

fn verify(project: &str) -> pb::VerifyChainRequest {
    pb::VerifyChainRequest {
        project: project.into(),
        ..Default::default()
    }
}

fn get(project: &str, id: &str) -> pb::GetEntryRequest {
    pb::GetEntryRequest {
        project: project.into(),
        id: id.into(),
        ..Default::default()
    }
}

/// Every entry that a request finds, page by page; `between` is done before each page but the first.
async fn all(app: &App, request: &pb::ListEntriesRequest, mut between: impl AsyncFnMut()) -> Vec<pb::AuditEntry> {
    let (mut request, mut entries) = (request.clone(), Vec::new());
    loop {
        let page = app.audit().list_entries(request.clone()).await.unwrap().into_inner();
        assert!(request.page_size == 0 || page.entries.len() <= usize::try_from(request.page_size).unwrap());
        entries.extend(page.entries);
        if page.next_page_token.is_empty() {
            return entries;
        }
        request.page_token = page.next_page_token;
        between().await;
    }
}

async fn found(app: &App, request: &pb::ListEntriesRequest) -> Vec<pb::AuditEntry> {
    all(app, request, async || {}).await
}

/// The head of an intact chain.
async fn intact(app: &App, request: pb::VerifyChainRequest) -> pb::ChainHead {
    match app.audit().verify_chain(request).await.unwrap().into_inner().verdict {
        Some(Verdict::Intact(head)) => head,
        other => panic!("{other:?}"),
    }
}

/// The first broken place of a chain.
async fn broken(app: &App, request: pb::VerifyChainRequest) -> (u64, pb::ChainFlaw) {
    match app.audit().verify_chain(request).await.unwrap().into_inner().verdict {
        Some(Verdict::Broken(broken)) => {
            assert!(broken.description.contains(&broken.sequence.to_string()));
            (broken.sequence, broken.flaw())
        }
        other => panic!("{other:?}"),
    }
}

/// A hash as the proto file says how to make it.
fn rehash(entry: &pb::AuditEntry) -> Digest {
    let time = entry.time.unwrap();
    let entry_of = Entry {
        id: entry.id.parse().unwrap(),
        at: jiff::Timestamp::new(time.seconds, time.nanos).unwrap(),
        actor: entry.actor.clone(),
        actor_name: entry.actor_name.clone(),
        credential: entry.credential.clone(),
        action: entry.action.clone(),
        entity: entry.entity.clone(),
        entity_key: entry.entity_key.clone(),
        project: entry.project.clone(),
        environment: entry.environment.clone(),
        before: entry.before.clone(),
        after: entry.after.clone(),
        request_id: entry.request_id.clone(),
        peer: entry.peer.clone(),
        reason: entry.reason.clone(),
    };
    entry_of.hash(Digest::from_hex(&entry.previous_hash).unwrap(), entry.sequence)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_says_who_did_what_with_which_credential_and_why() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    let id = Uuid::new_v4().to_string();
    let mut request = Request::new(pb::ToggleFlagsRequest {
        request_id: id.clone(),
        ..toggle("f", true)
    });
    request
        .metadata_mut()
        .insert("x-halyard-reason", "the launch".parse().unwrap());
    app.flags().toggle_flags(request).await.unwrap();

    let entries = found(&app, &of("shop")).await;
    let entry = entries.first().unwrap();
    let me = app.auth().who_am_i(pb::WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!(entry.actor, format!("user:{}", me.user.unwrap().id));
    assert!(Uuid::parse_str(&entry.credential).is_ok() && !app.token.contains(&entry.credential));
    let said = [
        &entry.actor_name,
        &entry.action,
        &entry.entity,
        &entry.entity_key,
        &entry.project,
        &entry.environment,
        &entry.peer,
        &entry.reason,
        &entry.request_id,
    ];
    let expected = [
        EMAIL,
        "flag_configuration.toggle",
        "flag_configuration",
        "f",
        "shop",
        "dev",
        "127.0.0.1",
        "the launch",
        &id,
    ];
    assert_eq!(said, expected);
    assert_eq!(entry.before, None);
    assert!(entry.after.as_ref().unwrap().contains("\"enabled\":true"));

    // The whole chain can be recomputed from what is listed.
    let mut next: Option<&pb::AuditEntry> = None;
    for entry in &entries {
        assert_eq!(rehash(entry).to_string(), entry.hash);
        if let Some(next) = next {
            assert_eq!((next.sequence, &next.previous_hash), (entry.sequence + 1, &entry.hash));
        }
        next = Some(entry);
    }
    assert_eq!(next.unwrap().previous_hash, "0".repeat(64));
    let head = intact(&app, verify("shop")).await;
    assert_eq!((head.sequence, &head.hash), (entries[0].sequence, &entries[0].hash));
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_pages_hold_still_while_entries_are_added() {
    let app = App::start().await;
    app.shop().await;
    app.environment("shop", "prod").await;
    for n in 0..4 {
        app.flag(&format!("f{n}")).await;
    }
    let developer = member(&app, "shop", Role::Developer).await;
    for n in 0..12 {
        let (flag, on) = (format!("f{}", n % 4), n < 4);
        let mut flags = FlagServiceClient::new(developer.client.clone());
        flags.toggle_flags(toggle(&flag, on)).await.unwrap();
    }
    let everything = found(&app, &of("shop")).await;
    assert!(everything.is_sorted_by(|a, b| a.sequence > b.sequence));
    assert!(everything.len() > 12, "{}", everything.len());
    let middle = everything[everything.len() / 2].time;

    type Passes<'a> = Box<dyn Fn(&pb::AuditEntry) -> bool + 'a>;
    let nanos = |time: &Option<prost_types::Timestamp>| time.map(|time| (time.seconds, time.nanos));
    let request = || of("shop");
    let cases: Vec<(pb::ListEntriesRequest, Passes<'_>)> = vec![
        (request(), Box::new(|_| true)),
        (
            pb::ListEntriesRequest {
                entity: "flag".into(),
                ..request()
            },
            Box::new(|entry| entry.entity == "flag"),
        ),
        (
            pb::ListEntriesRequest {
                entity_key: "f1".into(),
                ..request()
            },
            Box::new(|entry| entry.entity_key == "f1"),
        ),
        (
            pb::ListEntriesRequest {
                entity: "flag_configuration".into(),
                entity_key: "f1".into(),
                environment: "dev".into(),
                ..request()
            },
            Box::new(|entry| (entry.entity.as_str(), entry.entity_key.as_str()) == ("flag_configuration", "f1")),
        ),
        (
            pb::ListEntriesRequest {
                action: "key.create".into(),
                ..request()
            },
            Box::new(|entry| entry.action == "key.create"),
        ),
        (
            pb::ListEntriesRequest {
                actor: developer.actor.clone(),
                ..request()
            },
            Box::new(|entry| entry.actor == developer.actor),
        ),
        (
            pb::ListEntriesRequest {
                environment: "prod".into(),
                ..request()
            },
            Box::new(|entry| entry.environment == "prod"),
        ),
        (
            pb::ListEntriesRequest {
                start_time: middle,
                ..request()
            },
            Box::new(|entry| nanos(&entry.time) >= nanos(&middle)),
        ),
        (
            pb::ListEntriesRequest {
                end_time: middle,
                actor: developer.actor.clone(),
                ..request()
            },
            Box::new(|entry| nanos(&entry.time) < nanos(&middle) && entry.actor == developer.actor),
        ),
        (
            pb::ListEntriesRequest {
                action: "nothing.happened".into(),
                ..request()
            },
            Box::new(|_| false),
        ),
    ];
    // What is added between the pages of one case passes the filters of the others too.
    let mut enabled = true;
    for (case, passes) in cases {
        let before = found(&app, &of("shop")).await;
        let expected: Vec<_> = before.into_iter().filter(|entry| passes(entry)).collect();
        for page_size in [3, 7, 1_000] {
            let request = pb::ListEntriesRequest {
                page_size,
                ..case.clone()
            };
            let newest = expected.first().map_or(0, |entry| entry.sequence);
            let mut additions = 0..2;
            let listed = all(&app, &request, async || {
                if additions.next().is_some() {
                    enabled = !enabled;
                    app.flags().toggle_flags(toggle("f1", enabled)).await.unwrap();
                }
            })
            .await;
            // Those added during a case before are newer than what was expected; nothing of the expected is lost or doubled.
            let listed: Vec<_> = listed.into_iter().filter(|entry| entry.sequence <= newest).collect();
            assert_eq!(listed, expected, "{request:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_when_its_entries_grow_large() {
    let app = App::start().await;
    app.project("shop").await;
    let flag = |n: usize| pb::Flag {
        r#type: evaluation::ValueType::String.into(),
        variants: vec![evaluation::Variant {
            key: "large".into(),
            value: Some(evaluation::variant::Value::StringValue(n.to_string().repeat(200_000))),
            ..Default::default()
        }],
        ..crate::app::bool_flag("f")
    };
    let create = pb::CreateFlagRequest {
        flag: Some(flag(0)),
        ..Default::default()
    };
    app.flags().create_flag(create).await.unwrap();
    for n in 1..10 {
        let update = pb::UpdateFlagRequest {
            flag: Some(flag(n)),
            ..Default::default()
        };
        app.flags().update_flag(update).await.unwrap();
    }
    let first = app.audit().list_entries(of("shop")).await.unwrap().into_inner();
    assert!((3..9).contains(&first.entries.len()), "{}", first.entries.len());
    assert!(!first.next_page_token.is_empty());
    let sequences: Vec<_> = found(&app, &of("shop"))
        .await
        .iter()
        .map(|entry| entry.sequence)
        .collect();
    assert_eq!(sequences, (1..=11).rev().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_belongs_to_its_chain_and_filters() {
    let app = App::start().await;
    app.shop().await;
    app.project("other").await;
    let request = pb::ListEntriesRequest {
        page_size: 1,
        ..of("shop")
    };
    let page_token = app
        .audit()
        .list_entries(request.clone())
        .await
        .unwrap()
        .into_inner()
        .next_page_token;
    assert!(!page_token.is_empty());
    let others = [
        pb::ListEntriesRequest {
            entity: "flag".into(),
            ..request.clone()
        },
        pb::ListEntriesRequest {
            project: "other".into(),
            ..request.clone()
        },
        pb::ListEntriesRequest {
            project: String::new(),
            ..request.clone()
        },
    ];
    for other in others {
        let page_token = page_token.clone();
        invalid(
            app.audit()
                .list_entries(pb::ListEntriesRequest { page_token, ..other })
                .await,
            &["page_token"],
        );
    }

    // The same question about a project made anew is about another chain.
    let delete = pb::DeleteProjectRequest {
        project: "shop".into(),
        confirm: "shop".into(),
        ..Default::default()
    };
    app.projects().delete_project(delete).await.unwrap();
    app.project("shop").await;
    let request = pb::ListEntriesRequest { page_token, ..request };
    invalid(app.audit().list_entries(request).await, &["page_token"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_with_a_question_is_told_at_once() {
    let app = App::start().await;
    app.shop().await;
    let request = pb::ListEntriesRequest {
        project: "No key".into(),
        chain: "a\0b".into(),
        entity: "x".repeat(300),
        actor: "a\u{1b}b".into(),
        start_time: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }),
        end_time: Some(prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        }),
        page_size: -1,
        page_token: "nonsense".into(),
        ..Default::default()
    };
    let fields = [
        "page_token",
        "page_size",
        "chain",
        "chain",
        "project",
        "start_time",
        "end_time",
        "entity",
        "actor",
    ];
    invalid(app.audit().list_entries(request).await, &fields);
    invalid(app.audit().get_entry(get("shop", "x")).await, &["id"]);
    let kept = Some(pb::ChainHead {
        sequence: 1,
        hash: "ab".into(),
    });
    let request = pb::VerifyChainRequest { kept, ..verify("shop") };
    invalid(app.audit().verify_chain(request).await, &["kept.hash"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_read_by_owners_and_admins_of_its_project_and_by_nobody_else() {
    let app = App::start().await;
    app.shop().await;
    app.project("other").await;
    let in_shop = found(&app, &of("shop")).await[0].id.clone();
    let in_other = found(&app, &of("other")).await[0].id.clone();
    let instance = found(&app, &of("")).await[0].id.clone();

    let check = async |client: Client, project: &str, chain: &str, id: &str, code: Code| {
        let mut audit = AuditServiceClient::new(client);
        let (project, chain) = (project.to_owned(), chain.to_owned());
        let list = pb::ListEntriesRequest {
            project: project.clone(),
            chain: chain.clone(),
            ..Default::default()
        };
        let get = pb::GetEntryRequest {
            project: project.clone(),
            chain: chain.clone(),
            id: id.to_owned(),
        };
        let verify = pb::VerifyChainRequest {
            project,
            chain,
            kept: None,
        };
        let answers = [
            audit.list_entries(list).await.map(drop),
            audit.get_entry(get).await.map(drop),
            audit.verify_chain(verify).await.map(drop),
        ];
        for answer in answers {
            match code {
                Code::Ok => answer.unwrap(),
                code => drop(refused(answer, code)),
            }
        }
    };
    for role in Role::ALL {
        let person = member(&app, "shop", role).await;
        let may = matches!(role, Role::Owner | Role::Admin);
        let own = if may { Code::Ok } else { Code::PermissionDenied };
        check(person.client.clone(), "shop", "", &in_shop, own).await;
        for (project, chain, id) in [
            ("other", "", &in_other),
            ("nothing", "", &in_other),
            ("", "", &instance),
            ("", "1", &in_shop),
            ("", "instance", &instance),
        ] {
            check(person.client.clone(), project, chain, id, Code::PermissionDenied).await;
        }
        let mut audit = AuditServiceClient::new(person.client.clone());
        refused(
            audit.list_chains(pb::ListChainsRequest::default()).await,
            Code::PermissionDenied,
        );
        if may {
            // An entry of another project is not in this one, whether there is such an entry or not.
            for id in [&in_other, &instance, &Uuid::nil().to_string()] {
                refused(audit.get_entry(get("shop", id)).await, Code::NotFound);
            }
        }
    }
    for (project, chain, id) in [
        ("other", "", &in_other),
        ("", "", &instance),
        ("", "instance", &instance),
    ] {
        let client = crate::people::with_token(&app, &app.token);
        check(client, project, chain, id, Code::Ok).await;
    }
    refused(app.audit().list_entries(of("nothing")).await, Code::NotFound);
    let unknown = pb::VerifyChainRequest {
        chain: "nothing".into(),
        ..Default::default()
    };
    refused(app.audit().verify_chain(unknown).await, Code::NotFound);
    refused(
        AuditServiceClient::new(app.channel.clone())
            .list_entries(of("shop"))
            .await,
        Code::Unauthenticated,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_deleted_project_stays_for_administrators() {
    let app = App::start().await;
    app.shop().await;
    let owner = member(&app, "shop", Role::Owner).await;
    let mut theirs = AuditServiceClient::new(owner.client.clone());
    assert!(theirs.list_entries(of("shop")).await.is_ok());
    let delete = pb::DeleteProjectRequest {
        project: "shop".into(),
        confirm: "shop".into(),
        ..Default::default()
    };
    app.projects().delete_project(delete).await.unwrap();
    // Whether or not the replica has heard of it.
    let answer = theirs.list_entries(of("shop")).await.expect_err("it is gone");
    assert!(
        matches!(answer.code(), Code::NotFound | Code::PermissionDenied),
        "{answer:?}"
    );

    let entries = found(&app, &of("shop")).await;
    let last = entries.first().unwrap();
    assert_eq!((last.action.as_str(), &last.after), ("project.delete", &None));
    let chain = last.chain.clone();
    let head = intact(&app, verify("shop")).await;
    assert_eq!(head.sequence, last.sequence);
    app.audit().get_entry(get("shop", &last.id)).await.unwrap();

    app.project("shop").await;
    let anew = found(&app, &of("shop")).await;
    assert_eq!(anew.len(), 1);
    let by_name = pb::ListEntriesRequest {
        chain: chain.clone(),
        ..Default::default()
    };
    assert_eq!(found(&app, &by_name).await, entries);
    let chains = app
        .audit()
        .list_chains(pb::ListChainsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .chains;
    let listed: Vec<_> = chains
        .iter()
        .map(|chain| (chain.name.as_str(), chain.project.as_str(), chain.deleted))
        .collect();
    let mut expected = [
        (chain.as_str(), "shop", true),
        (anew[0].chain.as_str(), "shop", false),
        ("instance", "", false),
    ];
    expected.sort_unstable();
    assert_eq!(listed, expected);
    let old = chains.iter().find(|listed| listed.name == chain).unwrap();
    assert_eq!(old.head.as_ref(), Some(&head));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_tampered_with_is_found() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    for enabled in [true, false, true] {
        app.toggle("f", enabled).await;
    }
    let chain = found(&app, &of("shop")).await[0].chain.clone();
    let sql = app.database.client().await;
    let last = intact(&app, verify("shop")).await;
    let check = async |statement: &str, kept: bool, expected: (u64, pb::ChainFlaw)| {
        let keep = "create table kept as table audit_entries; create table kept_heads as table audit_heads";
        sql.batch_execute(keep).await.unwrap();
        sql.batch_execute(&statement.replace("MINE", &format!("chain = '{chain}'")))
            .await
            .unwrap();
        let request = pb::VerifyChainRequest {
            kept: kept.then(|| last.clone()),
            ..verify("shop")
        };
        assert_eq!(broken(&app, request).await, expected, "{statement}");
        let restore = "
            truncate audit_entries, audit_heads;
            insert into audit_entries table kept; insert into audit_heads table kept_heads;
            drop table kept, kept_heads";
        sql.batch_execute(restore).await.unwrap();
    };
    use pb::ChainFlaw::{Altered, Missing, Surplus};
    let changed =
        "update audit_entries set after = replace(after, 'true', 'false') where MINE and action like '%toggle'";
    check(changed, false, (last.sequence - 2, Altered)).await;
    let deleted = "delete from audit_entries where MINE and sequence = 2";
    check(deleted, false, (2, Missing)).await;
    let reordered = "
        update audit_entries set sequence = 0 where MINE and sequence = 2;
        update audit_entries set sequence = 2 where MINE and sequence = 3;
        update audit_entries set sequence = 3 where MINE and sequence = 0";
    check(reordered, false, (2, Altered)).await;
    let inserted = "
        insert into audit_entries select chain, sequence + 1, gen_random_uuid(), at, actor, actor_name, credential, action,
            entity, entity_key, project, environment, before, after, request_id, peer, reason, hash, hash
        from audit_entries where MINE order by sequence desc limit 1";
    check(inserted, false, (last.sequence + 1, Altered)).await;
    let ahead = "update audit_heads set sequence = sequence - 1 where MINE";
    check(ahead, false, (last.sequence, Surplus)).await;
    let truncated = "delete from audit_entries where MINE and sequence > 3";
    check(truncated, false, (4, Missing)).await;
    let with_its_head = format!(
        "{truncated};
        update audit_heads h set sequence = 3, hash = e.hash from audit_entries e
        where h.MINE and e.chain = h.chain and e.sequence = 3"
    );
    check(&with_its_head, true, (4, Missing)).await;

    let request = pb::VerifyChainRequest {
        kept: Some(last.clone()),
        ..verify("shop")
    };
    assert_eq!(intact(&app, request).await, last);
    let kept: Head = format!("{}:{}", last.sequence, last.hash).parse().unwrap();
    assert_eq!(kept.sequence, last.sequence);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_entry_ever_holds_a_secret() {
    const WRONG: &str = "a wrong password, of all things";
    let app = App::start().await;
    let keys = app.shop().await;
    let id = Uuid::new_v4().to_string();
    let create = pb::CreateKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        kind: pb::KeyKind::Server.into(),
        request_id: id,
        ..Default::default()
    };
    let created = app
        .environments()
        .create_key(create.clone())
        .await
        .unwrap()
        .into_inner();
    app.environments().create_key(create).await.unwrap();
    let revoke = pb::RevokeKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        key_id: keys.server_id.clone(),
        ..Default::default()
    };
    app.environments().revoke_key(revoke).await.unwrap();
    refused(login(&app.channel, EMAIL, WRONG).await, Code::Unauthenticated);
    refused(
        login(&app.channel, WRONG.split(' ').next().unwrap(), WRONG).await,
        Code::InvalidArgument,
    );
    refused(
        login(&app.channel, "eve@example.com", WRONG).await,
        Code::Unauthenticated,
    );

    let sql = app.database.client().await;
    let hashes = "
        select encode(secret_hash, 'hex') from environment_keys
        union all select encode(secret_hash, 'base64') from environment_keys
        union all select password_hash from users";
    let hashes = sql.query(hashes, &[]).await.unwrap();
    let hashes = hashes.iter().map(|row| row.get::<_, String>(0));
    let (head, signature) = app.token.rsplit_once('.').unwrap();
    let tokens = [app.token.as_str(), head, signature].map(str::to_owned);
    let secrets = [
        PASSWORD,
        WRONG,
        &keys.server,
        &keys.client,
        &created.key.unwrap().secret,
    ]
    .map(str::to_owned);
    // What stands between the id of a key and its checksum is its secret part.
    let parts = secrets[2..]
        .iter()
        .filter_map(|key| key.rsplit('_').nth(1))
        .map(str::to_owned);
    let all: Vec<_> = hashes.chain(tokens).chain(parts).chain(secrets.clone()).collect();
    assert!(all.iter().all(|secret| secret.len() > 20), "{all:?}");

    let rows = sql
        .query("select to_jsonb(e)::text from audit_entries e", &[])
        .await
        .unwrap();
    let stored = rows.iter().map(|row| row.get::<_, String>(0));
    let shown = [found(&app, &of("shop")).await, found(&app, &of("")).await].concat();
    let shown = shown.iter().map(|entry| format!("{entry:?}"));
    let entries: Vec<_> = stored.chain(shown).collect();
    assert!(entries.len() > 10, "{}", entries.len());
    for entry in entries {
        for secret in &all {
            assert!(!entry.contains(secret.as_str()), "{secret} is in {entry}");
        }
    }
}
