//! No mutation of the store, whichever, is made without its audit entry.

use halyard::domain::access::{KeyKind, Role, TokenId};
use halyard::domain::email::Email;
use halyard::store::configurations::{ConfigurationPatch, Toggle};
use halyard::store::environments::EnvironmentPatch;
use halyard::store::flags::FlagPatch;
use halyard::store::invitations::{Invitee, NewInvitation, Newcomer, Shown};
use halyard::store::keys::Rotation;
use halyard::store::members::Account;
use halyard::store::projects::{NewProject, ProjectPatch};
use halyard::store::service_tokens::NewServiceToken;
use halyard::store::users::{FailedLogins, NewAdministrator, UserPatch};
use halyard::store::{Actor, Caller, Error, Outcome};
use uuid::Uuid;

use crate::people::*;
use crate::world::*;

const BREAK_AUDIT: &str = "
    create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
    create trigger refuse before insert on audit_entries for each row execute function refuse()";

/// Every row of every table.
async fn everything(world: &World) -> Vec<(String, String)> {
    let tables = "select tablename::text from pg_tables where schemaname = 'public' order by tablename";
    let mut contents = Vec::new();
    for row in world.sql.query(tables, &[]).await.unwrap() {
        let table: String = row.get(0);
        let rows = format!("select coalesce(string_agg(t::text, e'\\n' order by t::text), '') from {table} t");
        let rows = world.sql.query_one(&rows, &[]).await.unwrap();
        contents.push((table, rows.get(0)));
    }
    contents
}

fn unaudited<T>(what: &str, outcome: Result<Outcome<T>, Error>) {
    let error = refused(outcome);
    assert!(matches!(error, Error::Bug(_)), "{what}: {error:?}");
}

#[tokio::test]
async fn projects_and_environments_and_keys_are_not_written_unaudited() {
    let world = world().await;
    let (store, by, shop_key, dev) = (&world.store, world.by_owner(), project("shop"), environment("dev"));
    let key = new_key(KeyKind::Server);
    let id = key.id.clone();
    done(store.create_key(&by, shop(&dev), key, respond).await);
    world.sql.batch_execute(BREAK_AUDIT).await.unwrap();
    let before = everything(&world).await;

    let new = NewProject {
        key: project("other"),
        name: "Other".into(),
        description: String::new(),
    };
    unaudited("create project", store.create_project(&by, new, respond).await);
    let renamed = ProjectPatch {
        name: Some("Renamed".into()),
        description: None,
    };
    let outcome = store.update_project(&by, &shop_key, renamed, "", respond).await;
    unaudited("update project", outcome);
    let outcome = store.delete_project(&by, &shop_key, "", respond).await;
    unaudited("delete project", outcome);

    let new = new_environment("stage", false);
    let outcome = store.create_environment(&by, &shop_key, new, respond).await;
    unaudited("create environment", outcome);
    let protect = EnvironmentPatch {
        protected: Some(true),
        ..EnvironmentPatch::default()
    };
    let outcome = store.update_environment(&by, shop(&dev), protect, "", respond).await;
    unaudited("update environment", outcome);
    let outcome = store.delete_environment(&by, shop(&dev), "", respond).await;
    unaudited("delete environment", outcome);

    let new = new_key(KeyKind::Client);
    unaudited("create key", store.create_key(&by, shop(&dev), new, respond).await);
    unaudited("revoke key", store.revoke_key(&by, shop(&dev), &id, respond).await);
    assert_eq!(everything(&world).await, before);
}

