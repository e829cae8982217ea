//! Results, out.

use crate::domain::experiment::MetricKind;
use crate::domain::statistics::{SUSPICIOUS_P, SampleRatio};
use crate::pb::admin::v1 as pb;
use crate::rpc::convert::common::timestamp;
use crate::store::results::{Arm, Iteration, Measured, Results};

/// What an experiment has come to.
pub(super) fn write(results: Results) -> pb::GetResultsResponse {
    let Results { iterations, kept_since } = results;
    pb::GetResultsResponse {
        iterations: iterations.into_iter().map(write_iteration).collect(),
        events_kept_since: kept_since.map(timestamp),
    }
}

fn write_iteration(iteration: Iteration) -> pb::IterationResults {
    let Iteration {
        number,
        started_at,
        ended_at,
        arms,
        sample_ratio,
        excluded_exposures,
        excluded_units,
        torn_units,
    } = iteration;
    pb::IterationResults {
        iteration: number,
        start_time: Some(timestamp(started_at)),
        end_time: ended_at.map(timestamp),
        arms: arms.into_iter().map(write_arm).collect(),
        sample_ratio: sample_ratio.map(write_sample_ratio),
        excluded_exposures,
        excluded_units,
        torn_units,
    }
}

fn write_sample_ratio(ratio: SampleRatio) -> pb::SampleRatio {
    let suspicious = ratio.is_suspicious();
    let SampleRatio {
        statistic,
        degrees_of_freedom,
        p,
    } = ratio;
    let warning = if suspicious {
        format!(
            "units did not come to the arms as the weights say (p = {p:.1e}, below {SUSPICIOUS_P}): find out why before you trust \
             these numbers; an arm may lose units before it tells of them"
        )
    } else {
        String::new()
    };
    pb::SampleRatio {
        statistic,
        degrees_of_freedom,
        p_value: p,
        suspicious,
        warning,
    }
}

fn write_arm(arm: Arm) -> pb::ArmResults {
    let Arm {
        variant,
        control,
        weight,
        assigned,
        exposed,
        share,
        expected_share,
        metrics,
    } = arm;
    pb::ArmResults {
        variant,
        control,
        weight,
        assigned,
        exposed,
        share,
        expected_share: expected_share.unwrap_or_default(),
        metrics: metrics.into_iter().map(write_metric).collect(),
    }
}

fn write_metric(measured: Measured) -> pb::MetricResults {
    let Measured {
        metric,
        kind,
        converted,
        sum,
        mean,
        variance,
    } = measured;
    let kind = match kind {
        MetricKind::Conversion => pb::MetricKind::Conversion,
        MetricKind::Value => pb::MetricKind::Value,
        MetricKind::Count => pb::MetricKind::Count,
    };
    pb::MetricResults {
        metric: metric.to_string(),
        kind: kind.into(),
        converted,
        sum,
        mean,
        variance,
    }
}
