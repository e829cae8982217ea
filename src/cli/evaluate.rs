//! `halyard evaluate`: which variant somebody is served.

use std::io::Write;

use serde_json::{Value, json};
use tonic::transport::Channel;

use super::call::{ANSWER_BYTES, Caller};
use super::{Error, explanation, json};
use crate::config::{Evaluate, Output, Subject};
use crate::pb::evaluation::v1::evaluation::Value as Answer;
use crate::pb::evaluation::v1::evaluation_service_client::EvaluationServiceClient;
use crate::pb::evaluation::v1::{
    Context, EvaluateAllRequest, EvaluateAllResponse, EvaluateRequest, EvaluateResponse, Evaluation, EvaluationError,
    Explanation,
};

pub(super) async fn run(config: Evaluate, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    let Evaluate {
        server,
        key,
        subject,
        targeting_key,
        attributes,
        min_revision,
        output,
    } = config;
    let caller = Caller::new(server)?.with_key(&key)?;
    let context = Some(Context {
        targeting_key,
        attributes: Some(json::to_struct(attributes)),
    });
    let one = |flag: String, explain: bool| EvaluateRequest {
        flag,
        context: context.clone(),
        min_revision,
        explain,
    };
    let evaluations = match subject {
        Subject::Flag(flag) => {
            let (evaluation, _) = ask(&caller, one(flag.to_string(), false)).await?;
            vec![evaluation]
        }
        Subject::Explained(flag) => {
            let (evaluation, explanation) = ask(&caller, one(flag.to_string(), true)).await?;
            let explanation = explanation.ok_or(Error::Answer("it holds no explanation"))?;
            return explained(evaluation, explanation, output, out);
        }
        Subject::All => {
            let request = EvaluateAllRequest {
                context: context.clone(),
                flags: Vec::new(),
                min_revision,
            };
            let mut client = client(&caller);
            let answer = caller
                .answer(client.evaluate_all(caller.bounded_request(request)))
                .await?;
            let EvaluateAllResponse { evaluations, revision } = answer;
            if evaluations.is_empty() {
                super::say(&format!(
                    "There are no flags that this key may see, at revision {revision}."
                ));
            }
            evaluations
        }
    };
    for evaluation in evaluations {
        match output {
            Output::Text => writeln!(out, "{}", text(evaluation))?,
            Output::Json => writeln!(out, "{}", object(evaluation))?,
        }
    }
    Ok(())
}

fn client(caller: &Caller) -> EvaluationServiceClient<Channel> {
    EvaluationServiceClient::new(caller.channel.clone()).max_decoding_message_size(ANSWER_BYTES)
}

async fn ask(caller: &Caller, request: EvaluateRequest) -> Result<(Evaluation, Option<Explanation>), Error> {
    let mut client = client(caller);
    let answer = caller.answer(client.evaluate(caller.bounded_request(request))).await?;
    let EvaluateResponse {
        evaluation,
        explanation,
    } = answer;
    Ok((evaluation.ok_or(Error::Answer("it holds no evaluation"))?, explanation))
}

fn explained(
    evaluation: Evaluation,
    explanation: Explanation,
    output: Output,
    out: &mut (dyn Write + Send),
) -> Result<(), Error> {
    match output {
        Output::Text => {
            writeln!(out, "{}", text(evaluation))?;
            for line in explanation::lines(explanation) {
                writeln!(out, "{line}")?;
            }
        }
        Output::Json => {
            let mut object = object(evaluation);
            object["explanation"] = explanation::object(explanation);
            writeln!(out, "{object}")?;
        }
    }
    Ok(())
}

/// Such as `new-checkout = true  (variant on, TARGETING_MATCH by rule beta, revision 7)`.
fn text(evaluation: Evaluation) -> String {
    let reason = reason(&evaluation);
    let error = error(&evaluation);
    let Evaluation {
        flag,
        value,
        variant,
        reason: _,
        rule,
        revision,
        error: _,
        experiment,
    } = evaluation;
    let value = value.map_or_else(
        || "no value, your default applies".to_owned(),
        |value| plain(value).to_string(),
    );
    let variant = if variant.is_empty() {
        String::new()
    } else {
        format!("variant {variant}, ")
    };
    let rule = if rule.is_empty() {
        String::new()
    } else {
        format!(" by rule {rule}")
    };
    let experiment = experiment.map_or_else(String::new, |part| {
        let stored = if part.sticky && !part.assignment_stored {
            ", NOT STORED"
        } else {
            ""
        };
        format!(" {} iteration {}{stored}", part.experiment, part.iteration)
    });
    let error = error.map_or_else(String::new, |error| format!(" {error}"));
    format!("{flag} = {value}  ({variant}{reason}{error}{rule}{experiment}, revision {revision})")
}