#[tokio::test]
async fn flags_and_configurations_are_not_written_unaudited() {
    let world = world().await;
    world.flag("f").await;
    let (store, by, shop_key, dev) = (&world.store, world.by_owner(), project("shop"), environment("dev"));
    let f = flag("f");
    world.sql.batch_execute(BREAK_AUDIT).await.unwrap();
    let before = everything(&world).await;

    let outcome = store.create_flag(&by, &shop_key, bool_flag("g"), respond).await;
    unaudited("create flag", outcome);
    let owned = FlagPatch {
        owner: Some("team".into()),
        ..FlagPatch::default()
    };
    let outcome = store.update_flag(&by, &shop_key, &f, owned, "", respond).await;
    unaudited("update metadata", outcome);
    let visible = FlagPatch {
        client_visible: Some(true),
        ..FlagPatch::default()
    };
    let outcome = store.update_flag(&by, &shop_key, &f, visible, "", respond).await;
    unaudited("update definition", outcome);
    let outcome = store.archive_flag(&by, &shop_key, &f, "", respond).await;
    unaudited("archive flag", outcome);
    let outcome = store.delete_flag(&by, &shop_key, &f, "", respond).await;
    unaudited("delete flag", outcome);

    let salted = ConfigurationPatch {
        salt: Some(Some("s".into())),
        ..ConfigurationPatch::default()
    };
    let outcome = store
        .update_configuration(&by, shop(&dev), &f, salted, "", respond)
        .await;
    unaudited("update configuration", outcome);
    let toggles = [Toggle { flag: f, enabled: true }];
    let outcome = store.toggle_flags(&by, shop(&dev), &toggles, respond).await;
    unaudited("toggle", outcome);
    assert_eq!(everything(&world).await, before);
}

#[tokio::test]
async fn people_and_machines_are_let_in_by_nobody_unaudited() {
    let world = world().await;
    let (store, by, shop_key, dev) = (&world.store, world.by_owner(), project("shop"), environment("dev"));
    let [key, invited, token] = [
        new_key(KeyKind::Client),
        new_key(KeyKind::Client),
        new_key(KeyKind::Client),
    ];
    let key_id = key.id.clone();
    done(store.create_key(&by, shop(&dev), key, respond).await);
    let viewer = Account::Id(world.member(Role::Viewer).await);
    let stranger = world.user("stranger@example.com", None).await;
    let invitation = |id: &str| NewInvitation {
        id: id.to_owned(),
        name: String::new(),
        role: Role::Viewer,
        secret_hash: invited.secret_hash,
        expires_at: jiff::Timestamp::MAX,
    };
    let service_token = |id: &str| NewServiceToken {
        id: TokenId::parse(id).unwrap(),
        name: String::new(),
        role: Role::Viewer,
        secret_hash: token.secret_hash,
        expires_at: None,
    };
    let id = "00000000000000aa";
    done(store.create_invitation(&by, &shop_key, invitation(id), respond).await);
    done(
        store
            .create_service_token(&by, &shop_key, service_token(id), respond)
            .await,
    );
    world.sql.batch_execute(BREAK_AUDIT).await.unwrap();
    let before = everything(&world).await;

    let rotation = Rotation {
        server_hash: token.secret_hash,
        client_hash: token.secret_hash,
        overlap: std::time::Duration::ZERO,
    };
    let outcome = store.rotate_key(&by, shop(&dev), &key_id, &rotation, respond).await;
    unaudited("rotate key", outcome);
    let outcome = store
        .set_member(&by, &shop_key, &viewer, Role::Admin, "", respond)
        .await;
    unaudited("set member", outcome);
    let newcomer = Account::Id(stranger);
    let outcome = store
        .set_member(&by, &shop_key, &newcomer, Role::Admin, "", respond)
        .await;
    unaudited("add member", outcome);
    unaudited(
        "remove member",
        store.remove_member(&by, &shop_key, &viewer, "", respond).await,
    );
    let outcome = store
        .create_invitation(&by, &shop_key, invitation("00000000000000bb"), respond)
        .await;
    unaudited("create invitation", outcome);
    unaudited(
        "revoke invitation",
        store.revoke_invitation(&by, &shop_key, id, respond).await,
    );
    let shown = Shown {
        id,
        secret_hash: invited.secret_hash,
    };
    let account = Invitee::Account(stranger);
    let outcome = store
        .accept_invitation(&self::by(stranger), shown, &account, respond)
        .await;
    unaudited("accept as an account", outcome);
    let newcomer = Newcomer {
        id: Uuid::new_v4(),
        email: Email::new("new@example.com").unwrap(),
        password_hash: "h".into(),
    };
    let as_newcomer = self::by(newcomer.id);
    let newcomer = Invitee::Newcomer(newcomer);
    let outcome = store.accept_invitation(&as_newcomer, shown, &newcomer, respond).await;
    unaudited("accept as a newcomer", outcome);
    let outcome = store
        .create_service_token(&by, &shop_key, service_token("00000000000000bb"), respond)
        .await;
    unaudited("create service token", outcome);
    let id = TokenId::parse(id).unwrap();
    unaudited(
        "revoke service token",
        store.revoke_service_token(&by, &shop_key, id, respond).await,
    );
    assert_eq!(everything(&world).await, before);
}

