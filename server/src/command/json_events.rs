//! Log events as JSON lines, with the time under the same key as in access records.

use std::fmt;

use host::timestamp;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, format};
use tracing_subscriber::registry::LookupSpan;

/// Format of an event as an object with its time, level, message and fields.
#[derive(Debug)]
pub(super) struct JsonEvents(Format<Json, ()>);

impl Default for JsonEvents {
    fn default() -> Self {
        let format = format().json().flatten_event(true);
        Self(format.with_target(false).with_ansi(false).without_time())
    }
}

impl<S, N> FormatEvent<S, N> for JsonEvents
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut object = String::new();
        self.0
            .format_event(context, Writer::new(&mut object), event)?;
        let rest = object.strip_prefix('{').ok_or(fmt::Error)?;
        write!(writer, "{{\"time\":\"{}\",{rest}", timestamp::now())
    }
}
