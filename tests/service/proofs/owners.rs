//! That a project keeps an owner who can act, whichever way its owners go.

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::ProjectRole::{Admin, Owner, Viewer};
use tonic::{Code, Status};

use crate::app::{App, EMAIL};
use crate::people::{Person, remove, set};
use crate::refusals::refused;

async fn delete(app: &App, person: &Person) -> Result<(), Status> {
    let request = pb::DeleteUserRequest {
        id: person.id.to_string(),
        ..Default::default()
    };
    app.users().delete_user(request).await.map(drop)
}

async fn activate(app: &App, person: &Person, active: bool) {
    let request = pb::UpdateUserRequest {
        user: Some(pb::User {
            id: person.id.to_string(),
            active,
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["active".into()],
        }),
        ..Default::default()
    };
    app.users().update_user(request).await.unwrap();
}

/// Whether it is the member or the account that goes, an owner who sleeps takes nobody's place.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_cannot_act_counts_for_none() {
    let app = App::start().await;
    app.project("shop").await;
    let mia = Person::member(&app, "mia@example.com", "shop", Owner).await;
    let bob = Person::member(&app, "bob@example.com", "shop", Owner).await;
    let mut projects = app.projects();
    projects.remove_member(remove("shop", EMAIL)).await.unwrap();
    activate(&app, &bob, false).await;
    let blocked = Code::FailedPrecondition;
    refused(delete(&app, &mia).await, blocked);
    refused(projects.remove_member(remove("shop", &mia.email)).await, blocked);
    for role in [Admin, Viewer] {
        refused(projects.set_member(set("shop", &mia.email, role)).await, blocked);
    }
    // The one who sleeps may go: somebody who can act stays.
    activate(&app, &bob, true).await;
    activate(&app, &mia, false).await;
    delete(&app, &mia).await.unwrap();
    refused(delete(&app, &bob).await, blocked);
    bob.projects(&app.channel)
        .set_member(set("shop", EMAIL, Owner))
        .await
        .unwrap();
    delete(&app, &bob).await.unwrap();
}
