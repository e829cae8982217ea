//! That a project hears of a member who goes because the account does.

use halyard::pb::admin::v1 as pb;
use tonic::{Code, Status};

use super::{intact, verify};
use crate::app::App;
use crate::people::{Person, set};
use crate::refusals::refused;

async fn delete(app: &App, person: &Person) -> Result<(), Status> {
    let request = pb::DeleteUserRequest {
        id: person.id.to_string(),
        ..Default::default()
    };
    app.users().delete_user(request).await.map(drop)
}

/// What the projects' chains tell of members who went: `shop:developer`.
async fn told(app: &App, person: &Person) -> Vec<String> {
    let query = "select e.project || ':' || (e.before::jsonb ->> 'role') from audit_entries e
        join projects p on p.id::text = e.chain and p.key = e.project
        where e.action = 'member.remove' and e.entity_key = $1 and e.after is null order by 1";
    let sql = app.database.client().await;
    let rows = sql.query(query, &[&person.id.to_string()]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_project_of_a_deleted_account_tells_it() {
    let app = App::start().await;
    for project in ["blog", "docs", "shop"] {
        app.project(project).await;
    }
    let mia = Person::member(&app, "mia@example.com", "shop", pb::ProjectRole::Developer).await;
    mia.becomes(&app, "blog", pb::ProjectRole::Owner).await;

    // What one of the projects cannot be told is not done.
    let sql = app.database.client().await;
    let refuse = "
        create function refuse() returns trigger language plpgsql as $$ begin
            if new.chain = (select id::text from projects where key = 'shop') then raise 'no'; end if;
            return new;
        end $$;
        create trigger refuse before insert on audit_entries for each row execute function refuse()";
    sql.batch_execute(refuse).await.unwrap();
    refused(delete(&app, &mia).await, Code::Internal);
    let kept = "select count(*) from members where user_id = $1";
    let kept: i64 = sql.query_one(kept, &[&mia.id]).await.unwrap().get(0);
    assert_eq!((kept, told(&app, &mia).await.len()), (2, 0));
    sql.batch_execute("drop trigger refuse on audit_entries").await.unwrap();

    delete(&app, &mia).await.unwrap();
    assert_eq!(told(&app, &mia).await, ["blog:owner", "shop:developer"]);
    for chain in ["", "blog", "docs", "shop"] {
        intact(&app, verify(chain)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_twenty_projects_and_counts_the_others() {
    let app = App::start().await;
    app.project("p00").await;
    let mia = Person::member(&app, "mia@example.com", "p00", pb::ProjectRole::Owner).await;
    let insert = "
        with made as (
            insert into projects (key, name, description, created_at, updated_at)
            select 'p' || to_char(n, 'FM00'), '', '', now(), now() from generate_series(1, 22) n returning id
        ), head as (
            insert into audit_heads (chain, sequence, hash) select id::text, 0, sha256('') from made
        )
        insert into members (project_id, user_id, role) select id, $1, 'owner' from made";
    let sql = app.database.client().await;
    sql.execute(insert, &[&mia.id]).await.unwrap();
    let administrator = Person::administrator(&app).await;
    app.projects()
        .remove_member(crate::people::remove("p00", &administrator.email))
        .await
        .unwrap();
    let status = refused(delete(&app, &mia).await, Code::FailedPrecondition);
    let message = status.message();
    assert!(
        message.contains("p00, p01, ") && message.contains(", p19 and 3 more;"),
        "{message}"
    );
    assert!(!message.contains("p20"), "{message}");
    // Somebody else in one of them is one less.
    app.projects()
        .set_member(set("p00", &administrator.email, pb::ProjectRole::Owner))
        .await
        .unwrap();
    let status = refused(delete(&app, &mia).await, Code::FailedPrecondition);
    assert!(status.message().contains(", p20 and 2 more;"), "{status:?}");
}
