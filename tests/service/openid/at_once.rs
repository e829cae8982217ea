//! Two tokens of one person at the same time: whichever is looked at first, the newer one's claim is what remains.

use halyard::domain::access::Role;
use halyard::domain::identity::{Claimed, IdentityKey, Presented};
use halyard::domain::key;
use jiff::{SignedDuration, Timestamp};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::app::App;
use crate::support::eventually;

/// A token of `subject`, made `age` seconds ago, that claims these roles.
fn token(subject: &str, age: i64, roles: &[(&str, Role)]) -> Presented {
    let mut claimed = Claimed::default();
    for (project, role) in roles {
        claimed.add(&key::Project::new(project).unwrap(), *role);
    }
    let now = Timestamp::now();
    Presented {
        key: IdentityKey::new("https://issuer.example", subject).unwrap(),
        email: String::new(),
        shown: subject.to_owned(),
        claimed,
        issued_at: now - SignedDuration::from_secs(age),
        expires_at: now + SignedDuration::from_hours(1),
        credential: format!("{subject}-{age}"),
    }
}

/// The roles of an identity, by project: `shop:viewer`.
async fn memberships(sql: &Client, subject: &str) -> Vec<String> {
    let query = "select p.key || ':' || m.role from members m
        join projects p on p.id = m.project_id
        join identities i on i.user_id = m.user_id
        where i.subject = $1 order by 1";
    let rows = sql.query(query, &[&subject]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn synchronise(app: &App, presented: &Presented) {
    app.server
        .store()
        .synchronise(presented, Uuid::now_v7(), "")
        .await
        .unwrap();
}

/// Waits until so many transactions wait for locks.
async fn waiting(sql: &Client, expected: i64) {
    let query = "select count(distinct pid) from pg_locks
        where not granted and pid in (select pid from pg_stat_activity where datname = current_database())";
    eventually("those who wait", async || {
        let found: i64 = sql.query_one(query, &[]).await.unwrap().get(0);
        (found == expected).then_some(())
    })
    .await;
}

/// The older token waits for the installation's lock with its project locked; the newer one comes when that project is none of
/// the person's yet.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_token_gives_while_a_newer_one_waits_is_taken_away_again() {
    let app = App::start().await;
    app.project("shop").await;
    let sql = app.database.client().await;
    synchronise(&app, &token("grace", 100, &[])).await;
    let mut blocker = app.database.client().await;
    let blocking = blocker.transaction().await.unwrap();
    let lock = "select from audit_heads where chain = 'instance' for update";
    blocking.execute(lock, &[]).await.unwrap();

    let (older, newer) = (token("grace", 90, &[("shop", Role::Admin)]), token("grace", 80, &[]));
    let unblock = async {
        waiting(&sql, 1).await;
        let newer = synchronise(&app, &newer);
        let free = async {
            waiting(&sql, 2).await;
            blocking.commit().await.unwrap();
        };
        tokio::join!(newer, free);
    };
    tokio::join!(synchronise(&app, &older), unblock);
    let audited = "select count(*) from audit_entries where action = 'member.add' and credential = 'oidc:grace-90'";
    let given: i64 = sql.query_one(audited, &[]).await.unwrap().get(0);
    assert_eq!(given, 1, "the older one came first");
    assert_eq!(memberships(&sql, "grace").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_tokens_that_come_together_the_newest_claim_remains() {
    let app = App::start().await;
    for project in ["blog", "docs", "shop"] {
        app.project(project).await;
    }
    let sql = app.database.client().await;
    for round in 0..40 {
        let subject = format!("person-{round}");
        if round % 2 == 0 {
            synchronise(&app, &token(&subject, 100, &[("docs", Role::Viewer)])).await;
        }
        let claims: [&[(&str, Role)]; 4] = [
            &[("shop", Role::Admin), ("blog", Role::Admin)],
            &[("shop", Role::Developer)],
            &[("docs", Role::Admin), ("blog", Role::Developer)],
            &[("blog", Role::Viewer)],
        ];
        let tokens: Vec<_> = (0..)
            .zip(claims)
            .map(|(n, roles)| token(&subject, 90 - n, roles))
            .collect();
        let all = tokens.iter().map(|token| synchronise(&app, token));
        futures_util::future::join_all(all).await;
        assert_eq!(memberships(&sql, &subject).await, ["blog:viewer"], "{subject}");
    }
}
