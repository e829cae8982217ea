//! Who may read which log.

use halyard::domain::access::Role;
use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::audit_service_client::AuditServiceClient;
use tonic::Code;
use uuid::Uuid;

use super::person::{member, with_token};
use super::{found, get, intact, of, verify};
use crate::app::{App, Client};
use crate::refusals::refused;

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
            if code == Code::Ok {
                answer.unwrap();
            } else {
                refused(answer, code);
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
        let client = with_token(&app, &app.token);
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
