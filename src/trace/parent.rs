//! A caller's trace, from the `traceparent` header as the W3C's Trace Context has it. `tracestate` is not read: whatever callers put
//! there would leave with the spans.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The header.
pub const HEADER: &str = "traceparent";

/// A caller's trace.
#[derive(Debug, Clone)]
pub struct Parent {
    context: SpanContext,
    decides: bool,
}

impl Parent {
    /// What a header says. `None`: nothing that can be gone on with.
    pub fn read(header: &[u8]) -> Option<Self> {
        read(header).map(|context| Self { context, decides: true })
    }

    /// Whether the caller records its part.
    pub fn is_sampled(&self) -> bool {
        self.context.is_sampled()
    }

    /// The same trace, of somebody who does not decide what is recorded here.
    #[must_use]
    pub fn of_anybody(self) -> Self {
        Self { decides: false, ..self }
    }

    /// Whether the caller decides what is recorded here.
    pub(super) fn decides(&self) -> bool {
        self.decides
    }
}

impl From<Parent> for SpanContext {
    fn from(parent: Parent) -> Self {
        parent.context
    }
}

/// What a header says. `None`: nothing that can be gone on with.
fn read(header: &[u8]) -> Option<SpanContext> {
    let text = std::str::from_utf8(header).ok()?;
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // Later versions may have more behind, and are otherwise read as this one.
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    hex(version, 2)?;
    let trace = TraceId::from_hex(hex(trace, 32)?).ok()?;
    let span = SpanId::from_hex(hex(span, 16)?).ok()?;
    let flags = u8::from_str_radix(hex(flags, 2)?, 16).ok()?;
    let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

/// The trace that a header names, whether it is sampled or not.
pub fn trace_id(header: &[u8]) -> Option<TraceId> {
    read(header).map(|parent| parent.trace_id())
}

/// What a header has to say for somebody to go on with this.
pub(super) fn write(context: &SpanContext) -> String {
    let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags().to_u8());
    format!("00-{trace}-{span}-{flags:02x}")
}

/// So many digits in lower case.
fn hex(text: &str, digits: usize) -> Option<&str> {
    let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (text.len() == digits && is_hex).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_the_recommendation_has_them() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        const SPAN: &str = "00f067aa0ba902b7";
        let check = |header: &str, sampled: Option<bool>| {
            let parent = read(header.as_bytes());
            assert_eq!(parent.as_ref().map(SpanContext::is_sampled), sampled, "{header:?}");
            if let Some(parent) = parent {
                assert_eq!(parent.trace_id().to_string(), TRACE);
                assert_eq!(parent.span_id().to_string(), SPAN);
                assert!(parent.is_remote());
            }
        };
        check(&format!("00-{TRACE}-{SPAN}-01"), Some(true));
        check(&format!("00-{TRACE}-{SPAN}-00"), Some(false));
        check(&format!("00-{TRACE}-{SPAN}-02"), Some(false));
        check(&format!("cc-{TRACE}-{SPAN}-01-what-comes"), Some(true));
        check(&format!("00-{TRACE}-{SPAN}-01-more"), None);
        check(&format!("ff-{TRACE}-{SPAN}-01"), None);
        check(&format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None);
        check(&format!("00-{TRACE}-{SPAN}-1"), None);
        check(&format!("00-{TRACE}-{SPAN}"), None);
        check(&format!("00-{}-{SPAN}-01", "0".repeat(32)), None);
        check(&format!("00-{TRACE}-{}-01", "0".repeat(16)), None);
        check(&format!("00-+{}-{SPAN}-01", &TRACE[1..]), None);
        check("", None);
        assert_eq!(read(b"00-\xff"), None);
    }

    #[test]
    fn what_is_written_is_read_as_what_it_was() {
        for flags in ["00", "01"] {
            let header = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            assert_eq!(write(&read(header.as_bytes()).unwrap()), header);
        }
    }
}
