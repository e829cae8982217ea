//! Many flags in one answer.

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;

use crate::app::{App, evaluation, toggle};

const FLAGS: usize = 1_000;

/// Flags `f0000` and so on, every second one hidden from client keys, written by hand since that is quicker.
async fn many_flags(app: &App) {
    let insert = r#"
        insert into flags (
            project_id, key, name, description, tags, owner, form, value_type, client_visible, form_version, created_at, updated_at)
        select p.id, f.key, '', '', '{}', '', convert_to(format(
                '{"format":1,"key":"%s","type":"bool","variants":[{"key":"on","value":{"bool":true}},{"key":"off","value":{"bool":false}}],"off_variant":"off","default_variant":"on","client_visible":%s}',
                f.key, (f.n % 2 = 0)::text), 'UTF8'),
            'bool', f.n % 2 = 0, 1, now(), now()
        from projects p, (select n, 'f' || to_char(n, 'FM0000') as key from generate_series(0, 999) n) f"#;
    app.database.client().await.execute(insert, &[]).await.unwrap();
}

fn names() -> Vec<String> {
    (0..FLAGS).map(|n| format!("f{n:04}")).collect()
}

fn all(enabled: bool) -> admin::ToggleFlagsRequest {
    let toggles = names().into_iter().map(|flag| admin::Toggle { flag, enabled });
    admin::ToggleFlagsRequest {
        toggles: toggles.collect(),
        ..toggle("", enabled)
    }
}

/// Checks that an answer is of one revision, for so many flags, all in the same state as they were toggled together.
fn check(response: &pb::EvaluateAllResponse, count: usize) {
    assert_eq!(response.evaluations.len(), count);
    assert!(response.evaluations.iter().all(|it| it.revision == response.revision));
    let first = &response.evaluations[0].variant;
    assert!(response.evaluations.iter().all(|it| it.variant == *first));
    assert!(response.evaluations.iter().map(|it| &it.flag).is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_flags_are_of_one_revision_while_all_are_toggled() {
    let app = App::start().await;
    app.project("shop").await;
    many_flags(&app).await;
    let keys = app.environment("shop", "dev").await;
    let ask = |flags: Vec<String>, min_revision| pb::EvaluateAllRequest {
        flags,
        min_revision,
        context: None,
    };
    let mut toggler = app.flags();
    let toggling = tokio::spawn(async move {
        let mut last = 0;
        for n in 0..10 {
            let response = toggler.toggle_flags(all(n % 2 == 0)).await.unwrap().into_inner();
            last = response.revisions[0].revision;
        }
        last
    });
    let (mut server, mut client) = (
        evaluation(&app.channel, &keys.server),
        evaluation(&app.channel, &keys.client),
    );
    let mut seen = std::collections::BTreeSet::new();
    while !toggling.is_finished() {
        let named = server.evaluate_all(ask(names(), 1)).await.unwrap().into_inner();
        check(&named, FLAGS);
        let every = server.evaluate_all(ask(Vec::new(), 1)).await.unwrap().into_inner();
        check(&every, FLAGS);
        let visible = client.evaluate_all(ask(Vec::new(), 1)).await.unwrap().into_inner();
        check(&visible, FLAGS / 2);
        let some = client.evaluate_all(ask(names(), 1)).await.unwrap().into_inner();
        check(&some, FLAGS / 2);
        seen.extend([named.revision, every.revision, visible.revision, some.revision]);
    }
    let last = toggling.await.unwrap();
    let end = server.evaluate_all(ask(Vec::new(), last)).await.unwrap().into_inner();
    check(&end, FLAGS);
    assert_eq!((end.revision, end.evaluations[0].variant.as_str()), (last, "off"));
    assert!(seen.len() > 1, "answers came in between: {seen:?}");
}
