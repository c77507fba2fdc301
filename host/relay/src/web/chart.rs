//! Charts of the last day as inline SVG that stretches: its colours and all text around it are the page's, so that dark mode
//! and narrow screens need nothing of their own. No script, no style, nothing of a user in them.

use maud::{Markup, html};

use crate::admin::show;
use crate::history::Sample;

/// The time that a chart shows.
const SPAN_MS: u64 = 24 * 3_600_000;
/// Columns of a chart: a quarter of an hour each.
const COLUMNS: usize = 96;
const COLUMN_MS: u64 = SPAN_MS / COLUMNS as u64;

/// The picture in units: a column is eight wide, and the page stretches all of it.
const WIDTH: usize = COLUMNS * 8;
const HEIGHT: usize = 160;

/// Classes of the style sheet: two colours that the colour-blind can tell apart, in either mode.
const FIRST: &str = "first";
const SECOND: &str = "second";

/// Messages stored and delivered in each quarter of an hour.
pub(crate) fn traffic(samples: &[Sample]) -> Markup {
    let stored = increase(samples, |sample| sample.stored);
    let delivered = increase(samples, |sample| sample.delivered);
    let top = stored.iter().chain(&delivered).copied().max().unwrap_or(0);
    let (all_stored, all_delivered) = (stored.iter().sum(), delivered.iter().sum());
    let title = format!(
        "Traffic of the last day: {} messages stored, {} delivered",
        show::count(all_stored),
        show::count(all_delivered)
    );
    let bars = html! {
        @for (column, (stored, delivered)) in stored.iter().zip(&delivered).enumerate() {
            @if *stored > 0 || *delivered > 0 {
                g {
                    title { (ago(column)) ": " (show::count(*stored)) " stored, " (show::count(*delivered)) " delivered" }
                    (bar(column, 0, 4, *stored, top, FIRST))
                    (bar(column, 4, 4, *delivered, top, SECOND))
                }
            }
        }
    };
    let caption = html! {
        "Messages in each quarter of an hour "
        span.key.first { "stored (" (show::count(all_stored)) " in all)" } " "
        span.key.second { "delivered (" (show::count(all_delivered)) ")" }
    };
    frame(
        &caption,
        &title,
        [&show::count(top), "messages", "0"],
        &bars,
    )
}

/// Size of the database at the end of each quarter of an hour.
pub(crate) fn storage(samples: &[Sample]) -> Markup {
    let sizes = last(samples, |sample| sample.database_bytes);
    let top = sizes.iter().copied().max().unwrap_or(0);
    let now = sizes.last().copied().unwrap_or(0);
    let title = format!(
        "Size of the database with its write-ahead log during the last day: {} now",
        show::size(now)
    );
    let bars = html! {
        @for (column, size) in sizes.iter().enumerate() {
            @if *size > 0 {
                g {
                    title { (ago(column)) ": " (show::size(*size)) }
                    (bar(column, 0, 8, *size, top, FIRST))
                }
            }
        }
    };
    let caption = html! {
        "Size of the database with its write-ahead log "
        span.key.first { (show::size(now)) " now" }
    };
    let top_text = show::size(top);
    let (number, unit) = top_text.split_once(' ').unwrap_or((&top_text, "B"));
    frame(&caption, &title, [number, unit, "0"], &bars)
}

/// A column in words.
fn ago(column: usize) -> String {
    let minutes = (COLUMNS - 1).saturating_sub(column) * 15;
    match (minutes / 60, minutes % 60) {
        (0, 0) => "in the last quarter of an hour".to_owned(),
        (0, minutes) => format!("{minutes} min ago"),
        (hours, 0) => format!("{hours} h ago"),
        (hours, minutes) => format!("{hours} h {minutes} min ago"),
    }
}

