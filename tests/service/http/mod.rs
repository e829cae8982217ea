//! What the one port answers that is not native gRPC: probes, metrics, and gRPC as browsers speak it.

mod cors;
mod kept;
mod probes;
mod web;

/// The content type of gRPC-Web, as a line of headers.
const WEB: &str = "content-type: application/grpc-web+proto\r\n";
const EVALUATE: &str = "/halyard.evaluation.v1.EvaluationService/Evaluate";
