//! People with other roles than the first administrator's.

use halyard::domain::access::Role;
use tonic::service::interceptor::InterceptedService;
use uuid::Uuid;

use crate::app::{App, Bearer, Client, PASSWORD, login};

/// Somebody with a role in a project, with the first administrator's password.
pub struct Person {
    pub actor: String,
    pub client: Client,
}

/// Makes a member of a project, and logs them in.
pub async fn member(app: &App, project: &str, role: Role) -> Person {
    let (id, email) = (Uuid::new_v4(), format!("{}-of-{project}@example.com", role.name()));
    let sql = app.database.client().await;
    let insert = "
        insert into users (id, email, email_normalized, password_hash)
        select $1, $2, $2, password_hash from users where instance_role is not null";
    sql.execute(insert, &[&id, &email]).await.unwrap();
    let insert = "insert into members (project_id, user_id, role) select id, $2, $3 from projects where key = $1";
    sql.execute(insert, &[&project, &id, &role.name()]).await.unwrap();
    sql.execute("update access_head set revision = revision + 1", &[])
        .await
        .unwrap();
    let token = login(&app.channel, &email, PASSWORD).await.unwrap();
    Person {
        actor: format!("user:{id}"),
        client: with_token(app, &token),
    }
}

/// A client that shows an access token.
pub fn with_token(app: &App, token: &str) -> Client {
    InterceptedService::new(app.channel.clone(), Bearer::new(token))
}