fn object(evaluation: Evaluation) -> Value {
    let reason = reason(&evaluation);
    let error = error(&evaluation);
    let Evaluation {
        flag,
        value,
        variant,
        reason: _,
        rule,
        revision,
        error: _,
        experiment,
    } = evaluation;
    json!({
        "flag": flag,
        "value": value.map_or(Value::Null, plain),
        "variant": some(variant),
        "reason": reason,
        "rule": some(rule),
        "error": error,
        "experiment": experiment.map(|part| json!({
            "experiment": part.experiment,
            "iteration": part.iteration,
            "arm": part.arm,
            "assignment_stored": part.assignment_stored,
            "sticky": part.sticky,
        })),
        "revision": revision,
    })
}

fn plain(value: Answer) -> Value {
    match value {
        Answer::BoolValue(value) => Value::Bool(value),
        Answer::StringValue(text) => Value::String(text),
        Answer::IntegerValue(number) => Value::from(number),
        Answer::DoubleValue(number) => json::from_number(number),
        Answer::ObjectValue(object) => json::from_struct(object),
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn reason(evaluation: &Evaluation) -> &'static str {
    let name = evaluation.reason().as_str_name();
    name.strip_prefix("REASON_").unwrap_or(name)
}

fn error(evaluation: &Evaluation) -> Option<&'static str> {
    let error = evaluation.error();
    let name = error.as_str_name();
    (error != EvaluationError::Unspecified).then(|| name.strip_prefix("EVALUATION_ERROR_").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::evaluation::v1::{Participation, Reason};

    fn evaluation() -> Evaluation {
        Evaluation {
            flag: "new-checkout".to_owned(),
            value: Some(Answer::BoolValue(true)),
            variant: "on".to_owned(),
            reason: Reason::TargetingMatch.into(),
            rule: "beta".to_owned(),
            revision: 7,
            error: 0,
            experiment: None,
        }
    }

    fn nothing() -> Evaluation {
        Evaluation {
            value: None,
            variant: String::new(),
            reason: Reason::Error.into(),
            rule: String::new(),
            error: EvaluationError::TargetingKeyMissing.into(),
            ..evaluation()
        }
    }

    #[test]
    fn an_answer_reads_like_a_sentence() {
        assert_eq!(
            text(evaluation()),
            "new-checkout = true  (variant on, TARGETING_MATCH by rule beta, revision 7)"
        );
        assert_eq!(
            text(nothing()),
            "new-checkout = no value, your default applies  (ERROR TARGETING_KEY_MISSING, revision 7)"
        );
    }

    #[test]
    fn an_arm_that_is_not_stored_says_so() {
        let part = |assignment_stored| Participation {
            experiment: "checkout-2".to_owned(),
            iteration: 3,
            arm: "on".to_owned(),
            assignment_stored,
            sticky: true,
        };
        let answer = |stored| Evaluation {
            reason: Reason::Experiment.into(),
            rule: String::new(),
            experiment: Some(part(stored)),
            ..evaluation()
        };
        assert_eq!(
            text(answer(true)),
            "new-checkout = true  (variant on, EXPERIMENT checkout-2 iteration 3, revision 7)"
        );
        assert!(text(answer(false)).contains("EXPERIMENT checkout-2 iteration 3, NOT STORED,"));
    }

    #[test]
    fn an_answer_is_an_object() {
        assert_eq!(
            object(evaluation()),
            json!({
                "flag": "new-checkout", "value": true, "variant": "on", "reason": "TARGETING_MATCH", "rule": "beta",
                "error": null, "experiment": null, "revision": 7,
            })
        );
        assert_eq!(
            object(nothing()),
            json!({
                "flag": "new-checkout", "value": null, "variant": null, "reason": "ERROR", "rule": null,
                "error": "TARGETING_KEY_MISSING", "experiment": null, "revision": 7,
            })
        );
    }

    #[test]
    fn values_keep_their_type() {
        for (value, expected) in [
            (Answer::StringValue("1".to_owned()), "\"1\""),
            (Answer::IntegerValue(i64::MAX), "9223372036854775807"),
            (Answer::DoubleValue(0.5), "0.5"),
        ] {
            assert_eq!(plain(value).to_string(), expected);
        }
    }
}