#[tokio::test]
async fn accounts_and_logins_are_not_written_unaudited() {
    let world = world().await;
    let store = &world.store;
    let owner = Email::new("owner@example.com").unwrap();
    let user = store.find_for_login(&owner).await.unwrap().unwrap().user;
    world.sql.batch_execute(BREAK_AUDIT).await.unwrap();
    let before = everything(&world).await;

    for email in [owner, Email::new("new@example.com").unwrap()] {
        let caller = Caller {
            actor: Actor::CommandLine,
            ..world.by_owner().caller
        };
        let new = NewAdministrator {
            id: Uuid::new_v4(),
            email,
            password_hash: "h".into(),
        };
        let created = store.create_administrator(caller, &new).await;
        assert!(matches!(created, Err(Error::Bug(_))), "{created:?}");
    }
    for user in [Some(user), None] {
        let failed = FailedLogins {
            user,
            refused: 1,
            throttled: 0,
            peers: Vec::new(),
        };
        let recorded = store.record_failed_logins(&failed).await;
        assert!(matches!(recorded, Err(Error::Bug(_))), "{recorded:?}");
    }
    assert_eq!(everything(&world).await, before);
}

#[tokio::test]
async fn accounts_are_not_managed_unaudited() {
    let world = world().await;
    let store = &world.store;
    let (root, other) = (administrator(&world).await, world.user("other@example.com", None).await);
    world.sql.batch_execute(BREAK_AUDIT).await.unwrap();
    let before = everything(&world).await;

    let created = store.create_user(&root, &new_user("new@example.com"), respond).await;
    unaudited("create user", created);
    let inactive = UserPatch {
        active: Some(false),
        ..UserPatch::default()
    };
    let updated = store.update_user(&root, other, inactive, "", respond).await;
    unaudited("update user", updated);
    unaudited("delete user", store.delete_user(&root, other, "", respond).await);
    for email in ["owner@example.com", "new@example.com"] {
        let signed_up = store.sign_up(&new_account(email)).await;
        assert!(matches!(signed_up, Err(Error::Bug(_))), "{signed_up:?}");
    }
    assert_eq!(everything(&world).await, before);
}

#[tokio::test]
async fn sessions_are_not_written_unaudited() {
    let world = world().await;
    let store = &world.store;
    set_password(&world, "hash").await;
    let session = new_session(&world, "hash");
    store.open_session(&session).await.unwrap().unwrap();
    world.sql.batch_execute(BREAK_AUDIT).await.unwrap();
    let before = everything(&world).await;

    let opened = store.open_session(&new_session(&world, "hash")).await;
    assert!(matches!(opened, Err(Error::Bug(_))), "{opened:?}");
    for shown in [token(1), stolen()] {
        let refreshed = store.refresh_session(&refresh(session.id, shown)).await;
        assert!(matches!(refreshed, Err(Error::Bug(_))), "{refreshed:?}");
    }
    let closed = store.close_session(&world.by_owner(), session.id).await;
    assert!(matches!(closed, Err(Error::Bug(_))), "{closed:?}");
    let changed = store
        .change_password(&world.by_owner(), &password_change(&world, "hash"))
        .await;
    assert!(matches!(changed, Err(Error::Bug(_))), "{changed:?}");
    assert_eq!(everything(&world).await, before);
}