/// `scale` is what stands beside the top, the middle and the bottom.
fn frame(caption: &Markup, title: &str, scale: [&str; 3], bars: &Markup) -> Markup {
    html! {
        figure.chart {
            figcaption { (caption) }
            div.scale { @for text in scale { span { (text) } } }
            svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {HEIGHT}"))
                preserveAspectRatio="none" shape-rendering="crispEdges" role="img" aria-label=(title) { (bars) }
            div.hours { @for hours in [24, 18, 12, 6] { span { (hours) " h ago" } } span { "now" } }
        }
    }
}

fn bar(column: usize, shift: usize, width: usize, value: u64, top: u64, class: &str) -> Markup {
    if value == 0 || top == 0 {
        return Markup::default();
    }
    // At least a line: something is more than nothing.
    let height = u128::from(value) * HEIGHT as u128 / u128::from(top);
    let height = usize::try_from(height).unwrap_or(HEIGHT).clamp(1, HEIGHT);
    html! {
        rect x=(column * 8 + shift) y=(HEIGHT - height) width=(width) height=(height) class=(class) {}
    }
}

/// The column that a sample belongs to, the last one being now.
fn column(sample: &Sample, now_ms: u64) -> Option<usize> {
    let age = now_ms.saturating_sub(sample.uptime_ms);
    let back = usize::try_from(age / COLUMN_MS).ok()?;
    (COLUMNS - 1).checked_sub(back)
}

/// By how much a counter grew in each column.
fn increase(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> Vec<u64> {
    let mut columns = vec![0; COLUMNS];
    let now_ms = samples.last().map_or(0, |sample| sample.uptime_ms);
    for pair in samples.windows(2) {
        if let Some(at) = column(&pair[1], now_ms) {
            columns[at] += of(&pair[1]).saturating_sub(of(&pair[0]));
        }
    }
    columns
}

/// The last value in each column; a column without a sample shows the one before.
fn last(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> Vec<u64> {
    let now_ms = samples.last().map_or(0, |sample| sample.uptime_ms);
    let mut columns = vec![None; COLUMNS];
    for sample in samples {
        if let Some(at) = column(sample, now_ms) {
            columns[at] = Some(of(sample));
        }
    }
    let mut before = 0;
    let filled = columns.into_iter().map(|value| {
        before = value.unwrap_or(before);
        before
    });
    filled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_fall_into_the_columns_of_the_last_day() {
        let sample = |minutes: u64, stored, database_bytes| Sample {
            uptime_ms: minutes * 60_000,
            stored,
            delivered: stored / 2,
            database_bytes,
        };
        let now = 3 * 24 * 60;
        let samples = [
            sample(now - 1500, 5, 10),
            sample(now - 1400, 7, 20),
            sample(now - 16, 10, 30),
            sample(now - 14, 14, 40),
            sample(now, 15, 50),
        ];
        let stored = increase(&samples, |sample| sample.stored);
        assert_eq!((stored[95], stored[94], stored[2]), (5, 3, 2));
        assert_eq!(stored.iter().sum::<u64>(), 10, "not what came earlier");
        let sizes = last(&samples, |sample| sample.database_bytes);
        assert_eq!(
            (sizes[0], sizes[2], sizes[93], sizes[94], sizes[95]),
            (0, 20, 20, 30, 50)
        );
        let text = traffic(&samples).into_string();
        assert!(text.contains("10 messages stored, 5 delivered"), "{text}");
        let tallest = format!("height=\"{HEIGHT}\" class=\"{FIRST}\"");
        assert_eq!(text.matches(&tallest).count(), 1);
        assert!(!text.contains("style") && !text.contains("script"));
        for says in [
            "<span>5</span><span>messages</span><span>0</span>",
            "24 h ago",
            "15 min ago: 3 stored",
        ] {
            assert!(text.contains(says), "{says}: {text}");
        }
        let text = storage(&samples).into_string();
        assert!(
            text.contains("<span>50</span><span>B</span><span>0</span>"),
            "{text}"
        );
        storage(&[]);
        assert!(!traffic(&[]).into_string().contains("y=\"NaN"));
    }
}
